"""The divergences against torch, scipy and closed forms, and the one place that masks and averages them."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr

from distill_helpers.losses.divergences import (
    DIVERGENCES,
    forward_kl,
    generalized_jsd,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
)
from distill_helpers.losses.soft_targets import masked_mean, mean_divergence, mean_per_item, soft_target_divergence

NAMES = sorted(DIVERGENCES)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
repeatable = settings(deadline=None, max_examples=40, derandomize=True)

# What fp32 rounding may take below 0; the normalised JSD multiplies it by 1/(β(1 − β)), 4 at its default.
ROUNDING = dict.fromkeys(NAMES, 1e-6) | {"generalized_jsd": 4e-6}


@st.composite
def logit_pairs(draw, low=-15, high=15):
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 9)))
    numbers = arrays(np.float32, shape, elements=st.floats(low, high, width=32))
    return torch.from_numpy(draw(numbers)), torch.from_numpy(draw(numbers))


def random_logits(*shape, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=generator), scale * torch.randn(*shape, generator=generator)


def log_probabilities(*shape, seed=0):
    student, teacher = random_logits(*shape, seed=seed)
    return student.log_softmax(-1), teacher.log_softmax(-1)


def value_and_gradient(student, teacher, **options):
    student = student.detach().clone().requires_grad_()
    value = mean_divergence(student, teacher, **options)
    value.backward()
    return value.detach(), student.grad


# The mathematics


def test_forward_kl_equals_torch_and_scipy():
    student, teacher = log_probabilities(4, 7)
    expected = F.kl_div(student, teacher, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(forward_kl(student, teacher), expected)
    scipy_value = rel_entr(teacher.double().exp().numpy(), student.double().exp().numpy()).sum(-1)
    np.testing.assert_allclose(forward_kl(student, teacher).numpy(), scipy_value, rtol=1e-5)


def test_reverse_kl_is_taken_over_the_student():
    student, teacher = log_probabilities(4, 7)
    expected = F.kl_div(teacher, student, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(reverse_kl(student, teacher), expected)
    assert not torch.allclose(reverse_kl(student, teacher), forward_kl(student, teacher), rtol=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_leading_dimensions_are_kept(name):
    student, teacher = random_logits(2, 3, 5)
    value = soft_target_divergence(student, teacher, divergence=name)
    assert value.shape == (2, 3)
    alone = soft_target_divergence(student[1, 2], teacher[1, 2], divergence=name)
    torch.testing.assert_close(value[1, 2], alone)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
@repeatable
@given(pair=logit_pairs(), temperature=st.sampled_from([0.5, 1.0, 4.0]))
def test_no_divergence_is_negative(name, dtype, pair, temperature):
    student, teacher = (logits.to(dtype) for logits in pair)
    value = soft_target_divergence(student, teacher, divergence=name, temperature=temperature, t_squared=False)
    assert value.dtype == torch.float32
    assert (value >= -ROUNDING[name]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
@repeatable
@given(pair=logit_pairs(), temperature=st.sampled_from([0.5, 1.0, 4.0]))
def test_every_divergence_is_zero_at_equality(name, dtype, pair, temperature):
    logits = pair[0].to(dtype)
    value = soft_target_divergence(logits, logits, divergence=name, temperature=temperature, t_squared=False)
    assert (value.abs() <= ROUNDING[name]).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_logits_near_convergence_give_the_true_small_divergence(name, dtype):
    noise, teacher = random_logits(8, 1000, seed=3)
    student, teacher = (teacher + 0.01 * noise).to(dtype), teacher.to(dtype)
    value = soft_target_divergence(student, teacher, divergence=name)
    exact = DIVERGENCES[name](student.double().log_softmax(-1), teacher.double().log_softmax(-1)).float()
    assert (value >= -1e-6).all()
    torch.testing.assert_close(value, exact, rtol=0.01, atol=4e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_same_computation_in_half_precision_would_go_wrong(dtype):
    # Shows that the test above can tell: in the input's dtype the KL comes out negative or far off.
    noise, teacher = random_logits(8, 1000, seed=3)
    student, teacher = (teacher + 0.01 * noise).to(dtype), teacher.to(dtype)
    true_value = soft_target_divergence(student, teacher)
    careless = forward_kl(student.log_softmax(-1), teacher.log_softmax(-1)).float()
    assert ((careless - true_value).abs() > 0.2 * true_value).any()


@repeatable
@given(pair=logit_pairs(low=-60, high=60), skew=st.floats(0.01, 0.95))
def test_skew_kl_is_bounded_by_minus_log_skew(pair, skew):
    student, teacher = (logits.log_softmax(-1) for logits in pair)
    for function in (skew_kl, skew_reverse_kl):
        assert (function(student, teacher, skew) <= -math.log(skew) + 1e-5).all()


@pytest.mark.parametrize("skew", [0.05, 0.1, 0.5])
def test_skew_kl_reaches_its_bound_for_distributions_without_overlap(skew):
    student, teacher = torch.tensor([0.0, -math.inf]), torch.tensor([-math.inf, 0.0])
    assert forward_kl(student, teacher) == math.inf
    assert skew_kl(student, teacher, skew).item() == pytest.approx(-math.log(skew), rel=1e-5)
    assert skew_reverse_kl(student, teacher, skew).item() == pytest.approx(-math.log(skew), rel=1e-5)


@pytest.mark.parametrize("skew", [0.1, 0.7])
def test_skew_kls_mix_the_distribution_they_are_taken_over(skew):
    student, teacher = log_probabilities(4, 7)
    q, p = student.double().exp().numpy(), teacher.double().exp().numpy()
    forward = rel_entr(p, skew * p + (1 - skew) * q).sum(-1)
    reverse = rel_entr(q, skew * q + (1 - skew) * p).sum(-1)
    np.testing.assert_allclose(skew_kl(student, teacher, skew).numpy(), forward, rtol=1e-4)
    np.testing.assert_allclose(skew_reverse_kl(student, teacher, skew).numpy(), reverse, rtol=1e-4)


def test_without_skew_the_skew_kls_are_the_plain_ones():
    student, teacher = log_probabilities(4, 7)
    torch.testing.assert_close(skew_kl(student, teacher, 0.0), forward_kl(student, teacher))
    torch.testing.assert_close(skew_reverse_kl(student, teacher, 0.0), reverse_kl(student, teacher))


@pytest.mark.parametrize("beta", [0.01, 0.2, 0.5, 0.8, 0.99])
def test_generalized_jsd_equals_its_definition(beta):
    student, teacher = log_probabilities(4, 7)
    q, p = student.double().exp().numpy(), teacher.double().exp().numpy()
    m = beta * p + (1 - beta) * q
    expected = beta * rel_entr(p, m).sum(-1) + (1 - beta) * rel_entr(q, m).sum(-1)
    # In fp32 the last digits of a probability already move the value by some 1e-7.
    np.testing.assert_allclose(generalized_jsd(student, teacher, beta, normalized=False).numpy(), expected, atol=2e-7)
    np.testing.assert_allclose(
        generalized_jsd(student, teacher, beta).numpy(), expected / (beta * (1 - beta)), rtol=1e-4
    )


def test_generalized_jsd_at_one_half_is_the_jensen_shannon_divergence():
    student, teacher = log_probabilities(4, 7)
    jsd = jensenshannon(teacher.double().exp().numpy(), student.double().exp().numpy(), axis=-1) ** 2
    np.testing.assert_allclose(generalized_jsd(student, teacher, normalized=False).numpy(), jsd, rtol=1e-4)
    np.testing.assert_allclose(generalized_jsd(student, teacher).numpy(), 4 * jsd, rtol=1e-4)


@pytest.mark.parametrize(("endpoint", "limit"), [(0.0, forward_kl), (1.0, reverse_kl)])
def test_normalized_jsd_is_continuous_at_the_endpoints(endpoint, limit):
    # Mild logits: how near an endpoint the limit is reached depends on the smallest probability.
    student, teacher = (logits.log_softmax(-1) for logits in random_logits(20, 50, seed=1, scale=0.5))
    kl = limit(student, teacher)
    torch.testing.assert_close(generalized_jsd(student, teacher, endpoint), kl)
    gaps = [
        (generalized_jsd(student, teacher, abs(endpoint - step)) - kl).abs().max().item() for step in (1e-2, 1e-4, 1e-6)
    ]
    assert gaps[0] > gaps[1]
    assert gaps[1] < 5e-3
    assert gaps[2] < 1e-4


@pytest.mark.parametrize("endpoint", [0.0, 1.0])
def test_the_papers_jsd_goes_to_zero_at_the_endpoints(endpoint):
    student, teacher = log_probabilities(20, 50, seed=1)
    assert (generalized_jsd(student, teacher, endpoint, normalized=False) == 0).all()
    assert (generalized_jsd(student, teacher, abs(endpoint - 1e-4), normalized=False) < 2e-3).all()
    # Also where the KL that is multiplied by 0 there is infinite.
    disjoint = torch.tensor([0.0, -math.inf]), torch.tensor([-math.inf, 0.0])
    assert generalized_jsd(*disjoint, endpoint, normalized=False) == 0


@pytest.mark.parametrize("beta", [0.05, 0.95])
def test_normalized_jsd_does_not_jump_where_it_changes_to_double_precision(beta):
    student, teacher = log_probabilities(20, 50, seed=1)
    below, above = (generalized_jsd(student, teacher, beta + step) for step in (-1e-6, 1e-6))
    torch.testing.assert_close(below, above, rtol=2e-4, atol=2e-6)
    assert below.dtype == above.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
@repeatable
@given(pair=logit_pairs(), shifts=st.tuples(st.integers(-100, 100), st.integers(-100, 100)))
def test_a_constant_added_to_all_logits_changes_nothing(name, pair, shifts):
    student, teacher = pair
    plain = soft_target_divergence(student, teacher, divergence=name, temperature=2.0)
    shifted = soft_target_divergence(student + shifts[0], teacher + shifts[1], divergence=name, temperature=2.0)
    torch.testing.assert_close(shifted, plain, rtol=1e-4, atol=5e-4)


# Impossible classes: 0 · log 0 = 0


@pytest.mark.parametrize("options", [{"divergence": n} for n in NAMES] + [{"beta": b} for b in (0.0, 0.02, 0.9, 1.0)])
def test_a_class_impossible_for_both_is_as_if_it_were_not_there(options):
    options = {"divergence": "generalized_jsd"} | options
    student, teacher = random_logits(3, 5)
    blocked = torch.tensor([True, False, True, True, False])
    with_class_s, with_class_t = (x.masked_fill(~blocked, -math.inf) for x in (student, teacher))
    value, gradient = value_and_gradient(with_class_s, with_class_t, temperature=2.0, **options)
    expected, expected_gradient = value_and_gradient(
        student[:, blocked], teacher[:, blocked], temperature=2.0, **options
    )
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient[:, blocked], expected_gradient)
    assert (gradient[:, ~blocked] == 0).all()


@pytest.mark.parametrize("name", ["forward_kl", "generalized_jsd", "skew_kl", "skew_reverse_kl"])
def test_a_class_impossible_for_the_teacher_alone_gives_a_finite_value_and_gradient(name):
    student, teacher = random_logits(3, 5)
    teacher[:, 2] = -math.inf
    value, gradient = value_and_gradient(student, teacher, divergence=name)
    almost = teacher.clone().masked_fill(teacher == -math.inf, -80.0)
    expected, expected_gradient = value_and_gradient(student, almost, divergence=name)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)
    assert gradient[:, 2].abs().min() > 0  # the student is told to give that class up


def test_mass_where_the_other_has_none_is_infinitely_far_and_not_nan():
    certain, other = torch.tensor([0.0, -math.inf]), torch.tensor([0.5, 0.5]).log()
    assert forward_kl(certain, other) == math.inf
    assert reverse_kl(other, certain) == math.inf
    assert forward_kl(other, certain).item() == pytest.approx(math.log(2))
    assert reverse_kl(certain, other).item() == pytest.approx(math.log(2))


# Temperature and T²


@pytest.mark.parametrize("t_squared", [True, False])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0, 20.0])
def test_gradient_of_the_forward_kl_is_the_closed_form(temperature, t_squared):
    student, teacher = random_logits(6, 5)
    value, gradient = value_and_gradient(student, teacher, temperature=temperature, t_squared=t_squared)
    q, p = (student / temperature).softmax(-1), (teacher / temperature).softmax(-1)
    factor = temperature if t_squared else 1 / temperature
    torch.testing.assert_close(gradient, factor * (q - p) / len(student), rtol=1e-4, atol=1e-7)
    assert value.item() == pytest.approx(
        (temperature**2 if t_squared else 1) * rel_entr(p.double().numpy(), q.double().numpy()).sum(-1).mean().item(),
        rel=1e-4,
    )


def test_high_temperature_gradient_is_the_difference_of_the_centred_logits():
    student, teacher = random_logits(1, 5)
    _, gradient = value_and_gradient(student, teacher, temperature=1000.0)
    expected = ((student - student.mean()) - (teacher - teacher.mean())) / 5
    torch.testing.assert_close(gradient, expected, rtol=0, atol=5e-3)
    assert expected.abs().max() > 0.3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("temperature", [0.5, 3])
def test_t_squared_multiplies_every_divergence(name, temperature):
    student, teacher = random_logits(4, 5)
    options = {"divergence": name, "temperature": temperature}
    without = soft_target_divergence(student, teacher, t_squared=False, **options)
    torch.testing.assert_close(soft_target_divergence(student, teacher, **options), temperature**2 * without)
    at_one = soft_target_divergence(student / temperature, teacher / temperature, divergence=name)
    torch.testing.assert_close(without, at_one)


def printed(figure):
    """A figure of a table, with half a unit of its last digit as tolerance."""
    return pytest.approx(float(figure), abs=0.505 * 10.0 ** -len(figure.split(".")[1]))


@pytest.mark.parametrize(
    ("temperature", "norm", "scaled_norm", "kl"),
    [
        (1, ".2562", ".256", ".1815"),
        (2, ".1231", ".492", ".1545"),
        (4, ".0394", ".630", ".0625"),
        (8, ".0106", ".681", ".0183"),
        (16, ".00273", ".699", ".00481"),
        (32, ".00069", ".707", ".00122"),
    ],
)
def test_t_squared_keeps_the_gradient_of_the_worked_example_in_scale(temperature, norm, scaled_norm, kl):
    student = torch.tensor([[2, 1, 0.5, -1, -0.5]])
    teacher = torch.tensor([[5, 3.5, 1, 0, -2]])
    value, gradient = value_and_gradient(student, teacher, temperature=temperature, t_squared=False)
    _, scaled_gradient = value_and_gradient(student, teacher, temperature=temperature, t_squared=True)
    assert gradient.norm().item() == printed(norm)
    assert scaled_gradient.norm().item() == printed(scaled_norm)
    assert value.item() == printed(kl)


def test_a_higher_temperature_can_raise_the_kl():
    student, teacher = torch.tensor([10.0, 0, 0, -1, -2]), torch.tensor([10.0, 5, 2, -3, -4])
    at_one, at_two = (
        soft_target_divergence(student, teacher, temperature=t, t_squared=False).item() for t in (1.0, 2.0)
    )
    assert (at_one, at_two) == (printed("0.0272"), printed("0.1225"))


@pytest.mark.parametrize("name", NAMES)
def test_the_teacher_receives_no_gradient(name):
    student, teacher = (logits.requires_grad_() for logits in random_logits(4, 5))
    soft_target_divergence(student, teacher, divergence=name).sum().backward()
    mean_divergence(student, teacher, divergence=name, chunk_size=3).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


# Masks and means


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_classes_are_summed_and_not_averaged(classes):
    # A certain teacher and a clueless student are log(classes) apart.
    teacher = torch.full((3, classes), -math.inf)
    teacher[:, 0] = 0
    value = mean_divergence(torch.zeros(3, classes), teacher)
    assert value.item() == pytest.approx(math.log(classes), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(6,), (3, 4)])
def test_a_mask_equals_computing_the_valid_positions_alone(shape, name):
    student, teacher = random_logits(*shape, 5)
    mask = (torch.arange(math.prod(shape)) % 3 != 0).reshape(shape)
    value, gradient = value_and_gradient(student, teacher, mask=mask, divergence=name, temperature=2.0)
    expected, expected_gradient = value_and_gradient(student[mask], teacher[mask], divergence=name, temperature=2.0)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient[mask], expected_gradient)
    assert (gradient[~mask] == 0).all()


def test_without_a_mask_every_position_of_a_sequence_counts():
    student, teacher = random_logits(2, 3, 5)
    per_position = soft_target_divergence(student, teacher)
    torch.testing.assert_close(mean_divergence(student, teacher), per_position.sum() / 6)


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_broken_logits_at_masked_positions_reach_neither_value_nor_gradient(name, poison, chunk_size):
    student, teacher = random_logits(3, 4, 5)
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [0, 0, 1, 1]]).bool()
    options = {"mask": mask, "divergence": name, "chunk_size": chunk_size}
    expected, expected_gradient = value_and_gradient(student, teacher, **options)
    student[~mask] = poison
    teacher[~mask] = poison
    value, gradient = value_and_gradient(student, teacher, **options)
    assert torch.equal(value, expected)
    assert torch.equal(gradient, expected_gradient)
    assert gradient[mask].abs().sum() > 0


@pytest.mark.parametrize("num_items", [None, 7, torch.tensor(7), torch.tensor(0)])
@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_count_gives_zero_and_zero_gradients(name, chunk_size, num_items):
    student, teacher = random_logits(2, 3, 5)
    mask = torch.zeros(2, 3, dtype=torch.bool)
    value, gradient = value_and_gradient(
        student, teacher, mask=mask, divergence=name, chunk_size=chunk_size, num_items=num_items
    )
    assert value == 0
    assert torch.equal(gradient, torch.zeros_like(student))


@pytest.mark.parametrize("name", NAMES)
@repeatable
@given(rows=st.integers(1, 40), chunk_size=st.integers(1, 45), masked=st.booleans())
@example(rows=17, chunk_size=5, masked=False)
@example(rows=17, chunk_size=17, masked=True)
def test_chunks_change_neither_value_nor_gradient(name, rows, chunk_size, masked):
    student, teacher = random_logits(rows, 6, seed=rows)
    options = {"divergence": name, "temperature": 3.0, "mask": torch.arange(rows) % 3 != 1 if masked else None}
    expected, expected_gradient = value_and_gradient(student, teacher, **options)
    value, gradient = value_and_gradient(student, teacher, chunk_size=chunk_size, **options)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_chunks_keep_no_softmax_for_the_backward_pass():
    def numbers_kept(chunk_size):
        student, teacher = random_logits(64, 100)
        inputs = {logits.untyped_storage().data_ptr() for logits in (student, teacher)}
        kept = []

        def pack(tensor):
            if tensor.untyped_storage().data_ptr() not in inputs:  # the logits themselves are there anyway
                kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            mean_divergence(student.requires_grad_(), teacher, chunk_size=chunk_size)
        return sum(kept)

    assert numbers_kept(None) >= 64 * 100
    assert numbers_kept(8) < 64 * 100 / 4


@pytest.mark.parametrize("as_number", [int, torch.tensor])
@repeatable
@given(cuts=st.sets(st.integers(1, 8), min_size=1, max_size=4))
@example(cuts={1})
def test_micro_batches_divided_by_the_total_accumulate_to_the_gradient_of_the_whole_batch(as_number, cuts):
    student, teacher = random_logits(9, 4, 5, seed=2)
    lengths = torch.tensor([4, 1, 0, 2, 3, 1, 4, 1, 2])
    mask = torch.arange(4) < lengths[:, None]
    expected, expected_gradient = value_and_gradient(student, teacher, mask=mask, temperature=2.0)

    whole = student.clone().requires_grad_()
    total = 0.0
    bounds = [0, *sorted(cuts), 9]
    for start, stop in itertools.pairwise(bounds):
        part = slice(start, stop)
        loss = mean_divergence(
            whole[part], teacher[part], mask=mask[part], num_items=as_number(int(mask.sum())), temperature=2.0
        )
        loss.backward()
        total += loss.item()
    torch.testing.assert_close(whole.grad, expected_gradient)
    assert total == pytest.approx(expected.item(), rel=1e-5)


def test_masked_mean_by_hand():
    values = torch.tensor([[1.0, 2.0, math.nan], [4.0, math.inf, 6.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert masked_mean(values, mask).item() == pytest.approx(7 / 3)
    assert masked_mean(values, mask, num_items=7).item() == pytest.approx(1)
    assert masked_mean(values, mask, num_items=torch.tensor(14)).item() == pytest.approx(0.5)
    assert masked_mean(torch.tensor([1.0, 3.0])).item() == 2


def test_mean_per_item_by_hand():
    values = torch.tensor([[1.0, 2.0, 6.0], [5.0, math.nan, math.inf], [7.0, 7.0, 7.0]])
    mask = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    assert mean_per_item(values, mask).tolist() == [3, 5, 0]
    squares = torch.arange(8.0).reshape(2, 1, 2, 2)
    assert mean_per_item(squares, squares > 2).tolist() == [3, 5.5]


def test_masked_mean_of_nothing_stays_on_the_graph():
    values = torch.tensor([1.0, math.nan], requires_grad=True)
    mean = masked_mean(values, torch.tensor([False, False]))
    mean.backward()
    assert mean == 0
    assert torch.equal(values.grad, torch.zeros(2))


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_half_precision_logits_give_an_fp32_mean_and_gradients_in_their_own_dtype(chunk_size):
    student, teacher = (logits.bfloat16() for logits in random_logits(5, 7))
    value, gradient = value_and_gradient(student, teacher, chunk_size=chunk_size)
    assert (value.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(value, mean_divergence(student.float(), teacher.float()))


# What is refused

LOGITS = torch.zeros(2, 3, 5)


@pytest.mark.parametrize("function", [soft_target_divergence, mean_divergence])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"teacher_logits": torch.zeros(2, 3, 6)}, ValueError, r"\(2, 3, 5\).*\(2, 3, 6\)"),
        ({"teacher_logits": torch.zeros(2, 5)}, ValueError, r"\(2, 3, 5\).*\(2, 5\)"),
        ({"student_logits": torch.zeros(2, 3, 5).long()}, TypeError, "student_logits.*int64"),
        ({"teacher_logits": torch.zeros(2, 3, 5).int()}, TypeError, "teacher_logits.*int32"),
        ({"teacher_logits": [[0.0]]}, TypeError, "teacher_logits.*list"),
        ({"student_logits": torch.zeros(2, 0), "teacher_logits": torch.zeros(2, 0)}, ValueError, r"\(2, 0\)"),
        ({"student_logits": torch.tensor(1.0), "teacher_logits": torch.tensor(1.0)}, ValueError, "at least one class"),
        ({"temperature": 0}, ValueError, "temperature.*got 0"),
        ({"temperature": -1.0}, ValueError, "temperature.*got -1.0"),
        ({"temperature": math.nan}, ValueError, "temperature.*got nan"),
        ({"temperature": math.inf}, ValueError, "temperature.*got inf"),
        ({"temperature": "2"}, ValueError, "temperature.*got '2'"),
        ({"divergence": "kl"}, ValueError, "'kl'.*forward_kl"),
        ({"divergence": "forward_kl", "beta": 0.5}, TypeError, "beta"),
        ({"divergence": "generalized_jsd", "beta": -0.1}, ValueError, r"beta.*\[0, 1\].*-0.1"),
        ({"divergence": "generalized_jsd", "beta": 1.5}, ValueError, "beta.*1.5"),
        ({"divergence": "generalized_jsd", "beta": math.nan}, ValueError, "beta.*nan"),
        ({"divergence": "skew_kl", "skew": 1.0}, ValueError, r"skew.*\[0, 1\).*1.0"),
        ({"divergence": "skew_reverse_kl", "skew": -0.5}, ValueError, "skew.*-0.5"),
    ],
)
def test_bad_input_is_refused_with_the_reason(function, arguments, error, message):
    with pytest.raises(error, match=message):
        function(**({"student_logits": LOGITS, "teacher_logits": LOGITS} | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask": torch.ones(2, 3)}, "bool.*float32"),
        ({"mask": torch.ones(2, 3, dtype=torch.long)}, r"bool.*int64.*attention_mask.bool\(\)"),
        ({"mask": torch.ones(2, 4, dtype=torch.bool)}, r"\(2, 4\).*\(2, 3\)"),
        ({"mask": torch.ones(2, dtype=torch.bool)}, r"\(2,\).*\(2, 3\)"),
        ({"mask": torch.ones(2, 3, 5, dtype=torch.bool)}, r"\(2, 3, 5\).*\(2, 3\)"),
        ({"chunk_size": 0}, "chunk_size.*got 0"),
        ({"chunk_size": -4}, "chunk_size.*got -4"),
        ({"num_items": 0}, "num_items.*got 0"),
        ({"num_items": -1}, "num_items.*got -1"),
    ],
)
def test_a_bad_mask_chunk_or_count_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        mean_divergence(LOGITS, LOGITS, **arguments)


def test_masked_mean_refuses_a_mask_that_does_not_fit():
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        masked_mean(torch.zeros(2), torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match="uint8"):
        masked_mean(torch.zeros(2), torch.ones(2, dtype=torch.uint8))
