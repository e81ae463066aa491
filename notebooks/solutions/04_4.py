import torch


def causal_cross_entropy(z, labels):
    z, labels = z[:, :-1], labels[:, 1:]  # position t predicts token t + 1
    return torch.nn.functional.cross_entropy(z.flatten(0, 1), labels.flatten(), ignore_index=-100)
