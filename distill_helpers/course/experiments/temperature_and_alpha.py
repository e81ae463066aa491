"""Temperature on the help desk: students of the training messages, each temperature tuned by itself.

    python -m distill_helpers.course.experiments.temperature_and_alpha

The student is the smallest one of `help_desk_students`, its teacher the tuned one. It learns from training messages,
whose true queue is known, by

    alpha * T^2 * KL(teacher || student) + (1 - alpha) * cross-entropy with the true queue.

Each arm chooses its learning rate on validation messages. The length is not in the grid: in `help_desk_students` the
students of true queues and of distributions chose the shorter one, if they read the messages alone.
"""

from __future__ import annotations

from functools import cache

import pandas as pd
import torch

from distill_helpers.course.experiments.fair_arms import Trained, compare_arms, fair_table, write_fair_table
from distill_helpers.course.experiments.message_students import train_for_steps
from distill_helpers.course.logs import markdown_table, read_log
from distill_helpers.course.tasks import Task, Variant, get_task
from distill_helpers.losses.distillation_config import DistillationConfig

__all__ = ["ARMS", "LOG", "REFERENCE", "summary", "train_student"]

LOG = "temperature-and-alpha"
GRID = {"learning_rate": (2.5e-4, 7.5e-4, 2.25e-3)}
MAX_STEPS = 720
#: With alpha = 0 the temperature has no say.
REFERENCE = "true queues alone"
ARMS = {REFERENCE: (1.0, 0.0)}
ARMS |= {f"T = {temperature:g}, alpha = 1": (temperature, 1.0) for temperature in (1.0, 2.0, 4.0, 8.0)}


@cache
def _task() -> Task:
    return get_task("help-desk")


def train_student(arm: str, learning_rate: float, seed: int) -> Trained:
    """Train one student; see `message_students.train_for_steps`.

    Raises:
        KeyError: no arm has this name.
    """
    temperature, alpha = ARMS[arm]
    variant = Variant("soft" if alpha else "hard")
    config = DistillationConfig(temperature=temperature, alpha=alpha)
    return train_for_steps(_task(), f"{LOG} {arm}", variant, learning_rate, MAX_STEPS, seed, config=config)


def summary() -> pd.DataFrame:
    """Make the table of `fair_table`, with validation accuracy (%), NLL and ECE (%)."""
    also = {"validation %": ("validation", 100.0), "NLL": ("nll", 1.0), "ECE %": ("ece", 100.0)}
    return fair_table(read_log(LOG), "accuracy", REFERENCE, scale=100, also=also).loc[list(ARMS)]


def main() -> None:
    torch.set_num_threads(1)
    compare_arms(LOG, list(ARMS), GRID, train_student)
    table = summary()
    formats = ("", ".1f", ".1f", "+.1f", ".1f", "", ".1f", ".2f", ".1f", *("" for _ in table.columns[8:]))
    write_fair_table(LOG, markdown_table(table, formats))


if __name__ == "__main__":
    main()
