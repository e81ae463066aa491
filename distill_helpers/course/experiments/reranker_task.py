"""Scores of pairs as a task: how well a message fits a query, from few labels; a teacher's scores and their students.

    python -m distill_helpers.course.experiments.reranker_task

The data are synthetic, made of real messages: each message of the help desk is paired with five queries, one for each
queue, and the score of a pair is 1 if the message belongs to the queue and 0 otherwise. The pairs of 80 messages have
labels. The teacher's score of a pair is the probability that the course's teacher of the help desk gives to the query's
queue; this teacher has learned from the labels of all 2,517 messages, of which the students see 80. The students are
cross-encoders, which read query and message together. They begin as two layers of the sentence encoder from which the
teacher was made, since from random weights no student of 80 messages learned anything in 4,000 steps. They make equally
many steps. `fair_arms` has the protocol.

Equally many steps are fewer passes over more pairs: 21 over the 400 pairs with labels, 7 over all 1,200. After 7 passes
a student has learned next to nothing. Its row says how long such a student needs, and nothing of unlabelled pairs.
"""

from __future__ import annotations

import tempfile
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from distill_helpers.course.experiments.fair_arms import Trained, compare_arms, fair_table, write_fair_table
from distill_helpers.course.logs import markdown_table, read_log, run_missing
from distill_helpers.data.corpora import load_help_desk
from distill_helpers.data.labelled_texts import LabelledTexts
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.evaluation.task_metrics import regression_metrics
from distill_helpers.landmarks.stages import alternating_student
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.loading import base_encoder_path, load_course_model, load_text_classifier
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.targets.logits import precompute_teacher_logits
from distill_helpers.training.dataset import DistillationDataset
from distill_helpers.training.train_student import train_student_with_distillation

__all__ = ["ARMS", "LOG", "QUERIES", "Arm", "ScoredPairs", "scored_pairs", "summary", "train_student"]

LOG = "reranker-task"
TASK = "regression"
#: In the order of the queues.
QUERIES = ("computer graphics", "microsoft windows", "ibm pc hardware", "apple mac hardware", "x window system")
N_LABELLED, N_MESSAGES = 80, 240
MAX_LENGTH = 48
N_LAYERS = 2
LEARNING_RATES = (2e-4, 5e-4, 1e-3)
STEPS = 210
BATCH_SIZE = 40
#: What is compared: Spearman's rank correlation of scores and labels over all pairs.
FIGURE = "spearman"


class ScoredPairs(NamedTuple):
    """Messages with queries.

    Attributes:
        texts: pairs of a query and a message, the five of one message one after the other.
        labels: the score of each pair.
    """

    texts: list[tuple[str, str]]
    labels: list[float]

    @property
    def queries(self) -> list[str]:
        """The query of each pair."""
        return [query for query, _ in self.texts]

    def __repr__(self) -> str:
        return f"ScoredPairs({len(self.texts):,} pairs, {sum(self.labels):,.0f} of them right)"

    def first(self, n_messages: int) -> ScoredPairs:
        """The pairs of the first messages."""
        n = n_messages * len(QUERIES)
        return ScoredPairs(self.texts[:n], self.labels[:n])


class Arm(NamedTuple):
    """What a student learns from.

    Args:
        messages: the pairs of so many, of which those of the first 80 have labels.
        alpha: the weight of the teacher's scores beside the labels.
    """

    messages: int
    alpha: float


#: The students of the table.
ARMS = {
    "hard labels": Arm(N_LABELLED, alpha=0.0),
    "distilled, same pairs": Arm(N_LABELLED, alpha=0.7),
    "distilled, and 800 pairs without labels": Arm(N_MESSAGES, alpha=0.7),
}


def scored_pairs(messages: LabelledTexts) -> ScoredPairs:
    """Pair each message with each of the queries."""
    texts = [(query, text) for text in messages.texts for query in QUERIES]
    return ScoredPairs(texts, [float(label == i) for label in messages.labels for i in range(len(QUERIES))])


def _drawn(messages: LabelledTexts, n: int) -> LabelledTexts:
    return messages.subset(np.random.default_rng(0).permutation(len(messages))[:n].tolist())


@cache
def _messages() -> dict[str, LabelledTexts]:
    data = load_help_desk()
    return {
        "train": _drawn(data.train, N_MESSAGES),
        "validation": _drawn(data.validation, 60),
        "test": _drawn(data.test, 150),
    }


@cache
def _teacher() -> TextClassifier:
    return load_course_model("older-help-desk-teacher", device="cpu")


@cache
def _teacher_scores(part: str) -> Tensor:
    """The teacher's score of each pair, (pairs,)."""
    logits = precompute_teacher_logits(_teacher(), _messages()[part].texts, device="cpu", progress=False)
    return logits.softmax(dim=-1).flatten()  # the queues of a message one after the other, as its pairs


def _new_student(seed: int) -> TextClassifier:
    encoder = load_text_classifier(base_encoder_path(), label_names=["score"], device="cpu", seed=seed, task=TASK)
    student = alternating_student(encoder, N_LAYERS)
    student.tokenizer.model_max_length = MAX_LENGTH
    return student


def train_student(arm: str, learning_rate: float, seed: int) -> Trained:
    """Train one student, in some seconds.

    Raises:
        KeyError: no arm has this name.
    """
    n_messages, alpha = ARMS[arm]
    texts, scores = scored_pairs(_messages()["train"]).first(n_messages)
    n_labelled = N_LABELLED * len(QUERIES)
    labels = [score if number < n_labelled else None for number, score in enumerate(scores)]
    student = _new_student(seed)
    logits = (_teacher_scores("train")[: len(texts)], _teacher_scores("validation")) if alpha else (None, None)
    validation = scored_pairs(_messages()["validation"])
    with tempfile.TemporaryDirectory() as scratch:
        result = train_student_with_distillation(
            student,
            DistillationDataset(texts, labels, logits[0], student.tokenizer, task=TASK),
            DistillationDataset(*validation, logits[1], student.tokenizer, task=TASK),
            DistillationConfig(task=TASK, alpha=alpha, temperature=1.0),
            n_epochs=STEPS * BATCH_SIZE // len(texts),
            learning_rate=learning_rate,
            batch_size=BATCH_SIZE,
            output_dir=scratch,
            seed=seed,
            device="cpu",
            metric_for_best_model=FIGURE,
            progress=False,
        )
    return Trained(
        validation=result.history[f"eval_{FIGURE}"].tolist(),
        measure_test=lambda: _figures(result.classifier),
        budget={"pairs": len(texts), "with labels": n_labelled, "steps": STEPS},
    )


def _figures(student: TextClassifier) -> dict[str, float]:
    test = scored_pairs(_messages()["test"])
    return evaluate(student, test, groups=test.queries)


def _teacher_run(phase: str) -> dict[str, float]:
    test = scored_pairs(_messages()["test"])
    return regression_metrics(_teacher_scores("test"), test.labels, groups=test.queries)


def summary() -> pd.DataFrame:
    """Make the table: the test rank correlation of each arm, times 100, and the paired difference from hard labels."""
    log = read_log(LOG)
    table = fair_table(log, FIGURE, "hard labels", scale=100)
    top = pd.DataFrame({"mean": 100 * log.loc[log["phase"] == "teacher", FIGURE]})
    return pd.concat([top.set_axis(["teacher"]), table])[list(table.columns)]


def main() -> None:
    torch.set_num_threads(1)
    run_missing(LOG, [{"phase": "teacher"}], _teacher_run)
    compare_arms(LOG, list(ARMS), {"learning_rate": LEARNING_RATES}, train_student)
    table = summary()
    formats = ("", ".1f", ".1f", "+.1f", ".1f", *("" for _ in table.columns[4:]))
    write_fair_table(LOG, markdown_table(table, formats))


if __name__ == "__main__":
    main()
