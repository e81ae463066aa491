def without_bias(p):
    logs = p.log()
    weights = (logs - logs.mean(dim=0)).exp()
    return weights / weights.sum(dim=1, keepdim=True)
