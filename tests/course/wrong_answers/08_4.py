def _normalised(weights):
    return weights / weights.sum(dim=1, keepdim=True)


def untouched(p):
    """nothing changed"""
    return p


def not_normalised(p):
    """must sum to 1"""
    logs = p.log()
    return (logs - logs.mean(dim=0)).exp()


def over_the_labels(p):
    """over the messages"""
    logs = p.log()
    return (logs - logs.mean(dim=1, keepdim=True)).exp()


def over_the_labels_normalised(p):
    """nothing changed"""
    logs = p.log()
    return _normalised((logs - logs.mean(dim=1, keepdim=True)).exp())


def mean_of_probabilities(p):
    """of their logarithms"""
    return _normalised(p / p.mean(dim=0))


def logarithms(p):
    """take exp and normalise"""
    logs = p.log()
    return logs - logs.mean(dim=0)


def added(p):
    """the sign"""
    logs = p.log()
    return _normalised((logs + logs.mean(dim=0)).exp())
