import torch


def _kl(own, others):
    log_q, log_p = own.log_softmax(-1), others.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _counted(student_logits, teacher_logits, labels):
    return _kl(student_logits[:, :-1], teacher_logits[:, :-1])[labels[:, 1:] != -100]


def mean_of_batches(batches):
    """two tokens weigh as much as eight"""
    return sum(_counted(*batch).mean() for batch in batches) / len(batches)


def sum_of_batches(batches):
    """the sum of the batches' means"""
    return sum(_counted(*batch).mean() for batch in batches)


def overwritten(batches):
    """the last batch alone"""
    for batch in batches:
        loss = _counted(*batch).mean()
    return loss


def not_shifted(batches):
    """not shifted"""
    return torch.cat([_kl(q, p)[labels != -100] for q, p, labels in batches]).mean()


def everything_counts(batches):
    """prompt and padding"""
    return torch.cat([_kl(q[:, :-1], p[:, :-1]).flatten() for q, p, _ in batches]).mean()


def divided_by_all(batches):
    """not by all positions"""
    total = sum(_counted(*batch).sum() for batch in batches)
    return total / sum(labels[:, 1:].numel() for *_, labels in batches)


def divided_by_sequences(batches):
    """not of sequences"""
    return sum(_counted(*batch).sum() for batch in batches) / sum(len(labels) for *_, labels in batches)


def mean_of_means(batches):
    """sequences' means"""
    means = [
        _counted(q[row : row + 1], p[row : row + 1], labels[row : row + 1]).mean()
        for q, p, labels in batches
        for row in range(len(labels))
    ]
    return sum(means) / len(means)


def the_other_shift(batches):
    """the wrong way: position t"""
    return torch.cat([_kl(q[:, 1:], p[:, 1:])[labels[:, :-1] != -100] for q, p, labels in batches]).mean()


def reversed_divergence(batches):
    """wrong way round"""
    return torch.cat([_counted(p, q, labels) for q, p, labels in batches]).mean()


def late_mask(batches):
    """the mask is one too late"""
    return torch.cat([_kl(q[:, :-1], p[:, :-1])[labels[:, :-1] != -100] for q, p, labels in batches]).mean()


def a_sum(batches):
    """a sum: divide"""
    return sum(_counted(*batch).sum() for batch in batches)


def divided_by_all_labels(batches):
    """has no logits before it"""
    return sum(_counted(*batch).sum() for batch in batches) / sum((labels != -100).sum() for *_, labels in batches)


def weighted_by_all_labels(batches):
    """as the batches' weights"""
    weights = [int((labels != -100).sum()) for *_, labels in batches]
    return sum(w * _counted(*batch).mean() for w, batch in zip(weights, batches, strict=True)) / sum(weights)


def cross_entropy(batches):
    """this is the cross-entropy"""
    values = [-(p.softmax(-1) * q.log_softmax(-1)).sum(-1)[:, :-1][labels[:, 1:] != -100] for q, p, labels in batches]
    return torch.cat(values).mean()
