"""Students of the digits as arms of a fair comparison: ten seeds side by side, the best epoch of each by validation.

An experiment calls `trained_side_by_side` with an arm's labels and settings, and `compare_side_by_side` hands the
result to `fair_arms`. The images of one seed's test are training or validation images of another seed. So each seed
chooses its learning rate and epochs on its own validation images.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from distill_helpers.course.experiments.digits import (
    N_CLASSES,
    error_count,
    make_mlp,
    predict,
    side_by_side,
    teacher_for,
    train_mlp,
)
from distill_helpers.course.experiments.fair_arms import Trained, compare_arms
from distill_helpers.data.corpora import ImageSplits, load_digits
from distill_helpers.losses.distillation_config import DistillationConfig

__all__ = [
    "Curve",
    "compare_side_by_side",
    "errors_on_test",
    "only",
    "teacher_logits",
    "together",
    "trained_side_by_side",
]

AnyArm = TypeVar("AnyArm")


class Curve:
    """Follows networks through `train_mlp`: their figures on validation images, and the weights of the best epochs.

    The figure is the number of right answers plus the mean probability of the right digit, which decides between epochs
    with equally many: 200 images often leave a tie.

    Args:
        model: networks from `side_by_side`.
        images, labels: for validation, (k, n, 64) and (k, n).
        every: the epochs from one figure to the next.
    """

    def __init__(self, model: nn.Sequential, images: Tensor, labels: Tensor, every: int) -> None:
        self._model, self._images, self._labels, self._every = model, images, labels, every
        self._best = torch.full((len(images),), -math.inf)
        self._weights = {name: weights.clone() for name, weights in model.state_dict().items()}
        #: The figures, (k) after each so many epochs.
        self.figures: list[Tensor] = []

    def __call__(self, epoch: int) -> None:
        if epoch % self._every:
            return
        logits = predict(self._model, self._images)
        right = logits.argmax(dim=-1) == self._labels
        sure = logits.softmax(dim=-1).gather(-1, self._labels[..., None]).squeeze(-1)
        figures = right.sum(dim=-1) + sure.mean(dim=-1)
        better = figures > self._best
        self._best = figures.maximum(self._best)
        for name, weights in self._model.state_dict().items():
            self._weights[name][better] = weights[better]
        self.figures.append(figures)

    def restore(self) -> None:
        """Give each network the weights of its best epoch."""
        self._model.load_state_dict(self._weights)


def together(splits: Sequence[ImageSplits], part: str) -> Tensor:
    """Stack a part of several splits, such as "train_images"."""
    return torch.stack([getattr(split, part) for split in splits])


def only(digits: Sequence[int], images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Keep the images of some digits, (k, n, 64), with their labels, (k, n): the splits have equally many of each."""
    rows = torch.isin(labels, torch.tensor(digits))
    return images[rows].view(len(images), -1, images.shape[-1]), labels[rows].view(len(labels), -1)


def teacher_logits(seeds: Sequence[int], images: Tensor) -> Tensor:
    """Ask each seed's teacher for its logits of the seed's images: (k, n, 64) become (k, n, 10)."""
    return torch.stack([predict(teacher_for(seed)[1], part) for seed, part in zip(seeds, images, strict=True)])


def errors_on_test(logits: Tensor, data: ImageSplits) -> dict[str, float]:
    """Count a student's errors on the test images, from its logits (500, 10)."""
    return {"errors": error_count(logits, data.test_labels)}


def trained_side_by_side(
    seeds: Sequence[int],
    widths: Sequence[int],
    images: Tensor,
    labels: Tensor | None,
    teacher_logits: Tensor | None,
    config: DistillationConfig,
    *,
    measure: Callable[..., dict[str, float]] = errors_on_test,
    epochs: int,
    learning_rate: float,
    n_figures: int = 30,
    measured_on: Sequence[str] = ("test_images",),
    chosen_by: Sequence[int] = range(N_CLASSES),
    **settings: Any,
) -> dict[int, Trained]:
    """Train a student for each seed, all side by side, and choose the best epoch of each on its validation images.

    Args:
        seeds: of splits, starts and orders.
        widths: of the students.
        images, labels, teacher_logits, config, learning_rate: see `train_mlp`; the first dimension is the seeds'.
        measure: takes a student's logits of the images of `measured_on`, part by part, and the student's split. It is
            called after the choice. Default: the errors on the test images.
        epochs: a multiple of `n_figures`.
        n_figures: the points of the validation curve.
        measured_on: the parts of the split whose logits `measure` takes, such as "validation_images".
        chosen_by: the digits whose validation images choose; default all.
        settings: others of `train_mlp`.

    Returns:
        What `fair_arms` needs of each seed. The budget has the seconds of all trainings, divided among them.
    """
    splits = [load_digits(seed=seed) for seed in seeds]
    model = side_by_side([make_mlp(widths, seed=seed) for seed in seeds])
    validation_images, validation_labels = only(
        chosen_by, *(together(splits, f"validation_{part}") for part in ("images", "labels"))
    )
    curve = Curve(model, validation_images, validation_labels, epochs // n_figures)
    start = time.perf_counter()
    train_mlp(
        model,
        images,
        labels,
        teacher_logits,
        config,
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seeds,
        after_epoch=curve,
        **settings,
    )
    seconds = (time.perf_counter() - start) / len(seeds)
    curve.restore()
    figures = torch.stack(curve.figures, dim=1).tolist()
    steps = epochs * -(-images.shape[1] // settings.get("batch_size", 32))

    def measured(number: int) -> dict[str, float]:
        logits = (predict(model, together(splits, part))[number] for part in measured_on)
        return measure(*logits, splits[number])

    return {
        seed: Trained(
            figures[number],
            partial(measured, number),
            {"images": images.shape[1], "steps": steps, "seconds": seconds},
            every=epochs // n_figures,
        )
        for number, seed in enumerate(seeds)
    }


def compare_side_by_side(
    log: str,
    arms: Mapping[str, AnyArm],
    grid: Mapping[str, Sequence[float]],
    train_students: Callable[..., dict[int, Trained]],
    seeds: Sequence[int],
) -> None:
    """Make the runs of `compare_arms`, in which each seed chooses for itself, from trainings of all seeds at once.

    Args:
        log, grid, seeds: as in `compare_arms`.
        arms: what `train_students` takes as its first argument, by the arm's name.
        train_students: called with an arm and, by name, the settings of the grid; trains a student for each of `seeds`.
    """
    for name, arm in arms.items():  # one after the other: only the students of one arm have to be kept
        students = cache(partial(train_students, arm))
        compare_arms(log, [name], grid, partial(_of_seed, students), seeds=seeds, tuning_seeds=None)


def _of_seed(students: Callable[..., dict[int, Trained]], arm: str, seed: int, **setting: float) -> Trained:
    return students(**setting)[seed]
