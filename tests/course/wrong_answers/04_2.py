import torch
import torch.nn.functional as F


def _logs(z, v, temperature):
    return torch.log_softmax(z / temperature, -1), torch.log_softmax(v / temperature, -1)


def as_given(z, v, temperature):
    """both faults are still there"""
    log_q, log_p = _logs(z, v, temperature)
    return temperature**2 * F.kl_div(log_p, log_q.exp(), reduction="none").mean()


def direction_left(z, v, temperature):
    """the first argument is the student"""
    log_q, log_p = _logs(z, v, temperature)
    return temperature**2 * F.kl_div(log_p, log_q.exp(), reduction="batchmean")


def mean_left(z, v, temperature):
    """messages × classes"""
    log_q, log_p = _logs(z, v, temperature)
    return temperature**2 * F.kl_div(log_q, log_p.exp(), reduction="none").mean()


def factor_lost(z, v, temperature):
    """T² is missing"""
    log_q, log_p = _logs(z, v, temperature)
    return F.kl_div(log_q, log_p.exp(), reduction="batchmean")


def summed(z, v, temperature):
    """divided by their number"""
    log_q, log_p = _logs(z, v, temperature)
    return temperature**2 * F.kl_div(log_q, log_p.exp(), reduction="sum")


def probabilities_first(z, v, temperature):
    """must be log-probabilities"""
    log_q, log_p = _logs(z, v, temperature)
    return temperature**2 * F.kl_div(log_q.exp(), log_p.exp(), reduction="batchmean")


def number_only(z, v, temperature):
    """no gradient reaches the student"""
    log_q, log_p = _logs(z, v, temperature)
    return (temperature**2 * F.kl_div(log_q, log_p.exp(), reduction="batchmean")).item()
