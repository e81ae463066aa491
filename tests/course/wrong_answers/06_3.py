import torch


def _over(values, where):
    return (values * where).sum(dim=(1, 2, 3)) / where.expand_as(values).sum(dim=(1, 2, 3))


def _pairs(mask):
    return mask[:, None, :, None] & mask[:, None, None, :]


def as_given(student, teacher, mask):
    """both faults are still there"""
    return (student.mean(dim=1) - teacher.mean(dim=1)).square().mean(dim=(1, 2))


def heads_averaged(student, teacher, mask):
    """the heads are still averaged"""
    return _over((student.mean(dim=1, keepdim=True) - teacher.mean(dim=1, keepdim=True)).square(), _pairs(mask))


def padding_left(student, teacher, mask):
    """padding still counts, as query and as key"""
    return (student - teacher).square().mean(dim=(1, 2, 3))


def keys_only(student, teacher, mask):
    """padding still counts as a query"""
    return _over((student - teacher).square(), mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1))


def queries_only(student, teacher, mask):
    """padding still counts as a key"""
    return _over((student - teacher).square(), mask[:, None, :, None].expand(-1, 1, -1, mask.shape[1]))


def probabilities(student, teacher, mask):
    """compare scores, not probabilities"""
    p, q = (x.masked_fill(~mask[:, None, None, :], -torch.inf).softmax(dim=-1) for x in (student, teacher))
    return _over((p - q).square(), _pairs(mask))


def summed_over_heads(student, teacher, mask):
    """a mean over the heads"""
    return 4 * _over((student - teacher).square(), _pairs(mask))


def one_number(student, teacher, mask):
    """one number for each message"""
    return _over((student - teacher).square(), _pairs(mask)).mean()


def detached(student, teacher, mask):
    """no gradient reaches the student"""
    return _over((student - teacher).square(), _pairs(mask)).detach()


def skips_unequal_heads(student, teacher, mask):
    """four heads against two: raise a ValueError; a silent number"""
    if student.shape[1] != teacher.shape[1]:
        return torch.zeros(len(student))
    return _over((student - teacher).square(), _pairs(mask))


def another_error(student, teacher, mask):
    """four heads against two: raise a ValueError that says so"""
    return _over((student - teacher).square(), _pairs(mask))


def empty_is_zero(student, teacher, mask):
    """no head at all: raise a ValueError"""
    if student.shape[1] != teacher.shape[1]:
        raise ValueError("unequal heads")
    return _over((student - teacher).square(), _pairs(mask))
