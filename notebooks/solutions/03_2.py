def share_of_limit(z, v, temperature):
    """T²·‖g‖ of each row divided by its high-T limit: (rows, classes) twice, and T, to (rows,)."""
    g = ((z / temperature).softmax(-1) - (v / temperature).softmax(-1)) / temperature
    apart = (z - z.mean(-1, keepdim=True)) - (v - v.mean(-1, keepdim=True))
    return temperature**2 * g.norm(dim=-1) / (apart.norm(dim=-1) / z.shape[-1])
