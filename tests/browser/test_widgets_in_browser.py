"""Every widget of the notebooks, and a quiz, operated in a browser as a learner does.

A picture of each widget after its last move lies in pytest's temporary folder, for looking at.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from controls import Control, WidgetOnPage
from opened import Opened
from playwright.sync_api import Locator, Page, expect
from reduced import reduce_notebook

from distill_helpers.course.folders import NOTEBOOKS, notebook_names
from distill_helpers.course.quiz import load_quiz

pytestmark = pytest.mark.slow

NAMES = notebook_names()
#: Half a minute or more for their cells, and no kind of control that the others do not have.
LEFT_OUT = ("02_temperature", "05_response_distillation", "07_landmark_systems", "08_api_distillation")
unless_asked = pytest.mark.skipif("ALL_WIDGETS" not in os.environ, reason="takes a minute; run with ALL_WIDGETS=1")
WIDGETS = [
    pytest.param(name, widget.name, marks=unless_asked if name in LEFT_OUT else (), id=f"{name}-{widget.name}")
    for name in NAMES
    for widget in reduce_notebook(NOTEBOOKS / f"{name}.ipynb").widgets
]


@pytest.mark.parametrize(("opened", "widget"), WIDGETS, indirect=["opened"], scope="module")
def test_each_control_changes_what_is_rendered(opened: Opened, widget: str, tmp_path: Path) -> None:
    (found,) = [w for w in opened.reduced.widgets if w.name == widget]
    on_page = WidgetOnPage(opened.page, opened.kernel, found)
    on_page.box.scroll_into_view_if_needed()
    for number, control in enumerate(on_page.settled()):
        if control.is_slider:
            keyboard(on_page, number, control)
            mouse(on_page, number, control)
        elif control.kind == "Dropdown":
            # JupyterLab takes the arrow keys from a closed menu and goes to the next cell.
            assert on_page.press(number, "End").value != control.value
        elif control.kind == "Textarea":
            on_page.element(number).press("ControlOrMeta+a")
            for key, text in (("Delete", ""), ("m", "m")):
                assert on_page.press(number, key).value == text
        elif control.kind == "Text":
            field = on_page.element(number)
            for text in ("", "m"):
                field.fill(text)
                assert on_page.press(number, "Enter").value == text
        elif control.kind == "SelectionSlider":
            ends = {on_page.press(number, key).value for key in ("End", "Home")}
            assert len(ends) == 2
        elif control.kind == "Checkbox":
            assert on_page.press(number, "Space").value != control.value
        else:
            pytest.fail(f"no way to operate a {control.kind} is written here")
    assert on_page.content.inner_text().strip() or on_page.content.locator("img").count()
    assert on_page.pictures_without_alt_text() == []
    assert opened.complaints == []
    on_page.box.screenshot(path=tmp_path / f"{opened.name}-{widget}.png")


def keyboard(on_page: WidgetOnPage, number: int, control: Control) -> None:
    """Move a slider to its ends, and one step away from them."""
    low, high, step = control.lowest, control.highest, control.step
    if not math.isclose(control.position(), low):
        on_page.press(number, "Home")
    for key, position in (("ArrowRight", low + step), ("Home", low), ("End", high), ("ArrowLeft", high - step)):
        now = on_page.press(number, key)
        assert math.isclose(now.value, control.value_at(position)), (control.name, key, now.value)


def mouse(on_page: WidgetOnPage, number: int, control: Control) -> None:
    """Pull a slider's handle leftwards along the track, pause there, pull further, and let go."""
    before = on_page.html()
    on_page.grip(number)
    on_page.pull(number, 0.6)
    if control.continuous:
        at_pause = on_page.changed(before)[number]
        assert 0.3 < share(at_pause) < 1 - control.step / (control.highest - control.lowest)
        before = on_page.html()
    on_page.pull(number, 0.3)
    on_page.release()
    now = on_page.changed(before)[number]
    assert abs(share(now) - 0.3) < 0.02 + control.step / (control.highest - control.lowest), (control.name, now.value)


def share(slider: Control) -> float:
    """Compute the share of the track that lies left of the handle."""
    return (slider.position() - slider.lowest) / (slider.highest - slider.lowest)


@pytest.mark.parametrize("opened", NAMES[:1], indirect=True, scope="module")
def test_a_quiz_unfolds_by_keyboard(opened: Opened) -> None:
    question = load_quiz(opened.name)[0]
    quiz = opened.page.locator(".jp-Notebook .jp-Cell").nth(opened.reduced.quiz).locator("section[aria-label=quiz]")
    quiz.locator("h4").first.click()
    choices = quiz.locator("details").all()[: len(question.choices)]
    for choice, key in zip(question.choices, choices, strict=True):
        explanation = key.locator("p")
        expect(explanation).to_be_hidden()
        tab_to(opened.page, key.locator("summary"))
        opened.page.keyboard.press("Enter")
        expect(explanation).to_be_visible()
        expect(explanation).to_contain_text("✓ Right." if choice.right else "✗ Not this one.")
        expect(explanation).to_contain_text(choice.why.replace("`", ""))
        opened.page.keyboard.press("Space")
        expect(explanation).to_be_hidden()
    assert opened.complaints == []


def tab_to(page: Page, target: Locator, most: int = 5) -> None:
    """Press Tab until an element has the focus; the buttons of JupyterLab's toolbar for the cell come first."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if target.evaluate("e => e === document.activeElement"):
            return
    raise AssertionError(f"{most} times Tab did not lead to {target.inner_text()!r}")
