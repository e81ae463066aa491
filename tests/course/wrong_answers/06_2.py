import torch
import torch.nn.functional as F


def _squared(student, teacher, projector):
    return (projector(student) - teacher).square().mean(dim=-1)


def as_given(student, teacher, mask, projector):
    """both faults are still there"""
    return F.mse_loss(projector(student), teacher)


def padding_left(student, teacher, mask, projector):
    """padding still counts"""
    return _squared(student, teacher, projector).mean(dim=1)


def summed(student, teacher, mask, projector):
    """divide by their number"""
    return (_squared(student, teacher, projector) * mask).sum(dim=1)


def divided_by_all(student, teacher, mask, projector):
    """not by all positions"""
    return (_squared(student, teacher, projector) * mask).mean(dim=1)


def one_mean(student, teacher, mask, projector):
    """this is one mean over all tokens"""
    return _squared(student, teacher, projector)[mask].mean()


def mean_of_messages(student, teacher, mask, projector):
    """you took the mean of the right ones"""
    return ((_squared(student, teacher, projector) * mask).sum(dim=1) / mask.sum(dim=1)).mean()


def skipped(student, teacher, mask, projector):
    """must be projected, not skipped"""
    if student.shape[-1] != teacher.shape[-1]:
        return torch.zeros(len(student))
    return (student - teacher).square().mean(dim=(1, 2))


def frozen_projector(student, teacher, mask, projector):
    """no gradient reaches the projector"""
    projected = F.linear(student, projector.weight.detach(), projector.bias.detach())
    difference = (projected - teacher.detach()).masked_fill(~mask[..., None], 0.0)
    return difference.square().mean(dim=-1).sum(dim=1) / mask.sum(dim=1)


def teacher_moves(student, teacher, mask, projector):
    """a gradient flows into the teacher"""
    difference = (projector(student) - teacher).masked_fill(~mask[..., None], 0.0)
    return difference.square().mean(dim=-1).sum(dim=1) / mask.sum(dim=1)


def multiplied(student, teacher, mask, projector):
    """inf × 0 is NaN"""
    return (_squared(student, teacher.detach(), projector) * mask).sum(dim=1) / mask.sum(dim=1)


def filled_after_the_square(student, teacher, mask, projector):
    """its gradient is not"""
    squared = _squared(student, teacher.detach(), projector).masked_fill(~mask, 0.0)
    return squared.sum(dim=1) / mask.sum(dim=1)


def detached(student, teacher, mask, projector):
    """no gradient reaches the student"""
    return ((_squared(student, teacher, projector) * mask).sum(dim=1) / mask.sum(dim=1)).detach()


def a_number(student, teacher, mask, projector):
    """a tensor is needed, got float"""
    return F.mse_loss(projector(student), teacher).item()
