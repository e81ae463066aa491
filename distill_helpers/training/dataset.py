"""The training set of a student: texts tokenised once, hard labels where there are any, what the teacher says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.models.batching import check_finite, encode_texts, pad_batch
from distill_helpers.targets.features import TeacherFeatures, pad_features

__all__ = ["DistillationCollator", "DistillationDataset"]


class DistillationDataset(Dataset):
    """Texts with hard labels and the teacher's logits, tokenised when it is made and never again.

    Args:
        texts: the messages.
        labels: class indices; `IGNORE_INDEX` (−100) where a message has none; None where no message has one.
        teacher_logits: (texts, classes), from `precompute_teacher_logits`; None to train on hard labels alone.
        tokenizer: the *student's* own.
        max_length: in tokens; default the tokenizer's own.
        teacher_features: of the same texts, from `precompute_teacher_features`, for the feature terms.

    Raises:
        ValueError: lengths that differ, logits that are not finite or not two-dimensional, a label outside the classes,
            neither labels nor anything of a teacher, features of other tokens, an empty text; with the row.
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
            raise ValueError("give hard labels, teacher logits, or both; there is nothing to learn from otherwise")
        for name, values in (("labels", labels), ("teacher_logits", teacher_logits)):
            if values is not None and len(values) != len(texts):
                raise ValueError(f"{len(texts)} texts, but {len(values)} {name}")
        if teacher_logits is not None:
            _check_teacher_logits(teacher_logits)
        if labels is not None:
            _check_labels(labels, None if teacher_logits is None else teacher_logits.shape[1])
        self.token_ids = encode_texts(tokenizer, texts, max_length)
        self.labels = [IGNORE_INDEX] * len(texts) if labels is None else [int(label) for label in labels]
        self.teacher_logits = None if teacher_logits is None else teacher_logits.detach().float().cpu()
        self.tokenizer = tokenizer
        self.teacher_features = teacher_features
        if teacher_features is not None:
            _check_teacher_features(teacher_features, self.token_ids)
            self._starts = teacher_features.token_starts()

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
    """Pads a list of items of `DistillationDataset` to the longest of them.

    Args:
        tokenizer: the student's own.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def __call__(self, items: list[dict]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (batch, longest), `labels` (batch,), `teacher_logits` (batch, classes).

        The teacher's features, where there are any, under the keys of `feature_cache.pad_features`.
        """
        batch = pad_batch([item["input_ids"] for item in items], self.tokenizer)
        batch["labels"] = torch.tensor([item["labels"] for item in items])
        if "teacher_logits" in items[0]:
            batch["teacher_logits"] = torch.stack([item["teacher_logits"] for item in items])
        return batch | pad_features(items, self.tokenizer.padding_side)


def _check_teacher_logits(logits: Tensor) -> None:
    if logits.dim() != 2 or not logits.is_floating_point():
        raise ValueError(f"teacher_logits must be floats of shape (texts, classes), got {tuple(logits.shape)}")
    check_finite(logits, "label that text again")


def _check_teacher_features(features: TeacherFeatures, token_ids: list[list[int]]) -> None:
    for row, (own, others) in enumerate(zip(token_ids, features.token_ids, strict=False)):
        if own != others:
            raise ValueError(
                f"row {row}: the student reads {len(own)} tokens, the teacher's features are of {len(others)} others;"
                " use the same texts, the teacher's tokenizer and the same max_length"
            )
    if len(features.token_ids) != len(token_ids):
        raise ValueError(f"{len(token_ids)} texts, but teacher_features of {len(features.token_ids)}")


def _check_labels(labels: Sequence[int], n_classes: int | None) -> None:
    for row, label in enumerate(labels):
        if label != IGNORE_INDEX and (label < 0 or (n_classes is not None and label >= n_classes)):
            known = "a class index" if n_classes is None else f"one of the teacher's {n_classes} classes"
            raise ValueError(f"row {row}: label {label} is not {known}, nor {IGNORE_INDEX} for a text without a label")
