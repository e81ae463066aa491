"""The review sheet: who is drawn, verdicts that survive, the interval, and the buttons."""

import json
import os
from collections import Counter

import ipywidgets
import pytest
from api_records import answered, failed, place

from distill_helpers.api.labels.label_probabilities import probabilities_from_logprobs
from distill_helpers.api.review.sheet import ReviewItem, ReviewSheet, review_items, wilson_interval
from distill_helpers.api.review.widget import render_item, render_progress, review_widget

NAMES = ("mac", "windows", "x & y")
ITEMS = [ReviewItem("<b>bold</b> & $x$", "mac"), ReviewItem("second", "windows"), ReviewItem("third", "x & y")]
SECRET = "my password is hunter2"


@pytest.fixture
def sheet(tmp_path):
    return ReviewSheet(tmp_path / "new folder" / "verdicts.jsonl", ITEMS, NAMES)


def again(sheet, items=ITEMS):
    return ReviewSheet(sheet.path, items, sheet.label_names)


def test_items_have_each_label_with_its_share_and_the_seed_decides():
    records = [answered(f"input {i}", NAMES[0 if i < 700 else 1 if i < 950 else 2]) for i in range(1000)]
    items = review_items(records, NAMES, size=150)
    assert Counter(item.shown for item in items) == {"mac": 105, "windows": 38, "x & y": 7}  # 37.5 and 7.5
    assert len(set(items)) == 150
    assert items == review_items(records, NAMES, size=150)
    assert items != review_items(records, NAMES, size=150, seed=1)
    # In random order: the first half is a sample as well.
    assert 40 <= sum(item.shown == "mac" for item in items[:75]) <= 65
    assert len(review_items(records[:20], NAMES, size=150)) == 20


def test_what_is_shown_of_samples_texts_and_other_labels():
    records = [answered("a", text, sample=i) for i, text in enumerate(["windows", "mac", "?", "It is a mac"])]
    records += [answered("b", "?"), failed("c"), answered("d", "windows"), answered("d", "mac", sample=1)]
    shown = {item.input_text: item.shown for item in review_items(records, NAMES)}
    assert shown == {"a": "mac", "d": "windows"}
    texts = {item.input_text: item.shown for item in review_items(records)}
    assert texts == {"a": "windows", "b": "?", "d": "windows"}
    given = review_items(records, NAMES, labels={"a": 2, "b": 0})
    assert {item.input_text: item.shown for item in given} == {"a": "x & y", "b": "mac"}


def test_the_labels_of_probabilities_can_be_shown():
    records = [answered("a", "A", place(("A", 0.5), ("B", 0.4))), answered("b", "A", place(("A", 0.8), ("B", 0.1)))]
    labels = probabilities_from_logprobs(records, NAMES[:2], answers="AB").calibrated().labels
    shown = {item.input_text: item.shown for item in review_items(records, NAMES[:2], labels=labels)}
    assert shown == {"a": "windows", "b": "mac"}


@pytest.mark.parametrize(
    ("records", "settings", "message"),
    [
        ([answered("a", "mac")], {"size": 0}, "size .* 0"),
        ([failed("a"), answered("b", "?")], {"label_names": NAMES}, "no answer to review"),
        ([answered("a", "mac")], {"labels": {"a": 0}}, "pass label_names"),
        ([answered(SECRET, "mac"), answered(SECRET, "mac", model="n")], {}, "more than one prompt"),
    ],
)
def test_items_that_cannot_be_drawn(records, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        review_items(records, **settings)
    assert SECRET not in str(error.value)


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
    with pytest.raises(ValueError, match="only a label"):
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


def test_html(sheet):
    page = render_item(sheet, 0, note="<i>")
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; $x$" in page
    assert "<b>bold" not in page
    assert "mathjax_ignore" in page
    assert "&lt;i&gt;" in page
    assert "answer 1 of 3" in page
    assert "<b>x &amp; y</b>" in render_item(sheet, 2)
    assert "verdict so far" not in page
    sheet.judge(0, "wrong", "x & y")
    assert "Your verdict so far: wrong; right is x &amp; y." in render_item(sheet, 0)
    assert "1 of 3 judged: 0 right, 1 wrong, 0 unsure. Right: 0%" in render_progress(sheet)
    assert "judged. Thank you" in render_item(sheet, None)


def parts(widget):
    """The HTML of progress and item, and the controls by their description."""
    progress, shown, row = widget.children
    return progress, shown, {control.description: control for control in row.children}


def test_the_buttons_write_the_file(sheet):
    progress, shown, controls = parts(review_widget(sheet))
    assert "bold" in shown.value
    controls["Right"].click()
    assert "second" in shown.value
    assert "1 of 3" in progress.value
    controls["Wrong"].click()  # without the right label
    assert "Choose the right label" in shown.value
    assert [name for name, _ in controls["Right is"].options] == ["choose a label", "mac", "x & y"]
    controls["Right is"].value = "x & y"
    controls["Wrong"].click()
    assert "third" in shown.value
    controls["Back"].click()
    assert "verdict so far: wrong" in shown.value
    controls["Unsure"].click()
    assert "third" in shown.value
    controls["Unsure"].click()
    assert "Every answer is judged" in shown.value
    assert controls["Right"].disabled
    controls["Right"].click()
    lines = [json.loads(line) for line in sheet.path.read_text().splitlines()]
    assert [(line["input"], line["verdict"], line["label"]) for line in lines] == [
        (ITEMS[0].input_text, "right", "mac"),
        ("second", "wrong", "x & y"),
        ("second", "unsure", None),
        ("third", "unsure", None),
    ]
    controls["Back"].click()
    assert "third" in shown.value
    assert not controls["Right"].disabled


def test_the_widget_goes_on_with_the_first_open_item(sheet):
    sheet.judge(0, "right")
    sheet.judge(2, "right")
    _, shown, controls = parts(review_widget(again(sheet)))
    assert "second" in shown.value
    controls["Back"].click()
    controls["Unsure"].click()
    assert "second" in shown.value
    controls["Right"].click()
    assert again(sheet).next_open() is None


def test_texts_are_judged_without_a_list(tmp_path):
    sheet = ReviewSheet(tmp_path / "v.jsonl", ITEMS)
    _, shown, controls = parts(review_widget(sheet))
    assert "Right is" not in controls
    controls["Wrong"].click()
    assert "second" in shown.value
    assert sheet.counts()["wrong"] == 1
    assert all(isinstance(control, ipywidgets.Button) for control in controls.values())
