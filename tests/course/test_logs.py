from pathlib import Path

import pandas as pd
import pytest

from distill_helpers.course import logs
from distill_helpers.course.logs import append_run, read_log, run_missing


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(logs, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def test_what_is_appended_is_read_again(folder: Path) -> None:
    append_run("log", {"model": "a", "seed": 0, "accuracy": 0.12345678})
    append_run("log", {"model": "b", "seed": 1, "accuracy": 1.0})
    expected = pd.DataFrame({"model": ["a", "b"], "seed": [0, 1], "accuracy": [0.123457, 1.0]})
    pd.testing.assert_frame_equal(read_log("log"), expected)
    assert len((folder / "log.jsonl").read_text().splitlines()) == 2


def test_a_log_that_is_not_there_says_how_to_make_it() -> None:
    with pytest.raises(FileNotFoundError, match=r"no log\.jsonl in data/results; `make results` makes it"):
        read_log("log")


def test_only_missing_runs_are_made_and_an_interrupted_one_loses_nothing() -> None:
    made = []

    def run(model: str, seed: int) -> dict[str, float]:
        if (model, seed) == ("b", 1) and len(made) == 3:
            raise KeyboardInterrupt
        made.append((model, seed))
        return {"errors": 10 * seed}

    wanted = [{"model": model, "seed": seed} for seed in range(2) for model in "ab"]
    with pytest.raises(KeyboardInterrupt):
        run_missing("log", wanted, run)
    assert made == [("a", 0), ("b", 0), ("a", 1)]
    assert len(read_log("log")) == 3
    made.append(("interrupted", 1))
    run_missing("log", wanted, run)
    run_missing("log", wanted, run)
    assert made[4:] == [("b", 1)]
    assert read_log("log")["errors"].tolist() == [0, 0, 10, 10]
