import torch


def loss_gradient(z, v, y, temperature, alpha):
    soft = torch.softmax(z / temperature, dim=-1) - torch.softmax(v / temperature, dim=-1)
    hard = torch.softmax(z, dim=-1) - torch.nn.functional.one_hot(y, z.shape[-1])
    return (alpha * temperature * soft + (1 - alpha) * hard) / len(z)
