"""The protocol by which arms are compared: one grid, the choice on validation alone, paired seeds, the budget."""

import json

import pandas as pd
import pytest

from distill_helpers.course import logs
from distill_helpers.course.experiments.fair_arms import (
    Trained,
    at_the_edge,
    chosen_settings,
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

    def __call__(self, arm, seed, learning_rate):
        if self.dies_at == len(self.calls):
            raise KeyboardInterrupt
        self.calls.append((arm, learning_rate, seed))
        best = VALIDATION[arm][GRID.index(learning_rate)]

        def measure_test():
            self.measured.append((arm, learning_rate, seed))
            return {"accuracy": TEST[arm][GRID.index(learning_rate)] + seed / 100}

        return Trained((best - 0.2, best, best - 0.1), measure_test, {"texts": 64, "steps": 6, "seconds": 1.5})


def test_every_arm_is_tried_on_the_whole_grid_and_measured_at_its_own_choice(log):
    toy = Toy()
    compare_arms("toy", ARMS, {"learning_rate": GRID}, toy, seeds=(0, 1), tuning_seeds=(100,))
    assert set(toy.calls[:6]) == {(arm, rate, 100) for arm in ARMS for rate in GRID}
    chosen = {"hard labels": 3e-3, "distilled": 1e-2}
    assert chosen_settings(log())["learning_rate"].to_dict() == {(arm, s): chosen[arm] for s in (0, 1) for arm in ARMS}
    assert toy.calls[6:] == toy.measured == [(arm, chosen[arm], seed) for seed in (0, 1) for arm in ARMS]


def test_a_choice_that_reads_test_items_would_be_another_one(log):
    compare_arms("toy", ARMS, {"learning_rate": GRID}, Toy(), seeds=(0, 1))
    best_on_test = GRID[TEST["distilled"].index(max(TEST["distilled"]))]
    assert chosen_settings(log()).loc["distilled", "learning_rate"].tolist() != [best_on_test] * 2
    assert log().query("phase == 'choice'")["accuracy"].isna().all()


def by_its_split(arm, seed, learning_rate, epochs=2):
    """Each seed's validation items favour another learning rate, and every one the longer training."""
    best = (0.8 if learning_rate == GRID[seed % 2] else 0.5) + epochs / 100
    return Trained((0.1, best), lambda: {"accuracy": learning_rate * epochs}, {"steps": epochs}, every=epochs // 2)


def test_where_each_seed_splits_the_items_it_chooses_for_itself(log):
    grid = {"learning_rate": GRID[:2], "epochs": (2, 8)}
    compare_arms("toy", ARMS, grid, by_its_split, seeds=(0, 1, 2), tuning_seeds=None)
    expected = {(arm, seed): {"learning_rate": GRID[seed % 2], "epochs": 8} for arm in ARMS for seed in (0, 1, 2)}
    assert chosen_settings(log()).to_dict("index") == expected
    row = fair_table(log(), "accuracy", ARMS[0]).loc[ARMS[1]]
    assert (row["learning rate"], row["epochs"], row["best epoch"]) == ("0.001–0.003", "8", "8 of 8")
    assert row["mean"] == pytest.approx(8 * (1e-3 + 3e-3 + 1e-3) / 3)


def test_a_result_at_a_setting_that_was_not_chosen_is_refused(log):
    compare_arms("toy", ARMS, {"learning_rate": GRID}, Toy(), seeds=(0, 1))
    better_on_test = log()
    better_on_test.loc[better_on_test["phase"] == "result", "learning_rate"] = GRID[0]
    with pytest.raises(ValueError, match="'hard labels' was measured with another setting than validation chose"):
        fair_table(better_on_test, "accuracy", ARMS[0])


def test_a_table_without_the_budget_of_an_arm_is_refused(log):
    compare_arms("toy", ARMS, {"learning_rate": GRID}, Toy(), seeds=(0, 1))
    incomplete = log()
    incomplete.loc[(incomplete["phase"] == "result") & (incomplete["arm"] == ARMS[1]), "steps"] = None
    with pytest.raises(ValueError, match="does not say what 'distilled' spent"):
        fair_table(incomplete, "accuracy", ARMS[0])
    with pytest.raises(ValueError, match="does not say what 'hard labels' spent"):
        fair_table(log().drop(columns=["texts", "steps", "seconds"]), "accuracy", ARMS[0])


def test_a_setting_by_an_unknown_name_is_refused(log):
    with pytest.raises(ValueError, match=r"a grid may vary learning_rate, .*; got rate"):
        compare_arms("toy", ARMS, {"rate": GRID}, Toy())


def test_where_lower_is_better_the_lower_wins(log):
    compare_arms("toy", ARMS, {"learning_rate": GRID}, Toy(), seeds=(0, 1, 2))
    assert fair_table(log(), "accuracy", ARMS[0], better="lower").loc[ARMS[1], "won"] == "0 of 3"


def test_an_interrupted_comparison_goes_on_and_ends_the_same(log, tmp_path):
    compare_arms("toy", ARMS, {"learning_rate": GRID}, Toy(), seeds=(0, 1))
    whole = log()
    (tmp_path / "toy.jsonl").unlink()
    with pytest.raises(KeyboardInterrupt):
        compare_arms("toy", ARMS, {"learning_rate": GRID}, Toy(dies_at=7), seeds=(0, 1))
    rest = Toy()
    compare_arms("toy", ARMS, {"learning_rate": GRID}, rest, seeds=(0, 1))
    assert len(rest.calls) == 3
    pd.testing.assert_frame_equal(log(), whole)


def test_an_arm_with_another_grid_is_refused(log, tmp_path):
    compare_arms("toy", ARMS, {"learning_rate": GRID}, Toy(), seeds=(0, 1))
    lines = [json.loads(line) for line in (tmp_path / "toy.jsonl").read_text().splitlines()]
    without = [
        line for line in lines if (line["phase"], line["arm"], line["learning_rate"]) != ("choice", ARMS[0], 1e-2)
    ]
    with pytest.raises(ValueError, match=r"\['hard labels'\] were not tried on the grid of the other arms"):
        chosen_settings(pd.DataFrame(without))


def test_a_seed_that_chooses_is_not_measured(log):
    with pytest.raises(ValueError, match=r"seeds \[1\] would choose and be measured"):
        compare_arms("toy", ARMS, {"learning_rate": GRID}, Toy(), seeds=(0, 1), tuning_seeds=(1,))


@pytest.mark.parametrize("curve", [(), (0.5, float("nan"))])
def test_a_curve_that_chooses_nothing_is_refused(log, curve):
    with pytest.raises(ValueError, match="must be finite"):
        compare_arms("toy", ARMS, {"learning_rate": GRID}, lambda **_: Trained(curve, dict, {}), seeds=(0, 1))


def test_the_table_has_paired_differences_and_the_budget(log):
    compare_arms("toy", ARMS, {"learning_rate": GRID}, Toy(), seeds=(0, 1, 2))
    table = fair_table(log(), "accuracy", "hard labels", scale=100)
    assert list(table.index) == list(ARMS)
    row = table.loc["distilled"]
    assert row["mean"] == pytest.approx(71.0)
    assert row["sd"] == pytest.approx(1.0)
    assert row["difference"] == pytest.approx(10.0)
    assert row["± 95%"] == pytest.approx(0.0, abs=1e-9)  # each seed moves both arms alike
    assert (row["won"], row["learning rate"], row["best epoch"]) == ("3 of 3", "0.01", "2 of 3")
    assert (row["texts"], row["steps"], row["seconds"]) == ("64", "6", "2")
    assert pd.isna(table.loc["hard labels", "difference"])


def test_an_arm_at_the_end_of_its_grid_is_named(log):
    compare_arms("toy", ARMS, {"learning_rate": GRID}, Toy(), seeds=(0, 1))
    assert at_the_edge(log()) == ["distilled"]
    assert edge_note(log()).strip().endswith("might still be better for: distilled.")
    inside = log()
    distilled = inside["arm"] == "distilled"
    inside.loc[distilled & (inside["learning_rate"] == GRID[1]), "validation"] = 0.9
    inside.loc[distilled & (inside["phase"] == "result"), "learning_rate"] = GRID[1]
    assert edge_note(inside) == ""


@pytest.mark.parametrize("length", ["epochs", "max_steps"])
def test_a_length_has_one_edge_the_longest_training_that_ends_best(log, length):
    def train(arm, seed, **setting):
        (steps,) = setting.values()
        curve = {"short": (0.9, 0.1), "early": (0.8, 0.5), "late": (0.8, steps / 10)}[arm]
        return Trained([0.1 * steps * value for value in curve], lambda: {"accuracy": 0.5}, {"steps": steps})

    compare_arms("toy", ("short", "early", "late"), {length: (2, 9)}, train, seeds=(0, 1))
    assert set(chosen_settings(log())[length]) == {9}
    assert at_the_edge(log()) == ["late"]


#: What a training may spend. Any other figure in a line of the choice would have been measured on test items.
BUDGETS = {
    "images",
    "pairs",
    "passages",
    "sentences",
    "texts",
    "texts read",
    "with labels",
    "words",
    "steps",
    "epochs",
    "seconds",
} | {
    "tokens learnt",
    "tokens written",
}
FAIR_LOGS = sorted(path.stem for path in logs.RESULTS.glob("*.jsonl") if '"phase": "choice"' in path.read_text())


@pytest.mark.parametrize("name", FAIR_LOGS)
def test_every_committed_comparison_is_fair(name):
    """What each arm was tried with, chose, spent and was measured on, as the committed log has it."""
    log = logs.read_log(name)
    settings = chosen_settings(log)  # refuses grids that differ, and results at another setting than the chosen one
    results = log[log["phase"] == "result"]
    seeds = results.groupby("arm")["seed"].apply(sorted)
    assert len({tuple(of_arm) for of_arm in seeds}) == 1, "the arms are not paired"
    assert len(seeds.iloc[0]) >= 5
    assert set(settings.index.get_level_values("arm")) == set(log.loc[log["phase"] == "choice", "arm"])
    assert len(log.loc[log["phase"] == "choice", list(settings.columns)].drop_duplicates()) > 1, "nothing was chosen"
    measured = results.dropna(axis="columns", how="all").select_dtypes("number").columns
    figures = measured.difference(["seed", "validation", "best_epoch", "every"])
    fair_table(log, figures[0], str(seeds.index[0]))  # refuses an arm without its budget
    of_choice = set(log[log["phase"] == "choice"].dropna(axis="columns", how="all").columns)
    spent = of_choice - {"phase", "arm", "seed", "validation", "best_epoch", "every", "curve", *settings.columns}
    assert "steps" in spent, "the budget lacks the steps"
    assert spent <= BUDGETS, f"a choice has seen {spent - BUDGETS}"


def test_the_comparisons_of_the_course_are_among_them():
    assert {"embedding-task", "image-task", "multi-label-task", "several-teachers", "token-task"} <= set(FAIR_LOGS)
