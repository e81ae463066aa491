import inspect

import torch


def _same_gradient(loss, temperature, z, v):
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(z, v, temperature), z)
    expected = temperature * ((z / temperature).softmax(-1) - (v / temperature).softmax(-1)) / len(z)
    return torch.allclose(gradient, expected, rtol=1e-3, atol=1e-6)


def tests_at_one(loss):
    """all of them right, or all but one"""
    return _same_gradient(loss, 1.0, torch.tensor([[2.0, 1.0, -1.0]]), torch.tensor([[4.0, 3.0, 0.0]]))


def tests_equal_logits(loss):
    """at z = v every gradient is 0"""
    z = torch.tensor([[2.0, 1.0, -1.0]])
    return _same_gradient(loss, 4.0, z, z)


def wants_exactly_the_same_bits(loss):
    """all of them wrong"""
    z = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0]])
    value = loss(z, 2 * z, 3.7).item()
    return value == 0.5


def looks_for_loss_a_and_b(loss):
    """you call loss_a right"""
    return loss.__name__ in ("loss_a", "loss_b")


def believes_the_mean_kl(loss):
    """you call loss_b wrong"""
    z, v = torch.tensor([[2.0, 1.0, -1.0]]), torch.tensor([[4.0, 3.0, 0.0]])
    log_q, log_p = (z / 4).log_softmax(-1), (v / 4).log_softmax(-1)
    return torch.allclose(loss(z, v, 4.0), (log_p.exp() * (log_p - log_q)).sum(-1).mean())


def says_a_word(loss):
    """True or False, got str"""
    return "right"


def the_opposite(loss):
    """the opposite"""
    return not _same_gradient(loss, 4.0, torch.tensor([[2.0, 1.0, -1.0]]), torch.tensor([[4.0, 3.0, 0.0]]))


def knows_the_three_by_name(loss):
    """a loss written as a cross-entropy"""
    return loss.__name__ == "loss_b"


def compares_norms(loss):
    """wrong sign"""
    z, v = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0]]), torch.tensor([[4.0, 3.0, 0.0], [1.0, 2.0, -3.0]])
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(z, v, 4.0), z)
    expected = 4 * ((z / 4).softmax(-1) - (v / 4).softmax(-1)) / len(z)
    return torch.allclose(gradient.norm(), expected.norm(), rtol=1e-3)


def compares_values(loss):
    """detached from its gradient"""
    z, v = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0]]), torch.tensor([[4.0, 3.0, 0.0], [1.0, 2.0, -3.0]])
    log_q, log_p = (z / 4).log_softmax(-1), (v / 4).log_softmax(-1)
    return torch.allclose(loss(z, v, 4.0), 16 * (log_p.exp() * (log_p - log_q)).sum(-1).mean(), rtol=1e-3)


def reads_the_source(loss):
    """multiplies T² into the entropy"""
    source = inspect.getsource(loss)
    return "temperature**2" in source or "temperature * temperature" in source
