"""The peak memory of a computation's tensors."""

import torch

from distill_helpers.course.memory import peak_tensor_bytes


def test_what_lives_at_the_same_time_is_added_and_what_is_freed_is_not():
    def one_after_another():
        total = 0.0
        for _ in range(5):
            total += float(torch.ones(1000).sum())
        return total

    def together():
        return sum(float(tensor.sum()) for tensor in [torch.ones(1000) for _ in range(5)])

    value, small = peak_tensor_bytes(one_after_another)
    other, large = peak_tensor_bytes(together)
    assert value == other == 5000
    assert 4000 <= small < 4100
    assert 20_000 <= large < 20_100


def test_views_and_changes_in_place_take_nothing():
    x = torch.ones(1000)

    def changed():
        return x.view(10, 100).add_(1)[2:].t()

    _, peak = peak_tensor_bytes(changed)
    assert peak == 0


def test_the_backward_pass_counts():
    weight = torch.ones(50, 50, requires_grad=True)
    x = torch.ones(20, 50)
    _, forward = peak_tensor_bytes(lambda: (x @ weight).relu().sum())
    weight.grad = None
    _, both = peak_tensor_bytes(lambda: (x @ weight).relu().sum().backward())
    # The gradients of the weight and of the product, and what the forward pass has left.
    assert both >= max(forward, 50 * 50 * 4 + 20 * 50 * 4)
    assert weight.grad is not None
