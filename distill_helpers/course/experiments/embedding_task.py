"""Sentence embeddings as a task: does a small student find the same messages similar as its teacher does?

    python -m distill_helpers.course.experiments.embedding_task

The teacher is all-MiniLM-L6-v2 as it comes, a model of sentence embeddings that has seen no label of the help desk. Two
kinds of students have one architecture and start from the same weights. One learns the queues of 480 messages, with a
linear head on its pooled vector. The other learns the teacher's embeddings, projected on their principal components, by
the mean squared error, and sees no label. The pooled vectors of both are then compared on the test messages, by two
figures: the rank correlation of similarities with the teacher's, and the share of messages whose nearest labelled
message is of the same queue. What an arm learns chooses its learning rate and its best epoch: validation accuracy, or
the validation messages' squared error from the teacher. `fair_arms` has the protocol.
"""

from __future__ import annotations

import tempfile
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from distill_helpers.course.experiments.fair_arms import Trained, compare_arms, fair_table, write_fair_table
from distill_helpers.course.logs import markdown_table, read_log, run_missing
from distill_helpers.course.tasks import WORK
from distill_helpers.data.corpora import load_help_desk
from distill_helpers.data.labelled_texts import LabelledTexts
from distill_helpers.evaluation.embeddings import similarity_rank_correlation
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.loading import base_encoder_path
from distill_helpers.models.pooled_encoders import pool_tokens
from distill_helpers.models.sentence_encoders import SentenceEncoder, load_sentence_encoder
from distill_helpers.models.text_models import TextClassifier, label_options
from distill_helpers.students.creation import create_student
from distill_helpers.targets.embeddings import fit_pca, precompute_teacher_embeddings, project
from distill_helpers.training.dataset import DistillationDataset
from distill_helpers.training.train_student import train_student_with_distillation

__all__ = ["ARMS", "LOG", "nearest_label_accuracy", "summary", "train_student"]

LOG = "embedding-task"
N_LABELLED, N_VALIDATION, N_TEST = 480, 200, 1000
MAX_LENGTH = 24
WIDTH = 64
LEARNING_RATES = (3e-3, 1e-2, 3e-2)
STEPS, BATCH_SIZE = 240, 32
#: The figures of the two tables, with their titles.
FIGURES = {"rank_correlation": "rank correlation with the teacher", "neighbour_accuracy": "nearest neighbour, %"}

#: The students of the table, and the number of messages that each learns from.
ARMS = {
    "hard labels": N_LABELLED,
    "distilled, same messages": N_LABELLED,
    "distilled, and 1,440 further messages": 4 * N_LABELLED,
}
#: What the students are beside: the teacher itself, and a student before its training.
REFERENCES = ("teacher", "student before training")


class BertMeanForSequenceClassification(BertPreTrainedModel):
    """A linear head on the mean of the last hidden states: the student of the hard labels, pooled as the others are."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.bert = BertModel(config, add_pooling_layer=False)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **kwargs: Any) -> SequenceClassifierOutput:
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask, **kwargs).last_hidden_state
        return SequenceClassifierOutput(logits=self.classifier(pool_tokens(hidden, attention_mask, "mean")))


def nearest_label_accuracy(texts: Tensor, labels: Tensor, labelled_texts: Tensor, labels_of_these: Tensor) -> float:
    """The share of texts whose nearest labelled text, by the cosine, has their own label.

    Args:
        texts, labelled_texts: embeddings, (texts, width) each.
        labels, labels_of_these: their class indices.
    """
    similarities = F.normalize(texts, dim=1) @ F.normalize(labelled_texts, dim=1).T
    return float((labels_of_these[similarities.argmax(dim=1)] == labels).float().mean())


@cache
def _teacher() -> SentenceEncoder:
    return load_sentence_encoder(base_encoder_path(), device="cpu")


@cache
def _parts() -> dict[str, LabelledTexts]:
    data = load_help_desk()
    draw = np.random.default_rng(0)
    return {
        "train": data.train,
        "validation": data.validation.subset(sorted(draw.choice(len(data.validation), N_VALIDATION, replace=False))),
        "test": data.test.subset(sorted(draw.choice(len(data.test), N_TEST, replace=False))),
    }


@cache
def _embeddings(part: str) -> Tensor:
    texts = _parts()[part].texts
    return precompute_teacher_embeddings(
        _teacher(), texts, device="cpu", max_length=MAX_LENGTH, cache_dir=WORK / "targets", progress=False
    )


def _rows(n: int, seed: int) -> list[int]:
    """The rows of so many training messages, equally many of each queue. Fewer messages are the first of more."""
    labels = np.array(_parts()["train"].labels)
    draw = np.random.default_rng(seed)
    by_queue = [draw.permutation(np.flatnonzero(labels == queue)) for queue in np.unique(labels)]
    return np.stack([rows[: n // len(by_queue)] for rows in by_queue], axis=1).flatten().tolist()


def _start(seed: int) -> SentenceEncoder:
    """The student before its training. Its vocabulary is that of all messages for every arm: texts cost nothing."""
    return create_student(
        _teacher(), _parts()["train"].texts, vocab_size=3000, hidden_size=WIDTH, max_length=MAX_LENGTH, seed=seed
    )


def train_student(arm: str, learning_rate: float, seed: int) -> Trained:
    """Train one student, in about five seconds.

    Args:
        arm: a key of `ARMS`.
        learning_rate: the peak.
        seed: of the labelled messages, the student's start and the order.

    Raises:
        KeyError: no arm has this name.
    """
    labelled, rows = _rows(N_LABELLED, seed), _rows(ARMS[arm], seed)
    student = _start(seed)
    train, validation = _parts()["train"].subset(rows), _parts()["validation"]
    if arm == "hard labels":
        learner, config = _with_head(student, seed), DistillationConfig(alpha=0.0)
        sets = tuple(
            DistillationDataset(part.texts, part.labels, None, student.tokenizer) for part in (train, validation)
        )
        curve = "eval_accuracy"
    else:
        learner, config = student, DistillationConfig(task="regression", temperature=1.0, alpha=1.0)
        targets = _embeddings("train")[rows], _embeddings("validation")
        pca = fit_pca(targets[0], WIDTH)
        sets = tuple(
            DistillationDataset(
                part.texts, None, project(pca, target, normalize=True), student.tokenizer, task="regression"
            )
            for part, target in zip((train, validation), targets, strict=True)
        )
        curve = "eval_teacher_mse"
    with tempfile.TemporaryDirectory() as scratch:
        result = train_student_with_distillation(
            learner,
            sets[0],
            sets[1],
            config,
            n_epochs=STEPS * BATCH_SIZE // len(rows),
            learning_rate=learning_rate,
            batch_size=BATCH_SIZE,
            output_dir=scratch,
            seed=seed,
            device="cpu",
            progress=False,
        )
    model: Any = result.model
    trained = model.bert if arm == "hard labels" else model
    encoder = SentenceEncoder(trained, student.tokenizer) if trained is model else _pooled(trained, student)
    history = result.history[curve]
    return Trained(
        validation=(history if curve == "eval_accuracy" else -history).tolist(),
        measure_test=lambda: _figures(encoder, labelled),
        budget={"texts": len(rows), "with labels": N_LABELLED * (arm == "hard labels"), "steps": STEPS},
    )


def _with_head(student: SentenceEncoder, seed: int) -> TextClassifier:
    """The same encoder with a head for the queues."""
    config: Any = BertConfig.from_dict(student.model.config.to_dict())
    for name, value in {**label_options(_parts()["train"].label_names), "problem_type": None}.items():
        setattr(config, name, value)
    torch.manual_seed(seed)
    model = BertMeanForSequenceClassification(config)
    model.bert.load_state_dict(student.model.state_dict())
    return TextClassifier(model.eval(), student.tokenizer)


def _pooled(encoder: BertModel, student: SentenceEncoder) -> SentenceEncoder:
    return SentenceEncoder(encoder, student.tokenizer, pooling=student.pooling, normalize=student.normalize)


def _figures(encoder: SentenceEncoder, labelled: list[int]) -> dict[str, float]:
    """Measure an encoder on the test messages. The labelled messages are what it searches."""
    test, known = _parts()["test"], _parts()["train"].subset(labelled)
    if encoder is _teacher():
        on_test, on_known = _embeddings("test"), _embeddings("train")[labelled]
    else:
        on_test, on_known = (encoder.embed(part.texts, max_length=MAX_LENGTH) for part in (test, known))
    return {
        "rank_correlation": similarity_rank_correlation(on_test, _embeddings("test")),
        "neighbour_accuracy": nearest_label_accuracy(
            on_test, torch.tensor(test.labels), on_known, torch.tensor(known.labels)
        ),
    }


def _reference(phase: str, arm: str, seed: int) -> dict[str, float]:
    return _figures(_teacher() if arm == "teacher" else _start(seed), _rows(N_LABELLED, seed))


def summary(figure: str) -> pd.DataFrame:
    """Make the table of one figure of `FIGURES`: each arm, and the paired difference from hard labels."""
    log = read_log(LOG)
    scale = 100.0 if figure == "neighbour_accuracy" else 1.0
    table = fair_table(log, figure, "hard labels", scale=scale)
    beside = log[log["phase"] == "reference"].groupby("arm")[figure].agg(["mean", "std"]).loc[list(REFERENCES)] * scale
    return pd.concat([beside.rename(columns={"std": "sd"}), table])[list(table.columns)]


def main() -> None:
    torch.set_num_threads(1)
    seeds = range(5)
    references = [{"phase": "reference", "arm": arm, "seed": seed} for seed in seeds for arm in REFERENCES]
    run_missing(LOG, references, _reference)
    compare_arms(LOG, list(ARMS), {"learning_rate": LEARNING_RATES}, train_student, seeds=seeds)
    pages = []
    for figure, title in FIGURES.items():
        table = summary(figure)
        digits = ".1f" if figure == "neighbour_accuracy" else ".3f"
        formats = ("", digits, digits, f"+{digits}", digits, *("" for _ in table.columns[4:]))
        pages.append(f"{title}:\n\n{markdown_table(table, formats)}")
    write_fair_table(LOG, "\n\n".join(pages))


if __name__ == "__main__":
    main()
