"""Hard, smoothed and soft labels after short and long trainings: does the budget decide which are better?

    python -m distill_helpers.course.experiments.label_budget

Nothing is missing here: students with two layers learn from all digits, with four kinds of labels and three budgets. A
budget is a number of epochs, and each has a cosine of its own, so that the long trainings are no continuations of the
short ones. `fair_arms` has the protocol: each arm and seed chooses its learning rate and its best epoch on its own
validation images.

Beyer et al. (arXiv 2106.05237) found that distillation needs long trainings. A comparison at a single budget cannot
show that.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from distill_helpers.course.experiments.digit_arms import (
    compare_side_by_side,
    teacher_logits,
    together,
    trained_side_by_side,
)
from distill_helpers.course.experiments.digits import smoothed_label_logits
from distill_helpers.course.experiments.fair_arms import Trained, fair_table, write_fair_table
from distill_helpers.course.logs import markdown_table, read_log
from distill_helpers.data.corpora import load_digits
from distill_helpers.losses.distillation_config import DistillationConfig

__all__ = ["ARMS", "EPOCHS", "KINDS", "LOG", "SEEDS", "Arm", "results", "summary", "train_students"]

LOG = "label-budget"
SEEDS = tuple(range(10))
WIDTHS = (128, 128)
EPOCHS = (15, 60, 240)
LEARNING_RATES = (3e-3, 1e-2)
SMOOTHING = 0.1
N_FIGURES = 15

#: The kinds of labels; for soft labels their temperature.
KINDS: dict[str, float | None] = {
    "hard labels": None,
    f"label smoothing {SMOOTHING}": None,
    "soft labels, T = 4": 4.0,
    "soft labels, T = 20": 20.0,
}


class Arm(NamedTuple):
    """A kind of `KINDS`, and the number of epochs."""

    kind: str
    epochs: int

    @property
    def name(self) -> str:
        """Such as "soft labels, T = 4, 240 epochs"."""
        return f"{self.kind}, {self.epochs} epochs"


ARMS = {arm.name: arm for arm in (Arm(kind, epochs) for epochs in EPOCHS for kind in KINDS)}


def train_students(arm: Arm, learning_rate: float, seeds: tuple[int, ...] = SEEDS) -> dict[int, Trained]:
    """Train a student of an arm for each seed, all side by side (4 s for 60 epochs, and 3 s for each teacher)."""
    splits = [load_digits(seed=seed) for seed in seeds]
    images, labels = (together(splits, f"train_{part}") for part in ("images", "labels"))
    temperature, targets = KINDS[arm.kind], None
    if temperature is not None:
        targets = teacher_logits(seeds, images)
    elif arm.kind != "hard labels":
        targets = smoothed_label_logits(labels, SMOOTHING)
    return trained_side_by_side(
        seeds,
        WIDTHS,
        images,
        labels if targets is None else None,
        targets,
        DistillationConfig(temperature=temperature or 1.0, alpha=float(targets is not None)),
        epochs=arm.epochs,
        learning_rate=learning_rate,
        n_figures=N_FIGURES,
    )


def results() -> pd.DataFrame:
    """Read the measured students from the log, with the columns `kind` and `epochs` beside the log's own."""
    log = read_log(LOG)
    measured = log[log["phase"] == "result"]
    return measured.assign(
        kind=[ARMS[arm].kind for arm in measured["arm"]], epochs=[ARMS[arm].epochs for arm in measured["arm"]]
    )


def summary() -> pd.DataFrame:
    """Make the table: errors of 500 test images, and the paired difference from hard labels of the same budget."""
    log = read_log(LOG)
    return pd.concat(
        fair_table(
            log[log["arm"].isin([Arm(kind, epochs).name for kind in KINDS])],
            "errors",
            Arm("hard labels", epochs).name,
            better="lower",
        )
        for epochs in EPOCHS
    )


def main() -> None:
    compare_side_by_side(LOG, ARMS, {"learning_rate": LEARNING_RATES}, train_students, SEEDS)
    table = summary()
    write_fair_table(LOG, markdown_table(table, ("", ".1f", ".1f", "+.1f", ".1f", *("" for _ in table.columns[4:]))))


if __name__ == "__main__":
    main()
