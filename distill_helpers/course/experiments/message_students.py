"""What the comparisons of students of messages share: one training, and the tables made of their logs.

`help_desk_students` and `banking77_students` have the same question: what are more text, the teacher's opinion and its
doubts worth to a student? Each of their arms is a `Variant`: which texts, and whose labels.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from distill_helpers.course.experiments.fair_arms import Trained, fair_table, paired_gain, write_fair_table
from distill_helpers.course.logs import markdown_table, read_log
from distill_helpers.course.recipes import train_student
from distill_helpers.course.tasks import Recipe, Task, Variant, run_folder
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.training.distilled_student import DistilledStudent

__all__ = [
    "factor_table",
    "fit_for_steps",
    "readme_table",
    "student_table",
    "train_for_steps",
    "write_results",
]

#: Of every student. An epoch has as many steps as it has batches.
BATCH_SIZE = 64
#: The columns of a student's table beside those of `fair_table`: the figure and its factor.
FURTHER = {
    "validation %": ("validation", 100.0),
    "NLL": ("nll", 1.0),
    "ECE %": ("ece", 100.0),
    "agreement %": ("agreement", 100.0),
}


def train_for_steps(
    task: Task,
    name: str,
    variant: Variant,
    learning_rate: float,
    max_steps: float,
    seed: int,
    *,
    config: DistillationConfig | None = None,
    seen: Callable[[Tensor], Tensor] | None = None,
) -> Trained:
    """Train one student, in up to some minutes.

    Args:
        task: its teacher, messages and shape.
        name: of its folder in the work folder, from which an interrupted training continues.
        variant: its texts and labels.
        learning_rate, max_steps, seed: see `fit_for_steps`; the seed decides weights, order and dropout.
        config, seen: the objective, and what is seen of the teacher's logits; see `recipes.train_student`.
    """
    n_texts = len(task.data.train)
    if variant.transfer:
        n_texts += len(task.transfer_texts(unlabelled=variant.unlabelled)[0])

    def fit(recipe: Recipe, folder: Path) -> DistilledStudent:
        return train_student(
            task, variant, seed, folder, recipe=recipe, config=config, seen=seen, labelling_progress=False
        )

    return fit_for_steps(task, name, n_texts, fit, learning_rate, max_steps, seed)


def fit_for_steps(
    task: Task,
    name: str,
    n_texts: int,
    fit: Callable[[Recipe, Path], DistilledStudent],
    learning_rate: float,
    max_steps: float,
    seed: int,
) -> Trained:
    """Train one student on texts and labels that `fit` knows; it is measured on the task's test messages.

    Args:
        task: its teacher and test messages.
        name: of its folder in the work folder, from which an interrupted training continues.
        n_texts: of one epoch.
        fit: trains a student by a recipe, in a folder.
        learning_rate: at its peak.
        max_steps: the training has the whole epochs that come nearest to it.
        seed: a part of the folder's name.
    """
    recipe = Recipe(round(max_steps * BATCH_SIZE / n_texts), learning_rate, batch_size=BATCH_SIZE, group_by_length=True)
    folder = run_folder(name, f"{learning_rate:g}", f"{max_steps:g}", seed)
    result = fit(recipe, folder)
    shutil.rmtree(folder)

    def measure_test() -> dict[str, float]:
        test = task.data.test
        return evaluate(result.classifier, test, teacher_logits=task.teacher_logits(test.texts, progress=False))

    return Trained(
        validation=result.history["eval_accuracy"].tolist(),
        measure_test=measure_test,
        budget={"texts": n_texts, "steps": recipe.epochs * -(-n_texts // BATCH_SIZE)},
    )


def student_table(log_name: str, arms: Sequence[str], others: Mapping[str, float]) -> pd.DataFrame:
    """Make the table: teacher, models that are no students, and each arm with its budget.

    `kept %` is the test accuracy as a share of the teacher's. The other columns are those of `fair_table`, the
    difference being from the first arm, and figures of `evaluate`.

    Args:
        log_name: of a log as `fair_arms.compare_arms` writes it, with one line of the phase "teacher".
        arms: in the order of the rows.
        others: the accuracy (%) of models that are no students.
    """
    log = read_log(log_name)
    (teacher,) = log[log["phase"] == "teacher"].to_dict("records")
    table = fair_table(log[log["phase"] != "teacher"], "accuracy", arms[0], scale=100, also=FURTHER).loc[list(arms)]
    table.insert(2, "kept %", table["mean"] / teacher["accuracy"])
    top: dict[str, dict[str, Any]] = {
        "teacher": {"mean": 100 * teacher["accuracy"], "kept %": 100.0, "NLL": teacher["nll"]}
    }
    top["teacher"]["ECE %"] = 100 * teacher["ece"]
    top |= {name: {"mean": mean, "kept %": mean / teacher["accuracy"]} for name, mean in others.items()}
    return pd.concat([pd.DataFrame.from_dict(top, orient="index"), table])[list(table.columns)]


def factor_table(log_name: str, factors: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    """Make the table of factors: `fair_arms.paired_gain`, in points of accuracy.

    Args:
        log_name: as in `student_table`.
        factors: by the name of each, the arm that has it, and the arm that differs in nothing else.
    """
    log = read_log(log_name)
    by_seed = 100 * log[log["phase"] == "result"].pivot_table(index="seed", columns="arm", values="accuracy")
    lines = {name: paired_gain(by_seed, more, less) for name, (more, less) in factors.items()}
    return pd.DataFrame.from_dict(lines, orient="index").rename(columns={"difference": "points"})


def readme_table(table: pd.DataFrame) -> str:
    """Format a table of students for the README: what came out, without the settings."""
    columns = {"mean": "accuracy %", "sd": "± sd", "kept %": "of teacher's %", "NLL": "NLL", "ECE %": "ECE %"}
    columns |= {"agreement %": "agreement %", "texts": "texts", "steps": "steps"}
    formats = ("", ".1f", ".1f", ".1f", ".2f", ".1f", ".1f", "", "")
    return markdown_table(table[list(columns)].rename(columns=columns), formats)


def write_results(log_name: str, table: pd.DataFrame, factors: pd.DataFrame) -> None:
    """Write a comparison's tables into `data/results`."""
    formats = ("", *(".1f",) * 3, "+.1f", ".1f", "", ".1f", ".2f", ".1f", ".1f", *("" for _ in table.columns[10:]))
    text = f"{markdown_table(table, formats)}\n\n{markdown_table(factors, ('', '+.1f', '.1f', ''))}"
    write_fair_table(log_name, text)
