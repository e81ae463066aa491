import torch


def _gradients(hidden, head, p, chunk_size, scale):
    of_hidden, of_head = torch.zeros_like(hidden), torch.zeros_like(head)
    for start in range(0, len(hidden), chunk_size):
        rows = slice(start, start + chunk_size)
        q = (hidden[rows] @ head.t()).softmax(-1)
        gradient = (q - p[rows]) * scale
        of_hidden[rows] = gradient @ head
        of_head += gradient.t() @ hidden[rows]
    return of_hidden, of_head


def a_sum(hidden, head, p, chunk_size):
    """the loss is a mean"""
    return _gradients(hidden, head, p, chunk_size, 1.0)


def uphill(hidden, head, p, chunk_size):
    """the sign"""
    return _gradients(hidden, head, p, chunk_size, -1 / len(hidden))


def by_its_own_size(hidden, head, p, chunk_size):
    """its own size"""
    of_hidden, of_head = torch.zeros_like(hidden), torch.zeros_like(head)
    for start in range(0, len(hidden), chunk_size):
        rows = slice(start, start + chunk_size)
        q = (hidden[rows] @ head.t()).softmax(-1)
        gradient = (q - p[rows]) / len(q)
        of_hidden[rows] = gradient @ head
        of_head += gradient.t() @ hidden[rows]
    return of_hidden, of_head


def the_last_chunk_alone(hidden, head, p, chunk_size):
    """the last one's"""
    of_hidden, _ = _gradients(hidden, head, p, chunk_size, 1 / len(hidden))
    start = (len(hidden) - 1) // chunk_size * chunk_size
    q = (hidden[start:] @ head.t()).softmax(-1)
    return of_hidden, (q - p[start:]).t() @ hidden[start:] / len(hidden)


def all_at_once(hidden, head, p, chunk_size):
    """rows of logits were there at once"""
    gradient = ((hidden @ head.t()).softmax(-1) - p) / len(hidden)
    return gradient @ head, gradient.t() @ hidden


def one_gradient(hidden, head, p, chunk_size):
    """two gradients"""
    return _gradients(hidden, head, p, chunk_size, 1 / len(hidden))[0]
