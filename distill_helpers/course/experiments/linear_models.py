"""What text, teacher and softness are worth to a linear model: the line that a student of the help desk has to pass.

    python -m distill_helpers.course.experiments.linear_models

A student reads the windows of the training messages, and learns the teacher's distributions. A linear model can have
both, too: each window inherits the queue of the message from which it was cut, and a distribution is learnt from as
five weighted copies of its text. Logistic regression has one optimum, which the solver finds, so that no row is
undertrained. Two kinds of features are tried: tf-idf of words and pairs of words, and the frozen embeddings of the
sentence encoder from which the teacher was made.

For each row, the accuracy on the validation messages chooses the regularisation C from one grid. There is no seed. The
spread of a difference comes from the test messages: the two models answer the same ones.
"""

from __future__ import annotations

import math
import time
from functools import cache
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from distill_helpers.course.logs import bits, digits_of, markdown_table, read_log, run_missing, write_table
from distill_helpers.course.tasks import Task, get_task
from distill_helpers.data.labelled_texts import LabelledTexts
from distill_helpers.models.loading import base_encoder_path
from distill_helpers.models.sentence_encoders import load_sentence_encoder

__all__ = ["FEATURES", "LABELS", "LOG", "TEXTS", "fit_and_measure", "run", "summary"]

LOG = "linear-models"
FEATURES = ("tf-idf", "frozen encoder")
#: Whether the windows are read.
TEXTS = {"messages": False, "messages and windows": True}
#: The names of `Variant` for the labels.
LABELS = {"sender's queue": "hard", "teacher's choice": "teacher's choice", "teacher's distribution": "soft"}
GRID = (0.1, 1.0, 10.0, 100.0)

Matrix: TypeAlias = np.ndarray | sparse.csr_matrix


@cache
def _task() -> Task:
    return get_task("help-desk")


@cache
def _texts(task: Task, with_transfer: bool) -> LabelledTexts:
    return task.labelled_texts(with_transfer=with_transfer)


@cache
def _features(task: Task, features: str, with_transfer: bool) -> tuple[Matrix, Matrix, Matrix]:
    """The features of training texts, validation and test messages, one row each."""
    data = task.data
    train, validation, test = _texts(task, with_transfer).texts, data.validation.texts, data.test.texts
    if features == "tf-idf":
        vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        return vectorizer.fit_transform(train), vectorizer.transform(validation), vectorizer.transform(test)
    encoder = load_sentence_encoder(base_encoder_path(), device="cpu")
    embedded = [encoder.embed(part, max_length=task.max_length).numpy() for part in (train, validation, test)]
    return embedded[0], embedded[1], embedded[2]


def _fit(task: Task, rows: Matrix, labels: str, with_transfer: bool, c: float) -> LogisticRegression:
    data = _texts(task, with_transfer)
    model = LogisticRegression(C=c, max_iter=2000)
    if labels == "hard":
        return model.fit(rows, data.labels)
    logits = task.teacher_logits(data.texts, progress=False)
    if labels == "teacher's choice":
        return model.fit(rows, logits.argmax(dim=-1).numpy())
    p = torch.softmax(logits.double() / task.temperature, dim=-1).numpy()
    copies = sparse.vstack([rows] * p.shape[1]) if sparse.issparse(rows) else np.concatenate([rows] * p.shape[1])
    return model.fit(copies, np.repeat(np.arange(p.shape[1]), len(p)), sample_weight=p.T.ravel())


def fit_and_measure(task: Task, features: str, labels: str, *, with_transfer: bool = False) -> dict[str, float | str]:
    """Fit a linear model at every C, and measure the one that validation chooses on the test messages.

    Args:
        task: its messages, and its teacher.
        features: one of `FEATURES`.
        labels: as in `Variant`. The teacher's distribution is taken at the T of the task's students.
        with_transfer: learn from the transfer texts as well, as far as they inherit a label.

    Returns:
        The number of texts, C, the validation accuracy with it, `tried`, that of every C, the test `accuracy`, `right`,
        in hexadecimal digits a bit for each test message that is answered correctly, and the seconds.
    """
    data, start = task.data, time.perf_counter()
    train, validation, test = _features(task, features, with_transfer)
    models = {c: _fit(task, train, labels, with_transfer, c) for c in GRID}
    tried = {c: float(model.score(validation, data.validation.labels)) for c, model in models.items()}
    chosen = max(GRID, key=lambda c: (tried[c], -c))  # of equal ones the simplest
    right = models[chosen].predict(test) == np.array(data.test.labels)
    return {
        "texts": train.shape[0],
        "c": chosen,
        "validation": tried[chosen],
        "tried": " ".join(f"{tried[c]:.4f}" for c in GRID),
        "accuracy": float(right.mean()),
        "right": digits_of(right),
        "seconds": round(time.perf_counter() - start),
    }


def run(features: str, labels: str, text: str) -> dict[str, float | str]:
    """Make a row of the help desk's table by `fit_and_measure`.

    Args:
        features, labels, text: one of `FEATURES`, of `LABELS` and of `TEXTS`.
    """
    return fit_and_measure(_task(), features, LABELS[labels], with_transfer=TEXTS[text])


def summary() -> pd.DataFrame:
    """Make the table: accuracy (%) of each row, and its difference from the same features' first row.

    The `± 95%` of a difference is 1.96 standard errors of the mean over test messages, paired message by message.
    """
    log = read_log(LOG)
    lines = {}
    for features in FEATURES:
        for text in TEXTS:
            for labels in LABELS:
                (row,) = log[(log["features"] == features) & (log["labels"] == labels) & (log["text"] == text)].to_dict(
                    "records"
                )
                right = bits(row["right"], len(_task().data.test))
                if (text, labels) == ("messages", "sender's queue"):
                    first = right
                gain = right - first
                lines[f"{features}, {labels}, {text}"] = {
                    "texts": row["texts"],
                    "C": row["c"],
                    "validation %": 100 * row["validation"],
                    "accuracy %": 100 * row["accuracy"],
                    "difference": 100 * gain.mean() if gain.any() else None,
                    "± 95%": 196 * gain.std(ddof=1) / math.sqrt(len(gain)) if gain.any() else None,
                    "seconds": row["seconds"],
                }
    return pd.DataFrame.from_dict(lines, orient="index")


def main() -> None:
    torch.set_num_threads(1)
    settings = [
        {"features": features, "labels": labels, "text": text}
        for features in FEATURES
        for text in TEXTS
        for labels in LABELS
    ]
    run_missing(LOG, settings, run)
    write_table(LOG, markdown_table(summary(), ("", ",.0f", "", ".1f", ".1f", "+.1f", ".1f", ",.0f")))


if __name__ == "__main__":
    main()
