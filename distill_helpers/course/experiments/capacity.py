"""The best temperature for students of different capacities: a test of a remark by Hinton, Vinyals and Dean.

    python -m distill_helpers.course.experiments.capacity

They write (arXiv 1503.02531, section 3) that with 300 units or more in each layer every temperature above 8 gave much
the same results, and that with 30 units temperatures from 2.5 to 4 did best. Here, students with one hidden layer learn
the digits, with ten seeds.
"""

from __future__ import annotations

import pandas as pd

from distill_helpers.course.experiments.digits import error_count, make_mlp, predict, teacher_for, train_mlp
from distill_helpers.course.logs import read_log, run_missing, write_table
from distill_helpers.losses.distillation_config import DistillationConfig

__all__ = ["LOG", "TEMPERATURES", "WIDTHS", "run", "summary"]

LOG = "capacity"
WIDTHS = (8, 16, 32, 128)
TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 20.0)


def run(width: int, temperature: float, seed: int) -> dict[str, float]:
    """Train a student on the teacher alone and return its errors on 500 test images; T = 0 stands for hard labels."""
    data, teacher = teacher_for(seed)
    student = make_mlp((width,), seed=seed)
    if temperature == 0:
        train_mlp(student, data.train_images, data.train_labels, seed=seed)
    else:
        config = DistillationConfig(temperature=temperature, alpha=1.0)
        train_mlp(student, data.train_images, None, predict(teacher, data.train_images), config, seed=seed)
    return {"errors": error_count(predict(student, data.test_images), data.test_labels)}


def summary() -> pd.DataFrame:
    """Make the table: mean errors of the log, a row for each width, a column for each temperature."""
    return read_log(LOG).pivot_table(index="width", columns="temperature", values="errors", aggfunc="mean")


def main() -> None:
    settings = [
        {"width": width, "temperature": temperature, "seed": seed}
        for seed in range(10)
        for width in WIDTHS
        for temperature in (0.0, *TEMPERATURES)
    ]
    run_missing(LOG, settings, run)
    write_table(LOG, summary().rename(columns={0.0: "hard labels"}).to_markdown(floatfmt=".1f"))


if __name__ == "__main__":
    main()
