"""Your own messages, from CSV files or from a Hugging Face data set.

Both loaders return `TextSplits`: training, validation and test messages that share their label names. The test set is
the one that you name. It is never shuffled, sampled or mixed with the other two. Unless you bring a validation set, its
messages are taken out of the training set by a stratified, seeded split.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distill_helpers.data.labelled_texts import TextSplits, labelled, split_off

if TYPE_CHECKING:
    import pandas as pd
    from datasets import Dataset, DatasetDict

__all__ = ["load_csv", "load_hf_dataset"]


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
        train: the training file. Its labels, sorted, become the label names.
        test: the test file. It is used as it is, and only to report a final result.
        text_column, label_column: their names in the header.
        validation: a validation file. None takes `validation_size` messages out of the training file instead.
        validation_size: default a tenth of the training messages.
        seed: decides which messages are taken out.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a missing column, an empty text, or a label that the training file does not have; with the file and
            the row, as a spreadsheet numbers it.

    Example:
        >>> from pathlib import Path
        >>> rows = "".join(f"my mac is slow {i},mac\\nwindows is slow {i},windows\\n" for i in range(20))
        >>> _ = Path("train.csv").write_text("message,queue\\n" + rows)
        >>> _ = Path("test.csv").write_text("message,queue\\nthe dock is gone,mac\\n")
        >>> dh.load_csv("train.csv", "test.csv", text_column="message", label_column="queue")
        TextSplits(36 train, 4 validation, 1 test, 0 transfer, 2 classes)
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
        text_column, label_column: names of columns. Labels may be strings or integers. Integers get the names of the
            column's `ClassLabel` feature; without that feature, their digits are their names.
        validation_size: how many messages to take out of `train` if there is no `validation` split; default a tenth.
        seed: decides which messages are taken out.

    Raises:
        ValueError: a missing split or column, or an empty text or an unknown label, with its row.

    Example:
        >>> from datasets import Dataset, DatasetDict
        >>> train = {"text": [f"my mac is slow {i}" for i in range(20)], "label": 10 * ["mac", "speed"]}
        >>> test = {"text": ["the dock is gone"], "label": ["mac"]}
        >>> dh.load_hf_dataset(DatasetDict(train=Dataset.from_dict(train), test=Dataset.from_dict(test)))
        TextSplits(18 train, 2 validation, 1 test, 0 transfer, 2 classes)
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
        # Each split is read by its own names: in a split that was encoded by itself, an index can mean another class.
        split_names = getattr(split.features[label_column], "names", None) or names
        if split_names is not None:
            labels = [split_names[i] if 0 <= i < len(split_names) else f"class {i}" for i in labels]
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
