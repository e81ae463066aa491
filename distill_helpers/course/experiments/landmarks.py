"""The landmark systems on the help desk, each tuned, beside hard labels from the same start: all read as many texts.

    python -m distill_helpers.course.experiments.landmarks

Every arm reads about 20,000 texts: the training messages and 2,500 windows, again and again. A recipe of two stages
divides its passes between them. On hard labels alone the messages are read instead: with windows, which inherit their
sender's queue, the validation accuracy was no higher (85.3 against 85.5% at 2e-4). The data-driven student reads what a
language model wrote instead of the windows.

`fair_arms` has the protocol. Of lower and higher learning rates, those that were tried were no better on validation:
2e-4 for DistilBERT and for hard labels of its shape, 3e-3 for TinyBERT. At the end one student of each shape is timed
in turn with the teacher.

The language model's messages are in `data/results/written-messages.jsonl`. Without this file they are written anew, in
20 minutes.
"""

from __future__ import annotations

import statistics
from functools import partial

import pandas as pd

from distill_helpers.course.experiments.fair_arms import (
    Trained,
    fair_table,
    make_runs,
    paired_gain,
    write_fair_table,
)
from distill_helpers.course.experiments.landmark_arms import (
    GRID,
    MESSAGES,
    NARROW,
    PRUNED,
    WIDE,
    WITH_WINDOWS,
    WITH_WRITTEN,
    Arm,
    help_desk,
    parameters_in_layers,
    student_of,
    synthetic_messages,
    train_arm,
)
from distill_helpers.course.logs import append_run, markdown_table, read_log, run_missing
from distill_helpers.data.labelled_texts import TextSplits
from distill_helpers.evaluation.measures import measure_latency
from distill_helpers.landmarks.data_driven_recipe import data_driven
from distill_helpers.landmarks.distilbert_recipe import distilbert
from distill_helpers.landmarks.minilm_recipe import minilm
from distill_helpers.landmarks.prune_and_heal_recipe import prune_and_heal
from distill_helpers.landmarks.stages import Training, hard_label_baseline
from distill_helpers.landmarks.tinybert_recipe import tinybert
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.training.distilled_student import DistilledStudent

__all__ = [
    "ARMS",
    "HARD_LABELS",
    "LOG",
    "REFERENCES",
    "SYSTEMS",
    "gains",
    "gains_at_the_other_rate",
    "runs_of",
    "summary",
    "train_student",
]

LOG = "landmarks"


def _hard_labels(shape: str, *, random_weights: bool = False) -> Arm:
    def train(_: TextClassifier, data: TextSplits, training: Training) -> DistilledStudent:
        student = student_of(shape, training.seed)
        return hard_label_baseline(student, data, training, random_weights=random_weights)

    return Arm(shape, train, ((MESSAGES, 8),))


def _data_driven(teacher: TextClassifier, data: TextSplits, training: Training) -> DistilledStudent:
    return data_driven(teacher, data, synthetic_messages(), training, n_layers=2)


_FEATURES_THEN_LABELS = ((WITH_WINDOWS, 2), (MESSAGES, 4))

#: The recipes.
SYSTEMS = {
    "DistilBERT": Arm(WIDE, partial(distilbert, n_layers=2)),
    "TinyBERT": Arm(NARROW, partial(tinybert, n_layers=3, hidden_size=192), ((WITH_WINDOWS, 2),) * 2),
    "MiniLM": Arm(WIDE, partial(minilm, n_layers=2), _FEATURES_THEN_LABELS),
    "MiniLMv2": Arm(
        NARROW,
        partial(minilm, version=2, n_layers=3, hidden_size=192, n_heads=6, relation_heads=24),
        _FEATURES_THEN_LABELS,
    ),
    "data-driven (Phi-2)": Arm(WIDE, _data_driven, ((WITH_WRITTEN, 5),)),
    "prune and heal": Arm(PRUNED, partial(prune_and_heal, n_layers=3, feed_forward_size=768)),
}
#: The same shapes from the same start on hard labels: copied layers, the teacher's embeddings above random layers, or
#: random weights.
HARD_LABELS = {f"hard labels, {shape}": _hard_labels(shape) for shape in (WIDE, NARROW, PRUNED)}
FROM_RANDOM = f"hard labels, {WIDE}, random weights"
HARD_LABELS[FROM_RANDOM] = _hard_labels(WIDE, random_weights=True)
ARMS = SYSTEMS | HARD_LABELS
#: Of this arm's two rates, validation chose the one that was ahead by one message of 400. So the arm is measured at the
#: rate of the systems with its shape, too.
IN_DOUBT, OTHER_RATE = f"hard labels, {WIDE}", 5e-4
#: For each system the hard labels of its shape and start.
REFERENCES = {name: f"hard labels, {arm.shape}" for name, arm in SYSTEMS.items()} | {"data-driven (Phi-2)": FROM_RANDOM}


def train_student(arm: str, learning_rate: float, seed: int) -> Trained:
    """Train one student by `train_arm`.

    Raises:
        KeyError: no arm has this name.
    """
    return train_arm(f"{LOG} {arm}", ARMS[arm], learning_rate, seed)


def _teacher_figures(phase: str) -> dict[str, float]:
    return help_desk().teacher_figures() | {"layer_parameters": parameters_in_layers(help_desk().teacher_model)}


def time_shapes(rounds: int = 5) -> None:
    """Time the teacher and a student of each shape in turn, round by round, and log the medians (ms)."""
    task = help_desk()
    models = {"teacher": task.teacher_model} | {shape: student_of(shape) for shape in (WIDE, NARROW, PRUNED)}
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, model in models.items():
            times.setdefault(name, []).append(measure_latency(model, task.data.test.texts, max_length=task.max_length))
    append_run(LOG, {"phase": "timing", **{name: statistics.median(values) for name, values in times.items()}})


def _measure(phase: str, arm: str, learning_rate: float, seed: int) -> dict[str, float]:
    return train_student(arm, learning_rate, seed).measure_test()


def summary() -> pd.DataFrame:
    """Make the table: the teacher, each system and each arm of hard labels.

    `gain` is what a system has over hard labels of its shape and start (`REFERENCES`), in points, seed by seed, with
    the half width of its 95% interval and the seeds in which it is positive. The last columns are those of
    `fair_table`.
    """
    log = read_log(LOG)
    (teacher,) = log[log["phase"] == "teacher"].to_dict("records")
    timing = log[log["phase"] == "timing"].iloc[-1]
    also = {"agreement %": ("agreement", 100.0), "layers' parameters": ("layer_parameters", 1.0)}
    fair = fair_table(log[log["phase"].isin(["choice", "result"])], "accuracy", "DistilBERT", scale=100, also=also)
    compared = gains()
    lines: dict[str, dict[str, object]] = {
        "teacher": {
            "student": "6 × 384",
            "layers' parameters": teacher["layer_parameters"],
            "of teacher's": 1.0,
            "accuracy %": 100 * teacher["accuracy"],
            "kept %": 100.0,
            "one message, ms": timing["teacher"],
        }
    }
    for name, row in ARMS.items():
        line = fair.loc[name]
        lines[name] = {
            "student": row.shape,
            "layers' parameters": line["layers' parameters"],
            "of teacher's": line["layers' parameters"] / teacher["layer_parameters"],
            "accuracy %": line["mean"],
            "± sd": line["sd"],
            "kept %": line["mean"] / teacher["accuracy"],
            "gain": compared["difference"].get(name),
            "± 95%": compared["± 95%"].get(name),
            "won": compared["won"].get(name),
            "agreement %": line["agreement %"],
            "one message, ms": timing[row.shape],
            **line[["learning rate", "best epoch", "texts", "texts read", "steps", "seconds"]],
        }
    return pd.DataFrame.from_dict(lines, orient="index")[list(lines["DistilBERT"])]


def runs_of(arm: str) -> pd.DataFrame:
    """The choices and results of one arm, for an experiment that compares others with it."""
    log = read_log(LOG)
    return log[(log["arm"] == arm) & log["phase"].isin(["choice", "result"])].dropna(axis="columns", how="all")


def gains() -> pd.DataFrame:
    """Compare each system with hard labels of its shape and start: `fair_arms.paired_gain`, in points of accuracy."""
    return _gains(read_log(LOG).query("phase == 'result'"))


def gains_at_the_other_rate() -> pd.DataFrame:
    """The rows of `gains` whose hard labels are `IN_DOUBT`, with these at `OTHER_RATE`."""
    log = read_log(LOG)
    results = log[(log["phase"] == "result") & (log["arm"] != IN_DOUBT) | (log["phase"] == "other rate")]
    return _gains(results).loc[[name for name, reference in REFERENCES.items() if reference == IN_DOUBT]]


def _gains(results: pd.DataFrame) -> pd.DataFrame:
    by_seed = 100 * results.pivot_table(index="seed", columns="arm", values="accuracy")
    lines = {name: paired_gain(by_seed, name, reference) for name, reference in REFERENCES.items()}
    return pd.DataFrame.from_dict(lines, orient="index")


def main() -> None:
    if make_runs(LOG, ARMS, GRID, train_student):
        run_missing(LOG, [{"phase": "teacher"}], _teacher_figures)
        at_the_other = {"phase": "other rate", "arm": IN_DOUBT, "learning_rate": OTHER_RATE}
        run_missing(LOG, [{**at_the_other, "seed": seed} for seed in range(5)], _measure)
        time_shapes()
        table = summary()
        formats = ("", "", ",.0f", ".2f", *(".1f",) * 3, "+.1f", ".1f", "", ".1f", ".1f", *("" for _ in range(6)))
        write_fair_table(LOG, markdown_table(table, formats))


if __name__ == "__main__":
    main()
