"""Linear models that a student of the help desk has to pass, and what notebook 05 says of them and of budgets."""

import re

import numpy as np
import pytest
from published_text import readme_row

from distill_helpers.course.experiments import label_budget, linear_models
from distill_helpers.course.experiments.linear_models import FEATURES, GRID, LOG, summary
from distill_helpers.course.folders import ROOT
from distill_helpers.course.logs import RESULTS, bits, read_log

N_TEST = 1952
LABELS, TEXTS = tuple(linear_models.LABELS), tuple(linear_models.TEXTS)
PAGE = (ROOT / "notebooks" / "source" / "05_response_distillation.py").read_text(encoding="utf-8")


def test_the_log_has_every_row_with_the_c_that_validation_chose() -> None:
    log = read_log(LOG)
    assert len(log) == len(FEATURES) * len(LABELS) * len(TEXTS)
    assert not log.duplicated(["features", "labels", "text"]).any()
    assert log.groupby("text")["texts"].nunique().eq(1).all(), "every row has the same texts"
    for row in log.to_dict("records"):
        tried = [float(value) for value in row["tried"].split()]
        assert row["c"] == GRID[tried.index(max(tried))]
        assert row["validation"] == pytest.approx(max(tried), abs=1e-4)
        assert bits(row["right"], N_TEST).mean() == pytest.approx(row["accuracy"], abs=1e-6)


def test_the_interval_is_of_the_differences_message_by_message() -> None:
    rows = {
        (row["labels"], row["text"]): row for row in read_log(LOG).to_dict("records") if row["features"] == "tf-idf"
    }
    with_windows, alone = (bits(rows[LABELS[0], text]["right"], N_TEST) for text in reversed(TEXTS))
    gained, lost = ((with_windows > alone).sum(), (with_windows < alone).sum())
    line = summary().loc[f"tf-idf, {LABELS[0]}, {TEXTS[1]}"]
    assert line["difference"] == pytest.approx(100 * (gained - lost) / len(alone))
    # McNemar's standard error of a difference of two shares of the same messages.
    error = np.sqrt(gained + lost - (gained - lost) ** 2 / len(alone)) / len(alone)
    assert line["± 95%"] == pytest.approx(196 * error, rel=1e-3)
    assert line["difference"] > line["± 95%"], "the windows help"


def test_the_page_says_what_the_log_says() -> None:
    table = summary()["accuracy %"]
    without_teacher = table[table.index.str.contains(LABELS[0])]
    assert f"**{without_teacher.max():.1f}%** is what tf-idf reaches without a teacher" in PAGE.replace("\n# ", " ")
    frozen = table[f"frozen encoder, {LABELS[0]}, {TEXTS[0]}"]
    assert re.search(rf"linear head reaches {frozen:.1f}% from the messages alone", PAGE.replace("\n# ", " "))
    rows = read_log(LOG)
    (chosen,) = rows.query("features == 'tf-idf' and labels == \"sender's queue\" and text == 'messages'")["c"]
    assert f"That row has C = {chosen:g} for" in PAGE


def test_the_table_is_that_of_the_log() -> None:
    lines = (RESULTS / f"{LOG}.md").read_text(encoding="utf-8").splitlines()[2:]
    assert [float(line.split("|")[5]) for line in lines] == pytest.approx(summary()["accuracy %"].tolist(), abs=0.051)


@pytest.mark.slow
def test_a_row_is_made_again() -> None:
    (row,) = (
        read_log(LOG)
        .query("features == 'tf-idf' and labels == \"sender's queue\" and text == 'messages'")
        .to_dict("records")
    )
    again = linear_models.run("tf-idf", LABELS[0], TEXTS[0])
    assert again["accuracy"] == pytest.approx(row["accuracy"], abs=0.003)
    assert again["c"] == row["c"]


def test_what_the_page_says_of_budgets() -> None:
    table = label_budget.summary()
    page = PAGE.replace("\n# ", " ")
    for arm, before, after in (
        ("soft labels, T = 20, 15 epochs", "After 15 epochs, soft labels at T = 20 make ", " more errors"),
        ("soft labels, T = 20, 240 epochs", "after 240 epochs, ", " more."),
    ):
        row = table.loc[arm]
        assert f"{before}{row['difference']:.1f} ± {row['± 95%']:.1f}{after}" in page
        assert row["difference"] > row["± 95%"]
    smoothed = table.loc["label smoothing 0.1, 240 epochs"]
    assert f"make {-smoothed['difference']:.1f} ± {smoothed['± 95%']:.1f} errors fewer than hard labels" in page
    assert max(label_budget.EPOCHS) == 240, "the page names the longest budget"
    short, long = (table.loc[f"soft labels, T = 20, {epochs} epochs", "difference"] for epochs in (15, 240))
    assert long / short == pytest.approx(0.5, abs=0.1)


def test_the_readme_says_what_the_log_says() -> None:
    line = readme_row("linear-models")
    table = summary()["accuracy %"]
    rows = [
        table[f"tf-idf, {LABELS[0]}, {TEXTS[0]}"],
        table[f"tf-idf, {LABELS[0]}, {TEXTS[1]}"],
        table[f"frozen encoder, {LABELS[0]}, {TEXTS[0]}"],
        table[f"tf-idf, {LABELS[2]}, {TEXTS[1]}"],
    ]
    assert re.findall(r"(\d+\.\d)%", line) == [f"{accuracy:.1f}" for accuracy in rows]
