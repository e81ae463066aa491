"""Several teachers: three help desks with a third of the labels each, and one student of all of them.

    python -m distill_helpers.course.experiments.several_teachers

The messages are the help desk's: every second training and validation message, and every third test message. 300
training messages have labels: each of three desks has labelled 100, of which 70 belong to the queues that it knows and
30 to the others. The teacher of a desk is a linear head on the frozen encoder all-MiniLM-L6-v2, fitted to the desk's
100 messages. The students are transformers from scratch with one architecture, one start for each seed and equally many
steps; they read the 300 messages and their labels. A seed decides which messages are labelled, too. `fair_arms` has the
protocol. Validation messages choose the best single teacher as well.
"""

from __future__ import annotations

import tempfile
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from distill_helpers.course.experiments.fair_arms import Trained, compare_arms, fair_table, write_fair_table
from distill_helpers.course.logs import markdown_table, read_log
from distill_helpers.data.corpora import load_help_desk
from distill_helpers.data.labelled_texts import IGNORE_INDEX, LabelledTexts
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.batching import encode_texts, evaluation_mode, model_batch
from distill_helpers.models.loading import base_encoder_path, load_text_classifier
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.students.creation import create_student
from distill_helpers.targets.several_teachers import combine_teacher_logits, weights_by_label
from distill_helpers.training.dataset import DistillationDataset
from distill_helpers.training.train_student import train_student_with_distillation

__all__ = ["ARMS", "DESKS", "LOG", "Arm", "Desks", "label_by_desks", "summary", "train_student"]

LOG = "several-teachers"
#: The queues that each desk knows.
DESKS = ((0, 1), (2, 3), (4,))
N_OF_A_DESK, N_FAMILIAR, N_UNLABELLED = 100, 70, 600
MAX_LENGTH, STEPS, BATCH_SIZE = 32, 420, 15
LEARNING_RATES = (1e-3, 3e-3, 1e-2)
TEMPERATURE = 2.0


class Arm(NamedTuple):
    """What a student learns from.

    Args:
        teachers: "none", "best" (the teacher that is most often right about the validation messages), "probabilities"
            or "logits" (what is averaged), or "by label" (the mean probabilities of the desks that know the label).
        unlabelled: so many further messages without labels.
    """

    teachers: str
    unlabelled: int = 0


#: The students of the table.
ARMS = {
    "hard labels": Arm("none"),
    "best single teacher": Arm("best"),
    "mean of probabilities": Arm("probabilities"),
    "mean of logits": Arm("logits"),
    "each label's own teacher": Arm("by label"),
    "mean of probabilities, and 600 messages without labels": Arm("probabilities", N_UNLABELLED),
}


class Desks(NamedTuple):
    """What the desks of a seed have labelled, and what their teachers say.

    Attributes:
        rows: of the training messages with labels, one desk after the other, (300,).
        unlabelled: rows of further training messages.
        logits: for each teacher the logits of all messages of each part.
        accuracies: each teacher's accuracy on the test messages.
        best: the number of the teacher with the highest accuracy on the validation messages.
    """

    rows: np.ndarray
    unlabelled: np.ndarray
    logits: list[dict[str, Tensor]]
    accuracies: list[float]
    best: int

    def __repr__(self) -> str:
        return f"Desks({len(self.logits)} teachers, {len(self.rows)} messages with labels, the best is {self.best})"


@cache
def _parts() -> dict[str, LabelledTexts]:
    data = load_help_desk()
    every = {"train": (data.train, 2), "validation": (data.validation, 2), "test": (data.test, 3)}
    return {name: part.subset(range(0, len(part), step)) for name, (part, step) in every.items()}


@cache
def _encoder() -> TextClassifier:
    return load_text_classifier(base_encoder_path(), label_names=load_help_desk().label_names, device="cpu")


@cache
@torch.inference_mode()
def _encoded(part: str) -> Tensor:
    """The mean of the last hidden states of each message, (messages, 384)."""
    model, tokenizer = _encoder()
    token_ids = encode_texts(tokenizer, _parts()[part].texts, MAX_LENGTH)
    order = sorted(range(len(token_ids)), key=lambda row: len(token_ids[row]))
    rows = torch.empty(len(token_ids), model.config.hidden_size)
    with evaluation_mode(model):
        for start in range(0, len(order), 64):
            batch = model_batch(model, [token_ids[row] for row in order[start : start + 64]], tokenizer)
            hidden = model.base_model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            rows[order[start : start + 64]] = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
    return rows


def _choose(labels: np.ndarray, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """For each desk the rows that it labels, and the rows of the messages without labels. None lies in two of them.

    Of the queues that a desk does not know it sees equally many messages, so that its teacher has a logit for each.
    """
    draw = np.random.default_rng(seed)
    left = draw.permutation(len(labels))
    chosen = []
    for queues in DESKS:
        familiar = np.isin(labels[left], queues)
        others = sorted({0, 1, 2, 3, 4} - set(queues))
        shares = [(N_OF_A_DESK - N_FAMILIAR + number) // len(others) for number in range(len(others))]
        rows = np.concatenate(
            [left[familiar][:N_FAMILIAR]]
            + [left[labels[left] == queue][:share] for queue, share in zip(others, shares, strict=True)]
        )
        chosen.append(rows)
        left = left[~np.isin(left, rows)]
    return chosen, left[:N_UNLABELLED]


@cache
def label_by_desks(seed: int) -> Desks:
    """Let each desk label its messages and fit its teacher to them."""
    labels = {part: np.array(texts.labels) for part, texts in _parts().items()}
    rows_by_desk, unlabelled = _choose(labels["train"], seed)
    logits: list[dict[str, Tensor]] = []
    for rows in rows_by_desk:
        head = LogisticRegression(C=10.0, max_iter=1000).fit(_encoded("train")[rows].numpy(), labels["train"][rows])
        weight, bias = torch.from_numpy(head.coef_).float(), torch.from_numpy(head.intercept_).float()
        logits.append({part: _encoded(part) @ weight.T + bias for part in _parts()})
    right = {
        part: [float((own[part].argmax(dim=-1).numpy() == labels[part]).mean()) for own in logits]
        for part in ("validation", "test")
    }
    return Desks(np.concatenate(rows_by_desk), unlabelled, logits, right["test"], int(np.argmax(right["validation"])))


def _targets(arm: Arm, desks: Desks, rows: np.ndarray, labels: list[int]) -> tuple[Tensor, Tensor]:
    """The teachers' logits of these training messages and of the validation messages."""
    train = [own["train"][torch.from_numpy(rows)] for own in desks.logits]
    validation = [own["validation"] for own in desks.logits]
    if arm.teachers == "best":
        return train[desks.best], validation[desks.best]
    if arm.teachers == "logits":
        return combine_teacher_logits(train, mean_of="logits"), combine_teacher_logits(validation, mean_of="logits")
    weights = None
    if arm.teachers == "by label":
        specialists = {queue: desk for desk, queues in enumerate(DESKS) for queue in queues}
        weights = weights_by_label(labels, specialists, len(DESKS))
    return (
        combine_teacher_logits(train, weights=weights, temperature=TEMPERATURE),
        combine_teacher_logits(validation, temperature=TEMPERATURE),
    )


def train_student(arm: str, learning_rate: float, seed: int) -> Trained:
    """Train one student, in some seconds.

    Raises:
        KeyError: no arm has this name.
    """
    chosen, desks, parts = ARMS[arm], label_by_desks(seed), _parts()
    rows = np.concatenate([desks.rows, desks.unlabelled[: chosen.unlabelled]])
    known = parts["train"].subset(desks.rows.tolist())
    texts = parts["train"].subset(rows.tolist()).texts
    labels = known.labels + [IGNORE_INDEX] * chosen.unlabelled
    # The vocabulary is that of all training messages for every arm, since texts cost nothing.
    student = create_student(
        _encoder(), parts["train"].texts, hidden_size=64, n_layers=1, max_length=MAX_LENGTH, seed=seed
    )
    logits: tuple[Tensor | None, Tensor | None] = (None, None)
    if chosen.teachers != "none":
        logits = _targets(chosen, desks, rows, labels)
    n_epochs = STEPS * BATCH_SIZE // len(rows)
    with tempfile.TemporaryDirectory() as scratch:
        result = train_student_with_distillation(
            student,
            DistillationDataset(texts, labels, logits[0], student.tokenizer),
            DistillationDataset(parts["validation"].texts, parts["validation"].labels, logits[1], student.tokenizer),
            DistillationConfig(alpha=0.0 if logits[0] is None else 0.7, temperature=TEMPERATURE),
            n_epochs=n_epochs,
            batch_size=BATCH_SIZE,
            learning_rate=learning_rate,
            output_dir=scratch,
            seed=seed,
            device="cpu",
            progress=False,
        )

    def measure_test() -> dict[str, float]:
        accuracies = {f"teacher {number}": accuracy for number, accuracy in enumerate(desks.accuracies)}
        return evaluate(result.classifier, parts["test"]) | accuracies | {"best teacher": desks.accuracies[desks.best]}

    return Trained(
        # Of equal accuracies the lower NLL counts, as in the choice of the epoch.
        validation=(result.history["eval_accuracy"] - 1e-4 * result.history["eval_nll"]).tolist(),
        measure_test=measure_test,
        budget={"texts": len(rows), "with labels": len(known), "steps": n_epochs * len(rows) // BATCH_SIZE},
    )


def summary() -> pd.DataFrame:
    """Make the table: test accuracy of teachers and arms in %, and the paired difference from hard labels."""
    log = read_log(LOG)
    table = fair_table(log, "accuracy", "hard labels", scale=100)
    results = log[log["phase"] == "result"].groupby("seed").first()
    names = {f"teacher {number}": f"teacher of desk {number + 1}" for number in range(len(DESKS))}
    names["best teacher"] = "teacher that validation chose"
    top = pd.DataFrame(
        {
            title: {
                "mean": 100 * results[name].mean(),
                "sd": 100 * results[name].std(ddof=1),
                "texts": f"{N_OF_A_DESK}",
            }
            for name, title in names.items()
        }
    ).T
    return pd.concat([top.assign(texts=f"{N_OF_A_DESK}"), table])[list(table.columns)]


def main() -> None:
    torch.set_num_threads(1)
    compare_arms(LOG, list(ARMS), {"learning_rate": LEARNING_RATES}, train_student)
    table = summary()
    formats = ("", ".1f", ".1f", "+.1f", ".1f", *("" for _ in table.columns[4:]))
    write_fair_table(LOG, markdown_table(table, formats))


if __name__ == "__main__":
    main()
