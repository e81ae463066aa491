"""What the factor T² does to training: students with the factor and without it, under SGD and under AdamW.

    python -m distill_helpers.course.experiments.t_squared

Students of 128 units learn the digits, with ten seeds. Without hard labels (alpha = 1) the factor only scales the loss.
With hard labels (alpha = 0.5) the factor also decides how much the teacher weighs against them.
"""

from __future__ import annotations

import pandas as pd

from distill_helpers.course.experiments.digits import error_count, make_mlp, predict, teacher_for, train_mlp
from distill_helpers.course.logs import read_log, run_missing, write_table
from distill_helpers.evaluation.measures import agreement
from distill_helpers.losses.distillation_config import DistillationConfig

__all__ = ["LEARNING_RATES", "LOG", "TEMPERATURES", "run", "summary", "without_t_squared"]

LOG = "t-squared"
TEMPERATURES = (1.0, 4.0, 16.0)
LEARNING_RATES = {"SGD": 0.1, "AdamW": 3e-3}


def without_t_squared(temperature: float, alpha: float) -> tuple[DistillationConfig, float]:
    """Find settings whose loss is α·KL + (1 − α)·CE, without T².

    The package always multiplies by T². A loss without the factor equals a loss with another alpha and another scale:
    α·KL + (1 − α)·CE = s·(α'·T²·KL + (1 − α')·CE) with s = α/T² + 1 − α and α' = α/(T²·s).

    Args:
        temperature, alpha: of the loss without T².

    Returns:
        The configuration with α', and the scale s.
    """
    scale = alpha / temperature**2 + 1 - alpha
    return DistillationConfig(temperature=temperature, alpha=alpha / temperature**2 / scale), scale


def run(optimizer: str, alpha: float, temperature: float, t_squared: str, seed: int) -> dict[str, float]:
    """Train one student and return its errors on the 500 test images, and its agreement with the teacher there.

    Args:
        optimizer: a key of `LEARNING_RATES`.
        alpha, temperature: of the loss.
        t_squared: "with" or "without".
        seed: of split, teacher and student.
    """
    data, teacher = teacher_for(seed)
    config, scale = DistillationConfig(temperature=temperature, alpha=alpha), 1.0
    if t_squared == "without":
        config, scale = without_t_squared(temperature, alpha)
    student = train_mlp(
        make_mlp((128,), seed=seed),
        data.train_images,
        data.train_labels,
        predict(teacher, data.train_images),
        config,
        optimizer=optimizer,
        learning_rate=LEARNING_RATES[optimizer],
        loss_scale=scale,
        seed=seed,
    )
    logits = predict(student, data.test_images)
    return {
        "errors": error_count(logits, data.test_labels),
        "agreement": agreement(logits, predict(teacher, data.test_images)),
    }


def summary() -> pd.DataFrame:
    """Make the table: mean errors and their standard deviation, a row for each setting, with T² and without."""
    groups = read_log(LOG).groupby(["optimizer", "alpha", "temperature", "t_squared"])["errors"]
    parts = {"": groups.mean(), ", ± sd": groups.std()}
    return pd.DataFrame(
        {
            f"{which} T²{suffix}": part.xs(which, level="t_squared")
            for which in ("with", "without")
            for suffix, part in parts.items()
        }
    )


def main() -> None:
    settings = [
        {"optimizer": optimizer, "alpha": alpha, "temperature": temperature, "t_squared": t_squared, "seed": seed}
        for seed in range(10)
        for optimizer in LEARNING_RATES
        for alpha in (1.0, 0.5)
        for temperature in TEMPERATURES
        for t_squared in ("with", "without")
    ]
    run_missing(LOG, settings, run)
    write_table(LOG, summary().reset_index().to_markdown(floatfmt=".1f", index=False))


if __name__ == "__main__":
    main()
