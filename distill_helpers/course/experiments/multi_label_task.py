"""Several labels as a task: which queues a text belongs to, from few labels; teacher, hard labels and distillation.

    python -m distill_helpers.course.experiments.multi_label_task

The data are synthetic, made of real messages: two messages of the help desk joined to one text, which belongs to the
queues of both. A quarter of the texts joins two messages of one queue and has one label; the others have two. No
message is in two texts. 300 texts have labels. The teacher is the course's teacher of the help desk, which has learned
from the labels of all 2,517 single messages; the students see none of these labels. One epoch on the 300 texts turns
the teacher's five classes into five labels. The students are transformers from scratch, with one architecture, one
start for each seed and equally many steps. `fair_arms` has the protocol.

Read the table by two figures: a student that is unsure of everything says "no" to every label and has a macro-F1 near
0, while its binary cross-entropy, which no threshold decides, may be no worse than another student's.
"""

from __future__ import annotations

import math
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
from distill_helpers.data.labelled_texts import IGNORE_INDEX, LabelledTexts
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.loading import load_course_model
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.students.creation import create_student
from distill_helpers.targets.logits import precompute_teacher_logits
from distill_helpers.training.dataset import DistillationDataset
from distill_helpers.training.distilled_student import DistilledStudent
from distill_helpers.training.train_student import train_student_with_distillation

__all__ = ["ARMS", "LOG", "Arm", "JoinedMessages", "joined_messages", "summary", "train_student"]

LOG = "multi-label-task"
TASK = "multi_label"
N_LABELLED, N_TEXTS = 300, 900
MAX_LENGTH = 80
LEARNING_RATES = (3e-4, 1e-3, 3e-3)
STEPS = 456
BATCH_SIZE = 16
#: What is compared: the mean over the queues of the F1 score.
FIGURE = "macro_f1"


class JoinedMessages(NamedTuple):
    """Texts that join two messages, with their queues.

    Attributes:
        texts: one message after the other.
        labels: a row of 0 and 1 for each text, one for each queue.
    """

    texts: list[str]
    labels: list[list[int]]

    def __repr__(self) -> str:
        return f"JoinedMessages({len(self.texts):,} texts, {sum(map(sum, self.labels)):,} labels)"

    def first(self, n: int) -> JoinedMessages:
        """The first `n` texts."""
        return JoinedMessages(self.texts[:n], self.labels[:n])


class Arm(NamedTuple):
    """What a student learns from.

    Args:
        texts: so many, of which the first 300 have labels.
        alpha: the weight of the teacher's probabilities beside the labels.
    """

    texts: int
    alpha: float


#: The students of the table.
ARMS = {
    "hard labels": Arm(N_LABELLED, alpha=0.0),
    "distilled, same texts": Arm(N_LABELLED, alpha=0.7),
    "distilled, and 600 texts without labels": Arm(N_TEXTS, alpha=0.7),
}


def joined_messages(messages: LabelledTexts, n: int, seed: int) -> JoinedMessages:
    """Join messages in pairs, a quarter of them of one queue. No message is taken twice.

    Args:
        messages: where they are taken from.
        n: the number of texts; at most half the number of messages, and fewer where queues differ much in size.
        seed: of the choice.
    """
    draw = np.random.default_rng(seed)
    labels = np.array(messages.labels)
    n_queues = len(messages.label_names)
    left = [list(draw.permutation(np.flatnonzero(labels == queue))) for queue in range(n_queues)]
    texts, rows = [], []
    for number in range(n):
        sizes = np.array([len(rows_of_queue) for rows_of_queue in left], dtype=float)
        of_one_queue = number % 4 == 3
        # In proportion to what is left, so that no queue is used up before the others.
        queues = draw.choice(n_queues, 1 if of_one_queue else 2, replace=False, p=sizes / sizes.sum())
        pair = [left[queue].pop() for queue in (np.repeat(queues, 2) if of_one_queue else queues)]
        texts.append(" ".join(messages.texts[row] for row in pair))
        rows.append([int(queue in queues) for queue in range(n_queues)])
    return JoinedMessages(texts, rows)


@cache
def _parts() -> dict[str, JoinedMessages]:
    data = load_help_desk()
    return {
        "train": joined_messages(data.train, N_TEXTS, seed=0),
        "validation": joined_messages(data.validation, 150, seed=0),
        "test": joined_messages(data.test, 500, seed=0),
    }


@cache
def _teacher() -> TextClassifier:
    """The teacher of the help desk, fine-tuned on the texts with labels (about half a minute)."""
    start = load_course_model("older-help-desk-teacher", device="cpu")
    start.model.config.problem_type = "multi_label_classification"
    start.tokenizer.model_max_length = MAX_LENGTH
    parts = _parts()["train"].first(N_LABELLED), _parts()["validation"]
    train, validation = (DistillationDataset(*part, None, start.tokenizer, task=TASK) for part in parts)
    return _fit(start, train, validation, 0.0, n_epochs=1, learning_rate=1e-4, seed=0).classifier


def _fit(
    student: TextClassifier,
    train: DistillationDataset,
    validation: DistillationDataset,
    alpha: float,
    *,
    n_epochs: int,
    learning_rate: float,
    seed: int,
) -> DistilledStudent:
    with tempfile.TemporaryDirectory() as scratch:
        return train_student_with_distillation(
            student,
            train,
            validation,
            DistillationConfig(task=TASK, alpha=alpha, temperature=1.0),
            n_epochs=n_epochs,
            learning_rate=learning_rate,
            batch_size=BATCH_SIZE,
            output_dir=scratch,
            seed=seed,
            device="cpu",
            metric_for_best_model=FIGURE,
            progress=False,
        )


@cache
def _teacher_logits(part: str) -> Tensor:
    return precompute_teacher_logits(_teacher(), _parts()[part].texts, device="cpu", task=TASK, progress=False)


def train_student(arm: str, learning_rate: float, seed: int) -> Trained:
    """Train one student, in some seconds.

    Raises:
        KeyError: no arm has this name.
    """
    n_texts, alpha = ARMS[arm]
    texts, labels = _parts()["train"].first(n_texts)
    unknown = [IGNORE_INDEX] * len(labels[0])
    labels = [row if number < N_LABELLED else unknown for number, row in enumerate(labels)]
    # The vocabulary is that of all training texts for every arm, since texts cost nothing.
    student = create_student(_teacher(), _parts()["train"].texts, hidden_size=64, max_length=MAX_LENGTH, seed=seed)
    logits = (_teacher_logits("train")[:n_texts], _teacher_logits("validation")) if alpha else (None, None)
    train = DistillationDataset(texts, labels, logits[0], student.tokenizer, task=TASK)
    validation = DistillationDataset(*_parts()["validation"], logits[1], student.tokenizer, task=TASK)
    n_epochs = STEPS // math.ceil(n_texts / BATCH_SIZE)  # the last batch of an epoch is smaller
    result = _fit(student, train, validation, alpha, n_epochs=n_epochs, learning_rate=learning_rate, seed=seed)
    return Trained(
        validation=result.history[f"eval_{FIGURE}"].tolist(),
        measure_test=lambda: evaluate(result.classifier, _parts()["test"]),  # type: ignore[arg-type]
        budget={"texts": n_texts, "with labels": N_LABELLED, "steps": STEPS},
    )


def summary() -> pd.DataFrame:
    """Make the table: test macro-F1 of each arm in %, and the paired difference from hard labels.

    The last column is the mean binary cross-entropy in nats, which no threshold decides. An F1 score counts an unsure
    student's labels as absent.
    """
    log = read_log(LOG)
    table = fair_table(log, FIGURE, "hard labels", scale=100)
    tested = log[log["phase"] != "choice"]
    table["BCE"] = tested.groupby("arm")["bce"].mean()
    teacher = tested[tested["phase"] == "teacher"]
    top = pd.DataFrame({"mean": 100 * teacher[FIGURE], "BCE": teacher["bce"]})
    return pd.concat([top.set_axis(["teacher"]), table])[list(table.columns)]


def _teacher_run(phase: str) -> dict[str, float]:
    return evaluate(_teacher(), _parts()["test"])  # type: ignore[return-value, arg-type]


def main() -> None:
    torch.set_num_threads(1)
    run_missing(LOG, [{"phase": "teacher"}], _teacher_run)
    compare_arms(LOG, list(ARMS), {"learning_rate": LEARNING_RATES}, train_student)
    table = summary()
    formats = ("", ".1f", ".1f", "+.1f", ".1f", *("" for _ in table.columns[4:-1]), ".3f")
    write_fair_table(LOG, markdown_table(table, formats))


if __name__ == "__main__":
    main()
