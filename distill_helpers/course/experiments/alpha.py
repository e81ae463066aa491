"""What alpha does to training, with hard labels that are right or partly wrong, and a teacher that learned from them.

    python -m distill_helpers.course.experiments.alpha

Students of 128 units learn the digits at T = 2. Alpha is the weight of the teacher's distribution, 1 − alpha the weight
of the hard label. One figure is compared throughout: errors on the 500 test images, whose labels are always right.
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

#: The hard labels: all right; a fifth of the student's wrong; the same, and the teacher was trained on them as well.
LABELS = ("right", "20% wrong", "20% wrong, teacher's too")


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


def run(labels: str, alpha: float, seed: int) -> dict[str, float]:
    """Train one student (1–2 s) and return its errors on the 500 test images, the teacher's, and their agreement.

    Args:
        labels: one of `LABELS`.
        alpha: the weight of the teacher's distribution.
        seed: of split, wrong labels, teacher and student.

    Raises:
        ValueError: labels that are not in `LABELS`.
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
    """Train a teacher like that of `teacher_for`, on its student's labels, of which a fifth is wrong."""
    data, _ = teacher_for(seed)
    wrong = corrupt(data.train_labels, SHARE_WRONG, seed)
    return train_teacher(data.train_images, wrong, seed)


def summary() -> pd.DataFrame:
    """Make the table: mean errors and their standard deviation over seeds, a row for each alpha."""
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
