"""Labelled messages, their three splits, and a stratified split of one set into two.

`own_data` reads your own files, `corpora` the course's data sets.
"""

from __future__ import annotations

import math
import random
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill_helpers.data.label_names import names_alike

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "IGNORE_INDEX",
    "LabelledTexts",
    "TextSplits",
    "check_texts",
    "labelled",
    "rows_by_text",
    "split_off",
    "stratified_split",
    "text_key",
]

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
        kept, _ = stratified_split(self.labels, len(self) - size, seed, self.label_names)
        return self.subset(kept)


@dataclass(frozen=True, repr=False)
class TextSplits:
    """Three disjoint sets of messages, and unlabelled text of the same kind.

    `load_csv` and `load_hf_dataset` make sure that no text lies in two of the sets. In the course's data sets a few do.

    Args:
        train, validation, test: messages with the same label names.
        transfer: unlabelled texts cut from the *training* messages, for the teacher to label. May be empty.
        transfer_labels: for each of these texts the class of the message from which it was cut, or `IGNORE_INDEX` if
            messages of several classes contain it. Nobody has read the text itself: the label may not fit it. May be
            empty.

    Example:
        >>> dh.load_help_desk()
        TextSplits(2,517 train, 400 validation, 1,952 test, 20,396 transfer, 5 classes)
    """

    train: LabelledTexts
    validation: LabelledTexts
    test: LabelledTexts
    transfer: tuple[str, ...] = ()
    transfer_labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.transfer_labels and len(self.transfer_labels) != len(self.transfer):
            raise ValueError(f"{len(self.transfer):,} transfer texts have {len(self.transfer_labels):,} labels")

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes, in the order of the indices."""
        return self.train.label_names

    def __repr__(self) -> str:
        return (
            f"TextSplits({len(self.train):,} train, {len(self.validation):,} validation, {len(self.test):,} test,"
            f" {len(self.transfer):,} transfer, {len(self.label_names)} classes)"
        )


def split_off(
    data: LabelledTexts, size: int, seed: int = 0, *, copies_together: bool = True
) -> tuple[LabelledTexts, LabelledTexts]:
    """Split messages into the rest and a stratified sample that share no text.

    Args:
        data: what is split; each part keeps its order.
        size: the number of messages in the sample. If texts repeat, the sample can miss this number by a few, because
            the copies of a text (`text_key`) stay together.
        seed: decides which messages are taken.
        copies_together: False splits row by row, so that the copies of a text can be torn apart.

    Returns:
        The rest, then the sample.

    Raises:
        ValueError: a size that leaves a class out of the rest or out of the sample, or a class with a single text.
    """
    groups = list(rows_by_text(data.texts).values())
    if not copies_together or len(groups) == len(data):
        kept, held_out = stratified_split(data.labels, size, seed, data.label_names)
    else:
        kept, held_out = _split_groups(groups, data.labels, size, seed, data.label_names)
    return data.subset(kept), data.subset(held_out)


def stratified_split(
    labels: Sequence[int], size: int, seed: int, names: Sequence[str] = ()
) -> tuple[list[int], list[int]]:
    """The rows of the rest and the rows of a stratified sample, each ascending; see `split_off`.

    Args:
        labels, size, seed: what is split, the sample's size, and which rows are taken.
        names: of the classes, for the error messages; empty for classes without names.
    """
    from sklearn.model_selection import train_test_split  # not above: a check of texts does not need scikit-learn

    _check_size(labels, Counter(labels), size, names)
    kept, held_out = train_test_split(range(len(labels)), test_size=size, random_state=seed, stratify=labels)
    _check_parts(labels, kept, held_out, size, names)
    return sorted(kept), sorted(held_out)


def _split_groups(
    groups: list[list[int]], labels: Sequence[int], size: int, seed: int, names: Sequence[str]
) -> tuple[list[int], list[int]]:
    """As `stratified_split`, but rows of one group stay together. A group counts for the class of its first row."""
    of_class: dict[int, list[list[int]]] = {}
    for rows in groups:
        of_class.setdefault(labels[rows[0]], []).append(rows)
    _check_size(labels, {label: len(found) for label, found in of_class.items()}, size, names)
    draw = random.Random(seed)
    held_out: list[int] = []
    n_seen = 0
    for label in sorted(of_class):
        found = of_class[label]
        n_seen += sum(map(len, found))
        draw.shuffle(found)
        wanted = round(size * n_seen / len(labels)) - len(held_out)  # what the classes before left over is made up here
        taken: list[list[int]] = []
        for rows in found:
            if len(rows) <= wanted and len(taken) < len(found) - 1:
                taken.append(rows)
                wanted -= len(rows)
        held_out += [row for rows in taken or [min(found, key=len)] for row in rows]
    kept = sorted(set(range(len(labels))) - set(held_out))
    _check_parts(labels, kept, held_out, size, names)
    return kept, sorted(held_out)


def _check_size(labels: Sequence[int], counts: dict[int, int], size: int, names: Sequence[str]) -> None:
    """Raise ValueError if no sample of this size can hold each class, or no rest can."""
    for label, count in counts.items():
        if count < 2:
            raise ValueError(
                f"label {label} has a single example{_named(label, names)}; a stratified split needs two of each, with"
                " different texts"
            )
    n_classes = len(set(labels))
    if not n_classes <= size <= len(labels) - n_classes:
        raise ValueError(
            f"cannot split {size} off {len(labels)} examples and keep all {n_classes} classes in both; choose another"
            " size, or bring a set of your own"
        )


def _check_parts(
    labels: Sequence[int], kept: Sequence[int], held_out: Sequence[int], size: int, names: Sequence[str]
) -> None:
    for rows in (kept, held_out):  # shares are rounded, and a rare class can be rounded away
        if gone := set(labels) - {labels[i] for i in rows}:
            raise ValueError(
                f"label {min(gone)} is too rare to split {size} off {len(labels)} examples and keep it in both"
                f"{_named(min(gone), names)}"
            )


def _named(label: int, names: Sequence[str]) -> str:
    return f" ({names[label]!r})" if len(names) else ""


def labelled(frame: pd.DataFrame, names: Sequence[str], where: str, first_row: int = 0) -> LabelledTexts:
    """The rows of a table with the columns `text` and `label`, as `LabelledTexts`.

    Args:
        frame: texts, and labels by name.
        names: the classes, in the order that their indices get.
        where: names the table in error messages.
        first_row: the number of the table's first row in error messages.

    Raises:
        ValueError: no row, a text that is empty or not valid Unicode, an empty label or an unknown one, with its row.
    """
    index = {name: i for i, name in enumerate(names)}
    for row, (text, label) in enumerate(zip(frame["text"], frame["label"], strict=True), start=first_row):
        if (fault := fault_of(text)) is not None:
            raise ValueError(f"{where}, row {row}: {fault}; drop the row or fix it")
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"{where}, row {row}: the label is empty; drop the row or fix it")
        if label not in index:
            alike = names_alike(label, names)
            raise ValueError(
                f"{where}, row {row}: unknown label {label!r}; "
                + (f"write it like {alike!r}; " if alike is not None else "")
                + f"training has {list(names)[:10]}{' and others' if len(names) > 10 else ''}"
            )
    if len(frame) == 0:
        raise ValueError(f"{where} has no rows; at least one message is needed")
    return LabelledTexts(list(frame["text"]), [index[label] for label in frame["label"]], tuple(names))


def check_texts(texts: Sequence[str]) -> None:
    """Raise ValueError, with its row (0-based), for a text that is empty, no string, or not valid Unicode.

    Raises:
        ValueError: such a text, no text at all, or a single string in place of a list.
    """
    if isinstance(texts, str) or len(texts) == 0:
        raise ValueError("pass a non-empty list of texts")
    for row, text in enumerate(texts):
        if (fault := fault_of(text)) is not None:
            raise ValueError(f"row {row}: {fault}; drop the row or fix it")


def text_key(text: str) -> str:
    """What two texts have in common that differ only in blanks and line ends, or in the Unicode form (NFC, NFD)."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def rows_by_text(texts: Sequence[str]) -> dict[str, list[int]]:
    """The rows (0-based) of each text, by `text_key`, in the order of their first rows."""
    rows: dict[str, list[int]] = {}
    for row, text in enumerate(texts):
        rows.setdefault(text_key(text), []).append(row)
    return rows


def fault_of(text: Any) -> str | None:
    """What makes this value useless as a text, in words; None if it is a text."""
    if text is None or (isinstance(text, float) and math.isnan(text)):  # what stands for a missing text in pandas
        return "the text is empty, not a string"
    if not isinstance(text, str):
        return f"the text is {text!r} ({type(text).__name__}), not a string"
    # Controls and invisible marks alone are no text either; tokenizers drop them.
    if all(char.isspace() or unicodedata.category(char) in ("Cc", "Cf") for char in text):
        return "the text is empty"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        return f"the text has half of a surrogate pair ({half}) at character {error.start}, which no tokenizer reads"
    return None
