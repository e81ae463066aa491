"""The review sheet: verdicts that survive, and the interval of the accuracy."""

import json
import os

import pytest

from distill_helpers.api.review.sampling import ReviewItem
from distill_helpers.api.review.sheet import ReviewSheet, wilson_interval

NAMES = ("mac", "windows", "x & y")
ITEMS = [ReviewItem("<b>bold</b> & $x$", "mac"), ReviewItem("second", "windows"), ReviewItem("third", "x & y")]
SECRET = "my password is hunter2"


@pytest.fixture
def sheet(tmp_path):
    return ReviewSheet(tmp_path / "new folder" / "verdicts.jsonl", ITEMS, NAMES)


def again(sheet, items=ITEMS):
    return ReviewSheet(sheet.path, items, sheet.label_names)


def test_verdicts_are_saved_at_once_and_the_last_one_counts(sheet):
    assert not sheet.path.exists()
    sheet.judge(0, "right")
    assert len(sheet.path.read_text().splitlines()) == 1
    sheet.judge(1, "wrong", "mac")
    sheet.judge(0, "unsure")
    sheet.judge(2, "unsure")
    sheet.judge(2, "right")
    for one in (sheet, again(sheet)):
        assert one.counts() == {"right": 1, "wrong": 1, "unsure": 1, "open": 0}
        assert one.verified_labels() == {"second": 0, "third": 2}
        assert one.next_open() is None
    lines = [json.loads(line) for line in sheet.path.read_text().splitlines()]
    assert [line["verdict"] for line in lines] == ["right", "wrong", "unsure", "unsure", "right"]
    assert lines[1] | {"date": ""} == {
        "input": "second",
        "shown": "windows",
        "verdict": "wrong",
        "label": "mac",
        "date": "",
    }


def test_a_verdict_is_on_the_disk_before_judge_returns(sheet, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(sheet.path.read_bytes()))
    sheet.judge(0, "right")
    sheet.judge(1, "right")
    assert [content.count(b"\n") for content in synced] == [1, 2]  # written out before it was synced
    assert synced[-1] == sheet.path.read_bytes()


def test_the_next_open_item_is_behind_or_else_the_first(sheet):
    assert [sheet.next_open(after) for after in (-1, 0, 1, 2)] == [0, 1, 2, 0]
    sheet.judge(2, "right")
    assert [sheet.next_open(after) for after in (-1, 0, 1, 2)] == [0, 1, 0, 0]


def test_a_torn_last_line_is_cut_off_and_a_whole_one_ended(sheet):
    sheet.judge(0, "right")
    sheet.judge(1, "right")
    whole = sheet.path.read_bytes()
    sheet.path.write_bytes(whole[:-20])
    torn = again(sheet)
    assert torn.counts()["open"] == 2
    torn.judge(2, "right")
    assert again(sheet).counts() == {"right": 2, "wrong": 0, "unsure": 0, "open": 1}
    sheet.path.write_bytes(whole[:-1])  # only the line's end is missing
    again(sheet).judge(2, "right")
    assert again(sheet).counts()["right"] == 3


def test_an_answer_that_has_changed_is_open_again_and_its_label_stays_verified(sheet):
    sheet.judge(0, "wrong", "windows")
    changed = again(sheet, [ReviewItem(ITEMS[0].input_text, "windows"), *ITEMS[1:]])
    assert changed.counts()["open"] == 3
    assert changed.verified_labels() == {ITEMS[0].input_text: 1}


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"input": "my password is hunter2"}', b"\xff"])
def test_a_line_that_is_no_verdict_is_named_without_its_text(sheet, line):
    sheet.judge(0, "right")
    sheet.path.write_bytes(line + b"\n" + sheet.path.read_bytes())
    with pytest.raises(ValueError, match=r"line 1 of .* is not a verdict") as error:
        again(sheet)
    assert SECRET not in str(error.value)


def test_verdicts_with_other_labels_are_refused(sheet):
    sheet.judge(0, "right")
    with pytest.raises(ValueError, match=r"line 1 .* 'mac' is none of the labels"):
        ReviewSheet(sheet.path, ITEMS, ("windows", "x & y"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("maybe",), "'maybe'"),
        (("wrong",), r"one of \['windows', 'x & y'\], got None"),
        (("wrong", "mac"), "got 'mac'"),
        (("wrong", "linux"), "got 'linux'"),
        (("right", "mac"), "'right'"),
    ],
)
def test_verdicts_that_say_nothing_are_refused(sheet, arguments, message):
    with pytest.raises(ValueError, match=message):
        sheet.judge(0, *arguments)
    assert not sheet.path.exists()


def test_texts_have_no_labels(tmp_path):
    sheet = ReviewSheet(tmp_path / "v.jsonl", ITEMS)
    sheet.judge(0, "wrong")
    sheet.judge(1, "right")
    with pytest.raises(ValueError, match="only a wrong label"):
        sheet.judge(2, "wrong", "mac")
    assert sheet.verified_labels() == {}
    assert sheet.accuracy().share == 0.5
    with pytest.raises(ValueError, match="no items"):
        ReviewSheet(tmp_path / "v.jsonl", [])


def test_wilsons_interval():
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    for (r, n), (low, high) in {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }.items():
        assert wilson_interval(r, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(29, 29)[1] == 1
    for r, n in ((1, 0), (0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="need 0 <="):
            wilson_interval(r, n)


def test_accuracy_leaves_the_unsure_ones_out(sheet):
    with pytest.raises(ValueError, match="judged right or wrong yet"):
        sheet.accuracy()
    sheet.judge(0, "right")
    sheet.judge(1, "wrong", "mac")
    sheet.judge(2, "unsure")
    accuracy = sheet.accuracy()
    assert (accuracy.share, accuracy.n_judged, accuracy.n_unsure) == (0.5, 2, 1)
    assert (accuracy.low, accuracy.high) == wilson_interval(1, 2)


def test_150_answers_of_which_80_percent_are_right():
    assert [round(bound, 2) for bound in wilson_interval(120, 150)] == [0.73, 0.86]  # as the docstring says


def test_a_repr_is_one_line_without_a_text(sheet):
    sheet.judge(0, "wrong", "windows")
    assert repr(sheet) == f"ReviewSheet('{sheet.path}', 3 items: 0 right, 1 wrong, 0 unsure, 2 open)"
    assert repr(sheet.verdict(0)).startswith("ReviewVerdict('wrong', label='windows', 20")
    assert "bold" not in repr(sheet.verdict(0))
