"""Images as a task: handwritten digits from few labels; a vision transformer, hard labels and distillation.

    python -m distill_helpers.course.experiments.image_task

The images are scikit-learn's 1,797 handwritten digits of 8 × 8 pixels; each seed splits them anew. The teacher, a
vision transformer with 3 layers, learns from all 1,097 training images with their labels. The students have 1 layer and
a tenth of the teacher's parameters. They have the labels of 100 images, and the same start, epochs and steps for each
seed. `fair_arms` has the protocol. The validation set of 200 labelled images chooses learning rate and epoch of every
arm, the teacher's epoch too.
"""

from __future__ import annotations

import tempfile
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from distill_helpers.course.experiments.fair_arms import Trained, compare_arms, fair_table, write_fair_table
from distill_helpers.course.logs import markdown_table, read_log
from distill_helpers.data.corpora import load_digits
from distill_helpers.data.labelled_images import LabelledImages
from distill_helpers.data.labelled_texts import IGNORE_INDEX, stratified_split
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.image_models import ImageClassifier, predict_image_logits
from distill_helpers.models.text_models import label_options
from distill_helpers.students.image_students import create_image_student
from distill_helpers.training.distilled_student import DistilledStudent
from distill_helpers.training.image_dataset import ImageDistillationDataset
from distill_helpers.training.train_student import train_student_with_distillation

__all__ = ["ARMS", "LOG", "Arm", "digit_images", "make_teacher", "summary", "train_student"]

LOG = "image-task"
N_LABELLED = 100
LEARNING_RATES = (3e-3, 1e-2, 3e-2)
EPOCHS, STEPS_IN_EPOCH = 25, 10
DIGITS = tuple(str(digit) for digit in range(10))


class Arm(NamedTuple):
    """What a student learns from.

    Args:
        all_images: all training images. Otherwise the 100 images with labels.
        all_labels: all training images have their labels.
        alpha: the weight of the teacher's probabilities beside the labels.
    """

    all_images: bool
    all_labels: bool
    alpha: float


#: The students of the table.
ARMS = {
    "hard labels": Arm(all_images=False, all_labels=False, alpha=0.0),
    "distilled, same images": Arm(all_images=False, all_labels=False, alpha=0.7),
    "distilled, and 997 images without labels": Arm(all_images=True, all_labels=False, alpha=0.7),
    "hard labels, 1,097 of them": Arm(all_images=True, all_labels=True, alpha=0.0),
}


@cache
def digit_images(seed: int) -> dict[str, LabelledImages]:
    """Split the digits into "train", "validation" and "test", as uint8 arrays. Their 17 greys are spread over 0–255."""
    splits = load_digits(seed=seed)
    parts = {
        "train": (splits.train_images, splits.train_labels),
        "validation": (splits.validation_images, splits.validation_labels),
        "test": (splits.test_images, splits.test_labels),
    }
    return {
        name: LabelledImages(_as_bytes(images), labels.tolist(), DIGITS) for name, (images, labels) in parts.items()
    }


def _as_bytes(images: Tensor) -> list[np.ndarray]:
    return list((255 * images).round().to(torch.uint8).view(-1, 8, 8).numpy())


@cache
def make_teacher(seed: int) -> ImageClassifier:
    """Train the vision transformer of a seed on all training images, in about 15 seconds."""
    config = ViTConfig(
        image_size=8,
        patch_size=2,
        num_channels=1,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        hidden_dropout_prob=0.1,
        **label_options(DIGITS),
    )
    torch.manual_seed(seed)
    processor = ViTImageProcessorPil(size={"height": 8, "width": 8}, image_mean=[0.5], image_std=[0.5])
    start = ImageClassifier(ViTForImageClassification(config), processor)
    parts = digit_images(seed)
    train, validation = (
        ImageDistillationDataset(parts[name].images, parts[name].labels, None, start)
        for name in ("train", "validation")
    )
    result = _fit(start, train, validation, 0.0, n_epochs=20, batch_size=64, learning_rate=3e-3, seed=seed)
    return result.classifier


def _fit(
    student: ImageClassifier,
    train: ImageDistillationDataset,
    validation: ImageDistillationDataset,
    alpha: float,
    *,
    n_epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> DistilledStudent:
    with tempfile.TemporaryDirectory() as scratch:
        return train_student_with_distillation(
            student,
            train,
            validation,
            DistillationConfig(alpha=alpha, temperature=2.0),
            n_epochs=n_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            output_dir=scratch,
            seed=seed,
            device="cpu",
            progress=False,
        )


@cache
def _teacher_logits(seed: int, part: str) -> Tensor:
    return predict_image_logits(make_teacher(seed), digit_images(seed)[part].images)


def train_student(arm: str, learning_rate: float, seed: int) -> Trained:
    """Train one student, in some seconds.

    Raises:
        KeyError: no arm has this name.
    """
    chosen, parts, teacher = ARMS[arm], digit_images(seed), make_teacher(seed)
    train = parts["train"]
    _, labelled = stratified_split(list(train.labels), N_LABELLED, seed)
    rows = list(range(len(train))) if chosen.all_images else labelled
    known = set(rows if chosen.all_labels else labelled)
    labels = [train.labels[row] if row in known else IGNORE_INDEX for row in rows]
    student = create_image_student(teacher, hidden_size=24, n_layers=1, n_heads=2, seed=seed)
    of_train = _teacher_logits(seed, "train")[rows] if chosen.alpha else None
    of_validation = _teacher_logits(seed, "validation") if chosen.alpha else None
    result = _fit(
        student,
        ImageDistillationDataset([train.images[row] for row in rows], labels, of_train, student),
        ImageDistillationDataset(parts["validation"].images, parts["validation"].labels, of_validation, student),
        chosen.alpha,
        n_epochs=EPOCHS,
        # More images make larger batches, not more steps.
        batch_size=-(-len(rows) // STEPS_IN_EPOCH),
        learning_rate=learning_rate,
        seed=seed,
    )

    def measure_test() -> dict[str, float]:
        figures = evaluate(result.classifier, parts["test"], teacher_logits=_teacher_logits(seed, "test"))
        return figures | {"teacher accuracy": evaluate(teacher, parts["test"])["accuracy"]}

    return Trained(
        # Of equal accuracies the lower NLL counts, as in the choice of the epoch.
        validation=(result.history["eval_accuracy"] - 1e-4 * result.history["eval_nll"]).tolist(),
        measure_test=measure_test,
        budget={"images": len(rows), "with labels": len(known), "steps": EPOCHS * STEPS_IN_EPOCH},
    )


def summary() -> pd.DataFrame:
    """Make the table: test accuracy of the teacher and of each arm in %, and the paired difference from hard labels."""
    log = read_log(LOG)
    table = fair_table(log, "accuracy", "hard labels", scale=100)
    of_teacher = 100 * log.dropna(subset=["teacher accuracy"]).groupby("seed")["teacher accuracy"].first()
    top = pd.DataFrame(
        {"mean": of_teacher.mean(), "sd": of_teacher.std(ddof=1), "images": "1,097", "with labels": "1,097"},
        index=["teacher"],
    )
    return pd.concat([top, table])[list(table.columns)]


def main() -> None:
    torch.set_num_threads(1)
    compare_arms(LOG, list(ARMS), {"learning_rate": LEARNING_RATES}, train_student)
    table = markdown_table(summary(), ("", ".1f", ".2f", ".1f", ".1f", "", "", "", "", "", ""))
    write_fair_table(LOG, table)


if __name__ == "__main__":
    main()
