"""What alpha does to training, with hard labels that are right or partly wrong, and a teacher that learned from them.

    python -m distill_helpers.course.experiments.alpha

Students of 128 units learn the digits at T = 2. Alpha is the weight of the teacher's distribution, 1 − alpha the weight
of the hard label. One figure is compared throughout: errors on the 500 test images, whose labels are always right.

`fair_arms` has the protocol. Each seed chooses its learning rate and the best of 60 epochs on its own 200 validation
images. **Their labels are right in every arm**, also where a fifth of the training labels is wrong: to choose anything,
you need some labels that you trust.

Two further arms learn from smoothed hard labels (0.1), right and 20% wrong, without a teacher.
"""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from distill_helpers.course.experiments.digit_arms import compare_side_by_side, together, trained_side_by_side
from distill_helpers.course.experiments.digits import (
    error_count,
    predict,
    smoothed_label_logits,
    teacher_for,
    train_teacher,
)
from distill_helpers.course.experiments.fair_arms import Trained, fair_table, write_fair_table
from distill_helpers.course.logs import markdown_table, read_log
from distill_helpers.losses.distillation_config import DistillationConfig

__all__ = ["ALPHAS", "ARMS", "LABELS", "LOG", "SEEDS", "Arm", "corrupt", "errors_by_seed", "summary", "train_students"]

LOG = "alpha"
SEEDS = tuple(range(10))
ALPHAS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)
EPOCHS = 60
GRID = {"learning_rate": (3e-3, 1e-2, 3e-2)}
TEMPERATURE, SHARE_WRONG, SMOOTHING = 2.0, 0.2, 0.1

#: The hard labels: all right; a fifth of the student's wrong; the same, and the teacher was trained on them as well.
LABELS = ("right", "20% wrong", "20% wrong, teacher's too")


class Arm(NamedTuple):
    """What a student learns from.

    Args:
        labels: one of `LABELS`.
        alpha: the weight of the teacher's distribution; None trains on smoothed labels, without a teacher.
    """

    labels: str
    alpha: float | None

    @property
    def name(self) -> str:
        """Such as "20% wrong, alpha 0.7"."""
        return f"{self.labels}, {'label smoothing' if self.alpha is None else f'alpha {self.alpha:g}'}"


def _twin(labels: str, alpha: float) -> Arm:
    """The arm that is trained for a cell: alpha 0 asks no teacher, and alpha 1 reads none of the student's labels."""
    if labels == "20% wrong, teacher's too" and alpha == 0:
        labels = "20% wrong"
    if labels == "20% wrong" and alpha == 1:
        labels = "right"
    return Arm(labels, alpha)


#: By name; sixteen arms for the eighteen cells of `LABELS` and `ALPHAS`, and two with smoothed labels.
ARMS = {
    arm.name: arm
    for arm in (
        *(_twin(labels, alpha) for labels in LABELS for alpha in ALPHAS),
        Arm("right", None),
        Arm("20% wrong", None),
    )
}


def corrupt(labels: Tensor, share: float, seed: int, n_classes: int = 10) -> Tensor:
    """Copy labels and replace a share of them by other classes, each other class being equally likely.

    Args:
        labels: (n,), class indices.
        share: of the labels, in [0, 1].
        seed: decides which labels are replaced, and by which classes.
        n_classes: the number of classes.

    Raises:
        ValueError: a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share!r}")
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    wrong = labels.clone()
    wrong[rows] = (labels[rows] + torch.randint(1, n_classes, (len(rows),), generator=generator)) % n_classes
    return wrong


def train_students(arm: Arm, learning_rate: float, seeds: tuple[int, ...] = SEEDS) -> dict[int, Trained]:
    """Train one student of an arm for each seed, on its own split and with its own teacher (2–3 s for each teacher).

    Args:
        arm: what the students learn from.
        learning_rate: at the start; see `train_mlp`.
        seeds: of splits, wrong labels, teachers and students.

    Returns:
        For each seed what `fair_arms` needs; `measure_test` gives the `errors` on the 500 test images, and the
        `teacher_errors` where the arm has a teacher.
    """
    images = together([teacher_for(seed)[0] for seed in seeds], "train_images")
    labels = torch.stack([_hard_labels(arm.labels, seed) for seed in seeds])
    if arm.alpha is None:
        logits, config = smoothed_label_logits(labels, SMOOTHING), DistillationConfig(temperature=1.0, alpha=1.0)
    else:
        logits = torch.stack([_teacher_logits(arm.labels, seed, "train_images") for seed in seeds])
        config = DistillationConfig(temperature=TEMPERATURE, alpha=arm.alpha)
    trained = trained_side_by_side(
        seeds,
        (128,),
        images,
        labels,
        logits,
        config,
        epochs=EPOCHS,
        learning_rate=learning_rate,
        n_figures=20,
    )
    if not arm.alpha:
        return trained
    return {seed: one.also_measuring(partial(_teacher_errors, arm.labels, seed)) for seed, one in trained.items()}


def _hard_labels(labels: str, seed: int) -> Tensor:
    right = teacher_for(seed)[0].train_labels
    return right if labels == "right" else corrupt(right, SHARE_WRONG, seed)


def _teacher_errors(labels: str, seed: int) -> dict[str, float]:
    return {
        "teacher_errors": error_count(_teacher_logits(labels, seed, "test_images"), teacher_for(seed)[0].test_labels)
    }


@cache
def _misled_teacher(seed: int) -> nn.Module:
    """Train a teacher like that of `teacher_for`, on its student's labels, of which a fifth is wrong."""
    return train_teacher(teacher_for(seed)[0].train_images, _hard_labels("20% wrong", seed), seed)


@cache
def _teacher_logits(labels: str, seed: int, part: str) -> Tensor:
    data, teacher = teacher_for(seed)
    return predict(_misled_teacher(seed) if labels == "20% wrong, teacher's too" else teacher, getattr(data, part))


def errors_by_seed() -> pd.DataFrame:
    """Return the test errors of the log: a row for each seed, a column for each (labels, alpha) of the eighteen cells.

    The two pairs of cells that are the same training have the same figures.
    """
    log = read_log(LOG)
    errors = log[log["phase"] == "result"].pivot_table(index="seed", columns="arm", values="errors")
    cells = {(labels, alpha): errors[_twin(labels, alpha).name] for labels in LABELS for alpha in ALPHAS}
    return pd.DataFrame(cells).rename_axis(columns=["labels", "alpha"])


def summary() -> pd.DataFrame:
    """Make the table: errors of 500 test images for each arm, and the paired difference from hard labels alone.

    The hard labels alone are alpha 0 with the same labels. `teacher errors` are the mean of the arm's teachers.
    """
    log = read_log(LOG)
    tables = []
    for labels in ("right", "20% wrong"):
        reference = Arm(labels, 0.0).name
        names = [name for name, arm in ARMS.items() if arm.labels.startswith(labels)]
        tables.append(fair_table(log[log["arm"].isin(names)], "errors", reference, better="lower"))
    teachers = log[log["phase"] == "result"].groupby("arm")["teacher_errors"].mean().rename("teacher errors")
    return pd.concat(tables).rename(columns={"difference": "more than hard labels"}).join(teachers)


def main() -> None:
    torch.set_num_threads(1)
    compare_side_by_side(LOG, ARMS, GRID, train_students, SEEDS)
    table = summary()
    formats = ("", ".1f", ".1f", "+.1f", ".1f", *("" for _ in table.columns[4:-1]), ".1f")
    write_fair_table(LOG, markdown_table(table, formats))


if __name__ == "__main__":
    main()
