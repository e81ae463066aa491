"""The landmark systems on the help desk: every recipe, the same student on hard labels, and the papers' ablations.

    python -m distill_helpers.course.experiments.landmarks

Each row is trained with five seeds. A run that is in `data/results/landmarks.jsonl` is not made again. At the end one
student of each shape is timed in turn with the teacher, and the table is written. The language model writes its
messages once, into the work folder.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from distill_helpers.course.logs import append_run, markdown_table, read_log, run_missing, write_table
from distill_helpers.course.tasks import WORK, Task, get_task
from distill_helpers.data.labelled_texts import TextSplits
from distill_helpers.evaluation.measures import measure_latency
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.landmarks.data_driven_recipe import data_driven
from distill_helpers.landmarks.distilbert_recipe import distilbert
from distill_helpers.landmarks.minilm_recipe import minilm
from distill_helpers.landmarks.prune_and_heal_recipe import prune_and_heal
from distill_helpers.landmarks.stages import Training, alternating_student, hard_label_baseline
from distill_helpers.landmarks.tinybert_recipe import tinybert
from distill_helpers.llm.synthetic_data import SyntheticMessage, write_messages
from distill_helpers.models.architectures import transformer_layers
from distill_helpers.models.language_model_loading import load_language_model
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.students.creation import narrow_student
from distill_helpers.students.pruning import prune
from distill_helpers.training.distilled_student import DistilledStudent

__all__ = ["ABLATIONS", "BASELINES", "LOG", "SYSTEMS", "make_student", "run", "summary", "synthetic_messages"]

LOG = "landmarks"
TEACHER, TIMING = "teacher", "timing"

#: Passes of each stage; transfer texts beside the 2,517 training messages; messages that the language model writes for
#: each queue.
EPOCHS, N_TRANSFER, N_WRITTEN = 2, 2500, 512
#: Messages for each queue in the ablation that trusts the language model with the topics.
FEWER_WRITTEN = 160
#: Passes of students that learn from hard labels and start from random weights: twice the steps of a stage.
EPOCHS_FROM_RANDOM = 8
#: Passes over the training messages alone, with as many steps as the passes over training and written messages.
EPOCHS_AS_MANY_STEPS = 13


class Row(NamedTuple):
    """A row of the table: the student's shape, the recipe that trains it, and the passes."""

    shape: str
    train: Callable[[TextClassifier, TextSplits, Training], DistilledStudent]
    epochs: int = EPOCHS


#: The shapes of the students. Their layers have at most a third of the parameters of the teacher's layers.
WIDE, NARROW, PRUNED = "2 × 384", "3 × 192", "3 × 384, half the neurons"
#: The peak of the learning rate depends on the shape, not on the recipe.
_LEARNING_RATES = {WIDE: 5e-4, NARROW: 1e-3, PRUNED: 5e-4}


@cache
def _student_of(shape: str, seed: int = 0) -> TextClassifier:
    """Make a student of a shape: with layers copied or cut out of the teacher, or, if it is narrower, random layers."""
    teacher = _task().teacher_model
    if shape == WIDE:
        return alternating_student(teacher, 2)
    if shape == NARROW:
        return narrow_student(teacher, n_layers=3, hidden_size=192, seed=seed)
    return prune(teacher, _task().data.train.texts[:64], n_layers=3, feed_forward_size=768)


def _hard_labels(shape: str, *, epochs: int = EPOCHS_FROM_RANDOM, random_weights: bool = True) -> Row:
    def train(_: TextClassifier, data: TextSplits, training: Training) -> DistilledStudent:
        seed = 0 if random_weights else training.seed  # if all weights become random, only the shape matters
        student = _student_of(shape, seed)
        return hard_label_baseline(student, data, training, random_weights=random_weights)

    return Row(shape, train, epochs)


def _data_driven(teacher: TextClassifier, data: TextSplits, training: Training) -> DistilledStudent:
    return data_driven(teacher, data, synthetic_messages(), training, n_layers=2)


def _as_asked(teacher: TextClassifier, data: TextSplits, training: Training) -> DistilledStudent:
    messages = synthetic_messages(FEWER_WRITTEN)
    return data_driven(teacher, data, messages, training, n_layers=2, relabel=False, min_confidence=0.5)


_tinybert = partial(tinybert, n_layers=3, hidden_size=192)
_minilm_v2 = partial(minilm, version=2, n_layers=3, hidden_size=192, n_heads=6, relation_heads=24)

#: The recipes.
SYSTEMS = {
    "DistilBERT": Row(WIDE, partial(distilbert, n_layers=2)),
    "TinyBERT": Row(NARROW, _tinybert),
    "MiniLM": Row(WIDE, partial(minilm, n_layers=2)),
    "MiniLMv2": Row(NARROW, _minilm_v2),
    "data-driven (Phi-2)": Row(WIDE, _data_driven, EPOCHS_FROM_RANDOM),
    "prune and heal": Row(PRUNED, partial(prune_and_heal, n_layers=3, feed_forward_size=768)),
}
#: The same students on hard labels, from random weights.
BASELINES = {f"hard labels, {shape}": _hard_labels(shape) for shape in (WIDE, NARROW, PRUNED)}
#: The effect of the additional steps alone, for the recipe with more messages.
BASELINES[f"hard labels, {WIDE}, as many steps"] = _hard_labels(WIDE, epochs=EPOCHS_AS_MANY_STEPS)
#: The effect of the start alone: copied layers, or the teacher's embeddings if the layers are random.
BASELINES |= {
    f"hard labels, {shape}, from the teacher": _hard_labels(shape, random_weights=False)
    for shape in (WIDE, NARROW, PRUNED)
}
#: The papers' ablations, and the data-driven recipe with fewer messages and the topics that the language model was
#: asked for. The name of an ablation begins with the name of its recipe.
ABLATIONS = {
    "DistilBERT without soft targets": Row(WIDE, partial(distilbert, n_layers=2, soft_weight=0.0)),
    "DistilBERT without cosine": Row(WIDE, partial(distilbert, n_layers=2, cosine_weight=0.0)),
    "DistilBERT from random weights": Row(WIDE, partial(distilbert, n_layers=2, from_teacher=False)),
    "TinyBERT without attention": Row(NARROW, partial(_tinybert, attention=False)),
    "TinyBERT without stage 1": Row(NARROW, partial(_tinybert, attention=False, hidden=False, embeddings=False)),
    "TinyBERT without augmentation": Row(NARROW, partial(_tinybert, augmentation=False), 2 * EPOCHS),
    "data-driven, topics as asked": Row(WIDE, _as_asked, EPOCHS_FROM_RANDOM),
}
_ROWS = SYSTEMS | BASELINES | ABLATIONS


@cache
def _task() -> Task:
    return get_task("older-help-desk")


@cache
def synthetic_messages(n_per_topic: int = N_WRITTEN) -> list[SyntheticMessage]:
    """Let the language model write about the five queues (20 minutes), or read what it wrote from the work folder."""
    return write_messages(
        load_language_model(), _task().data.train, n_per_topic, file=WORK / "written-messages.jsonl", progress=False
    )


def run(model: str, seed: int) -> dict[str, float]:
    """Train one student and return the figures of `evaluate` on the test messages, and the parameters in its layers.

    Args:
        model: "teacher", or a key of `SYSTEMS`, `ABLATIONS` or `BASELINES`.
        seed: of student and training.

    Raises:
        KeyError: no row has this name.
    """
    task = _task()
    if model == TEACHER:
        return task.teacher_figures() | {"layer_parameters": _layer_parameters(task.teacher_model)}
    test = task.data.test
    teacher_logits = task.teacher_logits(test.texts, progress=False)
    with tempfile.TemporaryDirectory() as scratch:
        student = make_student(model, seed, Path(scratch))
    figures = evaluate(student, test, teacher_logits=teacher_logits, max_length=task.max_length)
    return figures | {"layer_parameters": _layer_parameters(student)}


def make_student(model: str, seed: int, output_dir: Path) -> TextClassifier:
    """Train the student of a row; see `run`."""
    task, row = _task(), _ROWS[model]
    training = Training(
        epochs=row.epochs,
        learning_rate=_LEARNING_RATES[row.shape],
        n_transfer=N_TRANSFER,
        max_length=task.max_length,
        seed=seed,
        output_dir=output_dir,
        cache_dir=WORK / "targets",
        progress=False,
    )
    return row.train(task.teacher_model, task.data, training).classifier


def _layer_parameters(classifier: TextClassifier) -> int:
    return sum(p.numel() for p in transformer_layers(classifier.model).parameters())


def time_shapes(rounds: int = 5) -> None:
    """Time the teacher and a student of each shape in turn, round by round, and log the medians."""
    task = _task()
    models = {TEACHER: task.teacher_model} | {shape: _student_of(shape) for shape in (WIDE, NARROW, PRUNED)}
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, model in models.items():
            times.setdefault(name, []).append(measure_latency(model, task.data.test.texts, max_length=task.max_length))
    medians = {name: statistics.median(values) for name, values in times.items()}
    append_run(LOG, {"model": TIMING, "seed": 0, **medians})


def summary() -> pd.DataFrame:
    """Make the table: for each system, baseline and ablation the means over seeds, and the share of accuracy kept."""
    log = read_log(LOG)
    teacher = log[log["model"] == TEACHER].iloc[0]
    timing = log[log["model"] == TIMING].iloc[-1]
    lines = {}
    for name in [TEACHER, *_ROWS]:
        group = log[log["model"] == name]
        shape = _ROWS[name].shape if name in _ROWS else TEACHER
        lines[name] = {
            "student": "6 × 384" if name == TEACHER else shape,
            "seeds": len(group),
            "layers' parameters": group["layer_parameters"].mean(),
            "of teacher's": group["layer_parameters"].mean() / teacher["layer_parameters"],
            "accuracy %": 100 * group["accuracy"].mean(),
            "± sd": 100 * group["accuracy"].std(ddof=1),
            "kept %": 100 * group["accuracy"].mean() / teacher["accuracy"],
            "agreement %": 100 * group["agreement"].mean(),
            "one message, ms": timing[shape],
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def markdown() -> str:
    """Format the table for a page."""
    formats = ("", "", ".0f", ",.0f", ".2f", ".1f", ".1f", ".1f", ".1f", ".1f")
    return markdown_table(summary(), formats)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the runs that the log lacks, then the table.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--models", nargs="+", choices=list(_ROWS), default=list(_ROWS))
    parser.add_argument(
        "--only-runs", action="store_true", help="no timing and no table, because another run is on, say"
    )
    arguments = parser.parse_args()
    wanted = [{"model": name, "seed": seed} for seed in arguments.seeds for name in arguments.models]
    run_missing(LOG, [{"model": TEACHER, "seed": 0}, *wanted], run)
    if not arguments.only_runs:
        time_shapes()
        write_table(LOG, markdown())


if __name__ == "__main__":
    main()
