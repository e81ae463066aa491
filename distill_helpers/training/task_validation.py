"""The validation figures of each task: what is measured after each epoch, and what chooses the best one by default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import EvalPrediction

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.evaluation.task_metrics import column_correlation, multi_label_metrics
from distill_helpers.losses.binary_divergences import mean_binary_divergence
from distill_helpers.training.validation_metrics import (
    check_finite_rows,
    in_one_number,
    selection_metric,
    validation_metrics,
)

__all__ = ["TASK_VALIDATION", "TaskValidation", "multi_label_validation", "regression_validation", "token_validation"]

# Two F1 scores of a validation set that differ by less than this are equal up to rounding.
_SAME_F1 = 1e-9


class TaskValidation(NamedTuple):
    """What is measured on the validation set of one task.

    Attributes:
        metrics: from the Trainer's `EvalPrediction` to the figures.
        by_labels: the figures that need hard labels. The first chooses the best epoch by default.
        by_teacher: the figures that need the teacher's logits. The first chooses where there is no label at all.
    """

    metrics: Callable[[EvalPrediction], dict[str, float]]
    by_labels: tuple[str, ...]
    by_teacher: tuple[str, ...]

    @property
    def choices(self) -> tuple[str, ...]:
        """What `metric_for_best_model` may be; each is a figure of the history, after `eval_`."""
        return (*self.by_labels, *self.by_teacher, "loss")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the history, in their order."""
        return tuple(f"eval_{name}" for name in ("loss", *self.by_labels, *self.by_teacher))


def multi_label_validation(prediction: EvalPrediction) -> dict[str, float]:
    """The figures of several labels.

    Args:
        prediction: `predictions` holds the student's logits (texts, labels), or a tuple of these and the teacher's.
            `label_ids` holds 0, 1, or `IGNORE_INDEX` where a label is unknown.

    Returns:
        Over the known labels, `micro_f1`, `macro_f1` and `bce` (`multi_label_metrics`), and the two F1 scores
        `…_then_…` (`validation_metrics.selection_metric`). Where there are teacher logits, over all texts, `agreement`
        (the share of equal decisions), `kl` (KL(teacher ‖ student) of each label's yes and no at T = 1, nats, a mean
        over labels) and `agreement_then_kl`.

    Raises:
        ValueError: the student's logits are not finite, with the row; or a label is known of no text although others
            are.
    """
    student, teacher, labels = _outputs(prediction)
    labelled = (labels != IGNORE_INDEX).any(axis=1)
    metrics: dict[str, float] = {}
    if labelled.any():
        found = multi_label_metrics(torch.from_numpy(student[labelled]), labels[labelled])
        metrics |= {name: found[name] for name in ("micro_f1", "macro_f1", "bce")}
        for name in ("micro_f1", "macro_f1"):
            metrics[selection_metric(name)[0]] = in_one_number(found[name], found["bce"], 1 / _SAME_F1)
    if teacher is not None and len(labels):
        same = (student >= 0) == (teacher >= 0)
        kl = mean_binary_divergence(torch.from_numpy(student), torch.from_numpy(teacher))
        metrics |= {"agreement": float(same.mean()), "kl": float(kl)}
        metrics["agreement_then_kl"] = in_one_number(metrics["agreement"], metrics["kl"], same.size)
    return metrics


def token_validation(prediction: EvalPrediction) -> dict[str, float]:
    """Those of `validation_metrics` over all words, and `macro_f1`, the mean of the F1 scores of the classes.

    Accuracy says little where most words are of one class. As in `classification_metrics`, a class that neither is
    there nor is predicted has an F1 of 0.
    """
    from sklearn.metrics import f1_score

    metrics = validation_metrics(prediction)
    labels = np.asarray(prediction.label_ids)
    given: Any = prediction.predictions
    student = np.asarray(given[0] if isinstance(given, tuple) else given)
    labelled = labels != IGNORE_INDEX
    if labelled.any():
        mean: Any = {"average": "macro", "zero_division": 0}
        found = f1_score(labels[labelled], student[labelled].argmax(-1), labels=range(student.shape[-1]), **mean)
        metrics["macro_f1"] = float(found)
        metrics[selection_metric("macro_f1")[0]] = in_one_number(metrics["macro_f1"], metrics["nll"], 1 / _SAME_F1)
    return metrics


def regression_validation(prediction: EvalPrediction) -> dict[str, float]:
    """The figures of scores.

    Args:
        prediction: `predictions` holds the student's scores (texts, columns) or (texts,), or a tuple of these and the
            teacher's. `label_ids` holds the true scores, NaN where a score is missing.

    Returns:
        Over the scores that are there, `mse` and `spearman`, which is a mean over the columns, and NaN where the true
        scores of a column are all the same. Where there are teacher scores, over all texts, `teacher_mse` and
        `teacher_spearman`.

    Raises:
        ValueError: the student's scores are not finite, with the row.
    """
    student, teacher, labels = _outputs(prediction)
    known = ~np.isnan(labels)
    metrics: dict[str, float] = {}
    if known.any():
        metrics["mse"] = float(np.square(student - labels)[known].mean())
        metrics["spearman"] = _rank_correlation(student, labels, known)
    if teacher is not None and len(labels):
        metrics["teacher_mse"] = float(np.square(student - teacher).mean())
        metrics["teacher_spearman"] = _rank_correlation(student, teacher, np.ones_like(known))
    return metrics


#: By task. F1 over all decisions and the squared error are the figures by which scikit-learn's and transformers' own
#: examples of these tasks judge a model, and accuracy is that of classes.
TASK_VALIDATION: dict[str, TaskValidation] = {
    "single_label": TaskValidation(validation_metrics, ("accuracy", "nll"), ("agreement", "kl")),
    "token_classification": TaskValidation(token_validation, ("accuracy", "macro_f1", "nll"), ("agreement", "kl")),
    "multi_label": TaskValidation(multi_label_validation, ("micro_f1", "macro_f1", "bce"), ("agreement", "kl")),
    "regression": TaskValidation(regression_validation, ("mse", "spearman"), ("teacher_mse", "teacher_spearman")),
}


def _outputs(prediction: EvalPrediction) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Student, teacher and labels as fp64 of the shape (texts, columns)."""
    given: Any = prediction.predictions
    student, teacher = given if isinstance(given, tuple) else (given, None)
    labels = np.asarray(prediction.label_ids, dtype=np.float64).reshape(len(student), -1)
    student = np.asarray(student, dtype=np.float64).reshape(labels.shape)
    check_finite_rows(student, np.arange(len(student)))
    return student, None if teacher is None else np.asarray(teacher, dtype=np.float64).reshape(labels.shape), labels


def _rank_correlation(said: np.ndarray, given: np.ndarray, known: np.ndarray) -> float:
    """Spearman's, a mean over the columns of what is known of each; NaN where a column leaves nothing to rank."""
    of_columns = [
        column_correlation("spearmanr", said[rows, column, None], given[rows, column, None]) if rows.any() else np.nan
        for column, rows in enumerate(known.T)
    ]
    return float(np.mean(of_columns))
