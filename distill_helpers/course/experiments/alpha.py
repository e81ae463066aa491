"""What alpha does to training: hard labels that are right, or partly wrong, and a teacher that learned from these.

    python -m distill_helpers.course.experiments.alpha

Students of 128 units on the digits at T = 2. Alpha is the weight of the teacher's distribution, 1 − alpha that of the
hard label. One figure is compared over everything: errors on the 500 test images, whose labels are always right.
"""

from __future__ import annotations

from functools import cache

import pandas as pd
import torch
from torch import Tensor, nn

from distill_helpers.course.experiments.digits import (
    error_count,
    make_mlp,
    predict,
    teacher_for,
    train_mlp,
    train_teacher,
)
from distill_helpers.course.logs import read_log, run_missing, write_table
from distill_helpers.evaluation.measures import agreement
from distill_helpers.losses.distillation_config import DistillationConfig

__all__ = ["ALPHAS", "LABELS", "LOG", "corrupt", "run", "summary"]

LOG = "alpha"
ALPHAS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)
SHARE_WRONG = 0.2

#: What the hard labels are: all right; a fifth of the student's wrong; the teacher trained on those same labels too.
LABELS = ("right", "20% wrong", "20% wrong, teacher's too")


def corrupt(labels: Tensor, share: float, seed: int, n_classes: int = 10) -> Tensor:
    """A copy of the labels in which a share is another class, each of the others being as likely.

    Args:
        labels: (n,), class indices.
        share: in [0, 1], of labels that become wrong.
        seed: which ones, and into what.
        n_classes: how many classes there are.

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


def run(labels: str, alpha: float, seed: int) -> dict[str, float]:
    """One student: errors on the 500 test images, the teacher's errors there, and the agreement of the two (1–2 s).

    Args:
        labels: one of `LABELS`.
        alpha: weight of the teacher's distribution.
        seed: of split, wrong labels, teacher and student.

    Raises:
        ValueError: other labels.
    """
    if labels not in LABELS:
        raise ValueError(f"labels must be one of {LABELS}, got {labels!r}")
    data, teacher = teacher_for(seed)
    hard_labels = data.train_labels if labels == "right" else corrupt(data.train_labels, SHARE_WRONG, seed)
    if labels == "20% wrong, teacher's too":
        teacher = _misled_teacher(seed)
    config = DistillationConfig(temperature=2.0, alpha=alpha)
    student = make_mlp((128,), seed=seed)
    train_mlp(student, data.train_images, hard_labels, predict(teacher, data.train_images), config, seed=seed)
    on_test, teacher_on_test = predict(student, data.test_images), predict(teacher, data.test_images)
    return {
        "errors": error_count(on_test, data.test_labels),
        "teacher_errors": error_count(teacher_on_test, data.test_labels),
        "agreement": agreement(on_test, teacher_on_test),
    }


@cache
def _misled_teacher(seed: int) -> nn.Module:
    """As `teacher_for`'s, but a fifth of what it learned from is wrong: the same labels that its student gets."""
    data, _ = teacher_for(seed)
    wrong = corrupt(data.train_labels, SHARE_WRONG, seed)
    return train_teacher(data.train_images, wrong, seed)


def summary() -> pd.DataFrame:
    """Mean errors and their standard deviation over seeds: a row for each alpha, two columns for each of `LABELS`."""
    log = read_log(LOG)
    mean, spread = (
        log.pivot_table(index="alpha", columns="labels", values="errors", aggfunc=f) for f in ("mean", "std")
    )
    columns = {}
    for labels in LABELS:
        columns[labels] = mean[labels]
        columns[f"{labels}, ± sd"] = spread[labels]
    return pd.DataFrame(columns)


def main() -> None:
    settings = [
        {"labels": labels, "alpha": alpha, "seed": seed} for seed in range(7) for labels in LABELS for alpha in ALPHAS
    ]
    run_missing(LOG, settings, run)
    write_table(LOG, summary().to_markdown(floatfmt=".1f"))


if __name__ == "__main__":
    main()
