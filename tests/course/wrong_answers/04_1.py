import torch
import torch.nn.functional as F


def _parts(z, v, y, temperature):
    soft = (z / temperature).softmax(-1) - (v / temperature).softmax(-1)
    return soft, z.softmax(-1) - F.one_hot(y, z.shape[-1])


def of_the_sum(z, v, y, temperature, alpha):
    """divide by the number of messages"""
    soft, hard = _parts(z, v, y, temperature)
    return alpha * temperature * soft + (1 - alpha) * hard


def factor_forgotten(z, v, y, temperature, alpha):
    """T² times 1/T leaves T"""
    soft, hard = _parts(z, v, y, temperature)
    return (alpha * soft + (1 - alpha) * hard) / len(z)


def factor_squared(z, v, y, temperature, alpha):
    """softmax(z/T) brings a 1/T"""
    soft, hard = _parts(z, v, y, temperature)
    return (alpha * temperature**2 * soft + (1 - alpha) * hard) / len(z)


def weights_swapped(z, v, y, temperature, alpha):
    """alpha belongs to the teacher"""
    soft, hard = _parts(z, v, y, temperature)
    return ((1 - alpha) * temperature * soft + alpha * hard) / len(z)


def hard_term_softened(z, v, y, temperature, alpha):
    """the hard term has no temperature"""
    soft, _ = _parts(z, v, y, temperature)
    hard = (z / temperature).softmax(-1) - F.one_hot(y, z.shape[-1])
    return (alpha * temperature * soft + (1 - alpha) * hard) / len(z)


def downhill(z, v, y, temperature, alpha):
    """student minus target"""
    soft, hard = _parts(z, v, y, temperature)
    return -(alpha * temperature * soft + (1 - alpha) * hard) / len(z)


def per_message(z, v, y, temperature, alpha):
    """the shape is (6,)"""
    soft, hard = _parts(z, v, y, temperature)
    return ((alpha * temperature * soft + (1 - alpha) * hard) / len(z)).sum(-1)


def a_probability_for_the_label(z, v, y, temperature, alpha):
    """RuntimeError"""
    return torch.softmax(z, -1) - torch.softmax(v, -1) + y
