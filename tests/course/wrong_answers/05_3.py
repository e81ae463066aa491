import torch.nn.functional as F


def _kl(log_p, log_q):
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _soft(z, v, temperature):
    return _kl((v / temperature).log_softmax(-1), (z / temperature).log_softmax(-1))


def _hard(z, labels):
    return F.cross_entropy(z, labels, reduction="none").mean()


def mean_over_labelled(z, v, labels, temperature, alpha):
    """divides by the labelled rows"""
    return alpha * temperature**2 * _soft(z, v, temperature).mean() + (1 - alpha) * F.cross_entropy(z, labels)


def no_t_squared(z, v, labels, temperature, alpha):
    """T² is missing"""
    return alpha * _soft(z, v, temperature).mean() + (1 - alpha) * _hard(z, labels)


def t_squared_on_both(z, v, labels, temperature, alpha):
    """T² belongs to the soft term alone"""
    return temperature**2 * (alpha * _soft(z, v, temperature).mean() + (1 - alpha) * _hard(z, labels))


def weights_exchanged(z, v, labels, temperature, alpha):
    """alpha belongs to the teacher"""
    return (1 - alpha) * temperature**2 * _soft(z, v, temperature).mean() + alpha * _hard(z, labels)


def reverse(z, v, labels, temperature, alpha):
    """wrong way round"""
    return alpha * temperature**2 * _soft(v, z, temperature).mean() + (1 - alpha) * _hard(z, labels)


def hot_cross_entropy(z, v, labels, temperature, alpha):
    """at T = 1"""
    return alpha * temperature**2 * _soft(z, v, temperature).mean() + (1 - alpha) * _hard(z / temperature, labels)


def unlabelled_rows_dropped(z, v, labels, temperature, alpha):
    """learn from the teacher too"""
    z, v, labels = z[labels >= 0], v[labels >= 0], labels[labels >= 0]
    return alpha * temperature**2 * _soft(z, v, temperature).mean() + (1 - alpha) * _hard(z, labels)


def mean_over_classes(z, v, labels, temperature, alpha):
    """batchmean"""
    soft = F.kl_div((z / temperature).log_softmax(-1), (v / temperature).softmax(-1), reduction="none").mean()
    return alpha * temperature**2 * soft + (1 - alpha) * _hard(z, labels)


def without_gradient(z, v, labels, temperature, alpha):
    """no gradient reaches the student"""
    return (alpha * temperature**2 * _soft(z, v, temperature).mean() + (1 - alpha) * _hard(z, labels)).item()


def nan_without_labels(z, v, labels, temperature, alpha):
    """NaN for a batch without any hard label"""
    share = (labels >= 0).double().mean()
    return alpha * temperature**2 * _soft(z, v, temperature).mean() + (1 - alpha) * share * F.cross_entropy(z, labels)
