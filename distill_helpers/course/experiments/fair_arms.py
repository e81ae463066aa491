"""How the arms of a comparison are compared: one protocol for every experiment that has arms.

1. Every arm is trained at every learning rate of one grid, for the same longest number of epochs, on the same tuning
   seeds. Validation alone chooses the arm's learning rate, and in each training the best epoch. Test items are not
   read: what would measure them is not called.
2. Every arm is then trained at its own learning rate on the same further seeds, and each student of the best epoch is
   measured once on the test items.
3. The table gives mean and spread of each arm, the differences to a reference arm seed by seed with their 95% interval,
   and what each arm was allowed to spend.

Each training is one line of the experiment's log, with its validation curve and its budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from distill_helpers.course.logs import read_log, run_missing, write_table

__all__ = ["Trained", "at_the_edge", "chosen_rates", "compare_arms", "edge_note", "fair_table", "write_fair_table"]


@dataclass(frozen=True)
class Trained:
    """One finished training of an arm.

    Args:
        validation: the figure that chooses, after each epoch; higher is better.
        measure_test: measures the student of the best epoch on the test items. It is called after the choice alone.
        budget: what the training spent, such as `{"texts": 640, "steps": 200}`; the texts are those of one epoch.
    """

    validation: Sequence[float]
    measure_test: Callable[[], dict[str, float]]
    budget: dict[str, float]


def compare_arms(
    log: str,
    arms: Sequence[str],
    learning_rates: Sequence[float],
    train: Callable[[str, float, int], Trained],
    *,
    seeds: Sequence[int] = range(5),
    tuning_seeds: Sequence[int] = (100,),
) -> None:
    """Choose each arm's learning rate on validation, then train and measure each arm on every seed.

    What is in the log already is not run again.

    Args:
        log: the experiment's log.
        arms: their names.
        learning_rates: the grid, the same for all arms.
        train: takes an arm, a learning rate and a seed. A seed decides the items, the start and their order, so that
            arms with the same seed are a pair.
        seeds: of the runs that are measured.
        tuning_seeds: of the runs that choose; none of `seeds`.

    Raises:
        ValueError: a tuning seed that is measured as well, or a validation figure that is not finite.
    """
    if set(seeds) & set(tuning_seeds):
        raise ValueError(f"seeds {sorted(set(seeds) & set(tuning_seeds))} would choose and be measured; use others")

    def choose(phase: str, arm: str, learning_rate: float, seed: int) -> dict[str, Any]:
        return _outcome(train(arm, learning_rate, seed))

    def measure(phase: str, arm: str, seed: int) -> dict[str, Any]:
        rate = rates[arm]
        trained = train(arm, rate, seed)
        return {"learning_rate": rate, **_outcome(trained), **trained.measure_test()}

    choices = [
        {"phase": "choice", "arm": arm, "learning_rate": rate, "seed": seed}
        for seed in tuning_seeds
        for arm in arms
        for rate in learning_rates
    ]
    run_missing(log, choices, choose)
    rates = chosen_rates(read_log(log))
    run_missing(log, [{"phase": "result", "arm": arm, "seed": seed} for seed in seeds for arm in arms], measure)


def chosen_rates(log: pd.DataFrame) -> dict[str, float]:
    """Return the learning rate of each arm whose best validation figure is highest, as a mean over the tuning seeds.

    Of equal learning rates, the lower one is taken.

    Raises:
        ValueError: arms that were not tried on the same grid and seeds.
    """
    choices = log[log["phase"] == "choice"]
    tried = choices.pivot_table(index=["learning_rate", "seed"], columns="arm", values="validation")
    if tried.isna().any(axis=None):
        lacking = tried.isna().any()
        raise ValueError(f"{list(lacking[lacking].index)} were not tried on the grid of the other arms; run the choice")
    means = tried.groupby("learning_rate").mean()
    return {str(arm): float(rate) for arm, rate in means.idxmax().items()}


def at_the_edge(log: pd.DataFrame) -> list[str]:
    """Name the arms whose learning rate or best epoch is the last of its range: more of it might be better still.

    An arm is named whose learning rate is the grid's lowest or highest, or whose best epoch is the last in most runs.
    """
    grid = log.loc[log["phase"] == "choice", "learning_rate"]
    results = log[log["phase"] == "result"]
    named = []
    for arm, rate in chosen_rates(log).items():
        runs = results[results["arm"] == arm]
        last = runs["best_epoch"] == runs["curve"].map(len)
        if rate in (grid.min(), grid.max()) or last.mean() > 0.5:
            named.append(arm)
    return named


def edge_note(log: pd.DataFrame) -> str:
    """What stands below a table: the arms that `at_the_edge` names, in a paragraph of its own; "" if there is none."""
    edge = at_the_edge(log)
    note = f"More epochs, or a learning rate outside the grid, might still be better for: {'; '.join(edge)}."
    return f"\n\n{note}" if edge else ""


def write_fair_table(log: str, table: str) -> None:
    """Write a table made of a log, with the `edge_note` of the log below it, and print both."""
    write_table(log, table + edge_note(read_log(log)))


def fair_table(log: pd.DataFrame, figure: str, reference: str, *, scale: float = 1.0) -> pd.DataFrame:
    """Make the table: one row for each arm, in the order of the log.

    Args:
        log: as `compare_arms` writes it.
        figure: the test figure that is compared; higher is better.
        reference: the arm from which the paired differences are taken.
        scale: a factor of figure and differences, such as 100 for percentages.

    Returns:
        `mean` and `sd` (n − 1) of the figure; `difference` from the reference arm, the half width `± 95%` of its
        interval (Student's t over the seeds), and `won`, the number of seeds in which the arm is better; the learning
        rate that validation chose; the `best epoch` on average, of how many; and the budget.
    """
    from scipy.stats import t

    results = log[log["phase"] == "result"]
    by_seed = results.pivot_table(index="seed", columns="arm", values=figure) * scale
    fixed = {"phase", "arm", "seed", "learning_rate", "validation", "best_epoch", "curve"}
    budget = [name for name in log.loc[log["phase"] == "choice"].dropna(axis="columns").columns if name not in fixed]
    lines: dict[str, dict[str, Any]] = {}
    for arm in results["arm"].unique():
        runs = results[results["arm"] == arm]
        gain = by_seed[arm] - by_seed[reference]
        half = float(t.ppf(0.975, len(gain) - 1)) * gain.std(ddof=1) / math.sqrt(len(gain))
        is_reference = arm == reference
        lines[arm] = {
            "mean": by_seed[arm].mean(),
            "sd": by_seed[arm].std(ddof=1),
            "difference": None if is_reference else gain.mean(),
            "± 95%": None if is_reference else half,
            "won": None if is_reference else f"{(gain > 0).sum()} of {len(gain)}",
            "learning rate": f"{runs['learning_rate'].iloc[0]:g}",
            "best epoch": f"{runs['best_epoch'].mean():.0f} of {len(runs['curve'].iloc[0])}",
            **{name: f"{runs[name].mean():,.0f}" for name in budget},
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def _outcome(trained: Trained) -> dict[str, Any]:
    curve = [round(float(value), 6) for value in trained.validation]
    if not curve or not all(map(math.isfinite, curve)):
        raise ValueError(f"the validation figures must be finite, one for each epoch; got {curve}")
    best = max(curve)
    return {"validation": best, "best_epoch": curve.index(best) + 1, "curve": curve, **trained.budget}
