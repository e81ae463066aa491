"""The closed-form gradients against autograd in fp64, and at the edges where formulas break."""

import math

import pytest
import torch
from exact_divergences import divergence_in_fp64
from hypothesis import given, settings, strategies as st

from distill_helpers.losses.divergence_gradients import GRADIENTS, divergence_and_gradient
from distill_helpers.losses.divergences import DIVERGENCES
from distill_helpers.losses.soft_targets import soft_target_divergence

CASES = [
    *((name, {}) for name in DIVERGENCES),
    ("generalized_jsd", {"beta": 0.0}),
    ("generalized_jsd", {"beta": 0.01}),
    ("generalized_jsd", {"beta": 0.3, "normalized": False}),
    ("generalized_jsd", {"beta": 1.0}),
    ("generalized_jsd", {"beta": 1.0, "normalized": False}),
    ("skew_kl", {"skew": 0.0}),
    ("skew_reverse_kl", {"skew": 0.4}),
    ("skew_reverse_kl", {"skew": 0.0}),
]


def test_every_divergence_has_a_gradient():
    assert GRADIENTS.keys() == DIVERGENCES.keys()


@pytest.mark.parametrize(("name", "options"), CASES)
@given(
    seed=st.integers(0, 2**16),
    classes=st.integers(1, 40),
    scale=st.floats(0.1, 6.0),
    temperature=st.sampled_from([0.5, 1.0, 2.5, 20.0]),
)
@settings(deadline=None, max_examples=25, derandomize=True)
def test_value_and_gradient_are_those_of_autograd_in_fp64(name, options, seed, classes, scale, temperature):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = scale * torch.randn(2, 5, classes, generator=generator)
    exact = student.double().requires_grad_()
    expected = divergence_in_fp64(exact, teacher.double(), name, temperature, **options)
    expected.sum().backward()
    value, gradient = divergence_and_gradient(student, teacher, divergence=name, temperature=temperature, **options)
    # Where the gradient is next to nothing, the rounding of the log-probabilities is all there is; they are as large as
    # the largest logit over T, and their gradient is times T.
    rounding = torch.finfo(torch.float32).eps * float(torch.maximum(student.abs(), teacher.abs()).max())
    error = float((gradient.double() - exact.grad).norm())
    assert error <= 1e-5 * max(float(exact.grad.norm()), 0.2 * temperature) + rounding
    torch.testing.assert_close(value.double(), expected.detach(), rtol=1e-4, atol=1e-5 * temperature**2)
    torch.testing.assert_close(
        value, soft_target_divergence(student, teacher, divergence=name, temperature=temperature, **options)
    )


@pytest.mark.parametrize(("name", "options"), CASES)
def test_equal_distributions_have_no_gradient(name, options):
    logits = 3 * torch.randn(4, 11, generator=torch.Generator().manual_seed(1))
    value, gradient = divergence_and_gradient(logits, logits + 2.0, divergence=name, temperature=2.0, **options)
    assert value.abs().max() < 1e-4
    assert gradient.abs().max() < 1e-5


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_class_that_neither_may_choose_has_no_gradient(name, options):
    logits = torch.tensor([[0.0, 1.0, -math.inf]]), torch.tensor([[1.0, 0.0, -math.inf]])
    value, gradient = divergence_and_gradient(*logits, divergence=name, **options)
    assert torch.isfinite(value).all()
    assert torch.isfinite(gradient).all()
    assert gradient[0, 2] == 0


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_nan_is_not_hidden(name, options):
    student, teacher = torch.randn(2, 1, 4)
    student[0, 1] = math.nan
    value, gradient = divergence_and_gradient(student, teacher, divergence=name, **options)
    if options != {"beta": 1.0, "normalized": False}:  # 0, whatever comes in
        assert gradient.isnan().any()
    assert value.isnan().all()


def test_the_arguments_are_checked_and_left_as_they_were():
    student, teacher = torch.randn(2, 3, 4)
    before = student.clone(), teacher.clone()
    divergence_and_gradient(student, teacher, divergence="reverse_kl")
    assert torch.equal(student, before[0])
    assert torch.equal(teacher, before[1])
    with pytest.raises(ValueError, match="temperature"):
        divergence_and_gradient(student, teacher, temperature=0.0)
    with pytest.raises(ValueError, match="unknown divergence"):
        divergence_and_gradient(student, teacher, divergence="kl")
    with pytest.raises(ValueError, match="differ in shape"):
        divergence_and_gradient(student, teacher[:2])
