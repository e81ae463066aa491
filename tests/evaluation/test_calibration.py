"""Temperature scaling against optima worked out by hand, and the bins against a tiny case."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from distill_helpers.evaluation.calibration import fit_temperature, reliability_bins
from distill_helpers.evaluation.measures import expected_calibration_error


def nll(logits, labels, temperature):
    return float(torch.nn.functional.cross_entropy(logits.double() / temperature, torch.as_tensor(labels)))


# Temperature


@pytest.mark.parametrize("gap", [0.01, 1.0, 6.0, 1e4])
@pytest.mark.parametrize(("right", "of"), [(3, 4), (9, 10), (51, 100)])
def test_two_classes_have_an_optimum_that_can_be_worked_out(gap, right, of):
    # Every message has the same gap between its two logits, so the best probability is the share that is right:
    # sigmoid(gap / T) = right / of.
    logits = torch.tensor([[gap, 0.0]]).repeat(of, 1)
    labels = [0] * right + [1] * (of - right)
    expected = gap / math.log(right / (of - right))
    assert fit_temperature(logits, labels) == pytest.approx(expected, rel=1e-5)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 6), scale=st.floats(0.05, 50))
def test_nearby_temperatures_are_worse_and_scale_and_shift_pass_through(seed, classes, scale):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(60, classes, generator=generator, dtype=torch.float64)
    labels = torch.distributions.Categorical(logits=logits / 0.7).sample()
    labels[:3] = (logits[:3].argmax(-1) + 1) % classes  # at least three wrong answers
    if (logits.mean(dim=1) - logits.gather(1, labels[:, None])[:, 0]).mean() >= 0:
        with pytest.raises(ValueError, match="uniform guess"):
            fit_temperature(logits, labels)
        assert nll(logits, labels, 1e6) <= min(nll(logits, labels, t) for t in (0.1, 1.0, 10.0))
        return
    fitted = fit_temperature(logits, labels)
    best = nll(logits, labels, fitted)
    assert best < nll(logits, labels, 0.98 * fitted)
    assert best < nll(logits, labels, 1.02 * fitted)
    # The likelihood is flat at its best, which leaves about six digits.
    assert fit_temperature(scale * logits, labels) == pytest.approx(scale * fitted, rel=1e-5)
    shifted = logits + torch.randn(60, 1, generator=generator, dtype=torch.float64)
    assert fit_temperature(shifted, labels.tolist()) == pytest.approx(fitted, rel=1e-5)


def test_a_known_temperature_is_found_again():
    # Labels drawn from softmax(logits / 2.5): with 20,000 of them the fit is within a few hundredths.
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(20_000, 5, generator=generator)
    labels = torch.multinomial((logits / 2.5).softmax(-1), 1, generator=generator).squeeze(1)
    assert fit_temperature(logits, labels) == pytest.approx(2.5, abs=0.08)


def test_half_precision_and_a_graph_are_accepted_and_left_alone():
    logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]], requires_grad=True)
    expected = 4 / math.log(3)
    assert fit_temperature(logits.bfloat16(), [0, 0, 0, 1]) == pytest.approx(expected, rel=1e-5)
    assert fit_temperature(logits, torch.tensor([0, 0, 0, 1], dtype=torch.int32)) == pytest.approx(expected, rel=1e-5)
    assert logits.grad is None


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(3), [0, 1, 2], r"\(3,\) and \(3,\)"),
        (torch.zeros(2, 3), [0], r"\(2, 3\) and \(1,\)"),
        (torch.zeros(2, 3), [[0], [1]], r"\(2, 3\) and \(2, 1\)"),
        (torch.zeros(0, 3), [], r"\(0, 3\) and \(0,\)"),
        (torch.tensor([[0.0, math.nan], [0.0, 1.0]]), [0, 1], "not finite"),
        (torch.tensor([[0.0, math.inf], [0.0, 1.0]]), [0, 1], "not finite"),
        (torch.eye(2), [0, 2], "from 0 to 1"),
        (torch.eye(2), [0, -100], "from 0 to 1"),
        (torch.eye(2), [0.0, 1.0], "from 0 to 1"),
        (torch.eye(3), [0, 1, 2], "every answer is right"),
        (torch.ones(2, 3), [0, 1], "every answer is right"),  # a tie is not wrong: more sharpness costs nothing
        (torch.eye(3), [1, 2, 0], "no better than a uniform guess"),
        (torch.tensor([[1.0, 0.0], [1.0, 0.0]]), [0, 1], "no better than a uniform guess"),
    ],
)
def test_what_no_temperature_can_fix_is_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, labels)


# Bins

PROBABILITIES = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [1.0, 0.0]])
LABELS = [0, 1, 1, 0, 0]


def test_bins_equal_a_tiny_case_worked_out_by_hand():
    table = reliability_bins(PROBABILITIES, LABELS, n_bins=5)
    assert list(table.columns) == ["confidence", "accuracy", "count"]
    assert table["count"].tolist() == [0, 0, 2, 0, 3]  # 0.6 lies on an edge, and so in the lower bin
    assert table["confidence"].tolist()[2::2] == pytest.approx([0.6, 2.8 / 3])
    assert table["accuracy"].tolist()[2::2] == pytest.approx([1.0, 2 / 3])
    assert table.loc[[0, 1, 3], ["confidence", "accuracy"]].isna().all(axis=None)


def test_bins_take_tensors_and_sum_up_to_the_ece():
    table = reliability_bins(torch.tensor(PROBABILITIES), torch.tensor(LABELS), n_bins=5)
    assert table.equals(reliability_bins(PROBABILITIES, LABELS, n_bins=5))
    ece = (2 * abs(1 - 0.6) + 3 * abs(2 / 3 - 2.8 / 3)) / 5
    assert expected_calibration_error(PROBABILITIES, LABELS, n_bins=5) == pytest.approx(ece)


@pytest.mark.parametrize(
    ("probabilities", "labels", "n_bins", "message"),
    [
        ([[0.5, 0.5]], [0], 0, "n_bins.*got 0"),
        ([[2.0, 0.5]], [0], 15, "pass probabilities, not logits"),
        ([[1.5, -0.5]], [0], 15, "non-negative"),
        ([[math.nan, 0.5]], [0], 15, "sum to 1"),
        ([[0.5, 0.5]], [0, 1], 15, r"\(1, 2\) and \(2,\)"),
        ([0.5, 0.5], [0, 1], 15, r"\(2,\) and \(2,\)"),
        (np.zeros((0, 2)), [], 15, r"\(0, 2\) and \(0,\)"),
    ],
)
def test_bins_refuse_what_is_no_distribution(probabilities, labels, n_bins, message):
    with pytest.raises(ValueError, match=message):
        reliability_bins(np.array(probabilities), labels, n_bins)
