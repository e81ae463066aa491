"""Widgets: pure functions from parameters to HTML, and one function that connects sliders to them.

A render function can be called, compared and tested without a browser; a slider only calls it again. `live` is defined
here. A notebook's render functions are in the module with its name, without its number; `simplex` belongs to 04, too.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets

__all__ = ["FIRST_STATE", "WIDGET_VIEW", "LiveWidget", "live"]

#: The kind of output in which Jupyter shows a running widget.
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

#: The class of the HTML element that stands in for a widget; the comparison of outputs looks for it.
FIRST_STATE = "first-state"


class LiveWidget(ipywidgets.VBox):
    """Controls with the HTML that a render function makes of their values.

    A page on which no widget can run (a saved notebook before its kernel starts, a code host, nbconvert) shows the same
    state as HTML: the controls' names and values, and what the render function returned for them.

    Args:
        controls: ipywidgets with a `value`, by the names of the render function's arguments.
        output: the widget with the rendered HTML.
    """

    def __init__(self, controls: Mapping[str, ipywidgets.ValueWidget], output: ipywidgets.HTML) -> None:
        super().__init__([*controls.values(), output])
        self._controls, self._output = dict(controls), output

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        values = {control.description or name: _shown_value(control) for name, control in self._controls.items()}
        lines = "".join(f"<li>{html.escape(name)}: <b>{html.escape(value)}</b></li>" for name, value in values.items())
        as_html = (
            # JupyterLab would typeset text between two dollar signs as mathematics.
            f"<div class='{FIRST_STATE} mathjax_ignore tex2jax_ignore'><ul>{lines}</ul>{self._output.value}"
            "<p><i>Run the notebook down to this cell to move the controls.</i></p></div>"
        )
        as_text = "widget: " + ", ".join(f"{name} = {value}" for name, value in values.items())
        return super()._repr_mimebundle_(**kwargs) | {"text/html": as_html, "text/plain": as_text}


def live(render: Callable[..., str], **controls: ipywidgets.ValueWidget) -> LiveWidget:
    """Put controls above rendered HTML, and render again whenever a control changes.

    Args:
        render: takes the controls' values by name and returns HTML.
        **controls: ipywidgets with a `value`.

    Returns:
        A box whose last child is the `ipywidgets.HTML` with the result.
    """
    output = ipywidgets.HTML()

    def refresh(_: object = None) -> None:
        output.value = render(**{name: control.value for name, control in controls.items()})

    for control in controls.values():
        control.observe(refresh, names="value")
    refresh()
    return LiveWidget(controls, output)


def _shown_value(control: ipywidgets.ValueWidget) -> str:
    """The control's value as the control itself shows it."""
    if isinstance(control.value, bool):
        return "yes" if control.value else "no"
    if hasattr(control, "label"):  # a menu, or a slider over options
        return str(control.label or control.value)  # a slider that begins at its first option has no label yet
    if hasattr(control, "readout_format"):
        return format(control.value, control.readout_format)
    return str(control.value)
