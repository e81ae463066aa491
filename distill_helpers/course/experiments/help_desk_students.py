"""What more text and the teacher's labels are worth to a student of the help desk, each arm tuned by itself.

    python -m distill_helpers.course.experiments.help_desk_students

The smallest student learns from the training messages alone or from messages and windows, and from the queue of the
sender, which the windows inherit, from the queue that the teacher finds likeliest, or from the teacher's distribution.
These are texts and labels of `linear_models`, so that a student can be compared with a linear model that has read the
same. Every arm is trained for both lengths at each learning rate, and its validation accuracy chooses.
"""

from __future__ import annotations

import re
import shutil
from functools import cache
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure

from distill_helpers.course.experiments.fair_arms import (
    Trained,
    compare_arms,
    fair_table,
    paired_gain,
    write_fair_table,
)
from distill_helpers.course.experiments.linear_models import summary as linear_summary
from distill_helpers.course.figures import dot_figure
from distill_helpers.course.folders import ROOT
from distill_helpers.course.logs import RESULTS, markdown_table, read_log, replace_between_marks, run_missing
from distill_helpers.course.recipes import train_student as train_variant
from distill_helpers.course.results import timing_sentences
from distill_helpers.course.tasks import WORK, Recipe, Task, Variant, get_task
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.losses.distillation_config import DistillationConfig

__all__ = [
    "ARMS",
    "BEST",
    "FACTORS",
    "LABELS",
    "LOG",
    "TEXTS",
    "accuracy_figure",
    "factors",
    "readme_table",
    "summary",
    "train_for_steps",
    "train_student",
]

LOG = "help-desk-students"
#: The table has its best row without a teacher.
NEEDS = ("linear_models",)
BATCH_SIZE = 64
#: The lengths are in steps, since an epoch has nine times as many texts with the windows as without.
GRID = {"learning_rate": (5e-4, 1.5e-3, 4.5e-3), "max_steps": (720, 1800)}

#: Whether the windows are read.
TEXTS = {"messages": False, "messages and windows": True}
#: The names of `Variant` for the labels.
LABELS = {"sender's queue": "hard", "teacher's choice": "teacher's choice", "teacher's distribution": "soft"}
ARMS = {f"{labels}, {texts}": Variant(LABELS[labels], transfer=TEXTS[texts]) for texts in TEXTS for labels in LABELS}
REFERENCE, *_, BEST = ARMS

#: What each factor is worth: pairs of arms that differ in nothing else. The teacher's choice is the teacher's without
#: its doubts, which softness adds. At last all factors together.
FACTORS = {
    **{f"text, {labels}": (f"{labels}, messages and windows", f"{labels}, messages") for labels in LABELS},
    **{f"teacher, {texts}": (f"teacher's choice, {texts}", f"sender's queue, {texts}") for texts in TEXTS},
    **{f"softness, {texts}": (f"teacher's distribution, {texts}", f"teacher's choice, {texts}") for texts in TEXTS},
    "all three": (BEST, REFERENCE),
}


@cache
def _task() -> Task:
    return get_task("tuned-help-desk")


def train_student(arm: str, learning_rate: float, max_steps: float, seed: int) -> Trained:
    """Train one student by `train_for_steps`.

    Raises:
        KeyError: no arm has this name.
    """
    return train_for_steps(f"{LOG} {arm}", ARMS[arm], learning_rate, max_steps, seed)


def train_for_steps(
    name: str,
    variant: Variant,
    learning_rate: float,
    max_steps: float,
    seed: int,
    *,
    config: DistillationConfig | None = None,
) -> Trained:
    """Train one student of the tuned help desk, in up to some minutes.

    Args:
        name: of its folder in the work folder, from which an interrupted training continues.
        variant: its texts and labels.
        learning_rate: at its peak.
        max_steps: the training has the whole epochs that come nearest to it.
        seed: of weights, order and dropout.
        config: the objective; see `recipes.train_student`.
    """
    task = _task()
    n_texts = len(task.labelled_texts(with_transfer=variant.transfer))
    epochs = round(max_steps * BATCH_SIZE / n_texts)
    folder = WORK / "runs" / re.sub(r"[^a-z0-9.]+", "-", f"{name} {learning_rate:g} {max_steps:g} {seed}".lower())
    recipe = Recipe(epochs, learning_rate, batch_size=BATCH_SIZE)
    result = train_variant(task, variant, seed, folder, recipe=recipe, config=config, labelling_progress=False)
    shutil.rmtree(folder)

    def measure_test() -> dict[str, float]:
        test = task.data.test
        return evaluate(result.classifier, test, teacher_logits=task.teacher_logits(test.texts, progress=False))

    return Trained(
        validation=result.history["eval_accuracy"].tolist(),
        measure_test=measure_test,
        budget={"texts": n_texts, "steps": epochs * -(-n_texts // BATCH_SIZE)},
    )


def _teacher_run(phase: str) -> dict[str, float]:
    return _task().teacher_figures()


def summary() -> pd.DataFrame:
    """Make the table: teacher, the best linear model without a teacher, and each arm with its budget.

    `validation %` is the validation accuracy of the best epochs, and `kept %` the test accuracy as a share of the
    teacher's. The other columns are those of `fair_table`, the difference being from the first arm, and the figures of
    `evaluate`.
    """
    log = read_log(LOG)
    table = fair_table(log, "accuracy", REFERENCE, scale=100).loc[list(ARMS)]
    tested = log[log["phase"] != "choice"]
    (teacher,) = tested[tested["phase"] == "teacher"].to_dict("records")
    means = tested[tested["phase"] == "result"].groupby("arm").mean(numeric_only=True)
    table.insert(0, "validation %", 100 * means["validation"])
    table.insert(3, "kept %", table["mean"] / teacher["accuracy"])
    for place, (title, name, scale) in enumerate(
        (("NLL", "nll", 1), ("ECE %", "ece", 100), ("agreement %", "agreement", 100)), start=7
    ):
        table.insert(place, title, scale * means[name])
    linear = linear_summary()["accuracy %"].filter(like="sender's queue")
    top: dict[str, dict[str, Any]] = {
        "teacher": {
            "mean": 100 * teacher["accuracy"],
            "kept %": 100.0,
            "NLL": teacher["nll"],
            "ECE %": 100 * teacher["ece"],
        },
        str(linear.idxmax()): {"mean": linear.max(), "kept %": linear.max() / teacher["accuracy"]},
    }
    return pd.concat([pd.DataFrame.from_dict(top, orient="index"), table])[list(table.columns)]


def accuracy_figure() -> Figure:
    """Draw the test accuracy of each arm, one dot for each seed; teacher and best linear model are vertical lines."""
    log, table = read_log(LOG), summary()
    runs = log[log["phase"] == "result"]
    dots = pd.DataFrame({"model": pd.Categorical(runs["arm"], list(ARMS)), "accuracy": 100 * runs["accuracy"]})
    return dot_figure(
        dots.sort_values("model", kind="stable").astype({"model": str}),
        "accuracy",
        title="Text pays with the teacher",
        label="accuracy on the test messages (%)",
        references={str(name): float(value) for name, value in table["mean"].iloc[:2].items()},
    )


def readme_table() -> str:
    """Format the table for the README: what came out, without the settings."""
    columns = {"mean": "accuracy %", "sd": "± sd", "kept %": "of teacher's %", "NLL": "NLL", "ECE %": "ECE %"}
    columns |= {"agreement %": "agreement %", "texts": "texts", "steps": "steps"}
    table = summary()[list(columns)].rename(columns=columns)
    return markdown_table(table, ("", ".1f", ".1f", ".1f", ".2f", ".1f", ".1f", "", ""))


def factors() -> pd.DataFrame:
    """Make the table of `FACTORS`: `paired_gain`, in points of accuracy."""
    log = read_log(LOG)
    by_seed = 100 * log[log["phase"] == "result"].pivot_table(index="seed", columns="arm", values="accuracy")
    lines = {name: paired_gain(by_seed, more, less) for name, (more, less) in FACTORS.items()}
    return pd.DataFrame.from_dict(lines, orient="index").rename(columns={"difference": "points"})


def main() -> None:
    torch.set_num_threads(1)
    run_missing(LOG, [{"phase": "teacher"}], _teacher_run)
    compare_arms(LOG, list(ARMS), GRID, train_student)
    table = summary()
    formats = ("", *(".1f",) * 4, "+.1f", ".1f", "", ".2f", ".1f", ".1f", *("" for _ in table.columns[10:]))
    text = f"{markdown_table(table, formats)}\n\n{markdown_table(factors(), ('', '+.1f', '.1f', ''))}"
    write_fair_table(LOG, text)
    accuracy_figure().savefig(RESULTS / f"{LOG}.png")
    replace_between_marks(ROOT / "README.md", LOG, f"{readme_table()}\n\n{timing_sentences('help-desk')}")


if __name__ == "__main__":
    main()
