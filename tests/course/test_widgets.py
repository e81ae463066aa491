"""Widgets: sliders that render again, and what stands in for them on a page where no widget runs."""

import re

import ipywidgets
import pytest
from widget_words import WIDGET_HTML, words_alone

from distill_helpers.course.widgets import WIDGET_VIEW, live


def test_live_renders_at_once_and_whenever_a_control_changes() -> None:
    box = live(lambda n: f"<p>{n}</p>", n=ipywidgets.IntSlider(3, 0, 9))
    assert box.children[-1].value == "<p>3</p>"
    box.children[0].value = 7
    assert box.children[-1].value == "<p>7</p>"


def test_an_error_in_a_render_function_is_not_swallowed() -> None:
    box = live(lambda n: f"<p>{6 // n}</p>", n=ipywidgets.IntSlider(3, 0, 9))
    with pytest.raises(ZeroDivisionError):
        box.children[0].value = 0


def test_a_widget_carries_its_state_as_html_and_as_text() -> None:
    box = live(
        lambda **values: f"<p>{values['n']} rows</p>",
        n=ipywidgets.IntSlider(3, 0, 9, description="number"),
        share=ipywidgets.FloatSlider(0.25, min=0, max=1, readout_format=".0%"),
        T=ipywidgets.FloatLogSlider(2.0, base=2, min=-2, max=6),
        kind=ipywidgets.Dropdown(options={"the first": 1, "the second": 2}, value=2),
        k=ipywidgets.SelectionSlider(options=[1, 4], value=4),
        first=ipywidgets.SelectionSlider(options=[1, 4], value=1),
        on=ipywidgets.Checkbox(False, description="batch <API>"),
        text=ipywidgets.Text("a & b"),
    )
    bundle = box._repr_mimebundle_()
    assert bundle[WIDGET_VIEW]["model_id"] == box.model_id
    lines = re.findall("<li>(.*?)</li>", bundle["text/html"])
    assert lines == [
        "number: <b>3</b>",
        "share: <b>25%</b>",
        "T: <b>2</b>",
        "kind: <b>the second</b>",
        "k: <b>4</b>",
        "first: <b>1</b>",
        "batch &lt;API&gt;: <b>no</b>",
        "text: <b>a &amp; b</b>",
    ]
    assert "<p>3 rows</p>" in bundle["text/html"]
    assert bundle["text/plain"].startswith("widget: number = 3, share = 25%, ")
    box.children[0].value = 5
    assert "<p>5 rows</p>" in box._repr_mimebundle_()["text/html"]


def compared(rendered: str, value: int = 3) -> str:
    bundle = live(lambda n: rendered, n=ipywidgets.IntSlider(value, 0, 9))._repr_mimebundle_()
    return re.sub(WIDGET_HTML, words_alone, bundle["text/html"])


def test_the_comparison_of_notebooks_sees_a_widgets_words_and_structure_and_no_figures() -> None:
    page = (
        "<img src='data:image/png;base64,{}' alt='falls to {} bits'><p>They agree: {}%.</p><table><td>{}</td></table>"
    )
    here = compared(page.format("iVBO+/=", "0.5", "12", "a, written by a model"))
    assert here == compared(page.format("abcd", "−1,234.5e-07", "7", "another"))
    assert here != compared(page.format("iVBO+/=", "0.5", "12", "a").replace("agree", "disagree"))
    assert here != compared(page.format("iVBO+/=", "0.5", "12", "a").replace("falls", "rises"))
    assert here != compared(page.format("iVBO+/=", "0.5", "12", "a") + "<p></p>")
    table = "<table><td>1</td></table>"
    assert re.sub(WIDGET_HTML, words_alone, table) == table  # outputs that are no widget are compared whole
