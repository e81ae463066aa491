"""Removing a teacher's label bias from a batch of its answers, without any true label.

A teacher that prefers a label, whatever it reads, shows this preference in the mean of the batch. The mean also shows
how frequent the classes are in the batch. Each function therefore assumes the shares of the classes, and says which.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["batch_calibrated", "matched_to_prior"]

_TOLERANCE, _MAX_STEPS = 1e-9, 10_000


def batch_calibrated(probabilities: np.ndarray) -> np.ndarray:
    """Probabilities without the batch's label bias: p′(y|x) ∝ p(y|x) / exp(mean over the batch of log p(y|x)).

    This is batch calibration (Zhou et al., arXiv 2309.17249), with the mean taken of log-probabilities. A second
    calibration changes nothing. Very small probabilities weigh heavily in the mean.

    The function assumes that the classes are about equally frequent among the inputs. If most inputs belong to one
    class, it mistakes a teacher that is right to name this class often for a biased one, and turns right answers into
    rarer classes. Use `matched_to_prior` then. The mean needs at least a few dozen inputs.

    Args:
        probabilities: (inputs, labels), all above 0; rows sum to 1.

    Raises:
        ValueError: rows that are not probabilities, or a probability of 0.

    Example:
        >>> import numpy as np
        >>> from distill_helpers.api.labels import batch_calibrated
        >>> batch_calibrated(np.array([[0.9, 0.1], [0.6, 0.4]])).round(2)  # the teacher prefers the first label
        array([[0.71, 0.29],
               [0.29, 0.71]])
    """
    p = _checked(probabilities)
    if p.min() == 0:
        raise ValueError(
            "the mean of log-probabilities needs probabilities above 0; count samples with a smoothing above 0, or read"
            " log-probabilities with an unseen_share above 0"
        )
    logs = np.log(p)
    return _normalised(np.exp(logs - logs.mean(axis=0)))


def matched_to_prior(probabilities: np.ndarray, prior: Sequence[float] | np.ndarray) -> np.ndarray:
    """Probabilities without the label bias, for known class shares: p′(y|x) ∝ p(y|x) · w(y), with mean of p′ = prior.

    The mean of a calibrated teacher's probabilities equals the classes' shares. Suppose a bias has multiplied these
    probabilities by a factor for each label. The weights w, found by iteration and unique up to scale, are then the
    inverse of the bias, whatever the shares are. A second call changes nothing.

    Args:
        probabilities: (inputs, labels); rows sum to 1.
        prior: (labels,), the classes' shares among the inputs, above 0, on any scale. Verified labels of a random
            sample give these shares.

    Raises:
        ValueError: rows that are not probabilities; a prior of another length or not above 0; or a prior that no
            factors reach. That happens with samples that all agree, since probabilities of 0 and 1 stay as they are.

    Example:
        >>> import numpy as np
        >>> from distill_helpers.api.labels import matched_to_prior
        >>> matched_to_prior(np.array([[0.9, 0.1], [0.6, 0.4]]), prior=[0.6, 0.4]).mean(axis=0).round(6)
        array([0.6, 0.4])
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
