"""Label bias: what removes it, which shares of the classes that assumes, and what is refused."""

import math

import numpy as np
import pytest

from distill_helpers.api.labels.label_bias import batch_calibrated, matched_to_prior


def teacher_with_bias(shares, bias, n=4000, seed=0):
    """True labels, a calibrated teacher's probabilities for them, and the same times a bias."""
    rng = np.random.default_rng(seed)
    shares = np.asarray(shares)
    labels = rng.choice(len(shares), size=n, p=shares)
    # One feature for each class, 1.5 higher for the right one: Bayes' rule gives the calibrated probabilities.
    features = rng.normal(size=(n, len(shares))) + 1.5 * np.eye(len(shares))[labels]
    calibrated = np.exp(1.5 * features) * shares
    calibrated /= calibrated.sum(axis=1, keepdims=True)
    biased = calibrated * np.asarray(bias)
    return labels, calibrated, biased / biased.sum(axis=1, keepdims=True)


def accuracy(probabilities, labels):
    return float((probabilities.argmax(axis=1) == labels).mean())


BIAS = [20, 1, 1, 0.2]
SKEWED = [0.85, 0.05, 0.05, 0.05]


def test_a_label_bias_is_removed_where_the_classes_are_equally_frequent():
    labels, calibrated, biased = teacher_with_bias([0.25] * 4, BIAS)
    assert accuracy(calibrated, labels) - accuracy(biased, labels) > 0.2
    assert accuracy(batch_calibrated(biased), labels) > accuracy(calibrated, labels) - 0.01


def test_the_equation():
    p = np.array([[0.5, 0.4, 0.1], [0.8, 0.1, 0.1]])
    expected = p / np.sqrt(p[0] * p[1])
    np.testing.assert_allclose(batch_calibrated(p), expected / expected.sum(axis=1, keepdims=True))


def test_calibrating_again_changes_nothing():
    biased = teacher_with_bias([0.25] * 4, BIAS)[2]
    once = batch_calibrated(biased)
    np.testing.assert_allclose(batch_calibrated(once), once, rtol=1e-9)
    once = matched_to_prior(biased, SKEWED)
    np.testing.assert_allclose(matched_to_prior(once, SKEWED), once, rtol=1e-6)


def test_a_batch_without_bias_stays():
    p = np.array([np.roll([0.7, 0.2, 0.1], i) for i in range(3)])
    np.testing.assert_allclose(batch_calibrated(p), p)
    np.testing.assert_allclose(matched_to_prior(p, [1, 1, 1]), p)


def test_unequal_classes_are_taken_for_bias():
    labels, calibrated, _ = teacher_with_bias(SKEWED, [1] * 4)
    assert accuracy(batch_calibrated(calibrated), labels) < accuracy(calibrated, labels) - 0.3


@pytest.mark.parametrize("shares", [[0.25] * 4, SKEWED])
def test_with_the_true_shares_the_bias_is_inverted_and_a_calibrated_teacher_stays(shares):
    _, calibrated, biased = teacher_with_bias(shares, BIAS)
    mended = matched_to_prior(biased, shares)
    np.testing.assert_allclose(mended.mean(axis=0), shares, atol=1e-8)
    np.testing.assert_allclose(mended, calibrated, atol=0.03)
    np.testing.assert_allclose(matched_to_prior(biased, np.array(shares) * 100), mended)
    # Exactly, where the prior is the batch's own.
    np.testing.assert_allclose(matched_to_prior(biased, calibrated.mean(axis=0)), calibrated, atol=1e-6)
    np.testing.assert_allclose(matched_to_prior(calibrated, shares), calibrated, atol=0.03)


@pytest.mark.parametrize("p", [[[0.5, 0.6]], [0.5, 0.5], [[math.nan, 1.0]], [[-0.5, 1.5]], np.zeros((0, 2))])
def test_what_is_no_probability_is_refused(p):
    for calibrate in (batch_calibrated, lambda p: matched_to_prior(p, [1, 1])):
        with pytest.raises(ValueError, match="sum to 1"):
            calibrate(np.array(p))


def test_zeros_and_priors_that_do_not_fit():
    with pytest.raises(ValueError, match=r"above 0; .*smoothing"):
        batch_calibrated(np.array([[0.0, 1.0], [0.5, 0.5]]))
    for prior in ([1, 1, 1], [0, 1], [math.inf, 1]):
        with pytest.raises(ValueError, match="2 shares above 0"):
            matched_to_prior(np.array([[0.5, 0.5]]), prior)
    for p in ([[0.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]):
        with pytest.raises(ValueError, match="no factors"):
            matched_to_prior(np.array(p), [1, 1])
