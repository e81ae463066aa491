"""Your own messages, from CSV files or from a Hugging Face data set.

Both loaders return `TextSplits`: training, validation and test messages that share their label names. The test set is
the one that you name. It is never shuffled, sampled or mixed with the other two. Unless you bring a validation set, its
messages are taken out of the training set by a stratified, seeded split.

No text lies in two of the sets, so that no set is measured on what a model was trained on. A training message whose
text is also a validation or test message is left out of training, and a validation message that is also a test message
out of validation; a warning names the rows. The copies of a text within the training set stay together. Two texts count
as one if they differ only in blanks, line ends or Unicode form (`labelled_texts.text_key`). A text with two different
labels stays, and a warning names its rows.

Labels are read without the blanks around them and in Unicode's composed form, so that "café" is one class however it is
encoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_helpers.data.label_names import check_label_names, clean_label, in_order, read_labels
from distill_helpers.data.labelled_texts import TextSplits, labelled, split_off
from distill_helpers.data.numbered_texts import NumberedTexts

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
    label_names: Sequence[str] | None = None,
    validation: str | Path | None = None,
    validation_size: int | None = None,
    seed: int = 0,
    encoding: str = "utf-8",
    delimiter: str = ",",
) -> TextSplits:
    """Your own messages, from CSV files with a header line.

    Args:
        train: the training file.
        test: the test file. It is used as it is, and only to report a final result.
        text_column, label_column: their names in the header.
        label_names: the classes in the order of their indices, such as a teacher's `label_names`. None takes the labels
            of the training file, sorted: as numbers if all of them are numbers, otherwise as words.
        validation: a validation file. None takes `validation_size` messages out of the training file instead.
        validation_size: default a tenth of the training messages. If texts repeat, the number can be missed by a few.
        seed: decides which messages are taken out.
        encoding: of the files, such as "cp1252" or "utf-16".
        delimiter: the character between two fields, such as ";".

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file in another encoding or with another delimiter; a missing column; an empty text or label; a
            label that is none of the classes; a class with too few texts for a split; a set or a class of which no
            message is left, because its texts are also in another set. The message names the file and the row, as a
            spreadsheet numbers rows.

    Warns:
        UserWarning: texts that two files share, texts with two labels, or a class that is written in several ways.

    Example:
        >>> from pathlib import Path
        >>> rows = "".join(f"my mac is slow {i},mac\\nwindows is slow {i},windows\\n" for i in range(20))
        >>> _ = Path("train.csv").write_text("message,queue\\n" + rows)
        >>> _ = Path("test.csv").write_text("message,queue\\nthe dock is gone,mac\\n")
        >>> dh.load_csv("train.csv", "test.csv", text_column="message", label_column="queue")
        TextSplits(36 train, 4 validation, 1 test, 0 transfer, 2 classes)
    """
    files = {"train": train, "test": test} | ({} if validation is None else {"validation": validation})
    frames = {
        name: _read_csv(Path(path), text_column, label_column, encoding, delimiter) for name, path in files.items()
    }
    return _splits_from_frames(
        frames,
        {name: str(path) for name, path in files.items()},
        names=label_names,
        validation_size=validation_size,
        seed=seed,
        first_row=2,
    )


def load_hf_dataset(
    dataset: DatasetDict,
    *,
    text_column: str = "text",
    label_column: str = "label",
    label_names: Sequence[str] | None = None,
    validation_size: int | None = None,
    seed: int = 0,
) -> TextSplits:
    """A Hugging Face `DatasetDict` that you have loaded, with the splits `train`, `test` and perhaps `validation`.

    Args:
        dataset: loaded with `datasets.load_dataset` or built in memory.
        text_column, label_column: names of columns. Labels may be strings or integers. Integers get the names of the
            column's `ClassLabel` feature; without that feature, their digits are their names.
        label_names: the classes in the order of their indices. None takes the order of the `ClassLabel` feature;
            without that feature, the labels of `train`, sorted as numbers if all of them are numbers.
        validation_size: how many messages to take out of `train` if there is no `validation` split; default a tenth. If
            texts repeat, the number can be missed by a few.
        seed: decides which messages are taken out.

    Raises:
        TypeError: something other than a `DatasetDict` whose splits are in memory or on disk.
        ValueError: a missing split or column, or one of the errors of `load_csv` about texts and labels, with the split
            and the row (0-based).

    Warns:
        UserWarning: see `load_csv`.

    Example:
        >>> from datasets import Dataset, DatasetDict
        >>> train = {"text": [f"my mac is slow {i}" for i in range(20)], "label": 10 * ["mac", "speed"]}
        >>> test = {"text": ["the dock is gone"], "label": ["mac"]}
        >>> dh.load_hf_dataset(DatasetDict(train=Dataset.from_dict(train), test=Dataset.from_dict(test)))
        TextSplits(18 train, 2 validation, 1 test, 0 transfer, 2 classes)
    """
    if not isinstance(dataset, dict):
        raise TypeError(
            f"need a DatasetDict with the splits `train` and `test`, got {type(dataset).__name__}; one split alone is"
            " divided by its `train_test_split`"
        )
    for name in ("train", "test"):
        if name not in dataset:
            raise ValueError(f"the dataset has the splits {sorted(map(str, dataset))}; `{name}` is needed")
    names = label_names or _class_names(dataset["train"], label_column)
    splits = {name: dataset[name] for name in ("train", "test", "validation") if name in dataset}
    where = {name: f"split {name}" for name in splits}
    frames = {name: _hf_frame(split, where[name], text_column, label_column) for name, split in splits.items()}
    return _splits_from_frames(frames, where, names=names, validation_size=validation_size, seed=seed)


def _class_names(split: Dataset, label_column: str) -> list[str] | None:
    """The names of a split's `ClassLabel` feature, cleaned as labels are; None without that feature."""
    names = getattr((split.features or {}).get(label_column), "names", None)
    return None if names is None else [clean_label(name) or "" for name in names]


def _hf_frame(split: Dataset, where: str, text_column: str, label_column: str) -> pd.DataFrame:
    import pandas as pd

    if not hasattr(split, "__len__"):
        raise TypeError(f"{where} is a stream; load the data set without `streaming=True`")
    for column in (text_column, label_column):
        if column not in split.column_names:
            raise ValueError(f"{where}: no column {column!r}, only {split.column_names}")
    labels: list[Any] = list(split[label_column])
    # Each split is read by its own names: in a split that was encoded by itself, an index can mean another class.
    if (names := _class_names(split, label_column)) is not None:
        labels = [i if i is None else names[i] if 0 <= i < len(names) else f"class {i}" for i in labels]
    # As objects, so that pandas turns no whole number into a float, and no missing value into NaN.
    return pd.DataFrame({"text": list(split[text_column]), "label": labels}, dtype=object)


def _read_csv(path: Path, text_column: str, label_column: str, encoding: str, delimiter: str) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; pass the path of a CSV file with a header line")
    options: dict[str, Any] = {"dtype": str, "keep_default_na": False, "encoding": encoding, "sep": delimiter}
    try:
        header = pd.read_csv(path, header=None, nrows=1, **options).iloc[0].tolist()
        frame = pd.read_csv(path, skip_blank_lines=False, **options)
    except UnicodeError as error:
        raise ValueError(f"{path}{_undecodable(path, encoding)}") from error
    except LookupError as error:
        raise ValueError(f"{error}; pass the name of an encoding, such as 'utf-8' or 'cp1252'") from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(
            f"{path} is not a CSV file with a header line: {error}; put a text with commas or line ends in quotes"
        ) from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes surplus first fields for an index, and drops them
        raise ValueError(f"{path}: row 2 has more fields than the header; put a text with commas in quotes")
    for column in (text_column, label_column):
        if header.count(column) > 1:
            raise ValueError(f"{path}: the header has the column {column!r} {header.count(column)} times; rename one")
        if column not in frame.columns:
            raise ValueError(f"{path}: no column {column!r}, only {list(frame.columns)}{_header_hint(header)}")
    return pd.DataFrame({"text": frame[text_column], "label": frame[label_column]})


def _undecodable(path: Path, encoding: str) -> str:
    """Say at which row a file is not in its encoding, and what to do."""
    content = path.read_bytes()
    remedy = 'save it as UTF-8, or pass its encoding, such as `encoding="cp1252"`'
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return ' is in UTF-16; save it as UTF-8, or pass `encoding="utf-16"`'
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return f" is not in {encoding}: byte 0x{content[error.start]:02x} in line {line}; {remedy}"
    except UnicodeError as error:  # UTF-16 without its mark
        return f" is not in {encoding}: {error}; {remedy}"
    return f" is not in {encoding}; {remedy}"


def _header_hint(header: Sequence[str]) -> str:
    """What to do about a header in which a column is not found, where that can be told."""
    joined = "".join(map(str, header))
    if "\0" in joined:
        return '; the file is in UTF-16: pass `encoding="utf-16-le"` or `encoding="utf-16-be"`'
    for mark in (";", "\t", "|", ","):
        if len(header) == 1 and mark in joined:
            return f"; the fields are divided by {mark!r}: pass `delimiter={mark!r}`"
    if any(name != name.strip() for name in map(str, header)):
        return "; pass the name with its blanks, or take them out of the header"
    return ""


def _splits_from_frames(
    frames: Mapping[str, pd.DataFrame],
    where: Mapping[str, str],
    *,
    names: Sequence[str] | None,
    validation_size: int | None,
    seed: int,
    first_row: int = 0,
) -> TextSplits:
    """The splits from the tables `train`, `test` and perhaps `validation`, each with the columns `text` and `label`."""
    frames = {
        part: frame.assign(label=read_labels(frame["label"], where[part], first_row, names))
        for part, frame in frames.items()
    }
    if names is not None:
        names = tuple(names)
        check_label_names(names, "label_names")
    else:
        names = in_order(name for name in frames["train"]["label"] if name)
        if names:
            check_label_names(names, where["train"])
    parts = {
        part: NumberedTexts(
            labelled(frame, names, where[part], first_row),
            list(range(first_row, first_row + len(frame))),
            where[part],
        )
        for part, frame in frames.items()
    }
    for part in parts.values():
        part.warn_of_two_labels()
    train, test = parts["train"], parts["test"]
    if "validation" in parts:
        validation = parts["validation"].without([test])
        return TextSplits(train.without([test, validation], keep_classes=True).data, validation.data, test.data)
    train = train.without([test], keep_classes=True)
    train.check_splittable()
    size = len(train.data) // 10 if validation_size is None else validation_size
    return TextSplits(*split_off(train.data, size, seed), test.data)
