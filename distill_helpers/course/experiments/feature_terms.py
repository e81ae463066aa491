"""Which feature term is worth its trouble? Each term is added to the response loss, tuned, seed by seed.

    python -m distill_helpers.course.experiments.feature_terms

The student is narrow and shallow (3 layers × 192, random layers), the response loss is soft targets at T = 2, and no
windows are read; so there is something left for features to teach. With a tenth of the messages there is more. Every
arm reads its messages as often: eight times, or a tenth of them 32 times. `fair_arms` has the protocol: validation
chooses each arm's learning rate and epoch. The terms' weights were not tuned. Each is 1, except for attention scores:
their squared error is about ten times as large as the other terms, and their weight is 0.1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from distill_helpers.course.experiments.fair_arms import Trained, fair_table, make_runs, paired_gain, write_fair_table
from distill_helpers.course.experiments.landmark_arms import A_TENTH, MESSAGES, NARROW, Arm, student_of, train_arm
from distill_helpers.course.logs import markdown_table, read_log
from distill_helpers.data.labelled_texts import TextSplits
from distill_helpers.landmarks.stages import Training, train_stage
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.training.distilled_student import DistilledStudent

__all__ = [
    "ARMS",
    "GRID",
    "LOG",
    "RESPONSE",
    "TERMS",
    "feature_config",
    "gains",
    "of_a_tenth",
    "summary",
    "train_student",
]

LOG = "feature-terms"
RESPONSE = "response alone"
#: What validation chooses from.
GRID = {"learning_rate": (1e-3, 2e-3)}

#: The terms that each arm adds to the response loss.
TERMS: dict[str, dict[str, Any]] = {
    RESPONSE: {},
    "+ embeddings": {"embedding_loss_weight": 1.0},
    "+ hidden states": {"intermediate_layers": True},
    "+ cosine": {"cosine_loss_weight": 1.0},
    "+ attention scores": {"attention_matching": True, "attention_loss_weight": 0.1},
    "+ attention distributions": {"attention_matching": True, "attention_target": "distributions"},
    "+ value relations": {"relations": ("values",)},
}
TERMS["+ embeddings, hidden states, attention scores"] = (
    TERMS["+ embeddings"] | TERMS["+ hidden states"] | TERMS["+ attention scores"]
)


def feature_config(terms: str) -> DistillationConfig:
    """Make the objective of a key of `TERMS`."""
    return DistillationConfig(temperature=2.0, alpha=1.0, **TERMS[terms])


def _arm(terms: str, reads: str, passes: int) -> Arm:
    def train(teacher: TextClassifier, data: TextSplits, training: Training) -> DistilledStudent:
        if reads == A_TENTH:
            data = replace(data, train=data.train.sample(0.1, training.seed))
        student = student_of(NARROW, training.seed)
        return train_stage(student, teacher, data, feature_config(terms), replace(training, n_transfer=0))

    return Arm(NARROW, train, ((reads, passes),))


def of_a_tenth(terms: str) -> str:
    """Name the arm that adds these terms and reads a tenth of the messages."""
    return f"{terms}, a tenth"


ARMS = {terms: _arm(terms, MESSAGES, 8) for terms in TERMS}
ARMS |= {of_a_tenth(terms): _arm(terms, A_TENTH, 32) for terms in TERMS}


def train_student(arm: str, learning_rate: float, seed: int) -> Trained:
    """Train one student by `train_arm`.

    Raises:
        KeyError: no arm has this name.
    """
    return train_arm(f"{LOG} {arm}", ARMS[arm], learning_rate, seed)


def gains() -> pd.DataFrame:
    """Compare each arm with the response alone on as many messages: `fair_arms.paired_gain`, in points of accuracy."""
    log = read_log(LOG)
    runs = 100 * log[log["phase"] == "result"].pivot_table(index="seed", columns="arm", values="accuracy")
    lines = {
        name(terms): paired_gain(runs, name(terms), name(RESPONSE))
        for name in (str, of_a_tenth)
        for terms in TERMS
        if terms != RESPONSE
    }
    return pd.DataFrame.from_dict(lines, orient="index")


def summary() -> pd.DataFrame:
    """Make the table: each arm's test accuracy (%), and its gain over the response alone on as many messages."""
    table = fair_table(read_log(LOG), "accuracy", RESPONSE, scale=100)
    table[["difference", "± 95%", "won"]] = gains()
    return table.rename(columns={"difference": "gain"})


def main() -> None:
    if make_runs(LOG, ARMS, GRID, train_student):
        table = summary()
        write_fair_table(
            LOG, markdown_table(table, ("", ".1f", ".1f", "+.1f", ".1f", *("" for _ in table.columns[4:])))
        )


if __name__ == "__main__":
    main()
