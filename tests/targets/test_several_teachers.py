"""Targets of several teachers: mixtures, geometric means, weights, and one teacher for each label."""

import pytest
import torch
from hypothesis import given, settings, strategies as st

from distill_helpers.losses.soft_targets import soft_target_divergence
from distill_helpers.targets.several_teachers import combine_teacher_logits, weights_by_label


def teachers(n=3, texts=4, classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(texts, classes, generator=generator) * 4 + 100 * k for k in range(n)]


@settings(deadline=None)
@given(seed=st.integers(0, 1000), temperature=st.sampled_from([0.5, 1.0, 4.0]))
def test_at_the_temperature_of_the_loss_it_is_the_mean_of_the_softened_probabilities(seed, temperature):
    logits = teachers(seed=seed)
    combined = combine_teacher_logits(logits, temperature=temperature, weights=[1, 2, 5])
    expected = sum(w * (z.double() / temperature).softmax(-1) for w, z in zip((1, 2, 5), logits, strict=True)) / 8
    torch.testing.assert_close((combined.double() / temperature).softmax(-1), expected, rtol=1e-4, atol=1e-6)


def test_the_mean_of_the_logits_does_not_see_a_teachers_level():
    logits = teachers()
    combined = combine_teacher_logits(logits, mean_of="logits").softmax(-1)
    shifted = combine_teacher_logits([logits[0] - 50, logits[1] + 7, logits[2]], mean_of="logits").softmax(-1)
    torch.testing.assert_close(combined, shifted)
    geometric = torch.stack([z.double().log_softmax(-1) for z in logits]).mean(0).softmax(-1)
    torch.testing.assert_close(combined.double(), geometric, rtol=1e-5, atol=1e-7)


def test_the_mixture_has_the_smallest_mean_divergence_from_the_teachers():
    logits = teachers(2)
    mixture = combine_teacher_logits(logits)

    def mean(target):
        return sum(float(soft_target_divergence(target, z).mean()) for z in logits) / 2

    for other in (*logits, combine_teacher_logits(logits, mean_of="logits"), mixture + torch.randn(4, 5) * 0.3):
        assert mean(mixture) < mean(other)


@pytest.mark.parametrize("mean_of", ["probabilities", "logits"])
def test_a_weight_of_zero_leaves_a_teacher_out(mean_of):
    logits = teachers(2)
    alone = combine_teacher_logits(logits, weights=[0, 3], mean_of=mean_of)
    torch.testing.assert_close(alone.softmax(-1), logits[1].softmax(-1))


def test_each_label_has_its_own_teacher():
    logits = teachers(3)
    weights = weights_by_label([0, 1, -100, 4], {0: 2, 1: [0, 1]}, n_teachers=3)
    combined = combine_teacher_logits(logits, weights=weights).softmax(-1)
    torch.testing.assert_close(combined[0], logits[2][0].softmax(-1))
    torch.testing.assert_close(combined[1], (logits[0][1].softmax(-1) + logits[1][1].softmax(-1)) / 2)
    shared = torch.stack([z.softmax(-1) for z in logits]).mean(0)
    torch.testing.assert_close(combined[2:], shared[2:])


def test_bad_input_is_refused_with_teacher_and_row():
    first, second = teachers(2)
    with pytest.raises(ValueError, match="two teachers or more, got the logits of 1"):
        combine_teacher_logits([first])
    with pytest.raises(ValueError, match=r"teacher 1 has logits \(4, 4\), teacher 0 \(4, 5\)"):
        combine_teacher_logits([first, second[:, :4]])
    broken = second.clone()
    broken[2, 1] = torch.nan
    with pytest.raises(ValueError, match="row 2: the teacher's logits are not finite; these are teacher 1's"):
        combine_teacher_logits([first, broken])
    for weights in ([1, -1], [0, 0], [1, float("nan")]):
        with pytest.raises(ValueError, match="row 0 of the weights"):
            combine_teacher_logits([first, second], weights=weights)
    with pytest.raises(ValueError, match=r"weights must be \(2,\) or \(4, 2\)"):
        combine_teacher_logits([first, second], weights=[1, 1, 1])
    with pytest.raises(ValueError, match="temperature must be positive, got 0"):
        combine_teacher_logits([first, second], temperature=0)
    with pytest.raises(ValueError, match="mean_of must be"):
        combine_teacher_logits([first, second], mean_of="votes")
    with pytest.raises(ValueError, match=r"label 1 has the teachers \[2\]; give it some of 0 to 1"):
        weights_by_label([0], {1: 2}, n_teachers=2)
    with pytest.raises(ValueError, match="-100 marks a text without a label"):
        weights_by_label([0], {-100: 1}, n_teachers=2)
