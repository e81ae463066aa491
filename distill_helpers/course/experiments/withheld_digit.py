"""A digit that the student has never seen: Hinton, Vinyals and Dean's experiment (arXiv 1503.02531, section 3).

    python -m distill_helpers.course.experiments.withheld_digit

A student learns from the teacher's probabilities on images among which some digits are missing. Afterwards it knows of
the missing digits only from the probabilities on other digits. Then the logits of the missing digits are raised (*bias
correction*) by the amount that leaves the fewest errors on validation images.

The paper does not test *which* part of the probabilities teaches the missing digit. Here there is a control: labels
that are equally soft, but do not rank the wrong digits. Nor does the paper have a student that learns from hard labels
without 3s.

`fair_arms` has the protocol: each arm and seed chooses its learning rate, its epochs and its best epoch on validation
images of the digits that it has seen. Images of a missing digit would select the student that knows the digit; they are
used for the bias alone, because that is what the correction is. For the student of 7s and 8s alone this choice has a
price: its 40 images are all right after a few epochs, and tell nothing of what it goes on to learn about other digits.
So this student is trained a second time, with validation images of all digits for the choice.

A student of few images gets as many steps as a student of all images. Students of all digits are in `label_budget`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from distill_helpers.course.experiments.digit_arms import (
    compare_side_by_side,
    only,
    teacher_logits,
    together,
    trained_side_by_side,
)
from distill_helpers.course.experiments.digits import N_CLASSES, error_count, predict, teacher_for
from distill_helpers.course.experiments.fair_arms import (
    Trained,
    chosen_settings,
    fair_table,
    write_fair_table,
)
from distill_helpers.course.logs import markdown_table, read_log, run_missing
from distill_helpers.data.corpora import ImageSplits, load_digits
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.soft_targets import check_temperature

__all__ = [
    "ARMS",
    "LOG",
    "SEEDS",
    "TEACHER",
    "Arm",
    "best_bias",
    "raise_bias",
    "results",
    "student_logits",
    "summary",
    "teacher_figures",
    "train_students",
    "without_ranking",
]

LOG = "withheld-digit"
SEEDS = tuple(range(10))
TEACHER = "teacher, all digits"


class Arm(NamedTuple):
    """How a student learns.

    Args:
        labels: "hard", the images' own; "soft", the teacher's probabilities; "unranked", those of `without_ranking`.
        missing: the digits that are missing from its training images.
        chosen_by_all: whether validation images of all digits choose its settings and its best epoch, instead of those
            of the digits that it learns from.
    """

    labels: str
    missing: tuple[int, ...]
    chosen_by_all: bool = False

    @property
    def seen(self) -> list[int]:
        """The digits that it learns from."""
        return [digit for digit in range(N_CLASSES) if digit not in self.missing]


NO_3S, ONLY_7S_AND_8S = (3,), (0, 1, 2, 3, 4, 5, 6, 9)
ARMS = {
    "hard labels, no 3s": Arm("hard", NO_3S),
    "soft labels, no 3s": Arm("soft", NO_3S),
    "soft labels without the ranking, no 3s": Arm("unranked", NO_3S),
    "hard labels, only 7s and 8s": Arm("hard", ONLY_7S_AND_8S),
    "soft labels, only 7s and 8s": Arm("soft", ONLY_7S_AND_8S),
    "soft labels, only 7s and 8s, chosen by all digits": Arm("soft", ONLY_7S_AND_8S, chosen_by_all=True),
}

#: Two layers, as in the paper. T = 20 is the paper's temperature for the student that sees all digits.
WIDTHS, TEMPERATURE = (128, 128), 20.0

#: The epochs are those of a student that sees all digits.
GRID = {"learning_rate": (3e-3, 1e-2), "epochs": (60, 240)}
BATCH_SIZE, N_FIGURES = 32, 30

BIASES = torch.arange(0, 30.25, 0.25)


def train_students(
    arm: str,
    learning_rate: float,
    epochs: int,
    seeds: tuple[int, ...] = SEEDS,
    measure: Callable[..., dict[str, float]] | None = None,
) -> dict[int, Trained]:
    """Train a student of an arm for each seed, all side by side (4 s for 60 epochs, and 3 s for each seed's teacher).

    Args:
        arm: one of `ARMS`.
        learning_rate: at the start.
        epochs: of a student that sees all digits; with fewer images a student passes over them more often, until it has
            made about as many steps.
        seeds: of splits, teachers and students.
        measure: takes a student's logits of validation and test images, and its split; default counts the errors.
    """
    labels_of, missing, chosen_by_all = ARMS[arm]
    seen = ARMS[arm].seen
    splits = [load_digits(seed=seed) for seed in seeds]
    all_images, all_labels = (together(splits, f"train_{part}") for part in ("images", "labels"))
    images, labels = only(seen, all_images, all_labels)
    steps = epochs * _batches(all_images)
    every = max(1, round(steps / _batches(images) / N_FIGURES))
    n_figures = round(steps / _batches(images) / every)
    targets = None if labels_of == "hard" else teacher_logits(seeds, images)
    if targets is not None and labels_of == "unranked":
        targets = without_ranking(targets, TEMPERATURE)
    return trained_side_by_side(
        seeds,
        WIDTHS,
        images,
        labels if targets is None else None,
        targets,
        DistillationConfig(temperature=TEMPERATURE, alpha=float(targets is not None)),
        measure=measure or (lambda *logits_and_split: _figures(missing, *logits_and_split)),
        measured_on=("validation_images", "test_images"),
        chosen_by=range(N_CLASSES) if chosen_by_all else seen,
        epochs=n_figures * every,
        n_figures=n_figures,
        learning_rate=learning_rate,
        batch_size=BATCH_SIZE,
    )


def _batches(images: Tensor) -> int:
    return -(-images.shape[1] // BATCH_SIZE)


def student_logits(arm: str, seed: int) -> tuple[Tensor, Tensor]:
    """Train one student with the settings that the log has for it, and return its logits of validation and test images.

    A student takes 2 s for 60 epochs on a quiet core, and its teacher 3 s.
    """
    setting = chosen_settings(read_log(LOG)).to_dict("index")[arm, seed]
    kept: list[Tensor] = []

    def keep(validation_logits: Tensor, test_logits: Tensor, data: ImageSplits) -> dict[str, float]:
        kept.extend((validation_logits, test_logits))
        return {}

    students = train_students(arm, setting["learning_rate"], int(setting["epochs"]), (seed,), keep)
    students[seed].measure_test()
    validation_logits, test_logits = kept
    return validation_logits, test_logits


def without_ranking(logits: Tensor, temperature: float) -> Tensor:
    """Make logits whose softmax at a temperature keeps the highest probability and shares the rest evenly.

    Args:
        logits: the teacher's, (n, classes).
        temperature: T of the soft labels. At another T the result's highest probability differs from the teacher's.

    Raises:
        ValueError: a temperature that is not positive and finite.
    """
    check_temperature(temperature)
    first = logits.argmax(dim=-1, keepdim=True)
    rest = (logits / temperature).scatter(-1, first, -math.inf).logsumexp(dim=-1, keepdim=True)
    # In logarithms: at a low temperature 1 − the highest probability would round to 0.
    even = temperature * (rest - math.log(logits.shape[-1] - 1))
    return even.expand_as(logits).scatter(-1, first, logits.gather(-1, first))


def raise_bias(logits: Tensor, digits: tuple[int, ...], bias: float) -> Tensor:
    """Copy logits, (n, 10), and raise those of some digits."""
    raised = logits.clone()
    raised[:, list(digits)] += bias
    return raised


def best_bias(logits: Tensor, labels: Tensor, digits: tuple[int, ...]) -> float:
    """Find the bias, in quarters up to 30, that leaves the fewest errors; of several the middle one."""
    errors = torch.tensor([error_count(raise_bias(logits, digits, float(bias)), labels) for bias in BIASES])
    best = BIASES[errors == errors.min()]
    return float(best[len(best) // 2])


def _figures(
    missing: tuple[int, ...], validation_logits: Tensor, test_logits: Tensor, data: ImageSplits
) -> dict[str, float]:
    """Count a student's errors on all test images and on the 3s, before the bias correction and after it."""
    figures = _errors(test_logits, data)
    if missing:
        bias = best_bias(validation_logits, data.validation_labels, missing)
        corrected = _errors(raise_bias(test_logits, missing, bias), data)
        figures |= {"bias": bias} | {f"{name}_corrected": count for name, count in corrected.items()}
    return figures


def _errors(logits: Tensor, data: ImageSplits) -> dict[str, float]:
    labels = data.test_labels
    return {"errors": error_count(logits, labels), "errors_on_3s": error_count(logits, labels, digit=3)}


def teacher_figures(phase: str, seed: int) -> dict[str, Any]:
    """Count a teacher's errors, and on how many training images of each digit the 3 is its second choice."""
    data, teacher = teacher_for(seed)
    second = predict(teacher, data.train_images).topk(2).indices[:, 1]
    counts = data.train_labels[second == 3].bincount(minlength=N_CLASSES)
    return {**_errors(predict(teacher, data.test_images), data), "second_choice_3": counts.tolist()}


def results() -> pd.DataFrame:
    """Read the measured students from the log: a row for each arm and seed, and the teachers with `TEACHER` as arm."""
    log = read_log(LOG)
    return log[log["phase"] != "choice"].fillna({"arm": TEACHER})


def summary() -> pd.DataFrame:
    """Make the table: errors of 500 test images, and the paired difference from hard labels of the same digits.

    The difference is left out where no arm of hard labels was chosen by the same validation images.
    """
    log, measured = read_log(LOG), results()
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, arm in ARMS.items():
        groups.setdefault((arm.missing, arm.chosen_by_all), []).append(name)
    table = pd.concat(
        fair_table(log[log["arm"].isin(arms)], "errors", arms[0], better="lower") for arms in groups.values()
    )
    of_teachers = measured.loc[measured["arm"] == TEACHER, "errors"]
    top = pd.DataFrame({"mean": of_teachers.mean(), "sd": of_teachers.std(ddof=1)}, index=[TEACHER])
    table = pd.concat([top, table])[list(table.columns)]
    by_arm = measured.groupby("arm")
    corrected = {
        "of them 3s": by_arm["errors_on_3s"].mean(),
        "bias": by_arm["bias"].mean(),
        "corrected": by_arm["errors_corrected"].mean(),
        "sd, corrected": by_arm["errors_corrected"].std(),
        "3s, corrected": by_arm["errors_on_3s_corrected"].mean(),
    }
    for place, (name, column) in enumerate(corrected.items(), start=2):
        table.insert(place, name, column)
    return table


def main() -> None:
    run_missing(LOG, [{"phase": "teacher", "seed": seed} for seed in SEEDS], teacher_figures)
    compare_side_by_side(LOG, {name: name for name in ARMS}, GRID, train_students, SEEDS)
    table = summary()
    formats = ("", *(".1f" for _ in range(7)), "+.1f", ".1f", *("" for _ in table.columns[9:]))
    write_fair_table(LOG, markdown_table(table, formats))


if __name__ == "__main__":
    main()
