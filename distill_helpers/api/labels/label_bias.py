"""The label bias of a teacher, taken off a batch of its answers without any true label.

A teacher that prefers a label whatever it reads shows this in the batch's mean, as far as the batch itself does not:
each function says which share of the classes it takes for granted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["batch_calibrated", "matched_to_prior"]

_TOLERANCE, _MAX_STEPS = 1e-9, 10_000


def batch_calibrated(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities without the batch's label bias: p′(y|x) ∝ p(y|x) / exp(mean over the batch of log p(y|x)).

    Batch calibration (Zhou et al., arXiv 2309.17249) with the mean taken of log-probabilities. A second calibration
    changes nothing. Very small probabilities weigh much in the mean.

    It takes for granted that the classes are about equally frequent among the inputs. Where most inputs belong to one
    class, a teacher that is right to name it often is taken for biased, and answers that were right are turned into
    rarer classes: then use `matched_to_prior`. A few dozen inputs are the least that a mean needs.

    Args:
        probabilities: (inputs, labels), above 0, rows sum to 1.

    Raises:
        ValueError: rows that are no probabilities, or zeros.
    """
    p = _checked(probabilities)
    if p.min() == 0:
        raise ValueError(
            "the mean of log-probabilities needs probabilities above 0; count samples with a smoothing above 0, read"
            " log-probabilities with an unseen_share above 0"
        )
    logs = np.log(p)
    return _normalised(np.exp(logs - logs.mean(axis=0)))


def matched_to_prior(probabilities: np.ndarray, prior: Sequence[float] | np.ndarray) -> np.ndarray:
    """Probabilities without the label bias, for classes of known shares: p′(y|x) ∝ p(y|x) · w(y), mean of p′ = prior.

    A calibrated teacher's probabilities have the classes' shares as their mean. If a bias has multiplied them by a
    factor for each label, these w, found by iteration and unique up to scale, are its inverse, whatever the shares. A
    second call changes nothing.

    Args:
        probabilities: (inputs, labels), rows sum to 1.
        prior: (labels,), the classes' shares among the inputs, above 0; any scale. Verified labels of a random sample
            give them.

    Raises:
        ValueError: rows that are no probabilities, a prior of another length or not above 0, or one that no factors
            reach, as with samples that all agree: 0 and 1 stay what they are.
    """
    p = _checked(probabilities)
    shares = np.asarray(prior, dtype=np.float64)
    if shares.shape != p.shape[1:] or not np.isfinite(shares).all() or shares.min() <= 0:
        raise ValueError(f"the prior needs {p.shape[1]} shares above 0, one for each label, got {prior!r}")
    shares = shares / shares.sum()
    for _ in range(_MAX_STEPS):
        mean = p.mean(axis=0)
        if np.abs(mean - shares).max() < _TOLERANCE:
            return p
        if mean.min() == 0:
            break
        p = _normalised(p * (shares / mean))
    raise ValueError("no factors bring the mean to this prior; count samples with a smoothing above 0")


def _checked(probabilities: np.ndarray) -> np.ndarray:
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or p.size == 0 or not np.isfinite(p).all() or p.min() < 0 or not np.allclose(p.sum(axis=1), 1):
        raise ValueError(f"need probabilities (inputs, labels) whose rows sum to 1, got an array of shape {p.shape}")
    return p


def _normalised(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum(axis=1, keepdims=True)
