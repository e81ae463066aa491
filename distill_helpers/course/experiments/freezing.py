"""Copied parts of a student frozen for half or all of its training, beside a student that trains whole.

    python -m distill_helpers.course.experiments.freezing

The student is DistilBERT's, whose embeddings, layers and head are copies of the teacher's. Texts and steps are those of
`landmarks`, the protocol is that of `fair_arms` with the grid of `landmark_arms`. A frozen part costs no backward pass,
so the steps of a student are timed in turn: whole, and with its parts frozen.

The whole recipe is in the logs of `landmarks` and, at the rate that it did not choose, of `landmark_ablations`. Each
arm is compared with it at its own rate.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pandas as pd
from torch import nn
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from distill_helpers.course.experiments.fair_arms import (
    Trained,
    fair_table,
    make_runs,
    paired_gain,
    write_fair_table,
)
from distill_helpers.course.experiments.landmark_ablations import accuracies, distilbert_at
from distill_helpers.course.experiments.landmark_arms import BATCH_SIZE, GRID, Arm, help_desk, train_arm
from distill_helpers.course.experiments.landmarks import SYSTEMS, runs_of
from distill_helpers.course.logs import append_run, markdown_table, read_log
from distill_helpers.course.tasks import WORK, run_folder
from distill_helpers.data.labelled_texts import TextSplits
from distill_helpers.landmarks.stages import Training
from distill_helpers.models.architectures import transformer_layers
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.training.distilled_student import DistilledStudent

__all__ = ["ARMS", "LOG", "PARTS", "WHOLE", "Frozen", "summary", "time_steps", "train_student"]

LOG = "freezing"
NEEDS = ("landmarks", "landmark_ablations")
#: The recipe that trains everything, and its arm in the log of `landmarks`.
WHOLE = "DistilBERT"


class Frozen(TrainerCallback):
    """Keeps parts of a model as they are for the first steps of a training.

    The optimizer of the Trainer exists when the training begins and has every parameter. Without a gradient it leaves a
    parameter alone, weight decay included.

    Args:
        parts: takes the model and gives the parts that are frozen.
        share: of the training's steps, above 0; 1 for all of them.

    Raises:
        ValueError: a share outside (0, 1].
    """

    def __init__(self, parts: Callable[[PreTrainedModel], Iterable[nn.Module]], share: float) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {share}")
        self.parts, self.share = parts, share

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Freeze the parts before a step of the share, release them before a later one."""
        self._set(kwargs["model"], trains=state.global_step >= self.share * state.max_steps)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Release the parts, so that the finished student can be trained further."""
        self._set(kwargs["model"], trains=True)

    def _set(self, model: PreTrainedModel, *, trains: bool) -> None:
        for part in self.parts(model):
            part.requires_grad_(trains)


class _Stopwatch(TrainerCallback):
    """The milliseconds of each step: forward, backward and optimizer."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._begun = 0.0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._begun = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.times.append(1000 * (time.perf_counter() - self._begun))


def _embeddings(model: PreTrainedModel) -> list[nn.Module]:
    return [model.base_model.get_submodule("embeddings")]


def _embeddings_and_layers(model: PreTrainedModel) -> list[nn.Module]:
    return [*_embeddings(model), transformer_layers(model)]


#: What an arm may freeze.
PARTS = {"embeddings": _embeddings, "embeddings and layers": _embeddings_and_layers}


def _arm(parts: Callable[[PreTrainedModel], Iterable[nn.Module]], share: float) -> Arm:
    recipe = SYSTEMS[WHOLE]

    def train(teacher: TextClassifier, data: TextSplits, training: Training) -> DistilledStudent:
        return recipe.train(teacher, data, replace(training, callbacks=(*training.callbacks, Frozen(parts, share))))

    return recipe._replace(train=train)


_LENGTHS = {"half of the steps": 0.5, "all steps": 1.0}
#: What is frozen, and for how long.
ARMS = {f"{name}, {long}": _arm(parts, share) for name, parts in PARTS.items() for long, share in _LENGTHS.items()}


def train_student(arm: str, learning_rate: float, seed: int) -> Trained:
    """Train one student by `train_arm`.

    Raises:
        KeyError: no arm has this name.
    """
    return train_arm(f"{LOG} {arm}", ARMS[arm], learning_rate, seed)


def time_steps(rounds: int = 5) -> None:
    """Time the steps of the whole recipe and of each frozen part in turn, round by round, and log the medians (ms)."""
    task, times = help_desk(), dict[str, list[float]]()
    few = replace(task.data, train=task.data.train.subset(range(10 * BATCH_SIZE)))
    for _ in range(rounds):
        for name, parts in {WHOLE: None, **PARTS}.items():
            stopwatch = _Stopwatch()
            training = Training(
                epochs=1,
                batch_size=BATCH_SIZE,
                n_transfer=0,
                max_length=task.max_length,
                callbacks=(stopwatch,),
                output_dir=run_folder(LOG, "timing", 0),
                cache_dir=WORK / "targets",
                progress=False,
            )
            (_arm(parts, 1.0) if parts else SYSTEMS[WHOLE]).train(task.teacher_model, few, training)
            shutil.rmtree(training.output_dir)
            times.setdefault(name, []).extend(stopwatch.times[1:])  # the first step warms up
    append_run(LOG, {"phase": "timing", **{name: round(statistics.median(t), 1) for name, t in times.items()}})


def summary() -> pd.DataFrame:
    """Make the table: `fair_table` of the whole recipe and of the arms.

    `difference` is an arm's accuracy minus that of the whole recipe at the arm's rate, in points; `time %` is the time
    of an arm's steps in per cent of the whole recipe's.
    """
    log = pd.concat([runs_of(WHOLE), read_log(LOG)], ignore_index=True)
    table = fair_table(log, "accuracy", WHOLE, scale=100).drop(columns=["difference", "± 95%", "won", "seconds"])
    by_seed = accuracies().join(100 * read_log(LOG).pivot_table(index="seed", columns="arm", values="accuracy"))
    step = log[log["phase"] == "timing"].iloc[-1]
    lines = {}
    for name in ARMS:
        beside = distilbert_at(str(table.loc[name, "learning rate"]))
        parts, long = name.rsplit(", ", 1)
        saved = _LENGTHS[long] * (1 - step[parts] / step[WHOLE])
        lines[name] = {"beside": beside, **paired_gain(by_seed, name, beside), "time %": 100 * (1 - saved)}
    gains = pd.DataFrame.from_dict(lines, orient="index")
    return table[["mean", "sd"]].join(gains).join(table.drop(columns=["mean", "sd"])).loc[[WHOLE, *ARMS]]


def main() -> None:
    if make_runs(LOG, ARMS, GRID, train_student):
        time_steps()
        table = summary()
        formats = ("", ".1f", ".1f", "", "+.1f", ".1f", "", ".0f", *("" for _ in table.columns[6:]))
        write_fair_table(LOG, markdown_table(table, formats))


if __name__ == "__main__":
    main()
