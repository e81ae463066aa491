"""Does a teacher that learned from smoothed labels teach better or worse?

    python -m distill_helpers.course.experiments.teacher_label_smoothing

Müller et al. (arXiv 1906.02629, section 4) found that label smoothing makes a teacher better and its students worse: it
draws the examples of a class together, so that the probabilities of the wrong classes say less about the example. Here
two teachers learn the digits, from hard labels and from labels smoothed by 0.1. Each seed chooses each teacher's
learning rate on its own validation images. Students with one hidden layer learn from the teacher's labels alone.

`fair_arms` has the protocol. Width, temperature and the number of epochs are parts of an arm's name, so that the two
teachers are compared at each of them.
"""

from __future__ import annotations

import itertools
from functools import cache, partial
from typing import NamedTuple

import pandas as pd
import torch
from torch import nn

from distill_helpers.course.experiments.digit_arms import compare_side_by_side, together, trained_side_by_side
from distill_helpers.course.experiments.digits import error_count, predict, smoothed_label_logits, train_teacher
from distill_helpers.course.experiments.fair_arms import Trained, fair_table, write_fair_table
from distill_helpers.course.logs import markdown_table, read_log
from distill_helpers.data.corpora import load_digits
from distill_helpers.evaluation.measures import classification_metrics
from distill_helpers.losses.distillation_config import DistillationConfig

__all__ = ["ARMS", "HARD", "LOG", "SEEDS", "SMOOTHED", "Arm", "summary", "teacher_of", "train_students"]

LOG = "teacher-label-smoothing"
SEEDS = tuple(range(10))
SMOOTHING = 0.1
HARD, SMOOTHED = "hard labels", f"label smoothing {SMOOTHING}"
WIDTHS, TEMPERATURES, EPOCHS = (16, 128), (1.0, 4.0), (60, 240)
GRID = {"learning_rate": (1e-2, 3e-2)}
TEACHER_RATES = (1e-3, 2e-3, 4e-3)


class Arm(NamedTuple):
    """What a student is, and how it learns.

    Args:
        teacher: what its teacher learned from, `HARD` or `SMOOTHED`.
        width: units of its hidden layer.
        temperature: of the teacher's labels.
        epochs: passes over the 1,097 training images.
    """

    teacher: str
    width: int
    temperature: float
    epochs: int

    @property
    def name(self) -> str:
        """Such as "teacher of hard labels, width 16, T = 4, 240 epochs"."""
        return f"teacher of {self.teacher}, width {self.width}, T = {self.temperature:g}, {self.epochs} epochs"


#: By name: for each setting the two teachers.
ARMS = {
    arm.name: arm
    for arm in (
        Arm(teacher, width, temperature, epochs)
        for width, temperature, epochs, teacher in itertools.product(WIDTHS, TEMPERATURES, EPOCHS, (HARD, SMOOTHED))
    )
}


@cache
def teacher_of(kind: str, seed: int) -> nn.Module:
    """Train a teacher at each of `TEACHER_RATES`, and take the one with the fewest errors on validation images.

    Args:
        kind: `HARD` or `SMOOTHED`.
        seed: of split, weights and order.
    """
    data = load_digits(seed=seed)
    soft = smoothed_label_logits(data.train_labels, SMOOTHING) if kind == SMOOTHED else None
    teachers = [
        train_teacher(data.train_images, data.train_labels, seed, soft_labels=soft, learning_rate=rate)
        for rate in TEACHER_RATES
    ]
    return min(
        teachers, key=lambda teacher: error_count(predict(teacher, data.validation_images), data.validation_labels)
    )


def train_students(arm: Arm, learning_rate: float, seeds: tuple[int, ...] = SEEDS) -> dict[int, Trained]:
    """Train one student of an arm for each seed, on its own split and with its own teacher (9 s for each teacher).

    Returns:
        For each seed what `fair_arms` needs; `measure_test` gives the `errors` on the 500 test images, and
        `teacher_errors`, `teacher_nll` and `teacher_ece`.
    """
    images = together([load_digits(seed=seed) for seed in seeds], "train_images")
    logits = torch.stack([predict(teacher_of(arm.teacher, s), own) for s, own in zip(seeds, images, strict=True)])
    trained = trained_side_by_side(
        seeds,
        (arm.width,),
        images,
        None,
        logits,
        DistillationConfig(temperature=arm.temperature, alpha=1.0),
        epochs=arm.epochs,
        learning_rate=learning_rate,
        n_figures=20,
    )
    return {seed: one.also_measuring(partial(_teacher_figures, arm.teacher, seed)) for seed, one in trained.items()}


def _teacher_figures(kind: str, seed: int) -> dict[str, float]:
    data = load_digits(seed=seed)
    logits = predict(teacher_of(kind, seed), data.test_images)
    figures = classification_metrics(logits, data.test_labels.tolist())
    errors = error_count(logits, data.test_labels)
    return {"teacher_errors": errors, "teacher_nll": figures["nll"], "teacher_ece": figures["ece"]}


def summary() -> pd.DataFrame:
    """Make the table: errors of 500 test images, and the paired difference from the teacher of hard labels.

    The last three columns are the teacher's own: errors, negative log-likelihood and ECE (%) on the test images.
    """
    log = read_log(LOG)
    also = {"teacher's errors": ("teacher_errors", 1.0), "its NLL": ("teacher_nll", 1.0)}
    also["its ECE %"] = ("teacher_ece", 100.0)
    names = list(ARMS)
    pairs = zip(names[::2], names[1::2], strict=True)
    tables = [
        fair_table(log[log["arm"].isin(pair)], "errors", pair[0], better="lower", also=also).loc[list(pair)]
        for pair in pairs
    ]
    return pd.concat(tables)


def main() -> None:
    torch.set_num_threads(1)
    compare_side_by_side(LOG, ARMS, GRID, train_students, SEEDS)
    table = summary()
    formats = ("", ".1f", ".1f", "+.1f", ".1f", "", ".1f", ".2f", ".1f", *("" for _ in table.columns[8:]))
    write_fair_table(LOG, markdown_table(table, formats))


if __name__ == "__main__":
    main()
