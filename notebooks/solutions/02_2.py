import torch


def at_another_temperature(p, before, after):
    return torch.softmax(p.log() * before / after, dim=-1)
