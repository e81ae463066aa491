import torch


def divided_by_n(new, old):
    """divide by n − 1"""
    gain = 100 * (new - old)
    return gain.mean(), gain.std(correction=0)


def standard_error(new, old):
    """standard error"""
    gain = 100 * (new - old)
    return gain.mean(), gain.std() / len(gain) ** 0.5


def difference_of_spreads(new, old):
    """not the difference of two standard deviations"""
    return 100 * (new.mean() - old.mean()), 100 * (new.std() - old.std())


def unpaired(new, old):
    """not paired"""
    return 100 * (new.mean() - old.mean()), 100 * (new.var() + old.var()) ** 0.5


def spread_of_the_new(new, old):
    """spread of the new students"""
    return 100 * (new.mean() - old.mean()), 100 * new.std()


def wrong_sign(new, old):
    """new minus old"""
    gain = 100 * (old - new)
    return torch.stack([gain.mean(), gain.std()])


def shares(new, old):
    """a hundredth"""
    gain = new - old
    return gain.mean(), gain.std()


def relative(new, old):
    """points are a difference"""
    gain = 100 * (new / old - 1)
    return gain.mean(), gain.std()


def best_seed(new, old):
    """best seed"""
    gain = 100 * (new - old)
    return gain.max(), gain.std()


def mean_alone(new, old):
    """shape is ()"""
    return (100 * (new - old)).mean()
