from torch.special import xlogy


def kl_by_hand(p, q):
    # xlogy(a, b) is a · log b, and 0 where a is 0
    return (xlogy(p, p) - xlogy(p, q)).sum(dim=-1)
