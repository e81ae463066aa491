"""The training set of a token classifier: words, each with a class and with what the teacher says of it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.models.batching import TokenIds, pad_batch, segments_of
from distill_helpers.models.word_pieces import EncodedWords, encode_words
from distill_helpers.models.word_predictions import WordLogits
from distill_helpers.training.dataset import DistillationDataset
from distill_helpers.training.image_dataset import ImageDistillationDataset
from distill_helpers.training.task_labels import class_indices

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["TokenClassificationCollator", "TokenClassificationDataset", "TrainingSet"]


class TokenClassificationDataset(Dataset):
    """Texts of words, with a hard label and the teacher's logits for each word. The texts are tokenised only once.

    The first piece of a word stands for the word: there the student learns the word's label and the teacher's logits.
    The other pieces and the special tokens count for nothing. Teacher and student may cut words into different pieces,
    since the logits are those of words.

    A word that the student's `max_length` cuts off can't be learned, nor can a word that the teacher has not read where
    the logits come from a cache. A warning says how many words these are, and `n_cut` holds their number.

    Args:
        texts: the words of each text, none of them empty.
        labels: for each text as many class indices as words, with `IGNORE_INDEX` (−100) for a word without a hard
            label; None where no word has one. A word without a label learns from the teacher alone.
        teacher_logits: of the same texts, from `precompute_teacher_word_logits`, or for each text a tensor (words,
            classes); None to train on hard labels alone, or with a live teacher.
        tokenizer: the *student's* own, a fast one.
        max_length: longer texts are cut to so many tokens; default the tokenizer's own limit.

    Raises:
        TypeError: labels that come as one string, or a slow tokenizer.
        ValueError: lengths that differ, logits that are not finite, a label that is missing, no whole number or outside
            the classes, neither labels nor logits, or what `encode_words` refuses: an empty word, a word that becomes
            no token, or a tokenizer that needs `add_prefix_space=True`; with row and word.

    Example:
        >>> tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
        >>> texts, labels = [["my", "soundblaster", "is", "silent"], ["no", "driver"]], [[0, 1, 0, 0], [0, 1]]
        >>> data = dh.TokenClassificationDataset(texts, labels, None, tokenizer)
        >>> data
        TokenClassificationDataset(2 texts, 6 words, 6 hard labels)
        >>> data[0]["labels"]  # [CLS] my sound ##bla ##ster is silent [SEP]
        [-100, 0, 1, -100, -100, 0, 0, -100]
    """

    #: The task, as `DistillationConfig` names it.
    task = "token_classification"

    def __init__(
        self,
        texts: Sequence[Sequence[str]],
        labels: Sequence[Sequence[int]] | None,
        teacher_logits: WordLogits | Sequence[Tensor] | None,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int | None = None,
    ) -> None:
        if labels is None and teacher_logits is None:
            raise ValueError(
                "there is nothing to learn from; give hard labels or teacher logits. With a live teacher, give labels"
                f" of {IGNORE_INDEX} for words without one"
            )
        if teacher_logits is not None and not isinstance(teacher_logits, WordLogits):
            teacher_logits = WordLogits.from_texts(teacher_logits)
        for name, values in (("labels", labels), ("teacher_logits", teacher_logits and teacher_logits.n_words)):
            if values is not None and len(values) != len(texts):
                raise ValueError(f"{len(texts)} texts, but {len(values)} {name}")
        encoded = encode_words(tokenizer, texts, max_length)
        n_classes = None
        if teacher_logits is not None:
            _check_teacher_logits(teacher_logits, encoded.n_words)
            n_classes = teacher_logits.logits.shape[1]
        #: The label of each word of each text, of the words that are cut off too.
        self.word_labels = _word_labels(labels, encoded.n_words, n_classes)
        self.token_ids = encoded.token_ids
        self.tokenizer = tokenizer
        #: Of each text, the places of the first pieces of its words that can be learned, among its tokens.
        self.first_pieces = _learnable(encoded, teacher_logits)
        #: The number of words that no student can learn here, since they were cut off.
        self.n_cut = sum(encoded.n_words) - sum(map(len, self.first_pieces))
        _tell_cut(encoded, self.first_pieces)
        self._starts = list(accumulate(map(len, self.first_pieces), initial=0))
        #: The teacher's logits of all words that can be learned, (words, classes), one text after the other.
        self.teacher_logits = None if teacher_logits is None else self._of_learnable(teacher_logits)

    @property
    def labels(self) -> list[int]:
        """The labels of all words that can be learned, one text after the other."""
        pairs = zip(self.word_labels, self.first_pieces, strict=True)
        return [label for labels, places in pairs for label in labels[: len(places)]]

    def _of_learnable(self, teacher: WordLogits) -> Tensor:
        rows = [of_text[: len(places)] for of_text, places in zip(teacher.by_text(), self.first_pieces, strict=True)]
        return torch.cat(rows).detach().float().cpu()

    #: Features of words are not kept: for feature terms, pass a live teacher.
    teacher_features = None

    def __repr__(self) -> str:
        n_words = sum(map(len, self.first_pieces))
        n_labels = sum(label != IGNORE_INDEX for label in self.labels)
        parts = [f"{len(self):,} texts", f"{n_words:,} words", f"{n_labels:,} hard label{'s' * (n_labels != 1)}"]
        if self.teacher_logits is not None:
            parts.append(f"teacher logits of {self.teacher_logits.shape[1]} classes")
        if self.n_cut:
            parts.append(f"{self.n_cut:,} cut off")
        return f"TokenClassificationDataset({', '.join(parts)})"

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One text. All lists have an entry for each token.

        `labels` are class indices, or `IGNORE_INDEX`. `counts` is 1 at the first piece of each word that can be
        learned, with a hard label or without, and 0 elsewhere. `teacher_logits` are (tokens, classes), 0 where
        `counts` is 0.
        """
        token_ids, places = self.token_ids[index], self.first_pieces[index]
        labels, counts = [IGNORE_INDEX] * len(token_ids), [0] * len(token_ids)
        for place, label in zip(places, self.word_labels[index], strict=False):
            labels[place], counts[place] = label, 1
        item: dict[str, Any] = {"input_ids": token_ids, "labels": labels, "counts": counts}
        if (segments := segments_of(token_ids)) is not None:
            item["token_type_ids"] = segments
        if self.teacher_logits is not None:
            start = self._starts[range(len(self))[index]]
            of_words = self.teacher_logits[start : start + len(places)]
            item["teacher_logits"] = of_words.new_zeros(len(token_ids), of_words.shape[1])
            item["teacher_logits"][places] = of_words
        return item


class TokenClassificationCollator:
    """Makes a batch of a list of items of a `TokenClassificationDataset`, padded to the longest item.

    Padding stands on the right, whatever the tokenizer's side, as in prediction and evaluation: most models number
    their positions from the first column.

    Args:
        tokenizer: the student's own.

    Example:
        >>> tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
        >>> texts, labels = [["my", "soundblaster", "is", "silent"], ["no", "driver"]], [[0, 1, 0, 0], [0, 1]]
        >>> data = dh.TokenClassificationDataset(texts, labels, None, tokenizer)
        >>> dh.TokenClassificationCollator(tokenizer)([data[0], data[1]])["labels"]
        tensor([[-100,    0,    1, -100, -100,    0,    0, -100],
                [-100,    0,    1, -100, -100, -100, -100, -100]])
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        """`input_ids`, `attention_mask`, `labels` and `counts` (batch, longest), the last as bool.

        `teacher_logits` are (batch, longest, classes), and `token_type_ids` are there where the tokenizer makes some.
        """
        token_ids = [
            TokenIds(item["input_ids"], item["token_type_ids"]) if "token_type_ids" in item else item["input_ids"]
            for item in items
        ]
        batch = pad_batch(token_ids, self.tokenizer, side="right")
        batch["labels"] = _padded([torch.tensor(item["labels"]) for item in items], IGNORE_INDEX)
        batch["counts"] = _padded([torch.tensor(item["counts"]).bool() for item in items], False)
        if "teacher_logits" in items[0]:
            batch["teacher_logits"] = _padded([item["teacher_logits"] for item in items], 0.0)
        return batch


def _padded(rows: list[Tensor], value: float) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)


def _learnable(encoded: EncodedWords, teacher: WordLogits | None) -> list[list[int]]:
    """The places of the words that can be learned: the student reads them and, if its logits are kept, the teacher."""
    if teacher is None:
        return encoded.first_pieces
    return [places[:n_read] for places, n_read in zip(encoded.first_pieces, teacher.n_read, strict=True)]


def _tell_cut(encoded: EncodedWords, first_pieces: list[list[int]]) -> None:
    """Warn of the words that nobody can learn, since they were cut off for the student or for its teacher."""
    of_student = encoded.told_cut("student")
    told = [] if of_student is None else [of_student]
    if n_unread := sum(encoded.n_read) - sum(map(len, first_pieces)):
        told.append(f"{n_unread:,} words have no teacher logits, since they were cut off for the teacher")
    if told:
        warnings.warn(
            f"{'; '.join(told)}; nothing is learned of these words: raise max_length, or split the texts", stacklevel=3
        )


def _check_teacher_logits(teacher: WordLogits, n_words: list[int]) -> None:
    logits = teacher.logits
    if logits.dim() != 2 or not logits.is_floating_point() or len(logits) != sum(teacher.n_read):
        raise ValueError(
            f"teacher_logits must be floats of shape (words, classes) for {sum(teacher.n_read):,} words, got"
            f" {tuple(logits.shape)} of {logits.dtype}"
        )
    if logits.shape[1] < 2:
        raise ValueError(
            f"teacher_logits of shape {tuple(logits.shape)} have a single class, over which a softmax is always 1; give"
            " the logits of two or more classes"
        )
    for row, (own, others) in enumerate(zip(n_words, teacher.n_words, strict=True)):
        if own != others:
            raise ValueError(
                f"row {row}: the text has {own} words, and the teacher's logits are of {others}; compute them for these"
                " texts, with the same words"
            )
    for row, of_text in enumerate(teacher.by_text()):
        bad = (~of_text.isfinite()).any(dim=1).nonzero().flatten()
        if len(bad):
            raise ValueError(
                f"row {row}, word {int(bad[0])}: the teacher's logits are not finite; label this text again"
            )


def _word_labels(labels: Any, n_words: list[int], n_classes: int | None) -> list[list[int]]:
    """The labels of the words of each text as ints, each a class index or `IGNORE_INDEX`."""
    if labels is None:
        return [[IGNORE_INDEX] * n for n in n_words]
    checked = []
    for row, (of_text, n) in enumerate(zip(labels, n_words, strict=True)):
        if isinstance(of_text, str | bytes) or not hasattr(of_text, "__len__"):
            raise ValueError(f"row {row}: the labels {of_text!r} are no list with a class for each of {n} words")
        if len(of_text) != n:
            raise ValueError(f"row {row}: {n} words, but {len(of_text)} labels; give each word one, or {IGNORE_INDEX}")
        checked.append(class_indices(of_text, n_classes, place=f"row {row}, word", unit="word"))
    return checked


#: What a classifier of texts or of tokens is trained on.
TrainingSet = DistillationDataset | TokenClassificationDataset | ImageDistillationDataset
