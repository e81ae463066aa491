"""Labelled messages in three splits, from the user's own files. The course's data sets are in `corpora`.

Every text loader returns `TextSplits`: training, validation and test messages that share their label names. The test
set is always the publisher's own, or a file that the user names; validation is taken out of training, stratified and
seeded, and the test set is never shuffled, sampled or mixed with either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset, DatasetDict

__all__ = ["IGNORE_INDEX", "LabelledTexts", "TextSplits", "load_csv", "load_hf_dataset", "split_off"]

#: The hard label that says "no hard label here", as in `torch.nn.functional.cross_entropy`.
IGNORE_INDEX = -100


@dataclass(frozen=True)
class LabelledTexts:
    """Messages with one label each.

    Args:
        texts: the messages, none of them empty.
        labels: indices into `label_names`, one for each text.
        label_names: the classes, in the order of the indices.

    Raises:
        ValueError: lengths that differ, an empty text or a label outside the names, with its row (0-based).
    """

    texts: list[str]
    labels: list[int]
    label_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ValueError(f"{len(self.texts)} texts but {len(self.labels)} labels")
        check_texts(self.texts)
        for row, label in enumerate(self.labels):
            if not 0 <= label < len(self.label_names):
                raise ValueError(f"row {row}: label {label} is not an index into the {len(self.label_names)} names")

    def __len__(self) -> int:
        return len(self.texts)

    def subset(self, rows: Iterable[int]) -> LabelledTexts:
        """The messages at these rows, in this order."""
        rows = list(rows)
        return LabelledTexts([self.texts[i] for i in rows], [self.labels[i] for i in rows], self.label_names)

    def sample(self, fraction: float, seed: int = 0) -> LabelledTexts:
        """A stratified sample without replacement: every class keeps its share.

        Args:
            fraction: in (0, 1].
            seed: the sample is a function of it.

        Raises:
            ValueError: a fraction outside (0, 1], or one that leaves a class out of the sample or of the rest.
        """
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
        size = round(fraction * len(self))
        if size == len(self):
            return self
        kept, _ = stratified_split(self.labels, len(self) - size, seed)
        return self.subset(kept)


@dataclass(frozen=True)
class TextSplits:
    """Three disjoint sets of messages, and unlabelled text of the same kind.

    Args:
        train, validation, test: messages with the same label names.
        transfer: unlabelled texts cut from the *training* messages, for the teacher to label. May be empty.
    """

    train: LabelledTexts
    validation: LabelledTexts
    test: LabelledTexts
    transfer: tuple[str, ...] = ()

    @property
    def label_names(self) -> tuple[str, ...]:
        return self.train.label_names


def load_csv(
    train: str | Path,
    test: str | Path,
    *,
    text_column: str = "text",
    label_column: str = "label",
    validation: str | Path | None = None,
    validation_size: int | None = None,
    seed: int = 0,
) -> TextSplits:
    """Your own messages, from CSV files with a header line.

    Args:
        train: training file. Its labels, sorted, become the label names.
        test: test file; used as it is, and only to report a final result.
        text_column, label_column: names in the header.
        validation: validation file. None takes `validation_size` messages out of training instead.
        validation_size: default a tenth of training.
        seed: decides which messages are taken out.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a missing column, an empty text, a label that training does not have; with file and line.
    """
    frames = {
        path: _read_csv(Path(path), text_column, label_column) for path in (train, test, validation) if path is not None
    }
    return _splits_from_frames(
        frames[train],
        frames[test],
        None if validation is None else frames[validation],
        names=None,
        where={"train": str(train), "test": str(test), "validation": str(validation)},
        validation_size=validation_size,
        seed=seed,
        first_row=2,
    )


def load_hf_dataset(
    dataset: DatasetDict,
    *,
    text_column: str = "text",
    label_column: str = "label",
    validation_size: int | None = None,
    seed: int = 0,
) -> TextSplits:
    """A Hugging Face `DatasetDict` that you have loaded, with the splits `train`, `test` and perhaps `validation`.

    Args:
        dataset: loaded with `datasets.load_dataset` or built in memory.
        text_column, label_column: column names; labels may be strings, or integers: with a `ClassLabel`
            feature they get its names, without one their digits.
        validation_size: taken out of training where there is no `validation` split; default a tenth.
        seed: decides which messages are taken out.

    Raises:
        ValueError: a missing split or column, an empty text, an unknown label, with its row.
    """
    import pandas as pd

    for split in ("train", "test"):
        if split not in dataset:
            raise ValueError(f"the dataset has the splits {sorted(map(str, dataset))}; `{split}` is needed")
    names = getattr(dataset["train"].features.get(label_column), "names", None)

    def frame(split: Dataset, where: str) -> pd.DataFrame:
        for column in (text_column, label_column):
            if column not in split.column_names:
                raise ValueError(f"split {where}: no column {column!r}, only {split.column_names}")
        labels = split[label_column]
        # Each split's own names: the same index can mean another class in a split that was encoded by itself.
        own = getattr(split.features[label_column], "names", None) or names
        if own is not None:
            labels = [own[i] if 0 <= i < len(own) else f"class {i}" for i in labels]
        return pd.DataFrame({"text": list(split[text_column]), "label": [str(label) for label in labels]})

    return _splits_from_frames(
        frame(dataset["train"], "train"),
        frame(dataset["test"], "test"),
        frame(dataset["validation"], "validation") if "validation" in dataset else None,
        names=None if names is None else tuple(names),
        where={"train": "split train", "test": "split test", "validation": "split validation"},
        validation_size=validation_size,
        seed=seed,
    )


def split_off(data: LabelledTexts, size: int, seed: int = 0) -> tuple[LabelledTexts, LabelledTexts]:
    """(the rest, a stratified sample of `size`), each in the order of `data`. Raises ValueError if it can't be done."""
    kept, held_out = stratified_split(data.labels, size, seed)
    return data.subset(kept), data.subset(held_out)


def stratified_split(labels: Sequence[int], size: int, seed: int) -> tuple[list[int], list[int]]:
    from sklearn.model_selection import train_test_split  # not above: whoever checks texts does not need it

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


def _read_csv(path: Path, text_column: str, label_column: str) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; pass the path of a CSV file with a header line")
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is not a CSV file with a header line: {error}") from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes surplus first fields for an index, and drops them
        raise ValueError(f"{path}: row 2 has more fields than the header; put a text with commas in quotes")
    for column in (text_column, label_column):
        if column not in frame.columns:
            raise ValueError(f"{path}: no column {column!r}, only {list(frame.columns)}")
    return pd.DataFrame({"text": frame[text_column], "label": frame[label_column]})


def _splits_from_frames(
    train: pd.DataFrame,
    test: pd.DataFrame,
    validation: pd.DataFrame | None,
    *,
    names: tuple[str, ...] | None,
    where: dict[str, str],
    validation_size: int | None,
    seed: int,
    first_row: int = 0,
) -> TextSplits:
    names = names or tuple(sorted(set(train["label"])))
    train_data = labelled(train, names, where["train"], first_row)
    test_data = labelled(test, names, where["test"], first_row)
    if validation is not None:
        return TextSplits(train_data, labelled(validation, names, where["validation"], first_row), test_data)
    size = len(train_data) // 10 if validation_size is None else validation_size
    return TextSplits(*split_off(train_data, size, seed), test_data)


def labelled(frame: pd.DataFrame, names: Sequence[str], where: str, first_row: int = 0) -> LabelledTexts:
    index = {name: i for i, name in enumerate(names)}
    for row, (text, label) in enumerate(zip(frame["text"], frame["label"], strict=True), start=first_row):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where}, row {row}: the text is empty; drop the row or mend it")
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"{where}, row {row}: the label is empty; drop the row or mend it")
        if label not in index:
            raise ValueError(f"{where}, row {row}: unknown label {label!r}; training has {list(names)[:10]}")
    return LabelledTexts(list(frame["text"]), [index[label] for label in frame["label"]], tuple(names))


def check_texts(texts: Sequence[str]) -> None:
    """Raise ValueError for no text at all, or for an empty one, with its row (0-based)."""
    if isinstance(texts, str) or len(texts) == 0:
        raise ValueError("pass a non-empty list of texts")
    for row, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"row {row}: the text is empty or not a string; drop it or mend it")
