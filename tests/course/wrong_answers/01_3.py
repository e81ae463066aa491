import math

import torch


def in_nats(logits, labels):
    """base 2"""
    return math.log(5) - torch.nn.functional.cross_entropy(logits, labels)


def what_is_left(logits, labels):
    """doubt that is left"""
    return torch.nn.functional.cross_entropy(logits, labels) / math.log(2)


def stated_entropy(logits, labels):
    """entropy that the label states"""
    p = logits.softmax(-1)
    return math.log2(5) + (p * p.log2()).sum(-1).mean()


def highest_probability(logits, labels):
    """highest probability instead"""
    return math.log2(5) + logits.softmax(-1).max(-1).values.log2().mean()


def mean_before_logarithm(logits, labels):
    """logarithm of each probability first"""
    p = logits.softmax(-1).gather(1, labels[:, None])
    return math.log2(5) + p.mean().log2()
