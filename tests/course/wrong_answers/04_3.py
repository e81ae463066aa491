import torch


def _per_position(z, v):
    log_p, log_q = v.log_softmax(-1), z.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def all_positions(z, v, mask):
    """padding still counts"""
    return _per_position(z, v).mean()


def divided_by_all(z, v, mask):
    """divide by the positions that count, not by all"""
    return (_per_position(z, v) * mask).mean()


def divided_by_messages(z, v, mask):
    """not by the messages"""
    return (_per_position(z, v) * mask).sum() / len(z)


def summed(z, v, mask):
    """a sum"""
    return _per_position(z, v)[mask].sum()


def mean_of_means(z, v, mask):
    """a mean of the messages' means"""
    return ((_per_position(z, v) * mask).sum(-1) / mask.sum(-1)).mean()


def inverted(z, v, mask):
    """the mask is inverted"""
    return _per_position(z, v)[~mask].mean()


def empty_is_nan(z, v, mask):
    """an empty mask must give 0"""
    return _per_position(z, v)[mask].mean()


def multiplied(z, v, mask):
    """NaN of the student at a padded position reaches the loss"""
    return (_per_position(z, v) * mask).sum() / mask.sum().clamp(min=1)


def hidden_after_the_softmax(z, v, mask):
    """NaN of the student at a padded position reaches the gradient"""
    return torch.where(mask, _per_position(z, v), 0.0).sum() / mask.sum().clamp(min=1)


def detached(z, v, mask):
    """no gradient reaches the student"""
    return _per_position(z, v)[mask].mean().detach()


def trusts_the_teacher(z, v, mask):
    """NaN of the teacher at a padded position reaches the loss"""
    z = z.masked_fill(~mask.unsqueeze(-1), 0.0)
    return (_per_position(z, v) * mask).sum() / mask.sum().clamp(min=1)
