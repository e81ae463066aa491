def _centred(soft):
    return soft.log() - soft.log().mean(dim=-1, keepdim=True)


def the_ratio(soft, known, temperature):
    """multiply by the one that is known"""
    a, b = _centred(soft), _centred(known)
    return (a * b).sum() / (a * a).sum()


def upside_down(soft, known, temperature):
    """upside down"""
    a, b = _centred(soft), _centred(known)
    return temperature * (a * a).sum() / (a * b).sum()


def constant_left_in(soft, known, temperature):
    """take the row's mean away first"""
    a, b = soft.log(), known.log()
    return temperature * (a * b).sum() / (a * a).sum()


def of_probabilities(soft, known, temperature):
    """compares probabilities"""
    return temperature * known.std() / soft.std()


def ratio_of_logarithms(soft, known, temperature):
    """spoils"""
    return temperature * (known.log() / soft.log()).mean()


def always_the_same(soft, known, temperature):
    """exchange the two files"""
    return 3.7


def one_mean_for_all(soft, known, temperature):
    """a constant of its own"""
    a, b = (labels.log() - labels.log().mean() for labels in (soft, known))
    return temperature * (a * b).sum() / (a * a).sum()


def mean_of_ratios(soft, known, temperature):
    """an entry near zero"""
    return temperature * (_centred(known) / _centred(soft)).mean()
