import torch


def masked_kl(z, v, mask):
    z, v = z[mask], v[mask]  # before the softmax: what padding holds is never read
    log_p, log_q = torch.log_softmax(v, dim=-1), torch.log_softmax(z, dim=-1)
    per_token = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
    return per_token.sum() / max(len(per_token), 1)
