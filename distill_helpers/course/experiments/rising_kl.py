"""How often the KL divergence rises from T = 1 to T = 2, for students on their way and for trained ones.

    python -m distill_helpers.course.experiments.rising_kl

"KL(T) ≈ KL(1)/T²" says that it falls to a quarter. Measured on the 1,097 training images of each seed, with the
students of `gradient_variance`, which learn from hard labels or from the teacher's.
"""

from __future__ import annotations

import pandas as pd
import torch

from distill_helpers.course.experiments.digits import predict, teacher_for
from distill_helpers.course.experiments.gradient_variance import EPOCHS, SEEDS, own_students
from distill_helpers.course.logs import markdown_table, read_log, run_missing, write_table
from distill_helpers.losses.soft_targets import soft_target_divergence

__all__ = ["LOG", "NEEDS", "TRAINED_ON", "run", "summary"]

LOG = "rising-kl"
NEEDS = ("gradient_variance",)
TRAINED_ON = ("hard labels", "T = 4")


def run(trained_on: str, epochs: int, seed: int) -> dict[str, float]:
    """Measure one student.

    Args:
        trained_on: a name of `gradient_variance.TARGETS`.
        epochs: of `EPOCHS`.
        seed: of split, teacher and student.

    Returns:
        `share_rising`: of the training images; and `ratio`, of the mean KL at T = 2 to the mean KL at T = 1.
    """
    data, teacher = teacher_for(seed)
    z, v = (predict(model, data.train_images).double() for model in (own_students(trained_on, seed)[epochs], teacher))
    one, two = (soft_target_divergence(z, v, temperature=t, t_squared=False) for t in (1.0, 2.0))
    return {"share_rising": float((two > one).double().mean()), "ratio": float(two.mean() / one.mean())}


def summary() -> pd.DataFrame:
    """Make the table: the share of images on which the KL rises, in %, with its least and largest value over seeds."""
    groups = read_log(LOG).groupby(["trained_on", "epochs"], sort=False)
    share = 100 * groups["share_rising"].agg(["mean", "min", "max"])
    return share.assign(**{"KL(2) / KL(1)": groups["ratio"].mean()})


def main() -> None:
    torch.set_num_threads(1)
    runs = [
        {"trained_on": trained_on, "epochs": epochs, "seed": seed}
        for seed in SEEDS
        for trained_on in TRAINED_ON
        for epochs in EPOCHS
        if epochs or trained_on == TRAINED_ON[0]
    ]
    run_missing(LOG, runs, run)
    table = summary()
    table.index = [f"{trained_on}, {epochs} epochs" if epochs else "start" for trained_on, epochs in table.index]
    write_table(LOG, markdown_table(table.rename_axis("student"), ("", ".0f", ".0f", ".0f", ".2f")))


if __name__ == "__main__":
    main()
