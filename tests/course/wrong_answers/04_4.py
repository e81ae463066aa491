import torch.nn.functional as F


def as_given(z, labels):
    """both faults are still there"""
    return F.cross_entropy(z[:, 1:], labels[:, :-1])


def not_flattened(z, labels):
    """takes dimension 1"""
    return F.cross_entropy(z[:, :-1], labels[:, 1:])


def wrong_way(z, labels):
    """position t would predict token t − 1"""
    return F.cross_entropy(z[:, 1:].flatten(0, 1), labels[:, :-1].flatten())


def not_shifted(z, labels):
    """not shifted"""
    return F.cross_entropy(z.flatten(0, 1), labels.flatten())


def by_two(z, labels):
    """shifted by two"""
    return F.cross_entropy(z[:, :-2].flatten(0, 1), labels[:, 2:].flatten())


def divided_by_all(z, labels):
    """divide by the labels that count"""
    return F.cross_entropy(z[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="none").mean()


def mean_of_means(z, labels):
    """a mean of the messages' means"""
    return sum(F.cross_entropy(row[:-1], label[1:]) for row, label in zip(z, labels, strict=True)) / len(z)


def number_only(z, labels):
    """no gradient reaches the student"""
    return F.cross_entropy(z[:, :-1].flatten(0, 1), labels[:, 1:].flatten()).item()
