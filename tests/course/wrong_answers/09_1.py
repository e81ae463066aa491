import torch


def _reverse(logits, log_p):
    log_q = logits.log_softmax(-1)
    ratio = log_q - log_p
    return log_q.exp() * (ratio - (log_q.exp() * ratio).sum(-1, keepdim=True))


def _gradients(hidden, head, log_p, chunk_size, of_logits, until=None):
    of_hidden, of_head = torch.zeros_like(hidden), torch.zeros_like(head)
    for start in range(0, until or len(hidden), chunk_size):
        rows = slice(start, start + chunk_size)
        gradient = of_logits(hidden[rows] @ head.t(), log_p[rows])
        of_hidden[rows] = gradient @ head
        of_head += gradient.t() @ hidden[rows]
    return of_hidden, of_head


def a_sum(hidden, head, log_p, chunk_size):
    """the loss is a mean"""
    return _gradients(hidden, head, log_p, chunk_size, _reverse)


def uphill(hidden, head, log_p, chunk_size):
    """the sign"""
    return _gradients(hidden, head, log_p, chunk_size, lambda z, p: -_reverse(z, p) / len(hidden))


def forward_kl(hidden, head, log_p, chunk_size):
    """this is forward KL's gradient"""
    return _gradients(hidden, head, log_p, chunk_size, lambda z, p: (z.softmax(-1) - p.exp()) / len(hidden))


def without_the_row(hidden, head, log_p, chunk_size):
    """is not all: q depends"""

    def of_logits(z, p):
        return z.softmax(-1) * (z.log_softmax(-1) - p) / len(hidden)

    return _gradients(hidden, head, log_p, chunk_size, of_logits)


def by_its_own_size(hidden, head, log_p, chunk_size):
    """its own size"""
    return _gradients(hidden, head, log_p, chunk_size, lambda z, p: _reverse(z, p) / len(z))


def whole_chunks_alone(hidden, head, log_p, chunk_size):
    """the last rows of the gradient of hidden are 0"""
    whole = len(hidden) // chunk_size * chunk_size
    return _gradients(hidden, head, log_p, chunk_size, lambda z, p: _reverse(z, p) / len(hidden), whole)


def the_last_chunk_alone(hidden, head, log_p, chunk_size):
    """the last one's"""
    of_hidden, _ = _gradients(hidden, head, log_p, chunk_size, lambda z, p: _reverse(z, p) / len(hidden))
    start = (len(hidden) - 1) // chunk_size * chunk_size
    return of_hidden, _reverse(hidden[start:] @ head.t(), log_p[start:]).t() @ hidden[start:] / len(hidden)


def all_at_once(hidden, head, log_p, chunk_size):
    """rows of logits were held at once"""
    gradient = _reverse(hidden @ head.t(), log_p) / len(hidden)
    return gradient @ head, gradient.t() @ hidden


def all_at_once_transposed(hidden, head, log_p, chunk_size):
    """rows of logits were held at once"""
    log_q = (head @ hidden.t()).log_softmax(0)
    ratio = log_q - log_p.t()
    gradient = log_q.exp() * (ratio - (log_q.exp() * ratio).sum(0)) / len(hidden)
    return gradient.t() @ head, gradient @ hidden


def flat(hidden, head, log_p, chunk_size):
    """rows of logits were held at once"""
    logits = (hidden @ head.t()).flatten()
    gradient = _reverse(logits.view(len(hidden), -1), log_p) / len(hidden)
    return gradient @ head, gradient.t() @ hidden


def all_chunks_in_a_list(hidden, head, log_p, chunk_size):
    """rows of logits were held at once"""
    logits = [rows @ head.t() for rows in hidden.split(chunk_size)]
    gradients = [_reverse(z, p) / len(hidden) for z, p in zip(logits, log_p.split(chunk_size), strict=True)]
    of_hidden, of_head = torch.zeros_like(hidden), torch.zeros_like(head)
    for start, gradient in zip(range(0, len(hidden), chunk_size), gradients, strict=True):
        of_hidden[start : start + chunk_size] = gradient @ head
        of_head += gradient.t() @ hidden[start : start + chunk_size]
    return of_hidden, of_head


def one_gradient(hidden, head, log_p, chunk_size):
    """two gradients"""
    return _gradients(hidden, head, log_p, chunk_size, lambda z, p: _reverse(z, p) / len(hidden))[0]


def the_one_stays(hidden, head, log_p, chunk_size):
    """the 1 of hint 1"""
    return _gradients(
        hidden, head, log_p, chunk_size, lambda z, p: z.softmax(-1) * (z.log_softmax(-1) - p + 1) / len(hidden)
    )


def swapped(hidden, head, log_p, chunk_size):
    """comes first"""
    return _gradients(hidden, head, log_p, chunk_size, lambda z, p: _reverse(z, p) / len(hidden))[::-1]


def one_backward_pass(hidden, head, log_p, chunk_size):
    """your function raised RuntimeError"""
    hidden, head = hidden.requires_grad_(), head.requires_grad_()
    total = 0.0
    for start in range(0, len(hidden), chunk_size):
        rows = slice(start, start + chunk_size)
        log_q = (hidden[rows] @ head.t()).log_softmax(-1)
        total = total + (log_q.exp() * (log_q - log_p[rows])).sum() / len(hidden)
    total.backward()
    return hidden.grad, head.grad


def chunks_of_ten_sizes(hidden, head, log_p, chunk_size):
    """rows of logits were held at once"""
    return _gradients(hidden, head, log_p, 10 * chunk_size, lambda z, p: _reverse(z, p) / len(hidden))
