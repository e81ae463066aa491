"""The papers' ablations of DistilBERT and TinyBERT on the help desk: a recipe without one of its parts, seed by seed.

    python -m distill_helpers.course.experiments.landmark_ablations

Each row is trained with five seeds, at a learning rate that belongs to the student's shape and was not tuned. The
teacher is the older one, which was trained for three epochs. A run that is in `data/results/landmark-ablations.jsonl`
is not made again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from distill_helpers.course.experiments.fair_arms import paired_gain
from distill_helpers.course.experiments.landmark_arms import N_TRANSFER, NARROW, WIDE
from distill_helpers.course.logs import markdown_table, read_log, run_missing, write_table
from distill_helpers.course.tasks import WORK, Task, get_task
from distill_helpers.data.labelled_texts import TextSplits
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.landmarks.distilbert_recipe import distilbert
from distill_helpers.landmarks.stages import Training
from distill_helpers.landmarks.tinybert_recipe import tinybert
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.training.distilled_student import DistilledStudent

__all__ = ["ABLATIONS", "LOG", "WHOLE", "run", "summary"]

LOG = "landmark-ablations"
#: Passes of each stage over training messages and windows.
EPOCHS = 2


class Row(NamedTuple):
    """A row of the table: the student's shape, the recipe that trains it, and the passes."""

    shape: str
    train: Callable[[TextClassifier, TextSplits, Training], DistilledStudent]
    epochs: int = EPOCHS


_LEARNING_RATES = {WIDE: 5e-4, NARROW: 1e-3}
_tinybert = partial(tinybert, n_layers=3, hidden_size=192)

#: The whole recipes.
WHOLE = {"DistilBERT": Row(WIDE, partial(distilbert, n_layers=2)), "TinyBERT": Row(NARROW, _tinybert)}
#: The name of an ablation begins with the name of its recipe.
ABLATIONS = {
    "DistilBERT without soft targets": Row(WIDE, partial(distilbert, n_layers=2, soft_weight=0.0)),
    "DistilBERT without cosine": Row(WIDE, partial(distilbert, n_layers=2, cosine_weight=0.0)),
    "DistilBERT from random weights": Row(WIDE, partial(distilbert, n_layers=2, from_teacher=False)),
    "TinyBERT without attention": Row(NARROW, partial(_tinybert, attention=False)),
    "TinyBERT without stage 1": Row(NARROW, partial(_tinybert, attention=False, hidden=False, embeddings=False)),
    "TinyBERT without augmentation": Row(NARROW, partial(_tinybert, augmentation=False), 2 * EPOCHS),
}
_ROWS = WHOLE | ABLATIONS


@cache
def _task() -> Task:
    return get_task("older-help-desk")


def run(model: str, seed: int) -> dict[str, float]:
    """Train one student and return the figures of `evaluate` on the test messages.

    Args:
        model: a key of `WHOLE` or `ABLATIONS`.
        seed: of student and training.

    Raises:
        KeyError: no row has this name.
    """
    task, row = _task(), _ROWS[model]
    with tempfile.TemporaryDirectory() as scratch:
        training = Training(
            epochs=row.epochs,
            learning_rate=_LEARNING_RATES[row.shape],
            n_transfer=N_TRANSFER,
            max_length=task.max_length,
            seed=seed,
            output_dir=Path(scratch),
            cache_dir=WORK / "targets",
            progress=False,
        )
        student = row.train(task.teacher_model, task.data, training).classifier
    teacher_logits = task.teacher_logits(task.data.test.texts, progress=False)
    return evaluate(student, task.data.test, teacher_logits=teacher_logits, max_length=task.max_length)


def summary() -> pd.DataFrame:
    """Make the table: the mean accuracy (%) of each row, and its difference to the whole recipe, seed by seed."""
    by_seed = 100 * read_log(LOG).pivot_table(index="seed", columns="model", values="accuracy")
    lines = {}
    for name in _ROWS:
        line = {"accuracy %": by_seed[name].mean(), "± sd": by_seed[name].std(ddof=1)}
        if name in ABLATIONS:
            line |= paired_gain(by_seed, name, name.split(" ")[0], better="lower")
        lines[name] = line
    return pd.DataFrame.from_dict(lines, orient="index").rename(columns={"won": "worse in"})


def main() -> None:
    run_missing(LOG, [{"model": name, "seed": seed} for seed in range(5) for name in _ROWS], run)
    write_table(LOG, markdown_table(summary(), ("", ".1f", ".1f", "+.1f", ".1f", "")))


if __name__ == "__main__":
    main()
