"""Words as a task: which mark follows each word of a tale, from few labels; teacher, hard labels and distillation.

    python -m distill_helpers.course.experiments.token_task

The data are Grimm's tales, lower-cased and without punctuation. The label of a word is the mark that followed it: none,
a comma, or a stop (. ; : ! ?). 200 passages of 40 words have labels. The teacher is a pretrained encoder, fine-tuned on
these 200 passages; the student is a transformer from scratch. All arms have the same architecture, the same start for
each seed, and equally many steps. `fair_arms` has the protocol; macro-F1 on the validation tales chooses.
"""

from __future__ import annotations

import math
import re
import tempfile
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from distill_helpers.course.experiments.fair_arms import Trained, compare_arms, fair_table, write_fair_table
from distill_helpers.course.logs import markdown_table, read_log, run_missing
from distill_helpers.data.corpora import load_grimm_tales
from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.loading import base_encoder_path
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.models.token_loading import load_token_classifier
from distill_helpers.models.word_predictions import WordLogits
from distill_helpers.students.creation import create_student
from distill_helpers.targets.word_logits import precompute_teacher_word_logits
from distill_helpers.training.token_dataset import TokenClassificationDataset
from distill_helpers.training.train_student import train_student_with_distillation

__all__ = ["ARMS", "LOG", "MARKS", "Arm", "Passages", "marked_words", "passages_of", "summary", "train_student"]

LOG = "token-task"
MARKS = ("none", "comma", "stop")
PASSAGE = 40
MAX_LENGTH = 96
LEARNING_RATES = (1e-3, 3e-3, 1e-2)
STEPS = 400
BATCH_SIZE = 16
#: What is compared, and what chooses on validation.
FIGURE = "macro_f1"


class Passages(NamedTuple):
    """Passages of words, with the mark after each word.

    Attributes:
        texts: the words of each passage, lower-cased and without punctuation.
        labels: an index of `MARKS` for each word.
    """

    texts: list[list[str]]
    labels: list[list[int]]

    def __repr__(self) -> str:
        return f"Passages({len(self.texts):,} passages, {sum(map(len, self.texts)):,} words)"


class Arm(NamedTuple):
    """What a student learns from.

    Args:
        passages: so many, of which the first 200 have labels.
        alpha: the weight of the teacher's probabilities beside the labels.
    """

    passages: int
    alpha: float


N_LABELLED, N_VALIDATION = 200, 80
#: The students of the table.
ARMS = {
    "hard labels": Arm(N_LABELLED, alpha=0.0),
    "distilled, same passages": Arm(N_LABELLED, alpha=0.7),
    "distilled, and 600 passages without labels": Arm(4 * N_LABELLED, alpha=0.7),
}
_TEMPERATURE = 2.0


def marked_words(text: str) -> tuple[list[str], list[int]]:
    """The words of a text, lower-cased and without punctuation around them, and the index of the mark after each."""
    words: list[str] = []
    labels: list[int] = []
    for token in text.split():
        match = re.fullmatch(r"(\W*)(.*?)(\W*)", token)
        assert match is not None  # every string has this form
        _, word, after = match.groups()
        after = after if word else token
        if word:
            words.append(word.lower())
            labels.append(0)
        if words:  # a dash or a quotation mark by itself belongs to the word before it
            mark = 2 if set(after) & set(".;:!?") else 1 if "," in after else 0
            labels[-1] = max(labels[-1], mark)
    return words, labels


def passages_of(tales: list[str]) -> Passages:
    """Cut tales into passages of 40 words; what is left over at the end of a tale is dropped."""
    texts: list[list[str]] = []
    labels: list[list[int]] = []
    for tale in tales:
        words, marks = marked_words(tale)
        for start in range(0, len(words) - PASSAGE + 1, PASSAGE):
            texts.append(words[start : start + PASSAGE])
            labels.append(marks[start : start + PASSAGE])
    return Passages(texts, labels)


@cache
def _parts() -> dict[str, Passages]:
    """The training passages in random order, and those of the other tales."""
    tales = load_grimm_tales()
    train, validation = passages_of(tales.train), passages_of(tales.validation)
    order = np.random.default_rng(0).permutation(len(train.texts))[: 4 * N_LABELLED]
    return {
        "train": Passages([train.texts[i] for i in order], [train.labels[i] for i in order]),
        "validation": Passages(validation.texts[:N_VALIDATION], validation.labels[:N_VALIDATION]),
        "test": passages_of(tales.test),
    }


def _labelled(part: str, n: int | None = None) -> Passages:
    texts, labels = _parts()[part]
    return Passages(texts[:n], labels[:n])


@cache
def _teacher() -> TextClassifier:
    """all-MiniLM-L6-v2, fine-tuned on the labelled passages (about a minute)."""
    start = load_token_classifier(base_encoder_path(), label_names=MARKS, device="cpu")
    start.tokenizer.model_max_length = MAX_LENGTH
    train, validation = (
        TokenClassificationDataset(*part, None, start.tokenizer)
        for part in (_labelled("train", N_LABELLED), _labelled("validation"))
    )
    with tempfile.TemporaryDirectory() as scratch:
        return train_student_with_distillation(
            start,
            train,
            validation,
            DistillationConfig(task="token_classification", alpha=0.0),
            n_epochs=4,
            learning_rate=2e-4,
            batch_size=8,
            output_dir=scratch,
            device="cpu",
            metric_for_best_model=FIGURE,
            progress=False,
        ).classifier


@cache
def _teacher_logits(part: str) -> WordLogits:
    return precompute_teacher_word_logits(_teacher(), _parts()[part].texts, device="cpu", progress=False)


def train_student(name: str, learning_rate: float, seed: int) -> Trained:
    """Train one student, in some seconds.

    Args:
        name: a key of `ARMS`.
        learning_rate: the peak.
        seed: of student and training.

    Raises:
        KeyError: no arm has this name.
    """
    arm = ARMS[name]
    texts, labels = _labelled("train", arm.passages)
    labels = [row if i < N_LABELLED else [IGNORE_INDEX] * len(row) for i, row in enumerate(labels)]
    # The vocabulary is that of all training passages for every arm, since texts cost nothing.
    student = create_student(
        _teacher(), _parts()["train"].texts, hidden_size=64, max_length=MAX_LENGTH, dropout=0.1, seed=seed
    )
    config = DistillationConfig(task="token_classification", alpha=arm.alpha, temperature=_TEMPERATURE)
    train_logits = _teacher_logits("train").by_text()[: arm.passages] if arm.alpha else None
    validation_logits = _teacher_logits("validation") if arm.alpha else None
    train = TokenClassificationDataset(texts, labels, train_logits, student.tokenizer)
    validation = TokenClassificationDataset(*_labelled("validation"), validation_logits, student.tokenizer)
    n_epochs = STEPS * BATCH_SIZE // arm.passages
    with tempfile.TemporaryDirectory() as scratch:
        result = train_student_with_distillation(
            student,
            train,
            validation,
            config,
            n_epochs=n_epochs,
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
        budget={
            "passages": arm.passages,
            "with labels": N_LABELLED,
            "steps": n_epochs * math.ceil(arm.passages / BATCH_SIZE),
        },
    )


def _figures(model: TextClassifier) -> dict[str, float]:
    return evaluate(model, TokenClassificationDataset(*_labelled("test"), None, model.tokenizer))


def _teacher_run(phase: str) -> dict[str, float]:
    return _figures(_teacher())


def summary() -> pd.DataFrame:
    """Make the table: test macro-F1 (%) of each arm with the paired difference from hard labels, accuracy and NLL."""
    log = read_log(LOG)
    measured = log[log["phase"] != "choice"]
    arms = measured["arm"].fillna("teacher")
    others = pd.DataFrame({"accuracy %": 100 * measured["accuracy"], "NLL": measured["nll"]}).groupby(arms).mean()
    top = pd.DataFrame({"mean": [100 * log.loc[log["phase"] == "teacher", FIGURE].item()]}, index=["teacher"])
    return pd.concat([top, fair_table(log, FIGURE, "hard labels", scale=100)]).join(others)


def main() -> None:
    torch.set_num_threads(1)
    run_missing(LOG, [{"phase": "teacher"}], _teacher_run)
    compare_arms(LOG, list(ARMS), {"learning_rate": LEARNING_RATES}, train_student)
    table = summary()
    formats = ("", ".1f", ".1f", "+.1f", ".1f", *("" for _ in table.columns[4:-2]), ".1f", ".3f")
    write_fair_table(LOG, markdown_table(table, formats))


if __name__ == "__main__":
    main()
