"""Calibration: is a model that says 0.8 right in eight of ten cases? Bins that show it, a temperature that fixes it.

The binning is here and nowhere else. `measures.expected_calibration_error` sums the bins up in one number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["fit_temperature", "reliability_bins"]


def fit_temperature(logits: Tensor, labels: Sequence[int] | Tensor) -> float:
    """The temperature at which softmax(logits / T) has the lowest negative log-likelihood: temperature scaling.

    See Guo et al. (arXiv 1706.04599, section 4.2). Fit the temperature on messages that the model was not trained on.
    No temperature changes the order of the classes, and so none changes the accuracy.

    Args:
        logits: (texts, classes), any floating dtype. The computation is in fp64.
        labels: class indices, one for each text.

    Returns:
        T > 0, to about six digits. T is above 1 if the model is overconfident.

    Raises:
        ValueError: shapes that do not fit, labels outside the classes, logits that are not finite, or an optimum that
            no temperature reaches: T → 0 if every answer is right, T → ∞ if the logits are no better than a uniform
            guess.

    Example:
        Three of four answers are right, but the model claims 98%:

        >>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
        >>> temperature = dh.fit_temperature(logits, labels=[0, 0, 0, 1])
        >>> round(temperature, 2), (logits / temperature).softmax(dim=-1)[0]
        (3.64, tensor([0.7500, 0.2500]))
    """
    from scipy.optimize import minimize_scalar

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
    z = z - z.amax(dim=1, keepdim=True)  # keeps the softmax, and makes the slope exact if all answers are right
    label_logits = z.gather(1, y.long().cpu()[:, None]).squeeze(1)
    if (label_logits == 0).all():
        raise ValueError("every answer is right: the likelihood grows as T → 0; use messages on which the model errs")
    if (z.mean(dim=1) - label_logits).mean() >= 0:
        raise ValueError("the logits are no better than a uniform guess: the likelihood grows as T → ∞")

    def nll(beta: float) -> float:
        return float((torch.logsumexp(beta * z, dim=1) - beta * label_logits).mean())

    def slope(beta: float) -> float:
        return float((((beta * z).softmax(dim=1) * z).sum(dim=1) - label_logits).mean())

    # The NLL is convex in beta = 1/T, falls at 0 and rises at infinity. It has one minimum, which doubling encloses.
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
        probabilities: (texts, classes). Each row sums to 1.
        labels: class indices, one for each text.
        n_bins: the number of bins over (0, 1]. A confidence on an edge belongs to the lower bin.

    Returns:
        One row for each bin, the least confident bin first. `confidence` is the mean of the texts' highest
        probabilities, `accuracy` the share of right answers, `count` the number of texts. In an empty bin confidence
        and accuracy are NaN.

    Raises:
        ValueError: `n_bins` below 1, rows that are no probabilities, or not one label for each row.

    Example:
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
        >>> dh.reliability_bins(probabilities, labels=[0, 1, 0], n_bins=2).round(2)
             confidence  accuracy  count
        bin
        0           NaN       NaN      0
        1           0.8      0.67      3
    """
    import pandas as pd

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
