"""What a weak teacher does to a student, and what repairs the damage: students of SmolLM2's answers, each arm tuned.

    python -m distill_helpers.course.experiments.weak_teacher

The labels come from the log of `queue_teacher`. Student and training are those of `help_desk_students`, whose students
of all true labels and of the strong teacher's distribution serve as the comparison; they could choose a higher
learning rate and a longer training as well, and did not. `fair_arms` has the protocol. It needs true labels: in every
arm those of the 400 validation messages choose the learning rate and the best epoch. Apart from this, only the arms
with verified labels see true labels. In each seed these arms have the same verified messages, and one of them nothing
else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from distill_helpers.api.labels.label_bias import batch_calibrated
from distill_helpers.course.experiments.fair_arms import (
    Trained,
    compare_arms,
    fair_table,
    paired_gain,
    write_fair_table,
)
from distill_helpers.course.experiments.help_desk_students import LOG as HELP_DESK
from distill_helpers.course.experiments.message_students import fit_for_steps
from distill_helpers.course.experiments.queue_teacher import QueueAnswers, read_answers
from distill_helpers.course.logs import markdown_table, read_log
from distill_helpers.course.recipes import fit_student
from distill_helpers.course.tasks import Recipe, Task, get_task
from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.training.distilled_student import DistilledStudent

__all__ = ["ALONE", "ARMS", "LOG", "REFERENCES", "Arm", "Targets", "results", "student_of", "summary", "targets_of"]

LOG = "weak-teacher"
#: The labels are read from one of these experiments' logs, the references from the other's.
NEEDS = ("help_desk_students", "queue_teacher")
#: The two lower rates of `help_desk_students`; there, no arm chose the third.
GRID = {"learning_rate": (5e-4, 1.5e-3)}
MAX_STEPS = 720
#: Rows of the help desk's table, for comparison: the same student on other labels.
REFERENCES = {
    "sender's queue, messages": "all true labels",
    "teacher's distribution, messages": "strong teacher's logits",
}


class Arm(NamedTuple):
    """How the teacher's answers become targets.

    Args:
        soft: learn the probabilities. Otherwise learn the likeliest queue if the answers are calibrated, and the queue
            that the teacher wrote if they are not.
        calibrated: remove the label bias first.
        surest: the share of the messages that is kept; the surest ones are.
        verified: the share of the messages whose true label is known; a stratified sample.
        alpha: the weight of the teacher beside the true labels. The loss is a mean over all messages. With a tenth of
            the messages verified, alpha = 0.5 gives the true labels a tenth of the teacher's weight in total, and alpha
            = 0.1 nine tenths of it. Without the teacher, alpha = 0, only verified messages are read.
    """

    soft: bool
    calibrated: bool = False
    surest: float = 1.0
    verified: float = 0.0
    alpha: float = 1.0


#: The rows of the table.
ARMS = {
    "as written": Arm(soft=False),
    "log-probabilities": Arm(soft=True),
    "calibrated, likeliest queue": Arm(soft=False, calibrated=True),
    "calibrated": Arm(soft=True, calibrated=True),
    "calibrated, surest half": Arm(soft=True, calibrated=True, surest=0.5),
    "calibrated, 10% verified": Arm(soft=True, calibrated=True, verified=0.1, alpha=0.5),
    "calibrated, 10% verified, alpha 0.1": Arm(soft=True, calibrated=True, verified=0.1, alpha=0.1),
    "calibrated, surest half, 10% verified, alpha 0.1": Arm(
        soft=True, calibrated=True, surest=0.5, verified=0.1, alpha=0.1
    ),
    "10% true labels alone": Arm(soft=False, verified=0.1, alpha=0.0),
}
*_, ALONE = ARMS


class Targets(NamedTuple):
    """What a student learns from.

    Attributes:
        rows: the rows of the messages that are kept, in their order.
        labels: hard labels of these rows; `IGNORE_INDEX` for a row without one.
        logits: log-probabilities of these rows, (rows, queues), or None.
        alpha: the weight of the logits beside the hard labels.
        right: the share of the kept rows whose likeliest (or written) queue is the true one.
    """

    rows: np.ndarray
    labels: np.ndarray
    logits: torch.Tensor | None
    alpha: float
    right: float

    def __repr__(self) -> str:
        kind = "hard labels" if self.logits is None else f"log-probabilities, alpha={self.alpha:g}"
        return f"Targets({len(self.rows):,} messages, {kind}, {self.right:.0%} right)"


@cache
def _task() -> Task:
    return get_task("help-desk")


def targets_of(arm: Arm, answers: QueueAnswers, seed: int) -> Targets:
    """Make the targets of an arm. A verified message is kept, however unsure the teacher was of it.

    Args:
        arm: see `Arm`.
        answers: about the training messages.
        seed: of the sample of verified messages.
    """
    p = batch_calibrated(answers.probabilities) if arm.calibrated else answers.probabilities
    labels = p.argmax(axis=1) if arm.soft or arm.calibrated else answers.written
    kept = labels >= 0
    if arm.surest < 1:
        surest = np.argsort(-p.max(axis=1), kind="stable")[: round(arm.surest * len(p))]
        kept &= np.isin(np.arange(len(p)), surest)
    known = np.zeros(len(p), dtype=bool)
    if arm.verified:
        known[_sample(answers.labels, arm.verified, seed)] = True
    if arm.alpha == 0:
        rows = np.flatnonzero(known)
        return Targets(rows, answers.labels[rows], None, 0.0, 1.0)
    rows = np.flatnonzero(kept | known)
    right = float((labels == answers.labels)[rows].mean())
    if not arm.soft:
        return Targets(rows, labels[rows], None, 0.0, right)
    hard = np.where(known, answers.labels, IGNORE_INDEX)
    logits = torch.from_numpy(np.log(p[rows])).float()
    return Targets(rows, hard[rows], logits, arm.alpha, right)


def _sample(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Draw the rows of a sample in which every queue has its share."""
    generator = np.random.default_rng(seed)
    rows_by_queue = [np.flatnonzero(labels == queue) for queue in np.unique(labels)]
    return np.concatenate([generator.choice(rows, round(share * len(rows)), replace=False) for rows in rows_by_queue])


def student_of(arm: Arm, seed: int) -> tuple[Targets, Callable[[Recipe, Path], DistilledStudent]]:
    """Make the targets of an arm, and the function that trains its student by a recipe, in a folder."""
    task = _task()
    answers, of_validation = read_answers("train", task.data), read_answers("validation", task.data)
    targets = targets_of(arm, answers, seed)
    # The teacher was not asked about its few-shot examples. They get even probabilities, which say nothing.
    logits_of = dict(zip(of_validation.texts, np.log(of_validation.probabilities), strict=True))
    validation_logits: torch.Tensor | None = None
    if targets.logits is not None:
        even = np.log(np.full(len(task.data.label_names), 1 / len(task.data.label_names)))
        rows = [logits_of.get(text, even) for text in task.data.validation.texts]
        validation_logits = torch.from_numpy(np.array(rows)).float()

    def train(recipe: Recipe, folder: Path) -> DistilledStudent:
        return fit_student(
            task,
            ([answers.texts[row] for row in targets.rows], targets.labels.tolist(), targets.logits),
            validation_logits,
            DistillationConfig(temperature=task.temperature, alpha=targets.alpha),
            recipe,
            seed,
            folder,
        )

    return targets, train


def train_student(arm: str, learning_rate: float, seed: int) -> Trained:
    """Train one student, in a minute or two; the test figures have `labels_right`, the share of right labels, too.

    Args:
        arm: a key of `ARMS`.
        learning_rate: at its peak.
        seed: of verified sample, student and training.

    Raises:
        KeyError: no arm has this name.
    """
    targets, train = student_of(ARMS[arm], seed)
    trained = fit_for_steps(_task(), f"{LOG} {arm}", len(targets.rows), train, learning_rate, MAX_STEPS, seed)
    return trained.also_measuring(lambda: {"labels_right": targets.right})


def results() -> pd.DataFrame:
    """Read the measured students, those of `REFERENCES` included: a row for each arm and seed, with the logs' columns.

    The arms are in the order of the table.
    """
    lines = pd.concat([read_log(LOG), read_log(HELP_DESK).replace({"arm": REFERENCES})])
    order = [*ARMS, *REFERENCES.values()]
    measured = lines[(lines["phase"] == "result") & lines["arm"].isin(order)]
    return measured.sort_values("arm", key=lambda arms: arms.map(order.index), kind="stable").reset_index(drop=True)


def summary() -> pd.DataFrame:
    """Make the table of `fair_table`, the difference being from the verified messages alone (%).

    Its further columns are macro-F1, ECE, and the share of the teacher's own labels that are right. The rows of the
    references have the columns that their log has as well.
    """
    also = {"macro-F1 %": ("macro_f1", 100.0), "ECE %": ("ece", 100.0), "teacher right %": ("labels_right", 100.0)}
    table = fair_table(read_log(LOG), "accuracy", ALONE, scale=100, also=also).loc[list(ARMS)]
    table.loc[ALONE, "teacher right %"] = None
    runs = results()
    by_seed = 100 * runs.pivot_table(index="seed", columns="arm", values="accuracy")
    for name in REFERENCES.values():
        group = runs[runs["arm"] == name]
        line = {"mean": by_seed[name].mean(), "sd": by_seed[name].std(ddof=1), **paired_gain(by_seed, name, ALONE)}
        line |= {title: factor * group[figure].mean() for title, (figure, factor) in list(also.items())[:2]}
        line |= {
            "learning rate": f"{group['learning_rate'].mean():g}",
            "texts": f"{group['texts'].mean():,.0f}",
            "steps": f"{group['steps'].mean():,.0f}",
        }
        table.loc[name] = pd.Series(line)
    return table


def main() -> None:
    torch.set_num_threads(1)
    compare_arms(LOG, list(ARMS), GRID, train_student)
    table = summary()
    formats = ("", ".1f", ".1f", "+.1f", ".1f", "", ".1f", ".1f", ".1f", *("" for _ in table.columns[8:]))
    write_fair_table(LOG, markdown_table(table, formats))


if __name__ == "__main__":
    main()
