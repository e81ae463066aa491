def _normalised(weights):
    return weights / weights.sum(dim=1, keepdim=True)


def untouched(p, shares):
    """nothing changed"""
    return p


def one_round(p, shares):
    """one round is not enough"""
    return _normalised(p * (shares / p.mean(dim=0)))


def not_normalised(p, shares):
    """must sum to 1"""
    return p * (shares / p.mean(dim=0))


def equally_frequent(p, shares):
    """calibration for equally frequent"""
    logs = p.log()
    return _normalised((logs - logs.mean(dim=0)).exp())


def shares_forgotten(p, shares):
    """use the shares"""
    for _ in range(200):
        p = _normalised(p / p.mean(dim=0))
    return p


def bias_left_in(p, shares):
    """leaves the bias in"""
    return _normalised(p * shares)
