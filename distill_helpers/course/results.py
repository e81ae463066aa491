"""The runs behind the help desk's older table, in which all students have one recipe; five seeds each.

    python -m distill_helpers.course.results

In `experiments.help_desk_students` every student is tuned, and has the better teacher. This table has the older one.

Every finished run becomes a line of `data/results/help-desk.jsonl` at once, and a run that has a line is not made
again. At the end the teacher and the smallest student are timed in turn, in one process. Then table and figure are
written into `data/results`.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from collections.abc import Iterable
from functools import partial

import pandas as pd
import torch
from matplotlib.figure import Figure

from distill_helpers.course.figures import dot_figure
from distill_helpers.course.logs import (
    RESULTS,
    append_run,
    markdown_table,
    read_log,
    run_missing,
)
from distill_helpers.course.recipes import make_teacher, train_student
from distill_helpers.course.tasks import SMALLEST, Task, Variant, get_task, run_folder
from distill_helpers.evaluation.baselines import linear_baseline
from distill_helpers.evaluation.measures import (
    classification_metrics,
    measure_latency,
    measure_throughput,
)
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.models.loading import load_text_classifier

__all__ = [
    "BASELINE",
    "BEST",
    "RESULTS",
    "TEACHER",
    "VARIANTS",
    "accuracy_figure",
    "linear_baseline",
    "read_results",
    "read_timing",
    "summary",
    "timing_sentences",
]

#: The log, whose teacher is the older one.
LOG = "help-desk"
TEACHER, BASELINE, TIMING = "teacher", "tf-idf + logistic regression", "timing"
BEST = "soft labels, transfer set"

#: The rows of the tables, in their order.
VARIANTS = {
    "hard labels, random embeddings": Variant("hard", teacher_embeddings=False),
    "soft labels, random embeddings": Variant("soft", teacher_embeddings=False),
    "hard labels": Variant("hard"),
    "soft labels": Variant("soft"),
    "hard labels, 10%": Variant("hard", share=0.1),
    "soft labels, 10%": Variant("soft", share=0.1),
    BEST: SMALLEST,
}


def run(task: Task, seeds: Iterable[int]) -> None:
    """Make the runs that are missing from a task's log. After an interruption, call it again: it continues."""
    wanted = [(TEACHER, 0), (BASELINE, 0), *((name, seed) for seed in seeds for name in VARIANTS)]
    settings = [{"model": name, "seed": seed} for name, seed in wanted]
    run_missing(LOG, settings, partial(_measure, task))


def _measure(task: Task, model: str, seed: int) -> dict[str, float]:
    if model == TEACHER:
        return task.teacher_figures()
    test = task.data.test
    teacher_logits = task.teacher_logits(test.texts)
    if model == BASELINE:
        return classification_metrics(linear_baseline(task.data), test.labels, teacher_logits)
    folder = run_folder(LOG, model, seed)
    student = train_student(task, VARIANTS[model], seed, folder).classifier
    figures = evaluate(student, test, teacher_logits=teacher_logits)
    if model != BEST:  # one of the smallest students is timed at the end
        shutil.rmtree(folder)
    return figures


def time_models(task: Task, rounds: int = 5) -> None:
    """Time the teacher and the smallest student in turn, round by round, and log the medians.

    In a fresh clone the log is complete, so no student has been trained; then the log keeps the timing that it has.
    """
    folder = run_folder(LOG, BEST, 0)
    if not folder.is_dir():
        print(f"no student of seed 0 in {folder.parent.name}/{folder.name}; the log's timing stays")
        return
    models = {TEACHER: task.teacher_model, "student": load_text_classifier(folder)}
    texts = task.data.test.texts
    figures: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, model in models.items():
            figures.setdefault(f"{name}_latency_ms", []).append(
                measure_latency(model, texts, max_length=task.max_length)
            )
            figures.setdefault(f"{name}_messages_per_s", []).append(
                measure_throughput(model, texts, max_length=task.max_length)
            )
    medians = {name: statistics.median(values) for name, values in figures.items()}
    medians["threads"] = torch.get_num_threads()
    append_run(LOG, {"model": TIMING, "seed": 0, **medians})


def read_results(task_name: str) -> pd.DataFrame:
    """Read a task's committed log, one row for each run: `model`, `seed` and the figures of `evaluate`.

    Raises:
        FileNotFoundError: no log has this name.
    """
    frame = read_log(task_name)
    # A timing is no run, and its columns are empty for runs.
    frame = frame[frame["model"] != TIMING].dropna(axis="columns", how="all")
    order = [TEACHER, BASELINE, *VARIANTS]
    return frame.sort_values(
        ["model", "seed"],
        key=lambda column: column.map(order.index) if column.name == "model" else column,
        ignore_index=True,
    )


def read_timing(task_name: str) -> dict[str, float]:
    """Read the latest timing from a task's committed log: latency and throughput of teacher and smallest student."""
    log = read_log(task_name)
    timing = log[log["model"] == TIMING].iloc[-1].drop(["model", "seed"]).dropna()
    return {str(name): float(value) for name, value in timing.items()}


def summary(task_name: str) -> pd.DataFrame:
    """Make a task's table: for each model the means over its seeds, and the standard deviation of the accuracy."""
    frame = read_results(task_name)
    teacher = frame.loc[frame["model"] == TEACHER].iloc[0]
    lines = {}
    for name, group in frame.groupby("model", sort=False):
        accuracy = 100 * group["accuracy"]
        lines[name] = {
            "seeds": len(group),
            "accuracy %": accuracy.mean(),
            "± sd": accuracy.std(ddof=1),
            "of teacher's %": 100 * group["accuracy"].mean() / teacher["accuracy"],
            "macro-F1 %": 100 * group["macro_f1"].mean(),
            "NLL": group["nll"].mean(),
            "ECE %": 100 * group["ece"].mean(),
            "agreement %": 100 * group["agreement"].mean(),
            "parameters": group["parameters"].mean(),
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def accuracy_figure(task_name: str, title: str) -> Figure:
    """Draw every student of a task's log, one dot for each seed; teacher and linear baseline are vertical lines."""
    frame = read_results(task_name)
    frame["accuracy"] *= 100
    lines = {name: frame.loc[frame["model"] == name, "accuracy"].item() for name in (TEACHER, BASELINE)}
    students = frame[~frame["model"].isin(lines)]
    return dot_figure(students, "accuracy", title=title, label="accuracy on the test messages (%)", references=lines)


def markdown(task_name: str) -> str:
    """Make a task's table for a page, with the timing below it."""
    formats = ("", ".0f", ".1f", ".1f", ".1f", ".1f", ".2f", ".1f", ".1f", ",.0f")
    return f"{markdown_table(summary(task_name), formats)}\n\n{timing_sentences(task_name)}\n"


def timing_sentences(task_name: str) -> str:
    """Say how fast teacher and smallest student answer, by the latest timing of a task's log."""
    time = read_timing(task_name)
    return (
        f"One message, tokenising included, {time['threads']:.0f} threads: teacher"
        f" {time['teacher_latency_ms']:.1f} ms, smallest student {time['student_latency_ms']:.2f} ms,"
        f" {time['teacher_latency_ms'] / time['student_latency_ms']:.1f} times faster. In batches of 64:"
        f" {time['teacher_messages_per_s']:,.0f} and {time['student_messages_per_s']:,.0f} messages a second."
    )


def publish(task_name: str) -> None:
    """Write a task's table and figure into `data/results`."""
    (RESULTS / f"{task_name}.md").write_text(markdown(task_name), encoding="utf-8")
    title = "Better labels help, unlabelled text helps on top"
    accuracy_figure(task_name, title).savefig(RESULTS / f"{task_name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the runs behind the table that are missing, then the table.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--no-timing", action="store_true", help="leave out the timing, because another run is on, say")
    arguments = parser.parse_args()
    task = get_task("older-help-desk")
    if not (task.teacher_folder / "manifest.json").exists():
        make_teacher(task)
    run(task, arguments.seeds)
    if not arguments.no_timing:
        time_models(task)
    publish(LOG)
    print(summary(LOG).to_string(float_format="{:.1f}".format))


if __name__ == "__main__":
    main()
