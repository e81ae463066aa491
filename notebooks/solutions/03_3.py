import torch


def is_right(loss):
    """Whether loss(z, v, T) has the gradient of T² · mean over the rows of KL(p‖q): True or False."""
    temperature = 4.0
    z = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0]], requires_grad=True)
    v = torch.tensor([[4.0, 3.0, 0.0], [1.0, 2.0, -3.0]])
    (gradient,) = torch.autograd.grad(loss(z, v, temperature), z)
    expected = temperature * ((z / temperature).softmax(-1) - (v / temperature).softmax(-1)) / len(z)
    return torch.allclose(gradient, expected, rtol=1e-3, atol=1e-6)
