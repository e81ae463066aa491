"""The hard labels of texts by task: what lists, arrays and data frames hold, checked row by row.

A class index is an int. The labels of a multi-label task are a matrix of 0 and 1, with `IGNORE_INDEX` where a label is
unknown. Scores are a matrix of floats, with NaN where a score is missing: every number may be a score, −100 too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from distill_helpers.data.labelled_texts import IGNORE_INDEX

__all__ = ["TASKS_OF_TEXTS", "class_indices", "labels_of_task", "rows_of", "rows_with_labels"]

#: The tasks that a `DistillationDataset` holds.
TASKS_OF_TEXTS = ("single_label", "multi_label", "regression")

_ONE_HOT = "class indices become such rows by `torch.nn.functional.one_hot(labels, n_labels)`"
_BINARIZER = "names become such rows by scikit-learn's `MultiLabelBinarizer(classes=label_names).fit_transform(names)`"


def labels_of_task(task: str, labels: Any, n_texts: int, n_columns: int | None) -> list[int] | Tensor:
    """The labels of a task, as a data set keeps them.

    Args:
        task: one of `TASKS_OF_TEXTS`.
        labels: one entry for each text; None where no text has a label.
        n_texts: the number of texts.
        n_columns: the number of classes, labels or scores of the teacher; None if it is unknown.

    Returns:
        "single_label": class indices, or `IGNORE_INDEX`. "multi_label": fp32 (texts, labels), 0, 1 or `IGNORE_INDEX`.
        "regression": fp32 (texts, columns), NaN where a score is missing.

    Raises:
        TypeError: one string in the place of a sequence.
        ValueError: a label that the task does not have, with its row and the remedy.
    """
    if task == "single_label":
        return [IGNORE_INDEX] * n_texts if labels is None else class_indices(labels, n_columns)
    labels = rows_of(labels)
    if isinstance(labels, str | bytes):
        raise TypeError(f"labels must be a sequence with an entry for each text, got one {type(labels).__name__}")
    missing = float(IGNORE_INDEX) if task == "multi_label" else math.nan
    if labels is None:
        if n_columns is None:
            raise ValueError(
                f"without labels and teacher logits nobody knows how many columns a {task} target has; pass labels, a"
                f" row for each text, of {IGNORE_INDEX if task == 'multi_label' else None} where there is no label"
            )
        return torch.full((n_texts, n_columns), missing)
    rows = list(_rows(labels, n_columns, _yes_or_no if task == "multi_label" else _score, task))
    return torch.tensor(rows, dtype=torch.float32)


def rows_of(labels: Any) -> Any:
    """Labels that can be counted and read row by row: a data frame and a sparse matrix become arrays."""
    if hasattr(labels, "toarray"):
        return labels.toarray()  # a sparse matrix, as of MultiLabelBinarizer(sparse_output=True), has no length
    if getattr(labels, "ndim", 1) == 2 and hasattr(labels, "to_numpy"):
        return labels.to_numpy()  # iterating over a data frame gives the names of its columns
    return labels


def rows_with_labels(labels: list[int] | Tensor) -> list[bool]:
    """For each text, whether it has a label: a class, at least one known label of several, or all of its scores."""
    if not isinstance(labels, Tensor):
        return [label != IGNORE_INDEX for label in labels]
    return ((labels != IGNORE_INDEX).any(dim=1) & ~labels.isnan().any(dim=1)).tolist()


def class_indices(labels: Sequence[int], n_classes: int | None, *, place: str = "row", unit: str = "text") -> list[int]:
    """Labels as ints, each a class index or `IGNORE_INDEX`.

    Args:
        labels: ints, or integers of NumPy, pandas or PyTorch.
        n_classes: the number of classes; None if it is unknown.
        place: what is numbered, for the messages, such as "row 3, word".
        unit: what has a label, for the messages.

    Raises:
        TypeError: one string.
        ValueError: anything but a class index, with the row and the remedy.
    """
    if isinstance(labels, str | bytes):
        raise TypeError(f"labels must be a sequence of class indices, got one {type(labels).__name__}")
    return [_class_index(f"{place} {row}", label, n_classes, unit) for row, label in enumerate(labels)]


def _class_index(where: str, label: Any, n_classes: int | None, unit: str) -> int:
    value = _plain(label)
    if _is_missing(value):
        raise ValueError(
            f"{where}: the label is missing ({label!r}); mark a {unit} without a label with {IGNORE_INDEX}"
        )
    if isinstance(value, bool):
        raise ValueError(f"{where}: the label {label!r} is no class index; pass int(label) if False is class 0")
    if isinstance(value, float):
        raise ValueError(
            f"{where}: the label {label!r} is a float, which is no class index; pass integers. A score needs"
            " task='regression', and a soft label belongs in teacher_logits"
        )
    if isinstance(value, str):
        raise ValueError(f"{where}: the label {label!r} is a name; pass its index, `label_names.index(label)`")
    if not isinstance(value, int):
        raise ValueError(
            f"{where}: the label {label!r} is no class index. A {unit} has one class here; several labels for a text"
            " need task='multi_label'"
        )
    if value != IGNORE_INDEX and (value < 0 or (n_classes is not None and value >= n_classes)):
        known = "a class index" if n_classes is None else f"one of the teacher's {n_classes} classes"
        raise ValueError(
            f"{where}: label {value} is neither {known} nor {IGNORE_INDEX}, which marks a {unit} without a label"
        )
    return value


def _rows(labels: Any, n_columns: int | None, read: Any, task: str) -> Iterator[list[float]]:
    """The labels as rows of one length, each value read by the task's function."""
    columns = n_columns
    for row, given in enumerate(labels):
        values = _row_of_scores(given, columns) if task == "regression" else _row_of_labels(row, given)
        columns = len(values) if columns is None else columns
        if len(values) != columns or not values:
            others = f"the teacher has {columns} outputs" if n_columns is not None else f"row 0 has {columns}"
            raise ValueError(
                f"row {row}: there are {len(values)} labels, and {others}; give each row one entry for each column"
                f"{'' if task == 'regression' else f'. {_BINARIZER}'}"
            )
        yield [read(row, column, value) for column, value in enumerate(values)]


def _row_of_labels(row: int, given: Any) -> list[Any]:
    values = given.tolist() if hasattr(given, "tolist") else given
    if isinstance(values, str | set | frozenset | dict):
        raise ValueError(f"row {row}: the labels {given!r} are no row of 0 and 1, one for each label; {_BINARIZER}")
    if not isinstance(values, Sequence):
        raise ValueError(f"row {row}: the label {given!r} is no row of 0 and 1, one for each label; {_ONE_HOT}")
    return list(values)


def _row_of_scores(given: Any, columns: int | None) -> list[Any]:
    values = given.tolist() if hasattr(given, "tolist") else given
    if values is None:
        return [None] * (columns or 1)
    return list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values]


def _yes_or_no(row: int, column: int, label: Any) -> float:
    value = _plain(label)
    where = f"row {row}, column {column}"
    if _is_missing(value):
        raise ValueError(f"{where}: the label is missing ({label!r}); mark an unknown label with {IGNORE_INDEX}")
    if isinstance(value, str):
        raise ValueError(f"{where}: the label {label!r} is a name, neither 0 nor 1; {_BINARIZER}")
    if value not in (0, 1, IGNORE_INDEX):
        raise ValueError(
            f"{where}: the label {label!r} is neither 0 nor 1, and not {IGNORE_INDEX} for unknown; {_BINARIZER}. A soft"
            " label belongs in teacher_logits"
        )
    return float(value)


def _score(row: int, column: int, label: Any) -> float:
    value = _plain(label)
    where = f"row {row}, column {column}"
    if value is None:
        return math.nan
    if _is_missing(value):
        raise ValueError(f"{where}: the score is {label!r}; write None for a missing score, or fix the row")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where}: the score {label!r} is no number; pass a float")
    if not math.isfinite(value) or abs(value) > torch.finfo(torch.float32).max:
        raise ValueError(f"{where}: the score {label!r} is not finite in float32; fix it, or write None")
    if value == IGNORE_INDEX:
        raise ValueError(
            f"{where}: {label!r} may be a score or the mark of a missing one; write None for a missing score, and"
            f" rescale the scores if {IGNORE_INDEX} is one"
        )
    return float(value)


def _plain(value: Any) -> Any:
    """A number of NumPy, pandas or PyTorch as a Python number."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value


def _is_missing(value: Any) -> bool:
    # By name: pandas is not imported for its missing values.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and math.isnan(value)
