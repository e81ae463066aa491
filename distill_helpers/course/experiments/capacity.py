"""The best temperature for students of different capacities: a test of a remark by Hinton, Vinyals and Dean.

    python -m distill_helpers.course.experiments.capacity

They write (arXiv 1503.02531, section 3) that with 300 units or more in each layer every temperature above 8 gave much
the same results, and that with 30 units temperatures from 2.5 to 4 did best. Here, students with one hidden layer learn
the digits: from hard labels, or from the teacher's labels alone at up to five temperatures. `fair_arms` has the
protocol.

The number of epochs is part of an arm's name, because the question is what remains of a difference when the students
train for longer. Every arm tries the same learning rates, each with a cosine of its own length, and each seed chooses
for itself on its own validation images.

A narrow student may make more errors for two reasons: it cannot represent what it is asked for (capacity), or the
training has not found it yet (optimisation; Stanton et al. 2021, arXiv 2106.05945). To tell them apart the log has, for
each measured student, how well it fits the *training* images: its errors, and its divergence from the teacher at T = 1
and at T = 20.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from distill_helpers.course.experiments.digit_arms import (
    compare_side_by_side,
    teacher_logits,
    together,
    trained_side_by_side,
)
from distill_helpers.course.experiments.digits import error_count, predict, teacher_for
from distill_helpers.course.experiments.fair_arms import Trained, fair_table, write_fair_table
from distill_helpers.course.logs import markdown_table, read_log
from distill_helpers.data.corpora import ImageSplits, load_digits
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.soft_targets import mean_divergence

__all__ = [
    "ARMS",
    "LOG",
    "SEEDS",
    "TEMPERATURES",
    "WIDTHS",
    "WIDTHS_IN_FULL",
    "Arm",
    "by_seed",
    "summary",
    "train_students",
]

LOG = "capacity"
SEEDS = tuple(range(10))
WIDTHS = (8, 16, 32, 128)
#: The widths that are tried with every temperature, and for the longest: few units and many.
WIDTHS_IN_FULL = (16, 128)
TEMPERATURES = (1, 2, 4, 8, 20)
#: AdamW's. Each is the choice of many seeds: 128 units mostly take the higher one, 8 units the lower.
LEARNING_RATES = (1e-2, 3e-2)
#: The points of a validation curve; every number of epochs is a multiple of it.
N_FIGURES = 20


class Arm(NamedTuple):
    """What a student is, and how it learns.

    Args:
        width: units of its hidden layer.
        temperature: of the teacher's labels; None stands for hard labels.
        epochs: passes over the 1,097 training images.
    """

    width: int
    temperature: int | None
    epochs: int

    @property
    def labels(self) -> str:
        """What the student learns from: "hard labels", or such as "T = 4"."""
        return "hard labels" if self.temperature is None else f"T = {self.temperature}"

    @property
    def name(self) -> str:
        """Such as "width 16, T = 20, 960 epochs"."""
        return f"width {self.width}, {self.labels}, {self.epochs} epochs"


def _arms() -> tuple[Arm, ...]:
    """Both ends of the temperatures at every width; what lies between, and the longest budget, at two of them."""
    arms = []
    for width in WIDTHS:
        between = TEMPERATURES[1:-1] if width in WIDTHS_IN_FULL else ()
        arms += [Arm(width, temperature, 60) for temperature in (None, 1, 20)]
        arms += [Arm(width, temperature, 240) for temperature in (None, 1, *between, 20)]
        arms += [Arm(width, temperature, 960) for temperature in (1, 20) if width in WIDTHS_IN_FULL]
    return tuple(arms)


#: By name.
ARMS = {arm.name: arm for arm in _arms()}


def train_students(arm: Arm, learning_rate: float, seeds: tuple[int, ...] = SEEDS) -> dict[int, Trained]:
    """Train one student of an arm for each seed, on its own split and with its own teacher (2–3 s for each teacher)."""
    splits = [load_digits(seed=seed) for seed in seeds]
    images = together(splits, "train_images")
    soft = arm.temperature is not None
    return trained_side_by_side(
        seeds,
        (arm.width,),
        images,
        None if soft else together(splits, "train_labels"),
        teacher_logits(seeds, images) if soft else None,
        DistillationConfig(temperature=float(arm.temperature or 1), alpha=float(soft)),
        measure=partial(_figures, seeds),
        measured_on=("test_images", "train_images"),
        epochs=arm.epochs,
        learning_rate=learning_rate,
        n_figures=N_FIGURES,
    )


def _figures(seeds: tuple[int, ...], test_logits: Tensor, train_logits: Tensor, data: ImageSplits) -> dict[str, float]:
    """Wrong test images; wrong training images and, on these, the divergence from the teacher times T², in nats."""
    figures: dict[str, float] = {
        "errors": error_count(test_logits, data.test_labels),
        "train_errors": error_count(train_logits, data.train_labels),
    }
    teachers = map(teacher_for, seeds)
    teacher = next(teacher for split, teacher in teachers if torch.equal(split.train_images, data.train_images))
    wanted = predict(teacher, data.train_images)
    for temperature in (1, 20):
        divergence = mean_divergence(train_logits, wanted, temperature=float(temperature))
        figures[f"train_kl_{temperature}"] = float(divergence)
    return figures


def by_seed(figure: str = "errors") -> pd.DataFrame:
    """Return a measured figure of the log: a row for each seed, a column for each width, epochs and labels."""
    log = read_log(LOG)
    results = log[log["phase"] == "result"].pivot_table(index="seed", columns="arm", values=figure)
    results.columns = pd.MultiIndex.from_tuples(
        [(ARMS[name].width, ARMS[name].epochs, ARMS[name].labels) for name in results.columns],
        names=["width", "epochs", "labels"],
    )
    return results.sort_index(axis="columns")


def summary() -> pd.DataFrame:
    """Make the table: errors of 500 test images, and the paired difference from T = 1 of the same width and epochs.

    `train errors` are of 1,097 images; `train KL, T = 1` and `train KL, T = 20` are the mean divergences from the
    teacher on these images, times T², in nats.
    """
    log = read_log(LOG)
    groups: dict[tuple[int, int], list[str]] = {}
    for name, arm in ARMS.items():
        groups.setdefault((arm.width, arm.epochs), []).append(name)
    tables = [
        fair_table(log[log["arm"].isin(names)], "errors", Arm(width, 1, epochs).name, better="lower")
        for (width, epochs), names in groups.items()
    ]
    table = pd.concat(tables).rename(columns={"difference": "more than T = 1"})
    fit = log[log["phase"] == "result"].groupby("arm")[["train_errors", "train_kl_1", "train_kl_20"]].mean()
    fit.columns = pd.Index(["train errors", "train KL, T = 1", "train KL, T = 20"])
    return table.join(fit).loc[list(ARMS)]


def main() -> None:
    compare_side_by_side(LOG, ARMS, {"learning_rate": LEARNING_RATES}, train_students, SEEDS)
    table = summary()
    formats = ("", ".1f", ".1f", "+.1f", ".1f", *("" for _ in table.columns[4:-3]), ".1f", ".3f", ".3f")
    write_fair_table(LOG, markdown_table(table, formats))


if __name__ == "__main__":
    main()
