import torch


def soft_loss(z, v, temperature):
    log_q = torch.log_softmax(z / temperature, dim=-1)  # the student's come first, as log-probabilities
    p = torch.softmax(v / temperature, dim=-1)
    return temperature**2 * torch.nn.functional.kl_div(log_q, p, reduction="batchmean")
