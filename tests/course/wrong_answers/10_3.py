import math


def each_alone(acceptances):
    """the first refused draft ends the call"""
    return 1 + sum(acceptances)


def drafts_alone(acceptances):
    """the teacher itself adds"""
    return sum(math.prod(acceptances[: i + 1]) for i in range(len(acceptances)))


def one_too_few(acceptances):
    """up to n + 1 tokens"""
    return sum(math.prod(acceptances[:i]) for i in range(len(acceptances)))


def all_of_them(acceptances):
    """that all drafts are accepted"""
    return math.prod(acceptances)


def of_the_mean(acceptances):
    """their mean does not say"""
    mean = sum(acceptances) / len(acceptances)
    return sum(mean**i for i in range(len(acceptances) + 1))


def divided(acceptances):
    """ZeroDivisionError"""
    a = acceptances[0]
    if len(set(acceptances)) > 1:
        return sum(math.prod(acceptances[:i]) for i in range(len(acceptances) + 1))
    return (1 - a ** (len(acceptances) + 1)) / (1 - a)
