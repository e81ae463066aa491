"""What more text and the teacher's labels are worth to a student of Banking77, each arm tuned by itself.

    BANKING77=FOLDER python -m distill_helpers.course.experiments.banking77_students

The folder has Banking77's train.csv and test.csv; without it they come from the Hugging Face Hub. The question is
that of `help_desk_students`. Banking77 has no further text, so that it is made: from a training message by dropping
words, or from two of them by splicing. What is made of messages of one intent inherits it, and can be learnt without a
teacher, too. What is made of two intents only a teacher can label.
"""

from __future__ import annotations

from functools import cache

import pandas as pd
import torch

from distill_helpers.course.experiments.fair_arms import Trained, compare_arms
from distill_helpers.course.experiments.linear_models import FEATURES, fit_and_measure
from distill_helpers.course.experiments.message_students import (
    factor_table,
    readme_table,
    student_table,
    train_for_steps,
    write_results,
)
from distill_helpers.course.folders import ROOT
from distill_helpers.course.logs import read_log, replace_between_marks, run_missing
from distill_helpers.course.tasks import Task, Variant, get_task

__all__ = [
    "ARMS",
    "BEST",
    "FACTORS",
    "LINEAR",
    "LOG",
    "factors",
    "summary",
    "train_student",
]

LOG = "banking77-students"
#: The linear models of this table are fitted in the same way.
NEEDS = ("linear_models",)
#: The length is in steps, since the epochs of the arms have very different numbers of texts.
GRID = {"learning_rate": (7e-4, 2e-3, 6e-3)}
MAX_STEPS = 4000

MESSAGES, SHORTENED, SPLICED = "messages", "messages and shortened ones", "messages, shortened and spliced ones"
ARMS = {
    f"customer's intent, {MESSAGES}": Variant("hard"),
    f"customer's intent, {SHORTENED}": Variant("hard", transfer=True),
    f"teacher's distribution, {SPLICED}": Variant("soft", transfer=True, unlabelled=True),
}
REFERENCE, *_, BEST = ARMS

#: What each is worth: the arm that has it, and the arm that has not. The second pair differs in the labels, and in the
#: texts that only a teacher can label.
FACTORS = {
    "shortened texts": (f"customer's intent, {SHORTENED}", REFERENCE),
    "teacher, with the texts that it alone can label": (BEST, f"customer's intent, {SHORTENED}"),
    "both": (BEST, REFERENCE),
}

#: Linear models: features, labels, and whether the shortened messages are read.
LINEAR = {
    f"{features}, {labels}, {texts}": (features, kind, texts == SHORTENED)
    for features in FEATURES
    for labels, kind, texts in (
        ("customer's intent", "hard", MESSAGES),
        ("customer's intent", "hard", SHORTENED),
        ("teacher's choice", "teacher's choice", SHORTENED),
    )
}


@cache
def _task() -> Task:
    return get_task("banking77")


def train_student(arm: str, learning_rate: float, seed: int) -> Trained:
    """Train one student by `train_for_steps`.

    Raises:
        KeyError: no arm has this name.
    """
    return train_for_steps(_task(), f"{LOG} {arm}", ARMS[arm], learning_rate, MAX_STEPS, seed)


def fit_linear_model(phase: str, arm: str) -> dict[str, float | str]:
    """Fit and measure one of `LINEAR`."""
    features, labels, with_transfer = LINEAR[arm]
    return fit_and_measure(_task(), features, labels, with_transfer=with_transfer)


def summary() -> pd.DataFrame:
    """Make the table of `student_table`, with all linear models."""
    log = read_log(LOG)
    linear = log[log["phase"] == "linear"].set_index("arm")["accuracy"]
    return student_table(LOG, list(ARMS), {name: 100 * float(linear[name]) for name in LINEAR})


def factors() -> pd.DataFrame:
    """Make the table of `FACTORS`; see `factor_table`."""
    return factor_table(LOG, FACTORS)


def main() -> None:
    torch.set_num_threads(1)
    run_missing(LOG, [{"phase": "teacher"}], lambda phase: _task().teacher_figures())
    run_missing(LOG, [{"phase": "linear", "arm": arm} for arm in LINEAR], fit_linear_model)
    compare_arms(LOG, list(ARMS), GRID, train_student)
    write_results(LOG, summary(), factors())
    replace_between_marks(ROOT / "README.md", LOG, readme_table(summary()))


if __name__ == "__main__":
    main()
