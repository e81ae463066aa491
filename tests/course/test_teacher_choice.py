"""The teachers among which the help desk's is chosen: what their log has, and that validation alone has chosen."""

import json

import pytest

from distill_helpers import load_help_desk
from distill_helpers.course.experiments.teacher_choice import KINDS, LOG, N_TEST, summary
from distill_helpers.course.logs import RESULTS, bits, read_log
from distill_helpers.models.loading import COURSE_MODELS


def test_the_log_has_every_candidate_and_the_chosen_ones_are_the_best_on_validation():
    log = read_log(LOG)
    for kind, how in KINDS.items():
        tried = log[(log["phase"] == "candidate") & (log["kind"] == kind)]
        assert tuple(tried["learning_rate"]) == how.learning_rates
        for _, run in tried.iterrows():
            assert len(run["curve"]) == how.epochs
            assert (max(run["curve"]), run["curve"][int(run["best_epoch"]) - 1]) == (run["validation"],) * 2
        assert tried["accuracy"].isna().all(), "a candidate has seen test messages"
        (chosen,) = log[(log["phase"] == "chosen") & (log["kind"] == kind)].to_dict("records")
        best = tried[tried["learning_rate"] == chosen["learning_rate"]]["validation"].item()
        assert best == tried["validation"].max()
        assert bits(chosen["right"], N_TEST[how.task]).mean() == pytest.approx(chosen["accuracy"], abs=1e-6)


def test_the_table_is_of_the_log():
    assert N_TEST["help-desk"] == len(load_help_desk().test)
    table = summary()
    assert list(table.index)[:-1] == list(KINDS)
    assert str(table.index[-1]).startswith("that ships")
    measured = json.loads((COURSE_MODELS / "help-desk-teacher" / "manifest.json").read_text())["measured"]
    assert table["accuracy %"].iloc[-1] == pytest.approx(100 * measured["test_accuracy"], abs=0.11)
    lines = (RESULTS / f"{LOG}.md").read_text(encoding="utf-8").splitlines()
    cells = [line.split("|") for line in lines[2:] if line.startswith("| ")]
    assert [float(row[7]) for row in cells] == pytest.approx(table["accuracy %"].tolist(), abs=0.051)
