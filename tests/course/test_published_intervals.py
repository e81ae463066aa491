"""Differences seed by seed that the README and the errata state with their intervals, computed from the logs."""

from collections.abc import Mapping
from functools import cache

import pandas as pd
import pytest
from published_text import readme_row

from distill_helpers.course.experiments import alpha, capacity, feature_terms, landmark_ablations
from distill_helpers.course.experiments.fair_arms import half_width
from distill_helpers.course.folders import NOTEBOOKS
from distill_helpers.course.logs import read_log


def figures(log: str, name: str, factor: float = 1.0, **only: object) -> pd.DataFrame:
    """One figure of the measured runs: a row for each seed, a column for each arm."""
    lines = read_log(log)
    for column, value in only.items():
        lines = lines[lines[column] == value]
    return factor * lines.pivot_table(index="seed", columns="arm" if "arm" in lines else "terms", values=name)


def stated(difference: pd.Series, digits: int = 1) -> str:
    """The size of a difference and half its 95% interval, as the pages print them."""
    return f"{abs(difference.mean()):.{digits}f} ± {half_width(difference):.{digits}f}"


def of_features(share: float) -> pd.DataFrame:
    runs = figures(feature_terms.LOG, "accuracy", 100, share=share)
    return runs.sub(runs["response alone"], axis=0)


def of_token_task(name: str, factor: float = 1.0) -> pd.Series:
    runs = figures("token-task", name, factor, phase="result")
    return runs.rsub(runs["hard labels"], axis=0)


@cache
def in_readme() -> Mapping[str, list[tuple[pd.Series, int]]]:
    frozen = figures("freezing", "accuracy", 100, phase="result")["embeddings and layers, half of the steps"]
    doors = figures("api-doors", "accuracy", 100, phase="result")
    nll, accuracy = of_token_task("nll"), of_token_task("accuracy", -100)
    same, more = "distilled, same passages", "distilled, and 600 passages without labels"
    whole, tenth = of_features(1.0), of_features(0.1)
    return {
        "freezing": [(frozen - landmark_ablations.accuracies()["DistilBERT"], 1)],
        "api-doors": [(doors["1 answer"] - doors["the likeliest intent"], 1)],
        "token-task": [(nll[same], 2), (nll[more], 2), (accuracy[more], 1)],
        "feature-terms": [
            (whole["+ attention scores"], 1),
            (whole["+ value relations"], 1),
            (tenth["+ hidden states"], 1),
            (whole["+ hidden states"], 1),
            (whole["+ embeddings, hidden states, attention scores"], 1),
        ],
    }


@pytest.mark.parametrize("log", in_readme())
def test_the_readme_has_the_intervals_of_the_log(log: str) -> None:
    for difference, digits in in_readme()[log]:
        assert stated(difference, digits) in readme_row(log)


def test_the_errata_have_the_intervals_of_the_logs() -> None:
    errors, by_width, whole = alpha.errors_by_seed()["right"], capacity.by_seed(), of_features(1.0)
    costs = {width: by_width[width, 240, "T = 20"] - by_width[width, 240, "T = 1"] for width in (8, 128)}
    helped = by_width[16, 240, "T = 20"] - by_width[16, 960, "T = 20"]
    text = (NOTEBOOKS / "errata.md").read_text("utf-8")
    for passage in (
        f"as many errors as hard labels alone (+{stated(errors[0.7] - errors[0.0])})",
        f"0.3 makes {stated(errors[0.3] - errors[0.7])} fewer than 0.7",
        f"0.9 makes {stated(errors[0.9] - errors[0.7])} more",
        f"costs {stated(costs[8], 0)} errors of 500 with 8 units, and {stated(costs[128])} with 128",
        f"after 960 ({stated(helped)} fewer)",
        f"hidden states cost {stated(of_features(0.1)['+ hidden states'])} points",
        f"changed the accuracy by −{stated(whole['+ hidden states'])} points",
    ):
        assert passage in text, passage
    assert errors[0.7].mean() > errors[0.0].mean() > errors[0.3].mean()
    assert errors[0.9].mean() > errors[0.7].mean()
    assert min(costs[8].mean(), helped.mean(), -whole["+ hidden states"].mean()) > 0
