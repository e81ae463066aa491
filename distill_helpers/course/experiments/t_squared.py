"""What the factor T² does to training: students with the factor and without it, each with a tuned learning rate.

    python -m distill_helpers.course.experiments.t_squared

Students of 128 units learn the digits, with ten seeds. Without hard labels (alpha = 1) the factor only scales the loss.
With hard labels (alpha = 0.5) the factor also decides how much the teacher weighs against them. `fair_arms` has the
protocol; each seed chooses its learning rate and its best epoch of 60 on its own validation images. The question is
what an optimiser makes of a factor, so that the number of epochs is the same for all.

The arms of one optimiser choose from one grid of learning rates, with T² and without, and have a log of their own:

- Under **SGD** a factor of the loss is a factor of the learning rate. The grid has to reach from what suits the loss
  with T² to 256 times as much, which suits the loss without T² at T = 16 and alpha = 1. Its steps are fourfold, so that
  T² is a whole number of steps and the same training appears at both ends.
- Under **AdamW** a factor hardly changes the step, and three rates suffice, with the clipping of the package's trainer
  (gradient norm 1.0) and without.

A student whose training diverged counts as one that gets no validation image right.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import pandas as pd
import torch

from distill_helpers.course.experiments.digit_arms import (
    compare_side_by_side,
    teacher_logits,
    together,
    trained_side_by_side,
)
from distill_helpers.course.experiments.fair_arms import Trained, edge_note, fair_table
from distill_helpers.course.logs import markdown_table, read_log, write_table
from distill_helpers.data.corpora import load_digits
from distill_helpers.losses.distillation_config import DistillationConfig

__all__ = [
    "ARMS",
    "GRIDS",
    "LOG",
    "LOGS",
    "OPTIMIZERS",
    "SEEDS",
    "TEMPERATURES",
    "Arm",
    "by_learning_rate",
    "errors_by_seed",
    "summary",
    "train_students",
    "without_t_squared",
]

LOG = "t-squared"  # of the table; `LOGS` has the runs
SEEDS = tuple(range(10))
TEMPERATURES = (1, 4, 16)
EPOCHS = 60

#: What `train_mlp` is told. `train_student_with_distillation` clips at 1.0.
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "SGD": {"optimizer": "SGD"},
    "AdamW": {"optimizer": "AdamW"},
    "AdamW, clipped": {"optimizer": "AdamW", "max_grad_norm": 1.0},
}

#: The learning rates of each log.
GRIDS: dict[str, tuple[float, ...]] = {
    "t-squared-sgd": tuple(0.08 * 4**step for step in range(7)),
    "t-squared-adamw": (3e-3, 1e-2, 3e-2),
}
LOGS = tuple(GRIDS)


class Arm(NamedTuple):
    """A loss and an optimiser.

    Args:
        optimizer: a key of `OPTIMIZERS`.
        alpha, temperature: of the loss.
        t_squared: whether the loss has the factor T².
    """

    optimizer: str
    alpha: float
    temperature: int
    t_squared: bool

    @property
    def name(self) -> str:
        """Such as "SGD, alpha 1, T = 16, without T²"."""
        factor = "" if self.temperature == 1 else f", {'with' if self.t_squared else 'without'} T²"
        return f"{self.optimizer}, alpha {self.alpha:g}, T = {self.temperature}{factor}"

    @property
    def log(self) -> str:
        """The log of the arm's optimiser, one of `LOGS`."""
        return "t-squared-sgd" if self.optimizer == "SGD" else "t-squared-adamw"


#: By name. At T = 1 the factor is 1: one arm for both.
ARMS = {
    arm.name: arm
    for optimizer in OPTIMIZERS
    for alpha in (1.0, 0.5)
    for temperature in TEMPERATURES
    for t_squared in (True, False)
    for arm in [Arm(optimizer, alpha, temperature, t_squared or temperature == 1)]
}


def without_t_squared(temperature: float, alpha: float) -> tuple[DistillationConfig, float]:
    """Find settings whose loss is α·KL + (1 − α)·CE, without T².

    The package always multiplies by T². A loss without the factor equals a loss with another alpha and another scale:
    α·KL + (1 − α)·CE = s·(α'·T²·KL + (1 − α')·CE) with s = α/T² + 1 − α and α' = α/(T²·s).

    Args:
        temperature, alpha: of the loss without T².

    Returns:
        The configuration with α', and the scale s.
    """
    scale = alpha / temperature**2 + 1 - alpha
    return DistillationConfig(temperature=temperature, alpha=alpha / temperature**2 / scale), scale


def train_students(
    arm: Arm, learning_rate: float, seeds: tuple[int, ...] = SEEDS, epochs: int = EPOCHS
) -> dict[int, Trained]:
    """Train one student of an arm for each seed, on its own split and with its own teacher (2–3 s for each teacher).

    Args:
        arm: loss and optimiser.
        learning_rate: at the start.
        seeds: of splits, teachers and students.
        epochs: a multiple of 20.

    Returns:
        For each seed what `fair_arms` needs; `measure_test` gives the `errors` on the 500 test images.
    """
    temperature = float(arm.temperature)
    config, scale = DistillationConfig(temperature=temperature, alpha=arm.alpha), 1.0
    if not arm.t_squared:
        config, scale = without_t_squared(temperature, arm.alpha)
    splits = [load_digits(seed=seed) for seed in seeds]
    images = together(splits, "train_images")
    trained = trained_side_by_side(
        seeds,
        (128,),
        images,
        together(splits, "train_labels"),
        teacher_logits(seeds, images),
        config,
        epochs=epochs,
        learning_rate=learning_rate,
        loss_scale=scale,
        n_figures=20,
        **OPTIMIZERS[arm.optimizer],
    )
    return {
        seed: replace(one, validation=[figure if math.isfinite(figure) else 0.0 for figure in one.validation])
        for seed, one in trained.items()
    }


def _runs(phase: Literal["choice", "result"]) -> pd.DataFrame:
    """The lines of both logs of one phase, with the parts of the arm's name as columns."""
    log = pd.concat([read_log(name) for name in LOGS])
    runs = log[log["phase"] == phase].reset_index(drop=True)
    return runs.join(pd.DataFrame([ARMS[name] for name in runs["arm"]], columns=Arm._fields))


def errors_by_seed() -> pd.DataFrame:
    """Return the test errors of the logs: a row for each seed, a column for each (optimizer, alpha, T, t_squared)."""
    return _runs("result").pivot_table(index="seed", columns=list(Arm._fields), values="errors", sort=False)


def by_learning_rate() -> pd.DataFrame:
    """Return how many of 200 validation images are wrong at each learning rate that was tried, as a mean over seeds.

    Returns:
        A row for each learning rate, a column for each (optimizer, alpha, T, t_squared); NaN where it was not tried.
    """
    runs = _runs("choice")
    # A figure is the number of right answers plus a mean probability; of a student that is sure of all it rounds to 1.
    runs["wrong"] = 200 - (runs["validation"] - 1e-6).clip(lower=0).floordiv(1)
    return runs.pivot_table(index="learning_rate", columns=list(Arm._fields), values="wrong", sort=False).sort_index()


def summary() -> pd.DataFrame:
    """Make the table: errors of 500 test images for each arm, and what leaving T² out adds, seed by seed."""
    logs = {name: read_log(name) for name in LOGS}
    tables = []
    for arm in ARMS.values():
        if arm.t_squared:
            log = logs[arm.log]
            pair = [arm.name, arm._replace(t_squared=False).name]
            tables.append(fair_table(log[log["arm"].isin(pair)], "errors", arm.name, better="lower"))
    return pd.concat(tables).rename(columns={"difference": "more than with T²"})


def main() -> None:
    torch.set_num_threads(1)
    for log, learning_rates in GRIDS.items():
        arms = {name: arm for name, arm in ARMS.items() if arm.log == log}
        compare_side_by_side(log, arms, {"learning_rate": learning_rates}, train_students, SEEDS)
    table = summary()
    formats = ("", ".1f", ".1f", "+.1f", ".1f", *("" for _ in table.columns[4:]))
    notes = "".join(edge_note(read_log(log)) for log in LOGS)
    write_table(LOG, markdown_table(table, formats) + notes)


if __name__ == "__main__":
    main()
