"""The course's tasks: for each the data, the settings of teacher and students, and its smallest student's recipe.

`recipes` trains what is described here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch

from distill_helpers.data.augmentation import augment_labelled_texts
from distill_helpers.data.corpora import load_banking77, load_help_desk
from distill_helpers.data.labelled_texts import IGNORE_INDEX, LabelledTexts, TextSplits
from distill_helpers.evaluation.measures import classification_metrics, model_size
from distill_helpers.models.loading import COURSE_MODELS, load_text_classifier
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.targets.logits import precompute_teacher_logits

__all__ = ["SMALLEST", "WORK", "Recipe", "Task", "Variant", "get_task", "run_folder"]

#: The work folder: teachers that do not ship, teachers' logits, unfinished runs. It may be deleted at any time.
WORK = COURSE_MODELS.parents[1] / ".cache"


def run_folder(*names: object) -> Path:
    """Name the folder of a training in the work folder, by what tells it from others."""
    return WORK / "runs" / re.sub(r"[^a-z0-9.]+", "-", " ".join(map(str, names)).lower())


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run.

    Args:
        epochs, learning_rate, batch_size: as in `train_student_with_distillation`.
        dropout: of a student; the teacher keeps its own.
        group_by_length: make batches of texts of about the same length, which saves padding if lengths differ much.
    """

    epochs: int
    learning_rate: float
    batch_size: int = 32
    dropout: float = 0.1
    group_by_length: bool = False


@dataclass(frozen=True)
class Variant:
    """What a student learns from, and where it starts.

    Args:
        labels: "hard" are the people's labels, "soft" the teacher's distributions, and "teacher's choice" the teacher's
            most probable classes.
        share: of the training messages, in a stratified sample.
        transfer: learn from the transfer texts as well. Those that inherit no label are left out, so that all kinds of
            labels have the same texts.
        unlabelled: learn from them, too. Not for hard labels.
        teacher_embeddings: start from the teacher's embeddings rather than from random ones.
    """

    labels: str = "soft"
    share: float = 1.0
    transfer: bool = False
    unlabelled: bool = False
    teacher_embeddings: bool = True

    def __post_init__(self) -> None:
        if self.unlabelled and (self.labels == "hard" or not self.transfer):
            raise ValueError("texts without a label are transfer texts, and only the teacher can label them")


#: The course's smallest student: soft labels on the training messages and the transfer set.
SMALLEST = Variant(transfer=True)


@dataclass(frozen=True)
class Task:
    """A data set, and the settings with which its teacher and students are made.

    Args:
        name: also the prefix of the models' folders.
        load: loads the data.
        max_length: in word pieces, for teacher and student alike.
        teacher: settings of the teacher.
        lora_rank: trains an adapter of this rank, which is small enough to ship; None trains every weight.
        cut_to_rank: what the training of every weight has changed is cut to an adapter of this rank, to be shipped.
        teacher_reads_transfer: the teacher learns from the transfer texts as well, with the labels that they inherit.
        with_transfer: settings of students that learn from messages and transfer set.
        same_messages: settings of students that learn from the training messages alone.
        temperature: of the soft targets.
        vocab_size, hidden_size, n_heads: of the student.
    """

    name: str
    load: Callable[[], TextSplits]
    max_length: int
    teacher: Recipe
    lora_rank: int | None
    with_transfer: Recipe
    same_messages: Recipe
    temperature: float
    cut_to_rank: int | None = None
    teacher_reads_transfer: bool = False
    vocab_size: int = 5000
    hidden_size: int = 128
    n_heads: int = 2

    @cached_property
    def data(self) -> TextSplits:
        return self.load()

    def transfer_texts(self, *, unlabelled: bool) -> tuple[list[str], list[int]]:
        """The transfer texts with the labels that they inherit, and those without a label only if `unlabelled`.

        Raises:
            ValueError: the data do not say which labels their transfer texts inherit.
        """
        inherited = zip(self.data.transfer, self.data.transfer_labels, strict=True)
        wanted = [(text, label) for text, label in inherited if unlabelled or label != IGNORE_INDEX]
        return [text for text, _ in wanted], [label for _, label in wanted]

    def labelled_texts(self, *, with_transfer: bool) -> LabelledTexts:
        """The training messages, and with them the transfer texts that inherit a label.

        Raises:
            ValueError: transfer texts are asked for, and the data have no labels for them.
        """
        train = self.data.train
        if not with_transfer:
            return train
        texts, labels = self.transfer_texts(unlabelled=False)
        return LabelledTexts(train.texts + texts, train.labels + labels, train.label_names)

    @cached_property
    def teacher_model(self) -> TextClassifier:
        """The finished teacher, from `data/models` or the work folder."""
        return load_text_classifier(self.teacher_folder)

    @property
    def teacher_folder(self) -> Path:
        ships = self.lora_rank is not None or self.cut_to_rank is not None
        return (COURSE_MODELS if ships else WORK) / f"{self.name}-teacher"

    def teacher_logits(self, texts: list[str], *, progress: bool = True) -> torch.Tensor:
        """Compute the teacher's logits, (texts, classes), once, and keep them in the work folder."""
        return precompute_teacher_logits(
            self.teacher_model,
            texts,
            max_length=self.max_length,
            label_names=self.data.label_names,
            cache_dir=WORK / "targets",
            progress=progress,
        )

    def teacher_figures(self) -> dict[str, float]:
        """Measure the teacher on the test texts: `classification_metrics` and `model_size`."""
        test = self.data.test
        logits = self.teacher_logits(test.texts, progress=False)
        return classification_metrics(logits, test.labels) | model_size(self.teacher_model.model)


def _augmented_banking77(folder: Path | None) -> TextSplits:
    """Banking77 with a transfer set that is made from its training messages."""
    data = load_banking77(folder or os.environ.get("BANKING77") or None)
    texts, labels = augment_labelled_texts(data.train, 60_000, seed=0)
    return replace(data, transfer=tuple(texts), transfer_labels=tuple(labels))


def get_task(name: str, data: Path | None = None) -> Task:
    """Make the task called `help-desk`, `older-help-desk` or `banking77`.

    Args:
        name: one of the three. The two help desks have the same messages. The help desk's teacher was chosen in
            `experiments.teacher_choice`, and its students' settings in `experiments.help_desk_students`; the older
            one's teacher is an adapter that was trained for three epochs.
        data: for Banking77 the folder with its two CSV files; None takes the one that the environment variable
            `BANKING77` names, or else fetches them from the Hub.

    Raises:
        ValueError: no task has this name.
    """
    if name == "help-desk":
        return Task(
            name=name,
            load=load_help_desk,
            max_length=48,
            teacher=Recipe(epochs=5, learning_rate=1e-4),
            lora_rank=None,
            cut_to_rank=56,
            with_transfer=Recipe(epochs=5, learning_rate=5e-4, batch_size=64, group_by_length=True),
            same_messages=Recipe(epochs=18, learning_rate=5e-4, batch_size=64, group_by_length=True),
            temperature=2.0,
        )
    if name == "older-help-desk":
        return replace(
            get_task("help-desk"),
            name=name,
            teacher=Recipe(epochs=3, learning_rate=2e-3),
            lora_rank=16,
            cut_to_rank=None,
            with_transfer=Recipe(epochs=6, learning_rate=1e-3, batch_size=64),
            same_messages=Recipe(epochs=10, learning_rate=1e-3),
        )
    if name == "banking77":
        return Task(
            name=name,
            load=partial(_augmented_banking77, data),
            max_length=48,
            teacher=Recipe(epochs=10, learning_rate=1e-4, group_by_length=True),
            lora_rank=None,
            with_transfer=Recipe(epochs=6, learning_rate=2e-3, batch_size=64, dropout=0.0, group_by_length=True),
            same_messages=Recipe(epochs=10, learning_rate=2e-3, group_by_length=True),
            temperature=4.0,
            # The messages use only 2,410 word pieces. The parameters that the vocabulary saves go into the width.
            hidden_size=160,
            n_heads=4,
        )
    raise ValueError(f"unknown task {name!r}; choose help-desk, older-help-desk or banking77")
