"""The divergences of yes-or-no labels against formulas written out in fp64."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from exact_divergences import divergence_in_fp64
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from distill_helpers.losses.binary_divergences import binary_divergence, mean_binary_divergence
from distill_helpers.losses.divergences import DIVERGENCES
from distill_helpers.losses.soft_targets import soft_target_divergence

NAMES = sorted(DIVERGENCES)
OPTIONS = [{"divergence": name} for name in NAMES] + [
    {"divergence": "generalized_jsd", "beta": 0.01, "normalized": False},
    {"divergence": "generalized_jsd", "beta": 1.0},
    {"divergence": "skew_kl", "skew": 0.6},
]
repeatable = settings(deadline=None, max_examples=40, derandomize=True)


@st.composite
def logit_pairs(draw, low=-15, high=15):
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 6)))
    numbers = arrays(np.float32, shape, elements=st.floats(low, high, width=32))
    return torch.from_numpy(draw(numbers)), torch.from_numpy(draw(numbers))


def random_logits(*shape, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator), scale * torch.randn(*shape, generator=generator)


def exact(student, teacher, temperature=1.0, divergence="forward_kl", **options):
    """T² · D of the softmaxes over (z, 0), in fp64."""
    pairs = [torch.stack([z, torch.zeros_like(z)], dim=-1) for z in (student.double(), teacher.double())]
    return divergence_in_fp64(*pairs, divergence, temperature, **options)


# The value


def kl(p, q):
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


def test_the_values_are_those_of_two_bernoullis_written_out():
    student, teacher = random_logits(3, 4)
    q, p = student.double().sigmoid(), teacher.double().sigmoid()
    m = (p + q) / 2
    for name, expected in {
        "forward_kl": kl(p, q),
        "reverse_kl": kl(q, p),
        "generalized_jsd": 4 * (kl(p, m) + kl(q, m)) / 2,
        "skew_kl": kl(p, 0.1 * p + 0.9 * q),
        "skew_reverse_kl": kl(q, 0.1 * q + 0.9 * p),
    }.items():
        found = binary_divergence(student, teacher, divergence=name)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS)
@repeatable
@given(pair=logit_pairs(-60, 60), temperature=st.sampled_from([0.5, 1.0, 4.0]))
def test_every_divergence_is_that_of_a_softmax_over_the_logit_and_zero(options, pair, temperature):
    found = binary_divergence(*pair, temperature=temperature, **options)
    assert found.dtype == torch.float32
    assert found.shape == pair[0].shape
    if (pair[0].abs().max() / temperature) < 30:  # beyond, the fp64 formula itself divides 0 by 0
        torch.testing.assert_close(found.double(), exact(*pair, temperature, **options), rtol=1e-3, atol=1e-4)
    assert found.isfinite().all()


@pytest.mark.parametrize("options", OPTIONS)
@repeatable
@given(pair=logit_pairs(), temperature=st.sampled_from([0.5, 1.0, 4.0]))
def test_no_divergence_is_negative_and_each_is_zero_at_equality(options, pair, temperature):
    # fp32 rounding of the logarithms, times 1/(β(1 − β)) in the normalised JSD.
    rounding = 4e-6 * temperature**2
    assert binary_divergence(*pair, temperature=temperature, **options).min() >= -rounding
    same = binary_divergence(pair[0], pair[0], temperature=temperature, **options)
    assert same.abs().max() <= rounding


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_dtype_is_computed_in_fp32(dtype):
    student, teacher = (logits.to(dtype) for logits in random_logits(3, 4))
    found = binary_divergence(student, teacher, temperature=2.0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, binary_divergence(student.float(), teacher.float(), temperature=2.0))


def test_a_shift_of_all_logits_counts_though_the_softmax_does_not_see_it():
    teacher = random_logits(2, 4)[1]
    assert binary_divergence(teacher - 8, teacher).min() > 0.1
    assert soft_target_divergence(teacher - 8, teacher).abs().max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_certain_teacher_gives_no_nan(name):
    student = torch.tensor([0.5, -0.5, 2.0], requires_grad=True)
    teacher = torch.tensor([math.inf, -math.inf, 0.0])
    value = binary_divergence(student, teacher, divergence=name)
    assert not value.isnan().any()
    if name not in ("reverse_kl", "skew_reverse_kl"):
        torch.testing.assert_close(value[2].double(), exact(student[2], teacher[2], divergence=name).detach())
    if name == "forward_kl":  # the binary cross-entropy with labels 1 and 0
        expected = F.binary_cross_entropy_with_logits(student[:2], torch.tensor([1.0, 0.0]), reduction="none")
        torch.testing.assert_close(value[:2], expected)


# The gradient


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("t_squared", [True, False])
def test_the_gradient_of_the_forward_kl_is_the_closed_form(temperature, t_squared):
    student, teacher = random_logits(3, 4)
    student.requires_grad_()
    binary_divergence(student, teacher, temperature=temperature, t_squared=t_squared).sum().backward()
    expected = ((student / temperature).sigmoid() - (teacher / temperature).sigmoid()) / temperature
    expected = expected * (temperature**2 if t_squared else 1)
    torch.testing.assert_close(student.grad, expected.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS)
@repeatable
@given(pair=logit_pairs(-8, 8), temperature=st.sampled_from([0.7, 1.0, 4.0]))
def test_the_gradient_is_that_of_the_formula_in_fp64(options, pair, temperature):
    student = pair[0].clone().requires_grad_()
    binary_divergence(student, pair[1], temperature=temperature, **options).sum().backward()
    twin = pair[0].double().requires_grad_()
    exact(twin, pair[1], temperature, **options).sum().backward()
    torch.testing.assert_close(student.grad.double(), twin.grad, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_t_squared_makes_the_high_temperature_gradient_a_quarter_of_the_logits_difference(shift):
    student, teacher = random_logits(3, 4)
    gradients = []
    for temperature in (100.0, 1000.0):
        leaf = (student + shift).requires_grad_()
        binary_divergence(leaf, teacher, temperature=temperature).sum().backward()
        gradients.append(leaf.grad)
    expected = (student + shift - teacher) / 4  # not centred: the shift stays in
    for gradient in gradients:
        torch.testing.assert_close(gradient, expected, rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_receives_no_gradient(name):
    student, teacher = (logits.requires_grad_() for logits in random_logits(3, 4))
    binary_divergence(student, teacher, divergence=name).sum().backward()
    assert teacher.grad is None
    assert student.grad.abs().min() > 0


# The mean


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_the_mean_is_over_labels_and_then_over_the_rows_that_count(options, chunk_size):
    student, teacher = random_logits(5, 3)
    mask = torch.tensor([True, False, True, True, False])
    per_label = binary_divergence(student, teacher, temperature=2.0, **options)
    settings = {"temperature": 2.0, "chunk_size": chunk_size, **options}
    found = mean_binary_divergence(student, teacher, **settings)
    torch.testing.assert_close(found, per_label.mean())
    found = mean_binary_divergence(student, teacher, mask=mask, **settings)
    torch.testing.assert_close(found, per_label[mask].mean())
    found = mean_binary_divergence(student, teacher, mask=mask, num_items=10, **settings)
    torch.testing.assert_close(found, per_label[mask].mean(dim=1).sum() / 10)


def test_labels_that_are_repeated_do_not_change_the_mean():
    student, teacher = random_logits(5, 3)
    twice = mean_binary_divergence(student.repeat(1, 2), teacher.repeat(1, 2))
    torch.testing.assert_close(twice, mean_binary_divergence(student, teacher))


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_rows_outside_the_mask_reach_neither_value_nor_gradient(poison):
    student, teacher = random_logits(4, 3)
    student[1], teacher[3] = poison, poison
    mask = torch.tensor([True, False, True, False])
    student.requires_grad_()
    value = mean_binary_divergence(student, teacher, mask=mask)
    value.backward()
    torch.testing.assert_close(value, mean_binary_divergence(student[mask], teacher[mask]))
    assert (student.grad[~mask] == 0).all()
    assert student.grad[mask].abs().min() > 0


def test_a_nan_that_counts_stays_a_nan():
    student, teacher = random_logits(2, 3)
    student[1, 2] = math.nan
    assert mean_binary_divergence(student, teacher).isnan()
    assert binary_divergence(student, teacher).isnan().tolist() == [[False] * 3, [False, False, True]]


# What is refused


@pytest.mark.parametrize("function", [binary_divergence, mean_binary_divergence])
@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((torch.zeros(2, 3), torch.zeros(2, 4)), {}, ValueError, r"\(2, 3\).*\(2, 4\)"),
        ((torch.zeros(2, 3), torch.zeros(3)), {}, ValueError, r"\(2, 3\).*\(3,\)"),  # would broadcast
        ((torch.zeros(2, 3).long(), torch.zeros(2, 3)), {}, TypeError, "student_logits.*int64"),
        ((torch.zeros(2, 3), torch.zeros(2, 3).bool()), {}, TypeError, "teacher_logits.*bool"),
        ((torch.zeros(2, 3), torch.zeros(2, 3)), {"temperature": 0}, ValueError, "temperature.*got 0"),
        ((torch.zeros(2, 3), torch.zeros(2, 3)), {"temperature": math.nan}, ValueError, "temperature.*got nan"),
        ((torch.zeros(2, 3), torch.zeros(2, 3)), {"divergence": "bce"}, ValueError, "'bce'.*forward_kl"),
        ((torch.zeros(2, 3), torch.zeros(2, 3)), {"beta": 0.5}, TypeError, "beta"),
    ],
)
def test_bad_input_is_refused_with_the_reason(function, arguments, options, error, message):
    with pytest.raises(error, match=message):
        function(*arguments, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": torch.ones(2, 3, dtype=torch.bool)}, r"\(2, 3\).*\(2,\)"),
        ({"mask": torch.ones(2)}, "bool.*float32"),
        ({"chunk_size": 0}, "chunk_size.*got 0"),
        ({"num_items": 0}, "num_items.*got 0"),
    ],
)
def test_a_bad_mask_chunk_or_count_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mean_binary_divergence(torch.zeros(2, 3), torch.zeros(2, 3), **options)
