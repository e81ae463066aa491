def matched(p, shares):
    for _ in range(200):
        p = p * (shares / p.mean(dim=0))
        p = p / p.sum(dim=1, keepdim=True)
    return p
