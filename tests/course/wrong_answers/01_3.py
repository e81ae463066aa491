import math

import torch


def _bits(logits, labels, temperature):
    p = (logits / temperature).softmax(-1).gather(1, labels[:, None])
    return math.log2(logits.shape[1]) + p.log2().mean()


def in_nats(logits, labels, temperatures):
    """base 2"""
    best = max(temperatures, key=lambda t: _bits(logits, labels, t))
    return best, _bits(logits, labels, best) * math.log(2)


def what_is_left(logits, labels, temperatures):
    """doubt that is left"""
    best = max(temperatures, key=lambda t: _bits(logits, labels, t))
    return best, math.log2(logits.shape[1]) - _bits(logits, labels, best)


def least_stated_doubt(logits, labels, temperatures):
    """not those that leave least"""
    return temperatures[0], _bits(logits, labels, temperatures[0])


def highest_entropy(logits, labels, temperatures):
    """state most doubt"""
    return temperatures[-1], _bits(logits, labels, temperatures[-1])


def mean_before_logarithm(logits, labels, temperatures):
    """logarithm of each probability first"""

    def received(t):
        return math.log2(logits.shape[1]) + (logits / t).softmax(-1).gather(1, labels[:, None]).mean().log2()

    best = max(temperatures, key=received)
    return best, received(best)


def the_bits_alone(logits, labels, temperatures):
    """shape"""
    return max(_bits(logits, labels, t) for t in temperatures)


def its_place(logits, labels, temperatures):
    """not its place in the list"""
    best = max(temperatures, key=lambda t: _bits(logits, labels, t))
    return temperatures.index(best), _bits(logits, labels, best)


def stated_doubt(logits, labels, temperatures):
    """what counts is the doubt that it leaves"""

    def received(t):
        entropy = torch.special.entr((logits / t).softmax(-1)).sum(-1).mean() / math.log(2)
        return math.log2(logits.shape[1]) - entropy

    best = max(temperatures, key=received)
    return best, received(best)


def of_five_classes(logits, labels, temperatures):
    """expected"""
    best = max(temperatures, key=lambda t: _bits(logits, labels, t))
    return best, _bits(logits, labels, best) + math.log2(5) - math.log2(logits.shape[1])
