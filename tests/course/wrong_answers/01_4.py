import torch


def _count(logits, labels, digit):
    wrong = logits.argmax(dim=-1) != labels
    return [wrong[labels == digit].sum(), wrong[labels != digit].sum()]


def in_place(logits, labels, digit, biases):
    """changes the logits that it was given"""
    rows = []
    for bias in biases:
        logits[:, digit] += bias
        rows.append(_count(logits, labels, digit))
    return torch.tensor(rows)


def piled_up(logits, labels, digit, biases):
    """start from the given logits each time"""
    rows, raised = [], logits.clone()
    for bias in biases:
        raised[:, digit] += bias
        rows.append(_count(raised, labels, digit))
    return torch.tensor(rows)


def every_class(logits, labels, digit, biases):
    """raise the one digit only"""
    return torch.tensor([_count(logits + bias, labels, digit) for bias in biases])


def lowered(logits, labels, digit, biases):
    """lowers the digit's logit"""
    rows = []
    for bias in biases:
        raised = logits.clone()
        raised[:, digit] -= bias
        rows.append(_count(raised, labels, digit))
    return torch.tensor(rows)


def columns_swapped(logits, labels, digit, biases):
    """first the errors on the digit"""
    rows = []
    for bias in biases:
        raised = logits.clone()
        raised[:, digit] += bias
        rows.append(_count(raised, labels, digit)[::-1])
    return torch.tensor(rows)


def all_errors_in_the_second_column(logits, labels, digit, biases):
    """without the missing one"""
    rows = []
    for bias in biases:
        raised = logits.clone()
        raised[:, digit] += bias
        on_digit, on_others = _count(raised, labels, digit)
        rows.append([on_digit, on_digit + on_others])
    return torch.tensor(rows)
