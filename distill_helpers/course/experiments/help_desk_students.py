"""What more text and the teacher's labels are worth to a student of the help desk, each arm tuned by itself.

    python -m distill_helpers.course.experiments.help_desk_students

The smallest student learns from the training messages alone or from messages and windows, and from the queue of the
sender, which the windows inherit, from the queue that the teacher finds likeliest, or from the teacher's distribution.
These are texts and labels of `linear_models`, so that a student can be compared with a linear model that has read the
same. Every arm is trained for both lengths at each learning rate, and its validation accuracy chooses.
"""

from __future__ import annotations

from functools import cache

import pandas as pd
import torch
from matplotlib.figure import Figure

from distill_helpers.course.experiments.fair_arms import Trained, compare_arms
from distill_helpers.course.experiments.linear_models import LABELS, TEXTS, summary as linear_summary
from distill_helpers.course.experiments.message_students import (
    factor_table,
    readme_table,
    student_table,
    train_for_steps,
    write_results,
)
from distill_helpers.course.figures import dot_figure
from distill_helpers.course.folders import ROOT
from distill_helpers.course.logs import RESULTS, read_log, replace_between_marks, run_missing
from distill_helpers.course.results import timing_sentences
from distill_helpers.course.tasks import Task, Variant, get_task

__all__ = [
    "ARMS",
    "BEST",
    "FACTORS",
    "LABELS",
    "LOG",
    "TEXTS",
    "accuracy_figure",
    "factors",
    "summary",
    "train_student",
]

LOG = "help-desk-students"
#: The table has its best row without a teacher.
NEEDS = ("linear_models",)
#: The lengths are in steps, since an epoch has nine times as many texts with the windows as without.
GRID = {"learning_rate": (5e-4, 1.5e-3, 4.5e-3), "max_steps": (720, 1800)}

ARMS = {f"{labels}, {texts}": Variant(LABELS[labels], transfer=TEXTS[texts]) for texts in TEXTS for labels in LABELS}
REFERENCE, *_, BEST = ARMS

#: What each factor is worth: pairs of arms that differ in nothing else. The teacher's choice is the teacher's without
#: its doubts, which softness adds. At last all factors together.
FACTORS = {
    **{f"text, {labels}": (f"{labels}, messages and windows", f"{labels}, messages") for labels in LABELS},
    **{f"teacher, {texts}": (f"teacher's choice, {texts}", f"sender's queue, {texts}") for texts in TEXTS},
    **{f"softness, {texts}": (f"teacher's distribution, {texts}", f"teacher's choice, {texts}") for texts in TEXTS},
    "all three": (BEST, REFERENCE),
}


@cache
def _task() -> Task:
    return get_task("help-desk")


def train_student(arm: str, learning_rate: float, max_steps: float, seed: int) -> Trained:
    """Train one student by `train_for_steps`.

    Raises:
        KeyError: no arm has this name.
    """
    return train_for_steps(_task(), f"{LOG} {arm}", ARMS[arm], learning_rate, max_steps, seed)


def summary() -> pd.DataFrame:
    """Make the table of `student_table`, with the best linear model without a teacher."""
    linear = linear_summary()["accuracy %"].filter(like="sender's queue")
    return student_table(LOG, list(ARMS), {str(linear.idxmax()): linear.max()})


def accuracy_figure() -> Figure:
    """Draw the test accuracy of each arm, one dot for each seed; teacher and best linear model are vertical lines."""
    log, table = read_log(LOG), summary()
    runs = log[log["phase"] == "result"]
    dots = pd.DataFrame({"model": pd.Categorical(runs["arm"], list(ARMS)), "accuracy": 100 * runs["accuracy"]})
    return dot_figure(
        dots.sort_values("model", kind="stable").astype({"model": str}),
        "accuracy",
        title="Text pays with the teacher",
        label="accuracy on the test messages (%)",
        references={str(name): float(value) for name, value in table["mean"].drop(list(ARMS)).items()},
    )


def factors() -> pd.DataFrame:
    """Make the table of `FACTORS`; see `factor_table`."""
    return factor_table(LOG, FACTORS)


def main() -> None:
    torch.set_num_threads(1)
    run_missing(LOG, [{"phase": "teacher"}], lambda phase: _task().teacher_figures())
    compare_arms(LOG, list(ARMS), GRID, train_student)
    write_results(LOG, summary(), factors())
    accuracy_figure().savefig(RESULTS / f"{LOG}.png")
    replace_between_marks(ROOT / "README.md", LOG, f"{readme_table(summary())}\n\n{timing_sentences('help-desk')}")


if __name__ == "__main__":
    main()
