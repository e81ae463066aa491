"""Widgets: pure functions from parameters to HTML, and one function that wires sliders to them.

A render function can be called, compared and tested without a browser; the sliders only call it again. `live` is here;
the render functions are in a module for each notebook.
"""

from __future__ import annotations

from collections.abc import Callable

import ipywidgets

__all__ = ["live"]


def live(render: Callable[..., str], **controls: ipywidgets.ValueWidget) -> ipywidgets.VBox:
    """Controls above, the rendered HTML below, rendered again whenever a control changes.

    Args:
        render: takes the controls' values by name, returns HTML.
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
    return ipywidgets.VBox([*controls.values(), output])
