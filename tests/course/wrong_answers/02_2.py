import torch


def not_normalised(p, before, after):
    """normalise"""
    return p ** (before / after)


def upside_down(p, before, after):
    """upside down"""
    return torch.softmax(p.log() * after / before, dim=-1)


def without_logarithm(p, before, after):
    """take the logarithm"""
    return torch.softmax(p * before / after, dim=-1)


def always_to_one(p, before, after):
    """whatever the second temperature is"""
    return torch.softmax(p.log() * before, dim=-1)


def always_from_one(p, before, after):
    """whatever the first temperature is"""
    return torch.softmax(p.log() / after, dim=-1)


def unchanged(p, before, after):
    """the distribution that was given"""
    return p
