import torch


def _logs(student, teacher, mask):
    no_key = ~mask[:, None, None, None, :]
    return [x.masked_fill(no_key, -1e9).log_softmax(dim=-1) for x in (student[:, :, None], teacher[:, None])]


def _kl(student, teacher, mask, counted=None):
    log_q, log_p = _logs(student, teacher, mask)
    counted = mask if counted is None else counted
    per_query = (log_p.exp() * (log_p - log_q)).sum(dim=-1) * counted[:, None, None]
    return per_query.sum(dim=-1) / counted.sum(dim=-1)[:, None, None]


def in_their_order(student, teacher, mask):
    """compared in their order"""
    return list(range(student.shape[1]))


def farthest(student, teacher, mask):
    """the farthest head"""
    return _kl(student, teacher, mask).mean(dim=0).argmax(dim=-1)


def from_student_to_teacher(student, teacher, mask):
    """from student to teacher"""
    log_q, log_p = _logs(student, teacher, mask)
    per_query = (log_q.exp() * (log_q - log_p)).sum(dim=-1) * mask[:, None, None]
    return (per_query.sum(dim=-1) / mask.sum(dim=-1)[:, None, None]).mean(dim=0).argmin(dim=-1)


def padded_queries(student, teacher, mask):
    """counts as a query"""
    return _kl(student, teacher, mask, torch.ones_like(mask)).mean(dim=0).argmin(dim=-1)


def padded_keys(student, teacher, mask):
    """counts as a key"""
    return _kl(student, teacher, torch.ones_like(mask), mask).mean(dim=0).argmin(dim=-1)


def no_mask(student, teacher, mask):
    """still counts as a key"""
    return _kl(student, teacher, torch.ones_like(mask)).mean(dim=0).argmin(dim=-1)


def scores(student, teacher, mask):
    """not the scores"""
    pairs = (mask[:, None, :] & mask[:, :, None])[:, None, None]
    error = (student[:, :, None] - teacher[:, None]).square() * pairs
    return (error.sum(dim=(-1, -2)) / pairs.sum(dim=(-1, -2))).mean(dim=0).argmin(dim=-1)


def all_tokens_alike(student, teacher, mask):
    """long messages count more"""
    log_q, log_p = _logs(student, teacher, mask)
    per_query = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
    return (per_query * mask[:, None, None]).sum(dim=(0, -1)).argmin(dim=-1)


def last_message(student, teacher, mask):
    """in the last message alone"""
    return _kl(student, teacher, mask)[-1].argmin(dim=-1)


def for_each_message(student, teacher, mask):
    """one answer for each message"""
    return _kl(student, teacher, mask).argmin(dim=-1)


def the_other_way_round(student, teacher, mask):
    """not the other way round"""
    return _kl(student, teacher, mask).mean(dim=0).argmin(dim=0)


def divergences(student, teacher, mask):
    """return which head"""
    return _kl(student, teacher, mask).mean(dim=0).min(dim=-1).values


def equal_numbers_alone(student, teacher, mask):
    """your function raised RuntimeError"""
    log_q, log_p = (x.masked_fill(~mask[:, None, None], -1e9).log_softmax(dim=-1) for x in (student, teacher))
    return (log_p.exp() * (log_p - log_q)).sum(dim=(0, 2, 3)).argmin(dim=-1)
