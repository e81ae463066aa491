"""Targets from several teachers: their mean, weighted or not, or each label's own teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.models.batching import check_finite

__all__ = ["combine_teacher_logits", "weights_by_label"]


def combine_teacher_logits(
    teacher_logits: Sequence[Tensor],
    *,
    mean_of: Literal["probabilities", "logits"] = "probabilities",
    weights: Sequence[float] | Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """One teacher's logits out of several teachers', for `DistillationDataset`.

    The mean of the probabilities is the mixture of the teachers, and the target with the smallest mean KL divergence
    from them: Σₖ wₖ KL(pₖ‖q) is least at q = Σₖ wₖ pₖ. The mean of the logits is the normalised geometric mean of the
    probabilities, in which one teacher that is sure of a "no" outvotes the others (You et al. 2017, "Learning from
    Multiple Teacher Networks", and Hinton et al. 2015, section 2, take either).

    Args:
        teacher_logits: one tensor (texts, classes) for each teacher, of the same texts and classes in the same order.
        mean_of: what is averaged.
        weights: (teachers,), or (texts, teachers) from `weights_by_label`; each row is divided by its sum. Default:
            all equal.
        temperature: the T of the student's loss. The mean of softened probabilities is not the softened mean, so it is
            taken at this T: the softmax of the result, divided by T, is the mixture at T. It does not matter for
            `mean_of="logits"`.

    Returns:
        fp32, (texts, classes). Shifted by a constant per row, as logits may be.

    Raises:
        ValueError: fewer than two teachers, shapes that differ, logits that are not finite (with teacher and row), a
            negative weight or a row of zeros, or a temperature that is not positive.

    Example:
        >>> sure, unsure = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> dh.combine_teacher_logits([sure, unsure]).softmax(-1)  # halfway between 0.98 and 0.5
        tensor([[0.7410, 0.2590]])
        >>> dh.combine_teacher_logits([sure, unsure], mean_of="logits").softmax(-1)
        tensor([[0.8808, 0.1192]])
    """
    if len(teacher_logits) < 2:
        raise ValueError(f"there must be two teachers or more, got the logits of {len(teacher_logits)}")
    shape = teacher_logits[0].shape
    for number, logits in enumerate(teacher_logits):
        if logits.dim() != 2 or logits.shape != shape:
            raise ValueError(
                f"teacher {number} has logits {tuple(logits.shape)}, teacher 0 {tuple(shape)}; all must be (texts,"
                " classes), of the same texts and classes"
            )
        check_finite(logits, f"these are teacher {number}'s; let it label this text again")
    if mean_of not in ("probabilities", "logits"):
        raise ValueError(f"mean_of must be 'probabilities' or 'logits', got {mean_of!r}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature!r}")
    stacked = torch.stack([logits.double().cpu() for logits in teacher_logits], dim=1)  # (texts, teachers, classes)
    shares = _shares(weights, stacked.shape[0], stacked.shape[1])[..., None]
    if mean_of == "logits":
        # Without its level, which is arbitrary, no teacher counts for more than its weight.
        return (shares * (stacked - stacked.mean(dim=-1, keepdim=True))).sum(dim=1).float()
    log_mixture = ((stacked / temperature).log_softmax(dim=-1) + shares.log()).logsumexp(dim=1)
    return (temperature * log_mixture).float()


def weights_by_label(labels: Sequence[int], specialists: Mapping[int, int | Sequence[int]], n_teachers: int) -> Tensor:
    """Weights that send each text to the teachers that know its label.

    Args:
        labels: the texts' hard labels; `IGNORE_INDEX` for a text without one.
        specialists: label → the number of its teacher, or several numbers. All teachers share the texts without a label
            and those whose label is not named.
        n_teachers: the number of teachers.

    Returns:
        fp64, (texts, teachers); each row sums to 1.

    Raises:
        ValueError: a teacher that does not exist, or a label without any.

    Example:
        >>> dh.weights_by_label([0, 1, -100], {0: 0, 1: [1]}, n_teachers=2)
        tensor([[1.0000, 0.0000],
                [0.0000, 1.0000],
                [0.5000, 0.5000]], dtype=torch.float64)
    """
    weights = torch.ones(len(labels), n_teachers, dtype=torch.float64)
    for label, chosen in specialists.items():
        numbers = [chosen] if isinstance(chosen, int) else list(chosen)
        if not numbers or not all(0 <= number < n_teachers for number in numbers):
            raise ValueError(f"label {label} has the teachers {numbers}; give it some of 0 to {n_teachers - 1}")
        if label == IGNORE_INDEX:
            raise ValueError(f"{IGNORE_INDEX} marks a text without a label, which all teachers share")
        rows = torch.tensor([own == label for own in labels], dtype=torch.bool)
        weights[rows] = 0.0
        for number in numbers:
            weights[rows, number] = 1.0
    return weights / weights.sum(dim=1, keepdim=True)


def _shares(weights: Sequence[float] | Tensor | None, n_texts: int, n_teachers: int) -> Tensor:
    """(texts or 1, teachers), rows that sum to 1."""
    given = torch.ones(1, n_teachers) if weights is None else torch.as_tensor(weights)
    shares = given.double().cpu().reshape(-1, given.shape[-1])
    if shares.shape not in ((1, n_teachers), (n_texts, n_teachers)):
        raise ValueError(
            f"weights must be ({n_teachers},) or ({n_texts}, {n_teachers}), a number for each teacher, got"
            f" {tuple(given.shape)}"
        )
    bad = (~((shares >= 0) & shares.isfinite()).all(dim=1) | (shares.sum(dim=1) == 0)).nonzero().flatten()
    if len(bad):
        raise ValueError(
            f"row {int(bad[0])} of the weights is {shares[bad[0]].tolist()}; weights are 0 or more, and one is above 0"
        )
    return shares / shares.sum(dim=1, keepdim=True)
