"""How the arms of a comparison are compared: one protocol for every experiment that has arms.

1. Every arm is trained with every setting of one grid: learning rates, and epochs or whatever else an arm is sensitive
   to. Validation alone chooses the arm's setting, and in each training the best epoch. Test items are not read: what
   would measure them is not called.
2. Every arm is then measured with the setting that it chose, on the same seeds: once, the student of the best epoch.
3. The table gives mean and spread of each arm, the differences to a reference arm seed by seed with their 95% interval,
   and what each arm was allowed to spend.

The seeds that choose are others than the seeds that are measured. Where another seed splits the items anew, so that the
test items of one seed are training items of another, each seed chooses for itself instead (`tuning_seeds=None`).

Each training is one line of the experiment's log, with its validation curve and its budget.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pandas as pd

from distill_helpers.course.logs import read_log, run_missing, write_table

__all__ = [
    "TUNED",
    "Trained",
    "at_the_edge",
    "chosen_settings",
    "compare_arms",
    "edge_note",
    "fair_table",
    "half_width",
    "make_runs",
    "paired_gain",
    "write_fair_table",
]

#: What a grid may vary, by the names that a log has for them.
TUNED = ("learning_rate", "epochs", "max_steps", "batch_size", "weight_decay", "temperature", "alpha")
#: Of these, the lengths of a training. An arm has one of them in its grid.
_LENGTHS = ("epochs", "max_steps")


@dataclass(frozen=True)
class Trained:
    """One finished training of an arm.

    Args:
        validation: the figure that chooses, along the training; higher is better.
        measure_test: measures the student of the best epoch on the test items. It is called after the choice alone.
        budget: what the training spent, such as `{"texts": 640, "steps": 200}`; the texts are those of one epoch. If it
            has no "seconds", those that `train` took are added.
        every: the epochs from one figure of `validation` to the next.
    """

    validation: Sequence[float]
    measure_test: Callable[[], dict[str, float]]
    budget: dict[str, float]
    every: int = 1

    def also_measuring(self, further: Callable[[], dict[str, float]]) -> Trained:
        """The same training, whose test figures have those of `further` as well."""
        return replace(self, measure_test=lambda: {**self.measure_test(), **further()})


def compare_arms(
    log: str,
    arms: Sequence[str],
    grid: Mapping[str, Sequence[float]],
    train: Callable[..., Trained],
    *,
    seeds: Sequence[int] = range(5),
    tuning_seeds: Sequence[int] | None = (100,),
) -> None:
    """Choose each arm's setting on validation, then measure each arm on every seed.

    What is in the log already is not run again.

    Args:
        log: the experiment's log.
        arms: their names.
        grid: the values of each setting that are tried, each with each; the same for all arms. Its names are of
            `TUNED`.
        train: called with `arm`, `seed` and the settings of the grid, by name. A seed decides the items, the start and
            their order, so that arms with the same seed are a pair.
        seeds: of the runs that are measured.
        tuning_seeds: of the runs that choose for all seeds, none of `seeds`. None: each seed chooses for itself.

    Raises:
        ValueError: a tuning seed that is measured as well, a setting that is not of `TUNED`, or a validation figure
            that is not finite.
    """
    if tuning_seeds is not None and set(seeds) & set(tuning_seeds):
        raise ValueError(f"seeds {sorted(set(seeds) & set(tuning_seeds))} would choose and be measured; use others")
    if unknown := set(grid) - set(TUNED):
        raise ValueError(f"a grid may vary {', '.join(TUNED)}; got {', '.join(sorted(unknown))}")

    def choose(phase: str, **run: Any) -> dict[str, Any]:
        start = time.perf_counter()
        return _outcome(train(**run), time.perf_counter() - start)

    def measure(phase: str, arm: str, seed: int) -> dict[str, Any]:
        chosen = _chosen(lines[lines["seed"] == seed] if tuning_seeds is None else lines)[arm]
        setting = next(setting for setting in settings if setting == chosen)  # a log may have 60.0 for 60
        start = time.perf_counter()
        trained = train(arm=arm, seed=seed, **setting)
        return {**setting, **_outcome(trained, time.perf_counter() - start), **trained.measure_test()}

    settings = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    choosing = seeds if tuning_seeds is None else tuning_seeds
    choices = [
        {"phase": "choice", "arm": arm, **setting, "seed": seed}
        for arm in arms
        for setting in settings
        for seed in choosing
    ]
    run_missing(log, choices, choose)
    lines = read_log(log)
    lines = lines[lines["arm"].isin(arms)]  # other arms of the log may be unfinished
    run_missing(log, [{"phase": "result", "arm": arm, "seed": seed} for seed in seeds for arm in arms], measure)


def make_runs(
    log: str, arms: Collection[str], grid: Mapping[str, Sequence[float]], train: Callable[..., Trained]
) -> bool:
    """Make by `compare_arms` the runs that a log lacks, of the arms that the command line names or of all.

    Each run has one thread, so that several commands with different `--arms` can share a machine's cores.

    Returns:
        Whether all arms were asked for, so that the table can be made.
    """
    import torch

    parser = argparse.ArgumentParser(description="Make the runs that the log lacks, then the table.")
    parser.add_argument("--arms", nargs="+", choices=list(arms), help="these arms alone, and no table")
    named = parser.parse_args().arms
    torch.set_num_threads(1)
    compare_arms(log, named or list(arms), grid, train)
    return named is None


def chosen_settings(log: pd.DataFrame) -> pd.DataFrame:
    """Return what validation chose: a row for each arm and seed that was measured, a column for each setting.

    Each arm takes the setting whose best validation figure is highest, as a mean over the seeds that choose; of equal
    settings the first.

    Raises:
        ValueError: arms that were not tried with the same settings and seeds, or a result that was measured with
            another setting than the chosen one.
    """
    choices, results = (log[log["phase"] == phase] for phase in ("choice", "result"))
    alone = not set(results["seed"]).isdisjoint(choices["seed"])
    rows = {}
    for run in results.to_dict("records"):
        arm, seed = run["arm"], run["seed"]
        setting = _chosen(choices[choices["seed"] == seed] if alone else choices)[arm]
        if setting != {name: run[name] for name in setting}:
            raise ValueError(f"{arm!r} was measured with another setting than validation chose, which is {setting}")
        rows[arm, seed] = setting
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["arm", "seed"])


def _chosen(lines: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The setting of each arm, from lines of the choice."""
    choices = lines[lines["phase"] == "choice"]
    names = _grid_names(choices)
    tried = choices.pivot_table(index=[*names, "seed"], columns="arm", values="validation", sort=False)
    if tried.isna().any(axis=None):
        lacking = tried.isna().any()
        raise ValueError(f"{list(lacking[lacking].index)} were not tried on the grid of the other arms; run the choice")
    means = tried.groupby(names, sort=False).mean()
    chosen: dict[str, dict[str, float]] = {}
    for arm in means.columns:
        best = means[arm].idxmax()
        values = best if isinstance(best, tuple) else (best,)
        chosen[str(arm)] = {name: float(value) for name, value in zip(names, values, strict=True)}
    return chosen


def _grid_names(choices: pd.DataFrame) -> list[str]:
    return [name for name in TUNED if name in choices.columns and choices[name].notna().all()]


def at_the_edge(log: pd.DataFrame) -> list[str]:
    """Name the arms that chose the end of a range in most runs: more of it might be better still.

    The ends are the grid's lowest and highest value of a setting (of the length the highest alone, since the best epoch
    of a training may come early), and the last epoch of the longest training.
    """
    choices, results = (log[log["phase"] == phase] for phase in ("choice", "result"))
    chosen = chosen_settings(log)
    named = []
    for arm in results["arm"].unique():
        runs = results[results["arm"] == arm]
        settings = chosen.loc[arm]
        last = (runs["best_epoch"] == _lengths(runs)).to_numpy()
        for length in settings.columns.intersection(_LENGTHS):
            last = last & (settings[length] == choices[length].max()).to_numpy()
        ends = [last]
        for name in settings.columns.difference(_LENGTHS):
            lowest, highest = choices[name].min(), choices[name].max()
            if lowest < highest:
                ends.append(settings[name].isin([lowest, highest]).to_numpy())
        if any(end.mean() > 0.5 for end in ends):
            named.append(str(arm))
    return named


def edge_note(log: pd.DataFrame) -> str:
    """What stands below a table: the arms that `at_the_edge` names, in a paragraph of its own; "" if there is none."""
    edge = at_the_edge(log)
    note = f"More epochs, or a value outside the grid, might still be better for: {'; '.join(edge)}."
    return f"\n\n{note}" if edge else ""


def write_fair_table(log: str, table: str) -> None:
    """Write a table made of a log, with the `edge_note` of the log below it, and print both."""
    write_table(log, table + edge_note(read_log(log)))


def fair_table(
    log: pd.DataFrame,
    figure: str,
    reference: str,
    *,
    scale: float = 1.0,
    better: Literal["higher", "lower"] = "higher",
    also: Mapping[str, tuple[str, float]] | None = None,
) -> pd.DataFrame:
    """Make the table: one row for each arm, in the order of the log.

    Args:
        log: as `compare_arms` writes it.
        figure: the test figure that is compared.
        reference: the arm from which the paired differences are taken.
        scale: a factor of figure and differences, such as 100 for percentages.
        better: whether a higher or a lower figure wins.
        also: further figures of the results, by the titles of their columns: the name in the log, and a factor.

    Returns:
        `mean` and `sd` (n − 1) of the figure; `difference` from the reference arm, the half width `± 95%` of its
        interval (Student's t over the seeds), and `won`, the number of seeds in which the arm is better; the means of
        `also`; the setting that validation chose, or the lowest and highest if each seed chose for itself; the `best
        epoch` on average, of how many; and the budget.

    Raises:
        ValueError: a log without the budget of an arm.
    """
    results = log[log["phase"] == "result"].dropna(axis="columns", how="all")
    by_seed = results.pivot_table(index="seed", columns="arm", values=figure) * scale
    settings = chosen_settings(log)
    fixed = {"phase", "arm", "seed", *TUNED, "validation", "best_epoch", "every", "curve"}
    measured = log.loc[log["phase"] == "choice"].dropna(axis="columns", how="all").columns
    budget = [name for name in measured if name not in fixed]
    lines: dict[str, dict[str, Any]] = {}
    for arm in results["arm"].unique():
        runs = results[results["arm"] == arm]
        if not budget or runs[budget].isna().any(axis=None):
            raise ValueError(f"the log does not say what {arm!r} spent in every run; it says {budget}")
        gain = paired_gain(by_seed, arm, reference, better=better)
        lines[arm] = {
            "mean": by_seed[arm].mean(),
            "sd": by_seed[arm].std(ddof=1),
            **(dict.fromkeys(gain) if arm == reference else gain),
            **{title: factor * runs[name].mean() for title, (name, factor) in (also or {}).items()},
            **{name.replace("_", " "): _range(settings.loc[arm, name]) for name in settings.columns},
            "best epoch": f"{runs['best_epoch'].mean():.0f} of {_range(_lengths(runs))}",
            **{name: f"{runs[name].mean():,.0f}" for name in budget},
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def paired_gain(
    by_seed: pd.DataFrame, arm: str, reference: str, *, better: Literal["higher", "lower"] = "higher"
) -> dict[str, Any]:
    """Compare two arms seed by seed.

    Args:
        by_seed: the figure that is compared, a row for each seed and a column for each arm.
        arm: the arm that is compared.
        reference: the arm with which it is compared.
        better: whether a higher or a lower figure wins.

    Returns:
        `difference`, the mean over the seeds; `± 95%`, half the width of its interval; `won`, in how many seeds the arm
        is better.
    """
    gain = by_seed[arm] - by_seed[reference]
    won = gain > 0 if better == "higher" else gain < 0
    return {"difference": gain.mean(), "± 95%": half_width(gain), "won": f"{won.sum()} of {len(gain)}"}


def half_width(differences: pd.Series) -> float:
    """Return half the width of the 95% interval of a mean, by Student's t.

    Args:
        differences: one for each seed, two seeds or more.
    """
    from scipy.stats import t

    n = len(differences)
    return float(t.ppf(0.975, n - 1) * differences.std(ddof=1) / math.sqrt(n))


def _lengths(runs: pd.DataFrame) -> pd.Series:
    """The epochs of each training. Older logs have a figure for each epoch, and do not say so."""
    every = runs["every"].fillna(1) if "every" in runs else 1
    return runs["curve"].map(len) * every


def _range(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return f"{low:g}" if low == high else f"{low:g}–{high:g}"


def _outcome(trained: Trained, seconds: float) -> dict[str, Any]:
    curve = [round(float(value), 6) for value in trained.validation]
    if not curve or not all(map(math.isfinite, curve)):
        raise ValueError(f"the validation figures must be finite, one for each epoch; got {curve}")
    best = max(curve)
    return {
        "validation": best,
        "best_epoch": (curve.index(best) + 1) * trained.every,
        "every": trained.every,
        "curve": curve,
        "seconds": round(seconds, 1),
        **trained.budget,
    }
