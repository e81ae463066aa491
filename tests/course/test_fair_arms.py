"""The protocol by which arms are compared: one grid, the choice on validation alone, paired seeds, the budget."""

import json

import pandas as pd
import pytest

from distill_helpers.course import logs
from distill_helpers.course.experiments.fair_arms import (
    Trained,
    at_the_edge,
    chosen_rates,
    compare_arms,
    edge_note,
    fair_table,
)

ARMS, GRID = ("hard labels", "distilled"), (1e-3, 3e-3, 1e-2)
#: The highest validation figure and the test accuracy of each arm at each learning rate. By its test items, "distilled"
#: would choose the lowest.
VALIDATION = {"hard labels": (0.6, 0.7, 0.5), "distilled": (0.7, 0.75, 0.8)}
TEST = {"hard labels": (0.5, 0.6, 0.4), "distilled": (0.9, 0.8, 0.7)}


@pytest.fixture
def log(tmp_path, monkeypatch):
    """An empty folder of logs; returns a function that reads the log."""
    monkeypatch.setattr(logs, "RESULTS", tmp_path)
    return lambda: logs.read_log("toy")


class Toy:
    """Trains nothing, and notes what it was asked for."""

    def __init__(self, dies_at=None):
        self.calls, self.measured, self.dies_at = [], [], dies_at

    def __call__(self, arm, learning_rate, seed):
        if self.dies_at == len(self.calls):
            raise KeyboardInterrupt
        self.calls.append((arm, learning_rate, seed))
        best = VALIDATION[arm][GRID.index(learning_rate)]

        def measure_test():
            self.measured.append((arm, learning_rate, seed))
            return {"accuracy": TEST[arm][GRID.index(learning_rate)] + seed / 100}

        return Trained((best - 0.2, best, best - 0.1), measure_test, {"texts": 64, "steps": 6})


def test_every_arm_is_tried_on_the_whole_grid_and_measured_at_its_own_choice(log):
    toy = Toy()
    compare_arms("toy", ARMS, GRID, toy, seeds=(0, 1), tuning_seeds=(100,))
    assert set(toy.calls[:6]) == {(arm, rate, 100) for arm in ARMS for rate in GRID}
    chosen = {"hard labels": 3e-3, "distilled": 1e-2}
    assert chosen_rates(log()) == chosen
    assert toy.calls[6:] == toy.measured == [(arm, chosen[arm], seed) for seed in (0, 1) for arm in ARMS]


def test_a_choice_that_reads_test_items_would_be_another_one(log):
    compare_arms("toy", ARMS, GRID, Toy(), seeds=(0, 1))
    assert chosen_rates(log())["distilled"] != GRID[TEST["distilled"].index(max(TEST["distilled"]))]
    assert log().query("phase == 'choice'")["accuracy"].isna().all()


def test_an_interrupted_comparison_goes_on_and_ends_the_same(log, tmp_path):
    compare_arms("toy", ARMS, GRID, Toy(), seeds=(0, 1))
    whole = log()
    (tmp_path / "toy.jsonl").unlink()
    with pytest.raises(KeyboardInterrupt):
        compare_arms("toy", ARMS, GRID, Toy(dies_at=7), seeds=(0, 1))
    rest = Toy()
    compare_arms("toy", ARMS, GRID, rest, seeds=(0, 1))
    assert len(rest.calls) == 3
    pd.testing.assert_frame_equal(log(), whole)


def test_an_arm_with_another_grid_is_refused(log, tmp_path):
    compare_arms("toy", ARMS, GRID, Toy(), seeds=(0, 1))
    lines = [json.loads(line) for line in (tmp_path / "toy.jsonl").read_text().splitlines()]
    without = [
        line for line in lines if (line["phase"], line["arm"], line["learning_rate"]) != ("choice", ARMS[0], 1e-2)
    ]
    with pytest.raises(ValueError, match=r"\['hard labels'\] were not tried on the grid of the other arms"):
        chosen_rates(pd.DataFrame(without))


def test_a_seed_that_chooses_is_not_measured(log):
    with pytest.raises(ValueError, match=r"seeds \[1\] would choose and be measured"):
        compare_arms("toy", ARMS, GRID, Toy(), seeds=(0, 1), tuning_seeds=(1,))


@pytest.mark.parametrize("curve", [(), (0.5, float("nan"))])
def test_a_curve_that_chooses_nothing_is_refused(log, curve):
    with pytest.raises(ValueError, match="must be finite"):
        compare_arms("toy", ARMS, GRID, lambda *_: Trained(curve, dict, {}), seeds=(0, 1))


def test_the_table_has_paired_differences_and_the_budget(log):
    compare_arms("toy", ARMS, GRID, Toy(), seeds=(0, 1, 2))
    table = fair_table(log(), "accuracy", "hard labels", scale=100)
    assert list(table.index) == list(ARMS)
    row = table.loc["distilled"]
    assert row["mean"] == pytest.approx(71.0)
    assert row["sd"] == pytest.approx(1.0)
    assert row["difference"] == pytest.approx(10.0)
    assert row["± 95%"] == pytest.approx(0.0, abs=1e-9)  # each seed moves both arms alike
    assert (row["won"], row["learning rate"], row["best epoch"]) == ("3 of 3", "0.01", "2 of 3")
    assert (row["texts"], row["steps"]) == ("64", "6")
    assert pd.isna(table.loc["hard labels", "difference"])


def test_an_arm_at_the_end_of_its_grid_is_named(log):
    compare_arms("toy", ARMS, GRID, Toy(), seeds=(0, 1))
    assert at_the_edge(log()) == ["distilled"]
    assert edge_note(log()).strip().endswith("might still be better for: distilled.")
    inside = log()
    inside.loc[(inside["arm"] == "distilled") & (inside["learning_rate"] == GRID[1]), "validation"] = 0.9
    assert edge_note(inside) == ""
