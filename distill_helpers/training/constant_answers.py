"""Whether a student is better than an answer that needs no reading: the same answer to every text."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.training.token_dataset import TrainingSet
from distill_helpers.training.validation_metrics import best_row

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["warn_if_nothing_was_learned"]


class _Constant(NamedTuple):
    """The best constant answer: the column of the history that it is compared in, and what it reaches there."""

    column: str
    figure: str
    answer: str
    reaches: float
    higher_is_better: bool = True

    def shown(self, value: float) -> str:
        return f"{value:.1%}" if self.higher_is_better else f"{value:.3g}"


def warn_if_nothing_was_learned(
    label_names: Sequence[str], validation: TrainingSet, history: pd.DataFrame, choice: str
) -> None:
    """Warn if the student of the best epoch is no better than the best constant answer.

    That answer is the most frequent class (figure: accuracy), the set of labels with the highest micro-F1, or the mean
    score (squared error). Labelled messages are judged by their labels, messages that have only a teacher by the
    teacher's predictions. A student whose head was not trained (`choice` "loss" of features alone) is not for this
    function.
    """
    best = _BEST[validation.task](label_names, validation)
    if best is None or best.column not in history:
        return
    reached = float(history[best.column].iloc[best_row(history, choice)])
    no_better = reached <= best.reaches + 1e-9 if best.higher_is_better else reached >= best.reaches - 1e-9
    if no_better:
        warnings.warn(
            f"the student has not learned to tell the {_WHAT[validation.task]} apart: its validation {best.figure} is"
            f" {best.shown(reached)}, and always answering {best.answer} would reach {best.shown(best.reaches)}. Try"
            " more epochs, a smaller batch size (more steps), or another learning rate",
            stacklevel=3,
        )


def _most_frequent_class(label_names: Sequence[str], validation: TrainingSet) -> _Constant | None:
    labels = [int(label) for label in validation.labels if label != IGNORE_INDEX]
    column, figure = "eval_accuracy", "accuracy"
    if not labels and validation.teacher_logits is not None:
        labels = validation.teacher_logits.argmax(dim=-1).tolist()
        column, figure = "eval_agreement", "agreement with the teacher"
    (most_frequent, n_most_frequent), *others = Counter(labels).most_common() or [(0, 0)]
    if not others:  # of a set with one class, nothing can be learned from the figure
        return None
    return _Constant(column, figure, repr(label_names[most_frequent]), n_most_frequent / len(labels))


def _best_set_of_labels(label_names: Sequence[str], validation: TrainingSet) -> _Constant | None:
    labels = _matrix(validation)
    known = labels != IGNORE_INDEX
    if not known.any():
        if validation.teacher_logits is None:
            return None
        # Each label that the teacher gives to more than half of the texts.
        share = (validation.teacher_logits >= 0).double().mean(dim=0)
        names = tuple(name for name, value in zip(label_names, share.tolist(), strict=True) if value > 0.5)
        agreement = float(torch.maximum(share, 1 - share).mean())
        return (
            None if agreement == 1 else _Constant("eval_agreement", "agreement with the teacher", str(names), agreement)
        )
    positives = ((labels == 1) & known).sum(dim=0).double()
    # Whichever number of labels is said, those that are right most often come first.
    order = (positives / known.sum(dim=0)).nan_to_num(-1.0).argsort(descending=True, stable=True)
    said = known.sum(dim=0)[order].cumsum(dim=0)
    f1 = 2 * positives[order].cumsum(dim=0) / (said + positives.sum())
    n_best = int(f1.argmax()) + 1
    reaches = float(f1[n_best - 1])
    names = tuple(label_names[i] for i in sorted(order[:n_best].tolist()))
    return None if reaches == 1 else _Constant("eval_micro_f1", "micro-F1", str(names), reaches)


def _mean_score(label_names: Sequence[str], validation: TrainingSet) -> _Constant | None:
    scores, column, figure = _matrix(validation), "eval_mse", "squared error"
    if scores.isnan().all():
        if validation.teacher_logits is None:
            return None
        scores, column, figure = validation.teacher_logits, "eval_teacher_mse", "squared error from the teacher"
    scores = scores.double()
    mean = scores.nanmean(dim=0)
    error = float((scores - mean).square().nanmean())
    few = len(mean) <= 4  # an embedding has hundreds of columns
    answer = f"the mean, {', '.join(f'{value:.3g}' for value in mean.tolist())}," if few else "the mean of each column"
    return None if error == 0 else _Constant(column, figure, answer, error, higher_is_better=False)


def _matrix(validation: TrainingSet) -> Tensor:
    return torch.as_tensor(validation.labels)


_BEST = {
    "single_label": _most_frequent_class,
    "token_classification": _most_frequent_class,
    "multi_label": _best_set_of_labels,
    "regression": _mean_score,
}
_WHAT = {"single_label": "classes", "token_classification": "classes", "multi_label": "labels", "regression": "texts"}
