import torch

from distill_helpers import IGNORE_INDEX


def zero_is_false(texts, known):
    """0 is false in Python"""
    return [known.get(text) or IGNORE_INDEX for text in texts]


def zero_for_unlabelled(texts, known):
    """would be trained as that class"""
    return torch.tensor([known.get(text, 0) for text in texts])


def minus_one(texts, known):
    """−1 is no class"""
    return torch.tensor([known.get(text, -1) for text in texts])


def none(texts, known):
    """None is not a class index"""
    return [known.get(text) for text in texts]


def labelled_alone(texts, known):
    """the unlabelled texts are gone"""
    return torch.tensor([known[text] for text in texts if text in known])


def order_of_the_dictionary(texts, known):
    """in the order of the texts"""
    return [*known.values(), *[IGNORE_INDEX] * (len(texts) - len(known))]


def floats(texts, known):
    """whole numbers"""
    return torch.tensor([float(known.get(text, IGNORE_INDEX)) for text in texts])


def everything_known(texts, known):
    """KeyError"""
    return torch.tensor([known[text] for text in texts])
