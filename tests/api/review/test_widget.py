"""The review widget: its HTML, and its buttons."""

import json
import sys

import ipywidgets
import pytest

from distill_helpers.api.review.sampling import ReviewItem
from distill_helpers.api.review.sheet import ReviewSheet
from distill_helpers.api.review.widget import render_item, render_progress, review_widget

NAMES = ("mac", "windows", "x & y")
ITEMS = [ReviewItem("<b>bold</b> & $x$", "mac"), ReviewItem("second", "windows"), ReviewItem("third", "x & y")]


@pytest.fixture
def sheet(tmp_path):
    return ReviewSheet(tmp_path / "verdicts.jsonl", ITEMS, NAMES)


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
    _, shown, controls = parts(review_widget(ReviewSheet(sheet.path, ITEMS, NAMES)))
    assert "second" in shown.value
    controls["Back"].click()
    controls["Unsure"].click()
    assert "second" in shown.value
    controls["Right"].click()
    assert ReviewSheet(sheet.path, ITEMS, NAMES).next_open() is None


def test_texts_are_judged_without_a_list(tmp_path):
    sheet = ReviewSheet(tmp_path / "v.jsonl", ITEMS)
    _, shown, controls = parts(review_widget(sheet))
    assert "Right is" not in controls
    controls["Wrong"].click()
    assert "second" in shown.value
    assert sheet.counts()["wrong"] == 1
    assert all(isinstance(control, ipywidgets.Button) for control in controls.values())


def test_without_ipywidgets_the_error_says_what_to_install(sheet, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)  # makes its import fail
    with pytest.raises(ModuleNotFoundError, match=r'package ipywidgets; run `pip install "distill-helpers\[review\]"`'):
        review_widget(sheet)
