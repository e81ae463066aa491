import torch


def high_from(z, v, temperatures, tolerance):
    """The lowest of the temperatures from which on T²‖g‖ stays within the tolerance of its limit, for each row: (rows,)."""
    apart = (z - z.mean(-1, keepdim=True)) - (v - v.mean(-1, keepdim=True))
    limit = apart.norm(dim=-1) / z.shape[-1]
    high, still = torch.full_like(limit, torch.inf), torch.ones_like(limit, dtype=torch.bool)
    for t in reversed(temperatures):
        t_squared_g = t * ((z / t).softmax(-1) - (v / t).softmax(-1)).norm(dim=-1)
        still = still & ((t_squared_g / limit - 1).abs() <= tolerance)
        high = torch.where(still, t, high)
    return high
