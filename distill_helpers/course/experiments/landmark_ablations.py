"""The papers' ablations of DistilBERT and TinyBERT on the help desk: a recipe without one of its parts.

    python -m distill_helpers.course.experiments.landmark_ablations

The protocol is that of `fair_arms`, with the grid of `landmark_arms`. DistilBERT's parts are left out at the budget of
`landmarks`, which has the whole recipe too: its validation curve is flat there. TinyBERT's still rises there, so its
arms read twice as many texts, the whole recipe among them. The arm without stage 1 gives its passes to stage 2.

Validation finds the two learning rates of DistilBERT's whole recipe equally good. So that an ablation is not compared
across rates, the whole recipe is measured at the rate that was not chosen as well.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from distill_helpers.course.experiments.fair_arms import (
    Trained,
    fair_table,
    make_runs,
    paired_gain,
    write_fair_table,
)
from distill_helpers.course.experiments.landmark_arms import (
    GRID,
    NARROW,
    WIDE,
    WITH_WINDOWS,
    Arm,
    train_arm,
)
from distill_helpers.course.experiments.landmarks import runs_of, train_student as train_system
from distill_helpers.course.logs import markdown_table, read_log, run_missing
from distill_helpers.landmarks.distilbert_recipe import distilbert
from distill_helpers.landmarks.tinybert_recipe import tinybert

__all__ = ["ABLATIONS", "ARMS", "AT_THE_OTHER", "LOG", "accuracies", "distilbert_at", "summary", "train_student"]

LOG = "landmark-ablations"
NEEDS = ("landmarks",)

_distilbert = partial(distilbert, n_layers=2)
_tinybert = partial(tinybert, n_layers=3, hidden_size=192)
_TWICE_AS_LONG = ((WITH_WINDOWS, 4), (WITH_WINDOWS, 4))

#: The name of an ablation begins with the name of its recipe.
ABLATIONS = {
    "DistilBERT without soft targets": Arm(WIDE, partial(_distilbert, soft_weight=0.0)),
    "DistilBERT without cosine": Arm(WIDE, partial(_distilbert, cosine_weight=0.0)),
    "DistilBERT from random weights": Arm(WIDE, partial(_distilbert, from_teacher=False)),
    "TinyBERT without attention": Arm(NARROW, partial(_tinybert, attention=False), _TWICE_AS_LONG),
    "TinyBERT without stage 1": Arm(
        NARROW, partial(_tinybert, attention=False, hidden=False, embeddings=False), ((WITH_WINDOWS, 8),)
    ),
}
#: DistilBERT's whole recipe at the rate of the grid that it did not choose, and its name in the table.
OTHER_RATE = 1.2e-3
AT_THE_OTHER = f"DistilBERT at {OTHER_RATE:g}"
ARMS = {"TinyBERT": Arm(NARROW, _tinybert, _TWICE_AS_LONG)} | ABLATIONS


def train_student(arm: str, learning_rate: float, seed: int) -> Trained:
    """Train one student by `train_arm`.

    Raises:
        KeyError: no arm has this name.
    """
    return train_arm(f"{LOG} {arm}", ARMS[arm], learning_rate, seed)


def _at_the_other_rate(phase: str, seed: int) -> dict[str, Any]:
    trained = train_system("DistilBERT", OTHER_RATE, seed)
    return {"curve": list(trained.validation), **trained.budget, **trained.measure_test()}


def _with_the_whole_recipe() -> pd.DataFrame:
    """The log, and the lines of DistilBERT's whole recipe, which are in the log of `landmarks`."""
    return pd.concat([runs_of("DistilBERT"), read_log(LOG)], ignore_index=True)


def distilbert_at(learning_rate: str) -> str:
    """Name the arm of `accuracies` that has DistilBERT's whole recipe at a rate of the grid, as a table prints it."""
    return AT_THE_OTHER if learning_rate == f"{OTHER_RATE:g}" else "DistilBERT"


def accuracies() -> pd.DataFrame:
    """The test accuracy (%) of every arm, of DistilBERT's whole recipe and of `AT_THE_OTHER`: a row for each seed."""
    log = _with_the_whole_recipe()
    log.loc[log["phase"] == "other rate", "arm"] = AT_THE_OTHER
    return 100 * log.pivot_table(index="seed", columns="arm", values="accuracy")


def summary() -> pd.DataFrame:
    """Make the table: `fair_table` of each recipe and its ablations.

    `difference` is an ablation's accuracy minus that of the whole recipe named in `beside`, in points. DistilBERT's has
    the same learning rate, TinyBERT's the one that it chose.
    """
    log = _with_the_whole_recipe()  # its lines at the other rate have no arm
    tables = []
    for recipe in ("DistilBERT", "TinyBERT"):
        arms = [recipe, *(name for name in ABLATIONS if name.startswith(recipe))]
        tables.append(fair_table(log[log["arm"].isin(arms)], "accuracy", recipe, scale=100).loc[arms])
    table = pd.concat(tables).drop(columns=["difference", "± 95%", "won"])
    by_seed, lines = accuracies(), {}
    for name in ABLATIONS:
        recipe = name.split(" ")[0]
        beside = recipe if recipe == "TinyBERT" else distilbert_at(str(table.loc[name, "learning rate"]))
        lines[name] = {"beside": beside, **paired_gain(by_seed, name, beside, better="lower")}
    gains = pd.DataFrame.from_dict(lines, orient="index").rename(columns={"won": "worse in"})
    at_other = by_seed[AT_THE_OTHER]
    line = {"mean": at_other.mean(), "sd": at_other.std(ddof=1), "learning rate": f"{OTHER_RATE:g}"}
    whole, *others = table.index
    table = pd.concat([table, pd.DataFrame(line, index=[AT_THE_OTHER])]).loc[[whole, AT_THE_OTHER, *others]]
    return table[["mean", "sd"]].join(gains).join(table.drop(columns=["mean", "sd"]))


def main() -> None:
    if make_runs(LOG, ARMS, GRID, train_student):
        run_missing(LOG, [{"phase": "other rate", "seed": seed} for seed in range(5)], _at_the_other_rate)
        table = summary()
        formats = ("", ".1f", ".1f", "", "+.1f", ".1f", *("" for _ in table.columns[5:]))
        write_fair_table(LOG, markdown_table(table, formats))


if __name__ == "__main__":
    main()
