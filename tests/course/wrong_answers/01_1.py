import torch


def _rates(logits, labels, sure=None, place=1, extra=0):
    order = logits.argsort(dim=-1, descending=True)
    wrong = order[:, 0] != labels
    by = (logits.softmax(-1).amax(-1) if sure is None else sure)[wrong].argsort()
    hit, half = (order[:, place] == labels)[wrong].double(), len(by) // 2 + extra
    return hit[by[:half]].mean(), hit[by[half:]].mean()


def of_all_messages(logits, labels):
    """take them out before you halve"""
    by = logits.softmax(-1).amax(-1).argsort()
    hit = (logits.argsort(dim=-1, descending=True)[:, 1] == labels).double()
    return hit[by[: len(by) // 2]].mean(), hit[by[len(by) // 2 :]].mean()


def at_the_median_of_all(logits, labels):
    """not by those of all messages"""
    order, sure = logits.argsort(dim=-1, descending=True), logits.softmax(-1).amax(-1)
    wrong, below = order[:, 0] != labels, sure < sure.median()
    return [(order[wrong & part, 1] == labels[wrong & part]).double().mean() for part in (below, ~below)]


def surest_first(logits, labels):
    """less sure half comes first"""
    return _rates(logits, labels)[::-1]


def one_more_in_the_first_half(logits, labels):
    """the surer half has one more"""
    return _rates(logits, labels, extra=1)


def ascending(logits, labels):
    """sort in descending order"""
    return _rates(logits, labels, place=-1)


def by_logit(logits, labels):
    """not its logit"""
    return _rates(logits, labels, logits.amax(-1))


def by_lead(logits, labels):
    """not its lead"""
    first, second = logits.softmax(-1).topk(2).values.unbind(-1)
    return _rates(logits, labels, first - second)


def by_entropy(logits, labels):
    """not the entropy"""
    return _rates(logits, labels, -torch.special.entr(logits.softmax(-1)).sum(-1))


def in_the_order_of_rows(logits, labels):
    """not of their rows"""
    return _rates(logits, labels, torch.arange(len(labels)))


def one_rate(logits, labels):
    """shape"""
    return sum(_rates(logits, labels)) / 2
