import torch.nn.functional as F

from distill_helpers import IGNORE_INDEX


def loss_with_gaps(z, v, labels, temperature, alpha):
    log_p, log_q = (v / temperature).log_softmax(dim=-1), (z / temperature).log_softmax(dim=-1)
    soft = temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
    hard = F.cross_entropy(z, labels, ignore_index=IGNORE_INDEX, reduction="sum") / len(z)
    return alpha * soft + (1 - alpha) * hard
