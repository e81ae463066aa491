"""What the recipes share: the settings of their training, and a single stage of training."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, TrainerCallback

from distill_helpers.data.augmentation import augment_labelled_texts
from distill_helpers.data.labelled_texts import IGNORE_INDEX, TextSplits
from distill_helpers.losses.distillation_config import DistillationConfig, repr_of_changes
from distill_helpers.losses.feature_terms import FeatureTerms
from distill_helpers.losses.layer_maps import alternating_layers
from distill_helpers.models.architectures import ModelShape, transformer_layers
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.students.creation import cut_layers
from distill_helpers.targets.features import precompute_teacher_features
from distill_helpers.targets.logits import precompute_teacher_logits
from distill_helpers.training.checks import check_settings
from distill_helpers.training.dataset import DistillationDataset
from distill_helpers.training.distilled_student import DistilledStudent
from distill_helpers.training.train_student import train_student_with_distillation

__all__ = [
    "Training",
    "alternating_student",
    "half_depth",
    "hard_label_baseline",
    "random_twin",
    "teacher_logits",
    "train_stage",
    "train_stage_on_features",
    "train_stage_on_labels",
]


@dataclass(frozen=True)
class Training:
    """How long and where a recipe trains. The papers' own settings would need the papers' budgets.

    Args:
        epochs: passes over the texts in each stage (TinyBERT and MiniLM have two stages).
        feature_epochs: passes in the first of two stages, which learns from features; None takes `epochs`.
        learning_rate: the peak of AdamW's learning rate.
        batch_size: messages in each step.
        n_transfer: the number of unlabelled texts beside the training messages, for the teacher to label. They are a
            sample of the data's own transfer set, or made by `augment_texts` where the data have no such set.
        inherited_labels: give these texts the hard labels that they inherit (`TextSplits.transfer_labels`, or those of
            `augment_labelled_texts`). Stages on hard labels then read them as well. False leaves them unlabelled.
        max_length: longer texts are cut to so many tokens; default the tokenizer's own limit.
        seed: seed of student, order and dropout. The transfer texts are the same for every seed, so that the teacher
            labels them once.
        group_by_length: make batches of texts of about the same length, which saves padding.
        callbacks: further callbacks for the Trainer of every stage, such as one that freezes parts of the student.
        device: default the best there is.
        output_dir: the folder for the result. Stages before the last one get folders inside it.
        cache_dir: the folder in which the teacher's logits and features are kept; None keeps them in memory only.
        live_teacher: run the teacher beside the student for its features instead of keeping the features in memory.
            This is slower, and the way out where the features are too large.
        progress: show progress bars.

    Raises:
        ValueError: a number of passes or messages below 1, or a learning rate that is not positive.
    """

    epochs: int = 4
    feature_epochs: int | None = None
    learning_rate: float = 3e-4
    batch_size: int = 32
    n_transfer: int = 5000
    inherited_labels: bool = False
    max_length: int | None = None
    seed: int = 0
    group_by_length: bool = False
    callbacks: Sequence[TrainerCallback] = ()
    device: str | torch.device | None = None
    output_dir: str | Path = "distilled_model"
    cache_dir: str | Path | None = None
    live_teacher: bool = False
    progress: bool = True

    __repr__ = repr_of_changes

    def __post_init__(self) -> None:
        # Before any work: a stage would find a bad number of passes only after the stage before it.
        for epochs in (self.epochs, 1 if self.feature_epochs is None else self.feature_epochs):
            check_settings(epochs, self.learning_rate, self.batch_size)


def hard_label_baseline(
    student: TextClassifier, data: TextSplits, training: Training | None = None, *, random_weights: bool = True
) -> DistilledStudent:
    """The baseline that every recipe must beat: the same architecture, random weights, and hard labels alone.

    Args:
        student: the baseline has its architecture.
        data: the task's messages. The training messages alone are used, unless `training.inherited_labels` says that
            transfer texts have hard labels, too.
        training: see `Training`.
        random_weights: False starts from the student's own weights, which shows what these bring without distillation.
    """
    training = training or Training()
    start = random_twin(student, training.seed) if random_weights else student
    return train_stage_on_labels(start, data, training)


def half_depth(teacher: TextClassifier, n_layers: int | None = None) -> int:
    """`n_layers`, or by default half the number of the teacher's layers."""
    return max(1, len(transformer_layers(teacher.model)) // 2) if n_layers is None else n_layers


def alternating_student(teacher: TextClassifier, n_layers: int | None = None) -> TextClassifier:
    """A student of `n_layers` of the teacher's layers, chosen by `alternating_layers`; default half of the layers."""
    layers = alternating_layers(half_depth(teacher, n_layers), len(transformer_layers(teacher.model)))
    return cut_layers(teacher, layers)


def random_twin(student: TextClassifier, seed: int = 0) -> TextClassifier:
    """A student of the same architecture, classes and tokenizer with random weights."""
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(student.model.config, dtype=student.model.dtype)
    return TextClassifier(model.to(student.model.device).eval(), student.tokenizer)


def train_stage_on_features(
    student: TextClassifier, teacher: TextClassifier, data: TextSplits, config: DistillationConfig, training: Training
) -> TextClassifier:
    """Train a stage on features alone, in a folder of its own, and return its student."""
    epochs = training.epochs if training.feature_epochs is None else training.feature_epochs
    first = replace(training, output_dir=Path(training.output_dir) / "stage-1", epochs=epochs)
    return train_stage(student, teacher, data, config, first).classifier


def train_stage_on_labels(student: TextClassifier, data: TextSplits, training: Training) -> DistilledStudent:
    """Train a stage on hard labels alone, which needs no teacher and can't use texts without a label."""
    training = training if training.inherited_labels else replace(training, n_transfer=0)
    return train_stage(student, student, data, DistillationConfig(alpha=0.0), training)


def train_stage(
    student: TextClassifier, teacher: TextClassifier, data: TextSplits, config: DistillationConfig, training: Training
) -> DistilledStudent:
    """Train one stage of a recipe, on the messages, the transfer texts, and what `config` needs from the teacher."""
    texts, labels = list(data.train.texts), list(data.train.labels)
    if training.n_transfer:
        transfer, inherited = _transfer_texts(data, training)
        texts, labels = texts + transfer, labels + inherited
    return train_student_with_distillation(
        student,
        _dataset(texts, labels, student, teacher, config, training),
        _dataset(data.validation.texts, data.validation.labels, student, teacher, config, training),
        config,
        n_epochs=training.epochs,
        learning_rate=training.learning_rate,
        batch_size=training.batch_size,
        group_by_length=training.group_by_length,
        callbacks=training.callbacks,
        device=training.device,
        output_dir=training.output_dir,
        seed=training.seed,
        progress=training.progress,
        teacher=teacher if config.uses_features and training.live_teacher else None,
    )


def _dataset(
    texts: list[str],
    labels: list[int],
    student: TextClassifier,
    teacher: TextClassifier,
    config: DistillationConfig,
    training: Training,
) -> DistillationDataset:
    logits = features = None
    if config.uses_teacher_logits:
        logits = teacher_logits(teacher, texts, training)
    if config.uses_features and not training.live_teacher:
        terms = FeatureTerms(config, ModelShape.of(student.model), ModelShape.of(teacher.model))
        features = precompute_teacher_features(teacher, texts, terms.teacher_names, **_reading(training))
    return DistillationDataset(texts, labels, logits, student.tokenizer, training.max_length, teacher_features=features)


def teacher_logits(teacher: TextClassifier, texts: list[str], training: Training) -> Tensor:
    """The teacher's logits of some texts, under the settings of a recipe."""
    return precompute_teacher_logits(teacher, texts, **_reading(training))


def _reading(training: Training) -> dict[str, Any]:
    """How a teacher reads texts under these settings, for its logits as for its features."""
    return {name: getattr(training, name) for name in ("device", "max_length", "cache_dir", "progress")}


def _transfer_texts(data: TextSplits, training: Training) -> tuple[list[str], list[int]]:
    """The transfer texts of a training and their hard labels, `IGNORE_INDEX` for a text without one."""
    n = training.n_transfer
    if not data.transfer:
        texts, labels = augment_labelled_texts(data.train, n, seed=0)
    else:
        if n > len(data.transfer):
            raise ValueError(f"n_transfer is {n}, but the data have {len(data.transfer)} transfer texts; ask for fewer")
        if training.inherited_labels and not data.transfer_labels:
            raise ValueError(
                "the data do not say which labels their transfer texts inherit; set TextSplits.transfer_labels"
            )
        rows = random.Random(0).sample(range(len(data.transfer)), n)
        inherited = data.transfer_labels or [IGNORE_INDEX] * len(data.transfer)
        texts, labels = [data.transfer[row] for row in rows], [inherited[row] for row in rows]
    return texts, labels if training.inherited_labels else [IGNORE_INDEX] * len(texts)
