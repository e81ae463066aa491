"""A digit that the student has never seen: Hinton, Vinyals and Dean's experiment (arXiv 1503.02531, section 3).

    python -m distill_helpers.course.experiments.withheld_digit

A student learns from the teacher's probabilities on images among which some digits are missing. Afterwards it knows of
the missing digits only from the probabilities on other digits. Then the logits of the missing digits are raised (*bias
correction*) by the amount that leaves the fewest errors on validation images.

The paper does not test *which* part of the probabilities teaches the missing digit. Here there is a control: labels
that are equally soft, but do not rank the wrong digits.
"""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import Tensor, nn

from distill_helpers.course.experiments.digits import error_count, make_mlp, predict, teacher_for, train_mlp
from distill_helpers.course.logs import read_log, run_missing, write_table
from distill_helpers.data.corpora import ImageSplits
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.soft_targets import check_temperature

__all__ = ["LOG", "MODELS", "best_bias", "raise_bias", "run", "summary", "train_student", "without_ranking"]

LOG = "withheld-digit"
TEACHER = "teacher, all digits"

#: For each student the kind of its labels, and the digits that are missing from its training images.
MODELS: dict[str, tuple[str, tuple[int, ...]]] = {
    "hard labels, all digits": ("hard", ()),
    "soft labels, all digits": ("soft", ()),
    "hard labels, no 3s": ("hard", (3,)),
    "soft labels, no 3s": ("soft", (3,)),
    "soft labels without the ranking, no 3s": ("unranked", (3,)),
    "hard labels, only 7s and 8s": ("hard", (0, 1, 2, 3, 4, 5, 6, 9)),
    "soft labels, only 7s and 8s": ("soft", (0, 1, 2, 3, 4, 5, 6, 9)),
}

#: Two layers, as in the paper. T = 20 is the paper's temperature for the student that sees all digits.
WIDTHS, TEMPERATURE = (128, 128), 20.0

BIASES = torch.arange(0, 30.25, 0.25)


def train_student(labels: str, missing: tuple[int, ...], seed: int) -> nn.Module:
    """Train a student of 2 × 128 units (1–2 s).

    Args:
        labels: "hard", the images' own; "soft", the teacher's probabilities; "unranked", those of `without_ranking`.
        missing: digits whose images the student does not get.
        seed: of split, teacher and student.
    """
    data, teacher = teacher_for(seed)
    rows = ~torch.isin(data.train_labels, torch.tensor(missing, dtype=torch.int64))
    images = data.train_images[rows]
    # So many that the steps on few images are as many as on all images.
    epochs = round(60 * len(rows) / len(images))
    student = make_mlp(WIDTHS, seed=seed)
    if labels == "hard":
        return train_mlp(student, images, data.train_labels[rows], epochs=epochs, seed=seed)
    targets = predict(teacher, images)
    if labels == "unranked":
        targets = without_ranking(targets, TEMPERATURE)
    config = DistillationConfig(temperature=TEMPERATURE, alpha=1.0)
    return train_mlp(student, images, None, targets, config, epochs=epochs, seed=seed)


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


def run(model: str, seed: int) -> dict[str, float]:
    """Count a model's errors on all test images and on the 3s, before the bias correction and after it."""
    data, teacher = teacher_for(seed)
    if model == TEACHER:
        return _errors(predict(teacher, data.test_images), data)
    labels, missing = MODELS[model]
    student = train_student(labels, missing, seed)
    logits = predict(student, data.test_images)
    figures = _errors(logits, data)
    if missing:
        bias = best_bias(predict(student, data.validation_images), data.validation_labels, missing)
        corrected = _errors(raise_bias(logits, missing, bias), data)
        figures |= {
            "bias": bias,
            "errors_corrected": corrected["errors"],
            "errors_on_3s_corrected": corrected["errors_on_3s"],
        }
    return figures


def summary() -> pd.DataFrame:
    """Make the table, in the order of `MODELS`: means over the seeds, and the errors' standard deviation."""
    groups = read_log(LOG).groupby("model")
    table = groups.mean(numeric_only=True).drop(columns="seed").loc[[TEACHER, *MODELS]]
    table.insert(0, "seeds", groups.size())
    table.insert(2, "± sd", groups["errors"].std())
    table.insert(6, "± sd corrected", groups["errors_corrected"].std())
    return table


def _errors(logits: Tensor, data: ImageSplits) -> dict[str, float]:
    labels = data.test_labels
    return {"errors": error_count(logits, labels), "errors_on_3s": error_count(logits, labels, digit=3)}


def main() -> None:
    run_missing(LOG, [{"model": model, "seed": seed} for seed in range(10) for model in (TEACHER, *MODELS)], run)
    write_table(LOG, summary().to_markdown(floatfmt=".1f", missingval="–"))


if __name__ == "__main__":
    main()
