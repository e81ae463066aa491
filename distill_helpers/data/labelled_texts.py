"""Labelled messages, their three splits, and a stratified split of one set into two.

`own_data` reads your own files, `corpora` the course's data sets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["IGNORE_INDEX", "LabelledTexts", "TextSplits", "check_texts", "split_off"]

#: The hard label that says "no hard label here", as in `torch.nn.functional.cross_entropy`.
IGNORE_INDEX = -100


@dataclass(frozen=True, repr=False)
class LabelledTexts:
    """Messages with one label each.

    Args:
        texts: the messages, none of them empty.
        labels: indices into `label_names`, one for each text.
        label_names: the classes, in the order of the indices.

    Raises:
        ValueError: numbers of texts and labels that differ, no text at all, or an empty text or a label outside the
            names, with its row (0-based).

    Example:
        >>> data = dh.LabelledTexts(["no sound", "grey screen", "black screen"], [0, 1, 1], ("audio", "video"))
        >>> data
        LabelledTexts(3 texts, 2 classes)
        >>> data.subset([2, 0]).texts
        ['black screen', 'no sound']
    """

    texts: list[str]
    labels: list[int]
    label_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ValueError(f"{len(self.texts)} texts but {len(self.labels)} labels; each text needs one label")
        check_texts(self.texts)
        for row, label in enumerate(self.labels):
            if not 0 <= label < len(self.label_names):
                raise ValueError(f"row {row}: label {label} is not an index into the {len(self.label_names)} names")

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        return f"LabelledTexts({len(self):,} texts, {len(self.label_names)} classes)"

    def subset(self, rows: Iterable[int]) -> LabelledTexts:
        """The messages at these rows, in this order."""
        rows = list(rows)
        return LabelledTexts([self.texts[i] for i in rows], [self.labels[i] for i in rows], self.label_names)

    def sample(self, fraction: float, seed: int = 0) -> LabelledTexts:
        """A stratified sample without replacement: every class keeps its share.

        Args:
            fraction: in (0, 1].
            seed: the same seed gives the same sample.

        Raises:
            ValueError: a fraction outside (0, 1], or one that leaves a class out of the sample or out of the rest.
        """
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
        size = round(fraction * len(self))
        if size == len(self):
            return self
        kept, _ = stratified_split(self.labels, len(self) - size, seed)
        return self.subset(kept)


@dataclass(frozen=True, repr=False)
class TextSplits:
    """Three disjoint sets of messages, and unlabelled text of the same kind.

    Args:
        train, validation, test: messages with the same label names.
        transfer: unlabelled texts cut from the *training* messages, for the teacher to label. May be empty.

    Example:
        >>> dh.load_help_desk()
        TextSplits(2,517 train, 400 validation, 1,952 test, 20,396 transfer, 5 classes)
    """

    train: LabelledTexts
    validation: LabelledTexts
    test: LabelledTexts
    transfer: tuple[str, ...] = ()

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes, in the order of the indices."""
        return self.train.label_names

    def __repr__(self) -> str:
        return (
            f"TextSplits({len(self.train):,} train, {len(self.validation):,} validation, {len(self.test):,} test,"
            f" {len(self.transfer):,} transfer, {len(self.label_names)} classes)"
        )


def split_off(data: LabelledTexts, size: int, seed: int = 0) -> tuple[LabelledTexts, LabelledTexts]:
    """Split messages into the rest and a stratified sample.

    Args:
        data: what is split; each part keeps its order.
        size: the number of messages in the sample.
        seed: decides which messages are taken.

    Returns:
        The rest, then the sample.

    Raises:
        ValueError: a size that leaves a class out of the rest or out of the sample.
    """
    kept, held_out = stratified_split(data.labels, size, seed)
    return data.subset(kept), data.subset(held_out)


def stratified_split(labels: Sequence[int], size: int, seed: int) -> tuple[list[int], list[int]]:
    """The rows of the rest and the rows of a stratified sample, each ascending; see `split_off`."""
    from sklearn.model_selection import train_test_split  # not above: a check of texts does not need scikit-learn

    n_classes = len(set(labels))
    rare = [label for label, count in Counter(labels).items() if count < 2]
    if rare:
        raise ValueError(f"label {rare[0]} has a single example; a stratified split needs two of each")
    if not n_classes <= size <= len(labels) - n_classes:
        raise ValueError(f"cannot split {size} off {len(labels)} examples and keep all {n_classes} classes in both")
    kept, held_out = train_test_split(range(len(labels)), test_size=size, random_state=seed, stratify=labels)
    for rows in (kept, held_out):  # shares are rounded, and a rare class can be rounded away
        if gone := set(labels) - {labels[i] for i in rows}:
            raise ValueError(
                f"label {min(gone)} is too rare to split {size} off {len(labels)} examples and keep it in both"
            )
    return sorted(kept), sorted(held_out)


def labelled(frame: pd.DataFrame, names: Sequence[str], where: str, first_row: int = 0) -> LabelledTexts:
    """The rows of a table with the columns `text` and `label`, as `LabelledTexts`.

    Args:
        frame: texts, and labels by name.
        names: the classes, in the order that their indices get.
        where: names the table in error messages.
        first_row: the number of the table's first row in error messages.

    Raises:
        ValueError: an empty text, an empty label or an unknown one, with its row.
    """
    index = {name: i for i, name in enumerate(names)}
    for row, (text, label) in enumerate(zip(frame["text"], frame["label"], strict=True), start=first_row):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where}, row {row}: the text is empty; drop the row or fix it")
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"{where}, row {row}: the label is empty; drop the row or fix it")
        if label not in index:
            raise ValueError(f"{where}, row {row}: unknown label {label!r}; training has {list(names)[:10]}")
    return LabelledTexts(list(frame["text"]), [index[label] for label in frame["label"]], tuple(names))


def check_texts(texts: Sequence[str]) -> None:
    """Raise ValueError if there is no text, or if one is empty or not a string, with its row (0-based)."""
    if isinstance(texts, str) or len(texts) == 0:
        raise ValueError("pass a non-empty list of texts")
    for row, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"row {row}: the text is empty or not a string; drop the row or fix it")
