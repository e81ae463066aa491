"""What a weak teacher does to a student, and what repairs the damage: students of SmolLM2's answers, seed by seed.

    python -m distill_helpers.course.experiments.weak_teacher

The student, its start and its training are the same as in the help desk's table, whose rows on all hard labels and on
the strong teacher's soft labels serve as the comparison. The labels come from the log of `queue_teacher`. The true
labels of the validation messages choose the best epoch of every student; apart from this, only the arms with verified
labels see true labels. In each seed these arms have the same verified messages, and one of them nothing else.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from distill_helpers.api.labels.label_bias import batch_calibrated
from distill_helpers.course.experiments.queue_teacher import QueueAnswers, read_answers
from distill_helpers.course.logs import markdown_table, read_log, run_missing, write_table
from distill_helpers.course.recipes import fit_student
from distill_helpers.course.results import read_results
from distill_helpers.course.tasks import Task, get_task
from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.text_models import TextClassifier

__all__ = ["ARMS", "LOG", "REFERENCES", "Arm", "Targets", "make_student", "run", "summary", "targets_of"]

LOG = "weak-teacher"
#: The labels are read from this experiment's log.
NEEDS = ("queue_teacher",)
#: Rows of the help desk's table, for comparison: the same student on other labels.
REFERENCES = {
    "hard labels": "all true labels",
    "soft labels": "strong teacher's logits",
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


def make_student(arm: Arm, seed: int) -> tuple[TextClassifier, Targets]:
    """Train the student of an arm, in about half a minute; return the student with its targets."""
    task = _task()
    answers, of_validation = read_answers("train", task.data), read_answers("validation", task.data)
    targets = targets_of(arm, answers, seed)
    # The teacher was not asked about its few-shot examples. They get even probabilities, which say nothing.
    logits_of = dict(zip(of_validation.texts, np.log(of_validation.probabilities), strict=True))
    validation_logits = None
    if targets.logits is not None:
        even = np.log(np.full(len(task.data.label_names), 1 / len(task.data.label_names)))
        rows = [logits_of.get(text, even) for text in task.data.validation.texts]
        validation_logits = torch.from_numpy(np.array(rows)).float()
    recipe = task.same_messages
    with tempfile.TemporaryDirectory() as scratch:
        student = fit_student(
            task,
            ([answers.texts[row] for row in targets.rows], targets.labels.tolist(), targets.logits),
            validation_logits,
            DistillationConfig(temperature=task.temperature, alpha=targets.alpha),
            # So many epochs that the steps are as many as with all messages.
            replace(recipe, epochs=round(recipe.epochs * len(answers.texts) / len(targets.rows))),
            seed,
            scratch,
        ).classifier
    return student, targets


def run(arm: str, seed: int) -> dict[str, float]:
    """Train one student and return the figures of `evaluate` on the test messages.

    Args:
        arm: a key of `ARMS`.
        seed: of verified sample, student and training.

    Returns:
        Those figures, with `messages`, the number of training messages, and `labels_right`, the share of right labels.

    Raises:
        KeyError: no arm has this name.
    """
    student, targets = make_student(ARMS[arm], seed)
    test = _task().data.test
    figures = evaluate(student, test, max_length=_task().max_length)
    return figures | {"messages": len(targets.rows), "labels_right": targets.right}


def summary() -> pd.DataFrame:
    """Make the table, a row for each arm and reference: the teacher's right labels, accuracy, macro-F1, ECE (all %)."""
    log, table = read_log(LOG), read_results("help-desk")
    groups = {arm: log[log["arm"] == arm] for arm in ARMS}
    groups |= {title: table[table["model"] == row] for row, title in REFERENCES.items()}
    lines = {}
    for name, group in groups.items():
        lines[name] = {
            "seeds": len(group),
            "messages": group["messages"].mean() if name in ARMS else None,
            "teacher right %": 100 * group["labels_right"].mean() if name in ARMS and ARMS[name].alpha else None,
            "accuracy %": 100 * group["accuracy"].mean(),
            "± sd": 100 * group["accuracy"].std(ddof=1),
            "macro-F1 %": 100 * group["macro_f1"].mean(),
            "ECE %": 100 * group["ece"].mean(),
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def main() -> None:
    run_missing(LOG, [{"arm": arm, "seed": seed} for seed in range(5) for arm in ARMS], run)
    write_table(LOG, markdown_table(summary(), ("", ".0f", ",.0f", ".1f", ".1f", ".1f", ".1f", ".1f")))


if __name__ == "__main__":
    main()
