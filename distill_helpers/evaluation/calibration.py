"""Calibration: does a probability of 0.8 mean right in eight of ten? Bins that show it, a temperature that mends it.

The binning is here and nowhere else; `evaluation.expected_calibration_error` sums it up in one number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

__all__ = ["fit_temperature", "reliability_bins"]


def fit_temperature(logits: Tensor, labels: Sequence[int] | Tensor) -> float:
    """The temperature at which softmax(logits / T) has the least negative log-likelihood: temperature scaling.

    Guo et al. (arXiv 1706.04599, section 4.2). Fit it on messages that the model was not trained on. The order of the
    classes, and with it the accuracy, stays as it is at every T.

    Args:
        logits: (texts, classes), any floating dtype; computed in fp64.
        labels: class indices, one per text.

    Returns:
        T > 0, to about six digits; above 1 where the model is overconfident.

    Raises:
        ValueError: shapes that do not fit, labels outside the classes, logits that are not finite, or an optimum that
            no temperature reaches: T → 0 where every answer is right, T → ∞ where the logits are no better than a
            uniform guess.
    """
    y = torch.as_tensor(labels)
    if logits.dim() != 2 or len(logits) == 0 or y.shape != logits.shape[:1]:
        raise ValueError(
            f"need logits (texts, classes) and one label per text, got {tuple(logits.shape)} and {tuple(y.shape)}"
        )
    if not logits.isfinite().all():
        raise ValueError("the logits are not finite; no temperature can be fitted")
    if y.is_floating_point() or y.min() < 0 or y.max() >= logits.shape[1]:
        raise ValueError(f"labels must be class indices from 0 to {logits.shape[1] - 1}")
    z = logits.detach().double().cpu()
    z = z - z.amax(dim=1, keepdim=True)  # keeps the softmax; makes the slope exact where all answers are right
    of_label = z.gather(1, y.long().cpu()[:, None]).squeeze(1)
    if (of_label == 0).all():
        raise ValueError("every answer is right: the likelihood grows as T → 0; use messages on which the model errs")
    if (z.mean(dim=1) - of_label).mean() >= 0:
        raise ValueError("the logits are no better than a uniform guess: the likelihood grows as T → ∞")

    def nll(beta: float) -> float:
        return float((torch.logsumexp(beta * z, dim=1) - beta * of_label).mean())

    def slope(beta: float) -> float:
        return float((((beta * z).softmax(dim=1) * z).sum(dim=1) - of_label).mean())

    # Convex in beta = 1/T, falling at 0 and rising at infinity: one minimum, and doubling finds an interval around it.
    low = 1.0 / float(z.abs().max())
    while slope(low) > 0:
        low /= 2
    while slope(2 * low) < 0:
        low *= 2
    best = minimize_scalar(nll, bounds=(low, 2 * low), method="bounded", options={"xatol": 1e-9 * low})
    return 1.0 / float(best.x)


def reliability_bins(
    probabilities: np.ndarray | Tensor, labels: Sequence[int] | np.ndarray | Tensor, n_bins: int = 15
) -> pd.DataFrame:
    """Confidence and accuracy in bins of equal width: what a reliability diagram draws (Guo et al., section 2).

    Args:
        probabilities: (texts, classes), rows sum to 1.
        labels: class indices, one per text.
        n_bins: bins over (0, 1]. A confidence on an edge belongs to the lower bin.

    Returns:
        One row per bin, from the least confident: `confidence`, the mean of the highest probabilities; `accuracy`, the
        share that is right; `count`, the number of texts. Both are NaN in an empty bin.

    Raises:
        ValueError: `n_bins` below 1, rows that are no probabilities, or not one label per row.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, got {n_bins}")
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    if p.ndim != 2 or len(p) == 0 or y.shape != p.shape[:1]:
        raise ValueError(f"need probabilities (texts, classes) and one label per text, got {p.shape} and {y.shape}")
    if not np.allclose(p.sum(axis=1), 1, atol=1e-4) or p.min() < 0:
        raise ValueError("rows must be non-negative and sum to 1; pass probabilities, not logits")
    confidence = p.max(axis=1)
    right = p.argmax(axis=1) == y
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    frame = pd.DataFrame({"confidence": confidence, "accuracy": right.astype(float), "count": 1})
    table = frame.groupby(bins).agg({"confidence": "mean", "accuracy": "mean", "count": "sum"})
    table = table.reindex(pd.RangeIndex(n_bins, name="bin"))
    return table.assign(count=table["count"].fillna(0).astype(int))
