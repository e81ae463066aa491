"""The training set of a student: texts that are tokenised once, hard labels, and what the teacher says of the texts."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.models.batching import check_finite, encode_texts, pad_batch
from distill_helpers.targets.features import TeacherFeatures, pad_features

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["DistillationCollator", "DistillationDataset"]


class DistillationDataset(Dataset):
    """Texts with hard labels and the teacher's logits. The texts are tokenised when the data set is made, only once.

    Args:
        texts: the messages, none of them empty.
        labels: class indices, with `IGNORE_INDEX` (−100) for a message without a hard label; None where no message has
            one.
        teacher_logits: (texts, classes), from `precompute_teacher_logits`; None to train on hard labels alone, or with
            a live teacher.
        tokenizer: the *student's* own.
        max_length: longer texts are cut to so many tokens; default the tokenizer's own limit.
        teacher_features: the teacher's features of the same texts, from `precompute_teacher_features`, for the feature
            terms.

    Raises:
        TypeError: labels that come as one string, or teacher logits that are no tensor.
        ValueError: lengths that differ, logits or features that are not finite, logits of other than two dimensions or
            of a single column, a label that is missing, no whole number or outside the classes, neither labels nor
            anything from a teacher, features of other tokens, or an empty text; with the row.

    Example:
        >>> student = dh.load_course_model("help-desk-student", device="cpu")
        >>> texts, labels = ["no sound", "my mac shows a grey screen"], [dh.IGNORE_INDEX, 1]
        >>> data = dh.DistillationDataset(texts, labels, torch.randn(2, 5), student.tokenizer)
        >>> data
        DistillationDataset(2 texts, 1 hard label, teacher logits of 5 classes)
        >>> sorted(data[0])
        ['input_ids', 'labels', 'teacher_logits']
    """

    def __init__(
        self,
        texts: Sequence[str],
        labels: Sequence[int] | None,
        teacher_logits: Tensor | None,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None = None,
        *,
        teacher_features: TeacherFeatures | None = None,
    ) -> None:
        if labels is None and teacher_logits is None and teacher_features is None:
            raise ValueError("there is nothing to learn from; give hard labels, teacher logits or teacher features")
        for name, values in (("labels", labels), ("teacher_logits", teacher_logits)):
            if values is not None and len(values) != len(texts):
                raise ValueError(f"{len(texts)} texts, but {len(values)} {name}")
        if teacher_logits is not None:
            _check_teacher_logits(teacher_logits)
        n_classes = None if teacher_logits is None else teacher_logits.shape[1]
        self.labels = [IGNORE_INDEX] * len(texts) if labels is None else class_indices(labels, n_classes)
        self.token_ids = encode_texts(tokenizer, texts, max_length)
        self.teacher_logits = None if teacher_logits is None else teacher_logits.detach().float().cpu()
        self.tokenizer = tokenizer
        self.teacher_features = teacher_features
        if teacher_features is not None:
            _check_teacher_features(teacher_features, self.token_ids)
            self._starts = teacher_features.token_starts()

    def __repr__(self) -> str:
        n_labels = sum(label != IGNORE_INDEX for label in self.labels)
        parts = [f"{len(self):,} texts", f"{n_labels:,} hard label{'s' * (n_labels != 1)}"]
        if self.teacher_logits is not None:
            parts.append(f"teacher logits of {self.teacher_logits.shape[1]} classes")
        if self.teacher_features is not None:
            parts.append(f"teacher features {', '.join(self.teacher_features.tensors)}")
        return f"DistillationDataset({', '.join(parts)})"

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self, index: int) -> dict[str, list[int] | int | Tensor]:
        item: dict[str, list[int] | int | Tensor] = {"input_ids": self.token_ids[index], "labels": self.labels[index]}
        if self.teacher_logits is not None:
            item["teacher_logits"] = self.teacher_logits[index]
        if self.teacher_features is not None:
            item |= self.teacher_features.rows(self._starts, index)
        return item


class DistillationCollator:
    """Makes a batch of a list of items of a `DistillationDataset`, padded to the longest item.

    Args:
        tokenizer: the student's own.

    Example:
        >>> tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
        >>> data = dh.DistillationDataset(["no sound", "a grey screen on my mac"], [0, 1], None, tokenizer)
        >>> batch = dh.DistillationCollator(tokenizer)([data[0], data[1]])
        >>> batch["input_ids"].shape, batch["attention_mask"].sum(dim=1)
        (torch.Size([2, 8]), tensor([4, 8]))
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def __call__(self, items: list[dict]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (batch, longest), `labels` (batch,), `teacher_logits` (batch, classes).

        The teacher's features, if the items have any, are under the keys of `targets.features.pad_features`.
        """
        batch = pad_batch([item["input_ids"] for item in items], self.tokenizer)
        batch["labels"] = torch.tensor([item["labels"] for item in items])
        if "teacher_logits" in items[0]:
            batch["teacher_logits"] = torch.stack([item["teacher_logits"] for item in items])
        return batch | pad_features(items, self.tokenizer.padding_side)


def _check_teacher_logits(logits: Tensor) -> None:
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"teacher_logits must be a torch tensor, got {type(logits).__name__}; convert it with `torch.as_tensor`"
        )
    if logits.dim() != 2 or not logits.is_floating_point():
        raise ValueError(
            f"teacher_logits must be floats of shape (texts, classes), got {tuple(logits.shape)} of {logits.dtype}"
        )
    if logits.shape[1] < 2:
        raise ValueError(
            f"teacher_logits of shape {tuple(logits.shape)} have a single column, over which a softmax is always 1, so"
            " that nothing could be learned. If the column is a score, match it by a mean squared error in a loop of"
            " your own; if it is the answer to a yes-or-no question, give the logits of both classes,"
            " `torch.cat([torch.zeros_like(logits), logits], dim=1)`"
        )
    check_finite(logits, "label this text again")


def _check_teacher_features(features: TeacherFeatures, token_ids: list[list[int]]) -> None:
    for row, (own, others) in enumerate(zip(token_ids, features.token_ids, strict=False)):
        if own != others:
            raise ValueError(
                f"row {row}: the student reads {len(own)} tokens, and the teacher's features are of {len(others)} other"
                " tokens; use the same texts, the teacher's tokenizer and the same max_length"
            )
    if len(features.token_ids) != len(token_ids):
        raise ValueError(f"{len(token_ids)} texts, but teacher_features of {len(features.token_ids)}")
    for name, tensor in features.tensors.items():
        bad = (~tensor.isfinite()).flatten(start_dim=1).any(dim=1).nonzero().flatten()
        if len(bad):
            row = bisect_right(features.token_starts(), int(bad[0])) - 1
            raise ValueError(
                f"row {row}: the teacher's feature {name!r} is not finite; compute the features again, in float32 if"
                " they were kept in half precision"
            )


def class_indices(labels: Sequence[int], n_classes: int | None) -> list[int]:
    """Labels as ints, each a class index or `IGNORE_INDEX`.

    Args:
        labels: ints, or integers of NumPy, pandas or PyTorch.
        n_classes: the number of classes; None if it is unknown.

    Raises:
        TypeError: one string.
        ValueError: anything but a class index, with the row and the remedy.
    """
    if isinstance(labels, str | bytes):
        raise TypeError(f"labels must be a sequence of class indices, got one {type(labels).__name__}")
    return [_class_index(row, label, n_classes) for row, label in enumerate(labels)]


def _class_index(row: int, label: Any, n_classes: int | None) -> int:
    value = label.item() if hasattr(label, "item") and getattr(label, "ndim", 1) == 0 else label
    # By name: pandas is not imported for its missing values.
    missing = value is None or type(value).__name__ in ("NAType", "NaTType")
    if missing or (isinstance(value, float) and math.isnan(value)):
        raise ValueError(
            f"row {row}: the label is missing ({label!r}); mark a text without a label with {IGNORE_INDEX}"
        )
    if isinstance(value, bool):
        raise ValueError(f"row {row}: the label {label!r} is no class index; pass int(label) if False is class 0")
    if isinstance(value, float):
        raise ValueError(
            f"row {row}: the label {label!r} is a float, which is no class index; pass integers. A score can't be"
            " learned as a class, and a soft label belongs in teacher_logits"
        )
    if isinstance(value, str):
        raise ValueError(f"row {row}: the label {label!r} is a name; pass its index, `label_names.index(label)`")
    if not isinstance(value, int):
        raise ValueError(
            f"row {row}: the label {label!r} is no class index. A text has one class here; several labels for a text"
            " are a multi-label task, which this data set does not hold"
        )
    if value != IGNORE_INDEX and (value < 0 or (n_classes is not None and value >= n_classes)):
        known = "a class index" if n_classes is None else f"one of the teacher's {n_classes} classes"
        raise ValueError(
            f"row {row}: label {value} is neither {known} nor {IGNORE_INDEX}, which marks a text without a label"
        )
    return value
