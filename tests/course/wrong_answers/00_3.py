import torch


def count(first_logits, second_logits):
    """that is a count"""
    return (first_logits.argmax(-1) == second_logits.argmax(-1)).sum()


def percent(first_logits, second_logits):
    """in percent"""
    return 100 * (first_logits.argmax(-1) == second_logits.argmax(-1)).float().mean()


def disagreement(first_logits, second_logits):
    """disagrees"""
    return (first_logits.argmax(-1) != second_logits.argmax(-1)).float().mean()


def equal_logits(first_logits, second_logits):
    """not the logits"""
    return (first_logits == second_logits).float().mean()


def over_messages(first_logits, second_logits):
    """runs over the messages"""
    return (first_logits.argmax(0) == second_logits.argmax(0)).float().mean()


def whole_batch(first_logits, second_logits):
    """argmax needs a dimension"""
    return float(first_logits.argmax() == second_logits.argmax())


def overlap(first_logits, second_logits):
    """overlap of the probabilities"""
    return torch.minimum(first_logits.softmax(-1), second_logits.softmax(-1)).sum(-1).mean()


def for_each_message(first_logits, second_logits):
    """the shape is (5,)"""
    return (first_logits.argmax(-1) == second_logits.argmax(-1)).float()
