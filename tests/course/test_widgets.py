import ipywidgets
import pytest

from distill_helpers.course.widgets import live


def test_live_renders_at_once_and_whenever_a_control_changes() -> None:
    box = live(lambda n: f"<p>{n}</p>", n=ipywidgets.IntSlider(3, 0, 9))
    assert box.children[-1].value == "<p>3</p>"
    box.children[0].value = 7
    assert box.children[-1].value == "<p>7</p>"


def test_an_error_in_a_render_function_is_not_swallowed() -> None:
    box = live(lambda n: f"<p>{6 // n}</p>", n=ipywidgets.IntSlider(3, 0, 9))
    with pytest.raises(ZeroDivisionError):
        box.children[0].value = 0
