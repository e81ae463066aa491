import torch


def overflows(logits, temperature):
    """exp overflows"""
    powers = (logits / temperature).exp()
    return powers / powers.sum(dim=-1, keepdim=True)


def multiplies(logits, temperature):
    """multiplied by T"""
    return torch.softmax(logits * temperature, dim=-1)


def forgets_temperature(logits, temperature):
    """T was left out"""
    return torch.softmax(logits, dim=-1)


def over_the_rows(logits, temperature):
    """normalises over the rows"""
    return torch.softmax(logits / temperature, dim=0)


def one_sum(logits, temperature):
    """each row must sum to 1: sum over the classes with keepdim=True"""
    powers = (logits / temperature).exp()
    return powers / powers.sum()


def one_sum_of_shifted(logits, temperature):
    """sums over all messages"""
    scaled = logits / temperature
    powers = (scaled - scaled.amax(dim=-1, keepdim=True)).exp()
    return powers / powers.sum()


def one_maximum(logits, temperature):
    """each row needs its own"""
    scaled = logits / temperature
    powers = (scaled - scaled.max()).exp()
    return powers / powers.sum(dim=-1, keepdim=True)


def clamps(logits, temperature):
    """clamping changes the answer"""
    powers = (logits / temperature).clamp(max=80).exp()
    return powers / powers.sum(dim=-1, keepdim=True)


def numerator_only(logits, temperature):
    """numerator only"""
    scaled = logits / temperature
    powers = (scaled - scaled.amax(dim=-1, keepdim=True)).exp()
    return powers / scaled.exp().sum(dim=-1, keepdim=True)


def a_list(logits, temperature):
    """a tensor is needed, got list"""
    return torch.softmax(logits / temperature, dim=-1).tolist()
