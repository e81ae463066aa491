"""How much the gradient varies between training images, with hard and with soft labels.

    python -m distill_helpers.course.experiments.gradient_variance

Hinton, Vinyals and Dean (arXiv 1503.02531, section 1) give a reason why soft targets help: they have "much less
variance in the gradient between training cases". Here it is measured, for students of 128 units and the digits, with
ten seeds.

**What is measured.** Each training image has a gradient of its loss with respect to all weights of the student, g. Over
the 1,097 training images they have a mean, which is the gradient of the whole training set, and a total variance, the
mean of ‖g − mean‖². The *relative variance* is the total variance divided by the squared norm of the mean. It does not
change when the loss is multiplied by a number, so T² does not matter. It can be read as a number of images: a batch of
so many has as much noise as signal (McCandlish et al. 2018, arXiv 1812.06162, call it the simple noise scale). A batch
of 32 drawn images has a 32nd of the relative variance.

**Which students.** At the start all labels meet the same random weights. Later each kind of label has a student of its
own, but is also measured on the students of the others: a relative variance depends on where the student stands, since
the mean gradient becomes small as the training loss does.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache

import pandas as pd
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from distill_helpers.course.experiments.digits import make_mlp, predict, teacher_for, train_mlp
from distill_helpers.course.logs import markdown_table, read_log, run_missing, write_table
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.distillation_loss import DistillationLoss

__all__ = [
    "EPOCHS",
    "LOG",
    "SEEDS",
    "TARGETS",
    "gradient_variance",
    "logit_gradients",
    "own_students",
    "run",
    "summary",
]

LOG = "gradient-variance"
SEEDS = range(10)
#: When the students are measured; their training has 60 epochs.
EPOCHS = (0, 3, 30, 60)

#: What a student learns from, and whose gradient is measured.
TARGETS: dict[str, DistillationConfig] = {
    "hard labels": DistillationConfig(alpha=0.0),
    **{f"T = {t}": DistillationConfig(temperature=float(t), alpha=1.0) for t in (1, 4, 20)},
}


def logit_gradients(logits: Tensor, labels: Tensor, teacher_logits: Tensor, config: DistillationConfig) -> Tensor:
    """Return the gradient of each image's own loss with respect to its logits, (n, classes).

    Args:
        logits, teacher_logits: (n, classes).
        labels: (n,).
        config: of the loss.
    """
    leaf = logits.detach().requires_grad_()
    (mean,) = torch.autograd.grad(DistillationLoss(config)(leaf, teacher_logits, labels)["total_loss"], leaf)
    return len(logits) * mean


def gradient_variance(model: nn.Module, images: Tensor, at_logits: Tensor) -> tuple[float, float]:
    """Measure the gradients of single images with respect to all weights of a model.

    Args:
        model: takes images, (n, pixels), and returns logits, (n, classes).
        images: (n, pixels).
        at_logits: the gradient of each image's loss with respect to its logits, (n, classes).

    Returns:
        The total variance, which is the mean over the images of ‖g − mean‖², and the squared norm of the mean.
    """
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def pulled(weights: Mapping[str, Tensor], image: Tensor, at_logit: Tensor) -> Tensor:
        logits: Tensor = functional_call(model, dict(weights), (image[None],))
        return (logits[0] * at_logit).sum()

    gradients = vmap(grad(pulled), in_dims=(None, 0, 0))(weights, images, at_logits)
    variance = squared_norm = 0.0
    for each in gradients.values():
        mean = each.mean(dim=0)
        variance += float((each - mean).square().sum() / len(images))
        squared_norm += float(mean.square().sum())
    return variance, squared_norm


@cache
def own_students(trained_on: str, seed: int) -> dict[int, nn.Module]:
    """Train a student on one of `TARGETS` (about 2 s), and return copies of it after each of `EPOCHS`."""
    data, teacher = teacher_for(seed)
    student = make_mlp((128,), seed=seed)
    copies: dict[int, nn.Module] = {0: copy.deepcopy(student)}

    def keep(epoch: int) -> None:
        if epoch in EPOCHS:
            copies[epoch] = copy.deepcopy(student)

    logits = predict(teacher, data.train_images)
    train_mlp(
        student,
        data.train_images,
        data.train_labels,
        logits,
        TARGETS[trained_on],
        epochs=max(EPOCHS),
        seed=seed,
        after_epoch=keep,
    )
    return copies


def run(trained_on: str, epochs: int, measured: str, seed: int) -> dict[str, float]:
    """Measure one student.

    Args:
        trained_on: a name of `TARGETS`, of the student.
        epochs: of `EPOCHS`: how long the student has learned.
        measured: a name of `TARGETS`, of the loss whose gradient is measured.
        seed: of split, teacher and student.

    Returns:
        `variance` and `squared_norm`, see `gradient_variance`, and their ratio `relative_variance`.
    """
    data, teacher = teacher_for(seed)
    model = own_students(trained_on, seed)[epochs]
    at_logits = logit_gradients(
        predict(model, data.train_images), data.train_labels, predict(teacher, data.train_images), TARGETS[measured]
    )
    variance, squared_norm = gradient_variance(model, data.train_images, at_logits)
    return {"variance": variance, "squared_norm": squared_norm, "relative_variance": variance / squared_norm}


def summary() -> pd.DataFrame:
    """Make the table: the median relative variance over the seeds; a row for each student, a column for each loss."""
    log = read_log(LOG)
    table = log.pivot_table(
        index=["epochs", "trained_on"], columns="measured", values="relative_variance", aggfunc="median", sort=False
    )
    return table[list(TARGETS)]


def main() -> None:
    torch.set_num_threads(1)
    first, *_ = TARGETS  # at the start it does not matter what a student will learn from
    runs = [
        {"trained_on": trained_on, "epochs": epochs, "measured": measured, "seed": seed}
        for seed in SEEDS
        for trained_on in TARGETS
        for epochs in EPOCHS
        for measured in TARGETS
        if epochs or trained_on == first
    ]
    run_missing(LOG, runs, run)
    table = summary().sort_index(level="epochs", sort_remaining=False)
    table.index = [f"{on}, {epochs} epochs" if epochs else "start" for epochs, on in table.index]
    write_table(LOG, markdown_table(table.rename_axis("student"), ("", *(".1f" for _ in TARGETS))))


if __name__ == "__main__":
    main()
