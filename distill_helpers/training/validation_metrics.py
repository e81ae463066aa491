"""What is measured on the validation set after each epoch, and which epoch is the best by these figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import log_softmax
from transformers import EvalPrediction

from distill_helpers.data.labelled_texts import IGNORE_INDEX

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SELECTIONS", "best_row", "selection_metric", "validation_metrics"]

#: What `metric_for_best_model` may be, over all tasks (`task_validation` has those of each). Each entry is the order of
#: two epochs: columns of the history, with True where higher is better. The second column breaks ties of the first.
SELECTIONS: dict[str, tuple[tuple[str, bool], ...]] = {
    "accuracy": (("eval_accuracy", True), ("eval_nll", False)),
    "agreement": (("eval_agreement", True), ("eval_kl", False)),
    "nll": (("eval_nll", False),),
    "kl": (("eval_kl", False),),
    "loss": (("eval_loss", False),),
    "micro_f1": (("eval_micro_f1", True), ("eval_bce", False)),
    "macro_f1": (("eval_macro_f1", True), ("eval_bce", False), ("eval_nll", False)),  # NLL: of tokens
    "bce": (("eval_bce", False),),
    "mse": (("eval_mse", False),),
    "spearman": (("eval_spearman", True),),
    "teacher_mse": (("eval_teacher_mse", False),),
    "teacher_spearman": (("eval_teacher_spearman", True),),
}


def selection_metric(choice: str) -> tuple[str, bool]:
    """The name under which the Trainer finds this choice among the metrics, and whether higher is better.

    The Trainer compares single numbers. `accuracy_then_nll` and its like are numbers that order epochs as the two
    columns do.
    """
    columns = [name.removeprefix("eval_") for name, _ in SELECTIONS[choice]]
    return "_then_".join(columns), SELECTIONS[choice][0][1]


def best_row(history: pd.DataFrame, choice: str) -> int:
    """The row of the best epoch in a history: the first of those that are equal in every column of `SELECTIONS`."""
    columns = [(name, higher) for name, higher in SELECTIONS[choice] if name in history]
    keys = [(-history[name] if higher else history[name]).to_numpy() for name, higher in columns]
    return int(np.lexsort(keys[::-1])[0])


def validation_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """The figures that can be computed from what there is: those of the labels, and those of the teacher's logits.

    Args:
        prediction: `predictions` holds the student's logits (messages, classes) or (sequences, positions, classes), or
            a tuple of these and the teacher's logits of the same shape, and, for positions, perhaps the mask that is 1
            where a position counts, with a label or without. `label_ids` holds the labels, with
            `IGNORE_INDEX` for a message without a label, and for a position that does not count.

    Returns:
        Over what has a label, `accuracy`, `nll` (nats) and `accuracy_then_nll`. Where there are teacher logits, over
        all messages, `agreement` (the fraction of equal predictions), `kl` (KL(teacher ‖ student) at T = 1, nats) and
        `agreement_then_kl`. None of them depends on the temperature or on alpha of the loss.

    Raises:
        ValueError: the student's logits are not finite, with the row.
    """
    labels = np.asarray(prediction.label_ids)
    given: Any = prediction.predictions
    student, teacher, *counts = given if isinstance(given, tuple) else (given, None)
    items = np.ones_like(labels, dtype=bool) if labels.ndim == 1 else labels != IGNORE_INDEX
    if counts:
        items |= np.asarray(counts[0]) == 1
    rows = np.nonzero(items)[0]
    with np.errstate(invalid="ignore"):  # what is not finite is looked for below
        log_q = log_softmax(np.asarray(student, dtype=np.float64)[items], axis=-1)
    labels = labels[items]
    check_finite_rows(log_q, rows)
    metrics: dict[str, float] = {}
    labelled = labels != IGNORE_INDEX
    if labelled.any():
        right, nll = (log_q.argmax(-1) == labels)[labelled], -log_q[labelled, labels[labelled]].mean()
        metrics |= {"accuracy": float(right.mean()), "nll": float(nll)}
        metrics["accuracy_then_nll"] = in_one_number(metrics["accuracy"], metrics["nll"], len(right))
    if teacher is not None and len(labels):
        log_p = log_softmax(np.asarray(teacher, dtype=np.float64)[items], axis=-1)
        same = log_q.argmax(-1) == log_p.argmax(-1)
        kl = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1).mean()
        metrics |= {"agreement": float(same.mean()), "kl": float(kl)}
        metrics["agreement_then_kl"] = in_one_number(metrics["agreement"], metrics["kl"], len(same))
    return metrics


def check_finite_rows(logits: np.ndarray, rows: np.ndarray) -> None:
    """Raise ValueError, with its number among `rows`, if a row of the student's logits is not finite."""
    if not np.isfinite(logits).all():
        row = rows[np.nonzero(~np.isfinite(logits).all(axis=-1))[0][0]]
        raise ValueError(
            f"the student's logits of validation row {row} are not finite; the training has diverged: lower the"
            " learning rate, or train in float32"
        )


def in_one_number(share: float, loss: float, n: float) -> float:
    """Orders by a share of `n` messages; of equal shares, the one with the lower loss is higher.

    Two different shares are at least 1/n apart, and the second term is at most 1/n.
    """
    return share + 1 / (1 + max(loss, 0.0)) / n
