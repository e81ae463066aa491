"""Hard labels by task: the labels that a task takes, and the loss of a student that learns from them.

The labels of texts and of tokens are class indices, those of a multi-label task are matrices of 0 and 1, and those of a
regression are numbers. `DistillationLoss` adds this loss to the soft targets. Labels that a task cannot have are
refused here, before anything is computed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.soft_targets import check_mask, masked_mean
from distill_helpers.models.prediction_tasks import PredictionTask

__all__ = ["TASKS", "squared_score_error"]

#: What `DistillationConfig.task` may be.
TASKS = tuple(task.value for task in PredictionTask)

# The tasks whose labels are class indices.
_OF_CLASSES = ("single_label", "token_classification")

# The number of dimensions that the logits of a task may have, and what these are.
_FORMS = {
    "single_label": ((2, 3), "(batch, classes) or (batch, sequence, vocabulary)"),
    "multi_label": ((2,), "(batch, labels)"),
    "regression": ((2,), "(batch,) or (batch, columns)"),
    "token_classification": ((3,), "(batch, length, classes)"),
}


def squared_score_error(scores: Tensor, targets: Tensor) -> Tensor:
    """The squared error of each row in fp32, a mean over the columns: (rows, columns) → (rows,).

    The targets receive no gradient.
    """
    return (scores.float() - targets.detach().float()).square().mean(dim=-1)


def as_columns(scores: Tensor) -> Tensor:
    """Scores (batch,) as (batch, 1); other shapes as they are.

    Broadcasting would compare (batch,) with (batch, 1) as every row with every other row.
    """
    return scores[:, None] if scores.dim() == 1 else scores


def check_task(task: str) -> None:
    """Raise ValueError unless the task is one of `TASKS`."""
    if task not in TASKS:
        raise ValueError(f"task must be one of {TASKS}, got {task!r}")


def check_task_logits(logits: Tensor, task: str) -> None:
    """Raise ValueError, with the remedy, if a model of this task cannot have such logits."""
    dimensions, form = _FORMS[task]
    if logits.dim() not in dimensions:
        raise ValueError(f"logits must be {form} for task={task!r}, got {tuple(logits.shape)}")
    if task in _OF_CLASSES and logits.shape[-1] == 1:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} have a single class, and a softmax over one class is always 1, so"
            " nothing would be learned; set task='regression' if the column is a score, or task='multi_label' if it is"
            " the answer to one yes-or-no question"
        )


def check_hard_labels(labels: Tensor, logits: Tensor, task: str, label_mask: Tensor | None) -> Tensor:
    """Check the labels of a batch, and mark those that are missing.

    Args:
        labels: as in `DistillationLoss.forward`.
        logits: of a shape that `check_task_logits` has accepted.
        task: one of `TASKS`.
        label_mask: bool, shape of the labels; False where there is no label. Default: `IGNORE_INDEX` marks the place of
            a missing label.

    Returns:
        Class indices, int64, with `IGNORE_INDEX` where a label is missing; or, for the other tasks, fp32 of the logits'
        shape, with NaN where a label is missing.

    Raises:
        ValueError: another shape, or a value that the task does not have; with its place and the remedy.
        TypeError: labels that are no class indices where the task needs class indices.
    """
    if label_mask is not None:
        check_mask(label_mask, labels.shape)
    if task in _OF_CLASSES:
        return _class_indices(labels, logits, task, label_mask)
    if task == "regression":
        labels, label_mask = as_columns(labels), None if label_mask is None else as_columns(label_mask)
    if labels.shape != logits.shape:
        remedy = (
            f"; class indices become such a matrix by `torch.nn.functional.one_hot(labels, {logits.shape[-1]})`"
            if task == "multi_label"
            else ""
        )
        raise ValueError(
            f"hard_labels have shape {tuple(labels.shape)}; task={task!r} needs one number for each of the logits"
            f" {tuple(logits.shape)}{remedy}"
        )
    values = labels.float()
    # Reading the values makes a GPU wait. A wrong label would go unnoticed there: no kernel asserts it.
    if task == "multi_label":
        present = values != IGNORE_INDEX if label_mask is None else label_mask
        _refuse_first(
            present & (values != 0) & (values != 1),
            values,
            f"is neither 0 nor 1, and not {IGNORE_INDEX}, which marks a missing label; soft labels belong in"
            " teacher_logits",
        )
    else:
        present = torch.ones_like(values, dtype=torch.bool) if label_mask is None else label_mask
        _refuse_first(
            present & ~values.isfinite(),
            values,
            "is not finite; drop the row, or pass a label_mask that is False there",
        )
        if label_mask is None:
            _refuse_first(
                values == IGNORE_INDEX,
                values,
                "may be a score or the mark of a missing one; pass a label_mask, which says where scores are",
            )
    return values.masked_fill(~present, torch.nan)


def hard_label_loss(
    logits: Tensor, labels: Tensor, task: str, mask: Tensor | None, num_items: Tensor | int | None
) -> Tensor:
    """Cross-entropy, binary cross-entropy or squared error by task: the mean over the items that count, in fp32.

    An item without a label counts and adds 0. So does a missing label among the labels of a row, whose loss is a mean
    over all columns.

    Args:
        logits: (batch, columns) or (batch, length, classes).
        labels: from `check_hard_labels`.
        task: one of `TASKS`.
        mask: bool, the shape of the logits without the last dimension; True counts. Default: every item counts.
        num_items: see `masked_mean`.
    """
    if mask is not None:
        logits, labels = logits[mask], labels[mask]
    logits = logits.float()
    if task in _OF_CLASSES:
        values = F.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), labels.reshape(-1), ignore_index=IGNORE_INDEX, reduction="none"
        )
    else:
        missing = labels.isnan()
        labels = labels.masked_fill(missing, 0.0)
        if task == "multi_label":
            errors = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        else:
            errors = (logits - labels).square()
        values = errors.masked_fill(missing, 0.0).mean(dim=-1)
    return masked_mean(values, num_items=num_items)


def _class_indices(labels: Tensor, logits: Tensor, task: str, label_mask: Tensor | None) -> Tensor:
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(
            f"hard_labels must be class indices (an integer dtype) for task={task!r}, got {labels.dtype}; set"
            " task='multi_label' for a matrix of 0 and 1, or task='regression' for scores"
        )
    if labels.shape != logits.shape[:-1]:
        remedy = (
            "; set task='multi_label' if they say 0 or 1 for each label"
            if task == "single_label" and labels.shape == logits.shape
            else ""
        )
        raise ValueError(
            f"hard_labels have shape {tuple(labels.shape)}; the logits need {tuple(logits.shape[:-1])}{remedy}"
        )
    labels = labels.long()
    if label_mask is not None:
        labels = labels.masked_fill(~label_mask, IGNORE_INDEX)
    # Reading the values would make a GPU wait for every batch; cross_entropy has an assertion of its own there.
    if labels.device.type == "cpu":
        n_classes = logits.shape[-1]
        wrong = labels[(labels != IGNORE_INDEX) & ((labels < 0) | (labels >= n_classes))]
        if len(wrong):
            raise ValueError(
                f"hard label {int(wrong[0])} is neither one of the {n_classes} classes nor {IGNORE_INDEX}, which marks"
                " a message without a label"
            )
    return labels


def _refuse_first(wrong: Tensor, values: Tensor, reason: str) -> None:
    """Raise ValueError about the first value (row, column) that is wrong, if any is."""
    places = wrong.nonzero()
    if len(places):
        row, column = places[0].tolist()
        raise ValueError(f"row {row}, column {column}: the hard label {float(values[row, column]):g} {reason}")
