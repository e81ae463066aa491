"""Which feature term is worth its trouble? Each term is added to the response loss, seed by seed.

    python -m distill_helpers.course.experiments.feature_terms

The student is narrow and shallow (3 layers × 192, random layers), the response loss is soft targets at T = 2, and no
transfer texts are read; so there is something left for features to teach. No weight was tuned. Each weight is 1, except
for attention scores: their squared error is about ten times as large as the other terms, and their weight is 0.1.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from typing import Any

import pandas as pd

from distill_helpers.course.logs import markdown_table, read_log, run_missing, write_table
from distill_helpers.course.tasks import WORK, Task, get_task
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.landmarks.stages import Training, train_stage
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.students.creation import narrow_student

__all__ = ["LOG", "RESPONSE", "SHARES", "TERMS", "feature_config", "run", "summary"]

LOG = "feature-terms"
RESPONSE = "response alone"

#: The terms that each row adds to the response loss.
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
#: The rows that are run at each share of the training messages. With a tenth: the term that helped in every seed, and
#: the term that hurt. These two were chosen by their test accuracies, so a gain with a tenth is flattered.
SHARES: dict[float, tuple[str, ...]] = {1.0: tuple(TERMS), 0.1: (RESPONSE, "+ hidden states", "+ value relations")}


def feature_config(terms: str) -> DistillationConfig:
    """Make the objective of a row of `TERMS`."""
    return DistillationConfig(temperature=2.0, alpha=1.0, **TERMS[terms])


@cache
def _task() -> Task:
    return get_task("older-help-desk")


def run(terms: str, share: float, seed: int, *, epochs: int = 6) -> dict[str, float]:
    """Train one student and return the figures of `evaluate` on the test messages.

    Args:
        terms: a key of `TERMS`.
        share: of the training messages; a tenth of them is read four times as often.
        seed: of sample, student and training.
        epochs: passes over the messages at share 1.

    Raises:
        KeyError: no row has this name.
    """
    task = _task()
    data = replace(task.data, train=task.data.train.sample(share, seed))
    student = narrow_student(task.teacher_model, n_layers=3, hidden_size=192, seed=seed)
    with tempfile.TemporaryDirectory() as scratch:
        training = Training(
            epochs=round(epochs * min(4.0, 1 / share)),
            learning_rate=1e-3,
            n_transfer=0,
            max_length=task.max_length,
            seed=seed,
            output_dir=scratch,
            cache_dir=WORK / "targets",
            progress=False,
        )
        result = train_stage(student, task.teacher_model, data, feature_config(terms), training)
    teacher_logits = task.teacher_logits(task.data.test.texts, progress=False)
    return evaluate(result.classifier, task.data.test, teacher_logits=teacher_logits, max_length=task.max_length)


def summary() -> pd.DataFrame:
    """Make the table: for each row of `TERMS` and each share, the mean accuracy (%), the gain, and their spreads.

    The gain over the response alone is taken seed by seed; `won` counts the seeds in which the term helped. A row that
    was not run at a share is empty there.
    """
    log = read_log(LOG)
    lines: dict[str, dict[str, Any]] = {}
    for share, rows in SHARES.items():
        runs = log[log["share"] == share].pivot_table(index="seed", columns="terms", values="accuracy") * 100
        for terms in rows:
            gain = (runs[terms] - runs[RESPONSE]).dropna()
            line = lines.setdefault(terms, {})
            title = f"{share:.0%}"
            line[f"{title}: accuracy %"] = runs[terms].mean()
            line[f"{title}: ± sd"] = runs[terms].std(ddof=1)
            line[f"{title}: gain"] = None if terms == RESPONSE else gain.mean()
            line[f"{title}: ± sd of it"] = None if terms == RESPONSE else gain.std(ddof=1)
            line[f"{title}: won"] = None if terms == RESPONSE else f"{(gain > 0).sum()} of {len(gain)}"
    return pd.DataFrame.from_dict(lines, orient="index")


def main() -> None:
    settings = [
        {"terms": terms, "share": share, "seed": seed}
        for share, rows in SHARES.items()
        for seed in range(5)
        for terms in rows
    ]
    run_missing(LOG, settings, run)
    formats = ("", *(".1f", ".1f", "+.1f", ".1f", "") * len(SHARES))
    write_table(LOG, markdown_table(summary(), formats))


if __name__ == "__main__":
    main()
