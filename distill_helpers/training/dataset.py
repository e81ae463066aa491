"""The training set of a student: texts that are tokenised once, hard labels, and what the teacher says of the texts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill_helpers.data.text_inputs import TextInput
from distill_helpers.losses.hard_labels import as_columns
from distill_helpers.models.batching import TokenIds, check_finite, encode_texts, pad_batch, segments_of
from distill_helpers.targets.features import TeacherFeatures, pad_features
from distill_helpers.training.task_labels import TASKS_OF_TEXTS, labels_of_task, rows_of, rows_with_labels

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["DistillationCollator", "DistillationDataset"]


class DistillationDataset(Dataset):
    """Texts with hard labels and the teacher's logits. The texts are tokenised when the data set is made, only once.

    Args:
        texts: the messages, or pairs of texts (tuples of two: premise and hypothesis, query and passage), none of them
            empty.
        labels: by `task`, as below; None where no message has one.
        teacher_logits: (texts, classes), from `precompute_teacher_logits`; (texts, labels) or (texts, columns) for the
            other tasks, (texts,) too for a single score. None to train on hard labels alone, or with a live teacher.
        tokenizer: the *student's* own.
        max_length: longer texts are cut to so many tokens; default the tokenizer's own limit.
        teacher_features: the teacher's features of the same texts, from `precompute_teacher_features`, for the feature
            terms.
        task: what the labels and the logits mean, one of
            "single_label": each message has one class. A label is a class index, or `IGNORE_INDEX` (−100) for a message
            without a hard label;
            "multi_label": a label is a row of 0 and 1, one for each label, and `IGNORE_INDEX` where that is unknown;
            "regression": a label is a score, or a row of scores, and None where a score is missing. A message that
            lacks one of its scores learns from the others.

    Raises:
        TypeError: labels that come as one string, or teacher logits that are no tensor.
        ValueError: an unknown task, lengths that differ, logits or features that are not finite, logits of a shape that
            the task does not have, a label that is missing or that the task does not have, neither labels nor anything
            from a teacher, features of other tokens, or an empty text; with the row.

    Example:
        >>> student = dh.load_course_model("help-desk-student", device="cpu")
        >>> texts, labels = ["no sound", "my mac shows a grey screen"], [dh.IGNORE_INDEX, 1]
        >>> data = dh.DistillationDataset(texts, labels, torch.randn(2, 5), student.tokenizer)
        >>> data
        DistillationDataset(2 texts, 1 hard label, teacher logits of 5 classes)
        >>> sorted(data[0])
        ['input_ids', 'labels', 'teacher_logits']

        Scores of pairs, as a reranker learns them; the second pair has no score:

        >>> pairs = [("no sound", "check the mixer"), ("no sound", "clean the fan")]
        >>> dh.DistillationDataset(pairs, [0.9, None], None, student.tokenizer, task="regression")[1]["label_mask"]
        tensor([False])
    """

    def __init__(
        self,
        texts: Sequence[TextInput],
        labels: Sequence[Any] | None,
        teacher_logits: Tensor | None,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None = None,
        *,
        teacher_features: TeacherFeatures | None = None,
        task: str = "single_label",
    ) -> None:
        if task not in TASKS_OF_TEXTS:
            raise ValueError(
                f"task must be one of {TASKS_OF_TEXTS}, got {task!r}; the labels of tokens need a data set of words"
            )
        if labels is None and teacher_logits is None and teacher_features is None:
            raise ValueError("there is nothing to learn from; give hard labels, teacher logits or teacher features")
        labels = rows_of(labels)
        for name, values in (("labels", labels), ("teacher_logits", teacher_logits)):
            if values is not None and len(values) != len(texts):
                raise ValueError(f"{len(texts)} texts, but {len(values)} {name}")
        if teacher_logits is not None:
            teacher_logits = checked_teacher_logits(teacher_logits, task)
        self.task = str(task)
        n_columns = None if teacher_logits is None else teacher_logits.shape[1]
        self.labels = labels_of_task(task, labels, len(texts), n_columns)
        self._lacks_scores = isinstance(self.labels, Tensor) and bool(self.labels.isnan().any())
        self.token_ids = encode_texts(tokenizer, texts, max_length)
        self.teacher_logits = None if teacher_logits is None else teacher_logits.detach().float().cpu()
        self.tokenizer = tokenizer
        self.teacher_features = teacher_features
        if teacher_features is not None:
            _check_teacher_features(teacher_features, self.token_ids)
            self._starts = teacher_features.token_starts()

    def __repr__(self) -> str:
        n_labels = sum(rows_with_labels(self.labels))
        parts = [f"{len(self):,} texts", f"{n_labels:,} hard label{'s' * (n_labels != 1)}"]
        if self.task != "single_label":
            parts = [self.task, parts[0], f"{n_labels:,} with hard labels"]
        if self.teacher_logits is not None:
            outputs = "classes" if self.task == "single_label" else "columns"
            parts.append(f"teacher logits of {self.teacher_logits.shape[1]} {outputs}")
        if self.teacher_features is not None:
            parts.append(f"teacher features {', '.join(self.teacher_features.tensors)}")
        return f"DistillationDataset({', '.join(parts)})"

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self, index: int) -> dict[str, list[int] | int | Tensor]:
        item: dict[str, list[int] | int | Tensor] = {"input_ids": self.token_ids[index], "labels": self.labels[index]}
        segments = segments_of(self.token_ids[index])
        if segments is not None:
            item["token_type_ids"] = segments
        if self._lacks_scores:
            item["label_mask"] = ~self.labels[index].isnan()  # type: ignore[union-attr]
        if self.teacher_logits is not None:
            item["teacher_logits"] = self.teacher_logits[index]
        if self.teacher_features is not None:
            item |= self.teacher_features.rows(self._starts, index)
        return item


class DistillationCollator:
    """Makes a batch of a list of items of a `DistillationDataset`, padded to the longest item.

    Args:
        tokenizer: the student's own.
        side: where padding stands, whatever the tokenizer says: "right", as in prediction, since most models number
            their positions from the first column; "left" for a model that reads its class off the last column (XLNet).

    Raises:
        ValueError: another side.

    Example:
        >>> tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
        >>> data = dh.DistillationDataset(["no sound", "a grey screen on my mac"], [0, 1], None, tokenizer)
        >>> batch = dh.DistillationCollator(tokenizer)([data[0], data[1]])
        >>> batch["input_ids"].shape, batch["attention_mask"].sum(dim=1)
        (torch.Size([2, 8]), tensor([4, 8]))
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, side: str = "right") -> None:
        if side not in ("left", "right"):
            raise ValueError(f"side must be 'left' or 'right', got {side!r}")
        self.tokenizer = tokenizer
        self.side = side

    def __call__(self, items: list[dict]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (batch, longest), `labels` (batch,), `teacher_logits` (batch, classes).

        Several labels or scores are (batch, columns). `label_mask` (batch, columns) is False where a score is missing,
        and `token_type_ids` (batch, longest) tell the two texts of a pair apart. The teacher's features, if the items
        have any, are under the keys of `targets.features.pad_features`.
        """
        token_ids = [
            TokenIds(item["input_ids"], item["token_type_ids"]) if "token_type_ids" in item else item["input_ids"]
            for item in items
        ]
        batch = pad_batch(token_ids, self.tokenizer, side=self.side)
        labels = [item["labels"] for item in items]
        batch["labels"] = torch.stack(labels) if isinstance(labels[0], Tensor) else torch.tensor(labels)
        for name in ("label_mask", "teacher_logits"):
            if name in items[0]:
                batch[name] = torch.stack([item[name] for item in items])
        return batch | pad_features(items, self.side)


def checked_teacher_logits(logits: Tensor, task: str) -> Tensor:
    """The logits of all texts as (texts, columns)."""
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"teacher_logits must be a torch tensor, got {type(logits).__name__}; convert it with `torch.as_tensor`"
        )
    if task == "regression":
        logits = as_columns(logits)
    if logits.dim() != 2 or not logits.is_floating_point():
        columns = {"single_label": "classes", "multi_label": "labels", "regression": "columns"}[task]
        raise ValueError(
            f"teacher_logits must be floats of shape (texts, {columns}), got {tuple(logits.shape)} of {logits.dtype}"
        )
    if task == "single_label" and logits.shape[1] < 2:
        raise ValueError(
            f"teacher_logits of shape {tuple(logits.shape)} have a single column, over which a softmax is always 1, so"
            " that nothing could be learned. If the column is a score, say task='regression'; if it is the answer to a"
            " yes-or-no question, say task='multi_label', or give the logits of both classes,"
            " `torch.cat([torch.zeros_like(logits), logits], dim=1)`"
        )
    check_finite(logits, "label this text again")
    return logits


def _check_teacher_features(features: TeacherFeatures, token_ids: list[list[int]]) -> None:
    for row, (own, others) in enumerate(zip(token_ids, features.token_ids, strict=False)):
        if own != others or segments_of(own) != segments_of(others):
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
