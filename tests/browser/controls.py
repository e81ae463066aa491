"""A widget on a page: its controls, which keyboard and mouse move, and its rendered HTML."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from lab import Kernel
from playwright.sync_api import Locator, Page
from reduced import Widget

__all__ = ["Control", "WidgetOnPage"]

SETTLES = 20.0
"""Seconds from a control's move to the picture; the slowest render function takes one."""

_NORMALISED = "html => { const e = document.createElement('div'); e.innerHTML = html; return e.innerHTML; }"


@dataclass(frozen=True)
class Control:
    """A control as the kernel describes it.

    Args:
        name: of the render function's argument.
        kind: its class in ipywidgets.
        value: a number, a text, or a menu's chosen line.
        lowest, highest, step: of a slider; exponents of `base` where there is one.
        base: of a logarithmic slider.
        readout_format: of the number beside a slider, in the notation of JavaScript's d3.
        continuous: whether values are sent while the mouse is held.
    """

    name: str
    kind: str
    value: Any
    lowest: float
    highest: float
    step: float
    base: float | None
    readout_format: str
    continuous: bool

    @property
    def is_slider(self) -> bool:
        return self.kind in ("IntSlider", "FloatSlider", "FloatLogSlider")

    def value_at(self, position: float) -> float:
        """Compute the value at a position of the slider's scale, from `lowest` to `highest`."""
        return position if self.base is None else self.base**position

    def position(self) -> float:
        """Compute the position of the present value: the inverse of `value_at`."""
        return self.value if self.base is None else math.log(self.value, self.base)

    def shown(self) -> str:
        """Format the value as the page does. JavaScript's d3 keeps final zeros for `.3g`, Python does so for `#.3g`."""
        if not self.is_slider:
            return str(self.value)
        return format(self.value, "#" + self.readout_format if "g" in self.readout_format else self.readout_format)


class WidgetOnPage:
    """A widget that `live` made, on the page of an executed notebook."""

    def __init__(self, page: Page, kernel: Kernel, widget: Widget) -> None:
        self._page, self._kernel, self._widget = page, kernel, widget
        self.box = page.locator(".jp-Notebook .jp-Cell").nth(widget.cell).locator(".widget-vbox")
        self.content = self.box.locator(".widget-html-content").last
        same = f"list(({widget.controls}).values()) == list({widget.name}.children[:-1])"
        assert kernel.evaluate(same), f"{widget.controls} are no longer the controls of {widget.name}"

    def controls(self) -> list[Control]:
        """Ask the kernel for all controls, in the order in which they stand on the page."""
        fields = "lowest=getattr(c, 'min', None), highest=getattr(c, 'max', None), step=getattr(c, 'step', None)"
        fields += ", base=getattr(c, 'base', None), readout_format=getattr(c, 'readout_format', '')"
        fields += ", continuous=getattr(c, 'continuous_update', True), value=c.value, kind=type(c).__name__"
        described = f"[dict(name=n, {fields}) for n, c in ({self._widget.controls}).items()]"
        return [Control(**entry) for entry in self._kernel.evaluate(described)]

    def element(self, number: int) -> Locator:
        """Find the element of a control that takes the focus."""
        return (
            self._child(number).locator("[role=slider], select, textarea, input[type=text], input[type=checkbox]").last
        )

    def shown(self, number: int) -> str:
        """Read what a control shows: the number beside a slider, a menu's chosen line, a text, a box's tick."""
        control = self._child(number)
        if control.locator(".widget-readout").count():
            return control.locator(".widget-readout").inner_text()
        element = self.element(number)
        return str(element.is_checked()) if element.get_attribute("type") == "checkbox" else element.input_value()

    def html(self) -> str:
        """Read the rendered HTML from the browser."""
        return self.content.inner_html()

    def settled(self) -> list[Control]:
        """Wait until page and render function agree, and return the controls.

        The page must show the values that the kernel has. The HTML must be what the pure render function returns for
        these values; it is called in the kernel, where its data are.

        Raises:
            AssertionError: page and render function do not agree in time.
        """
        deadline = time.monotonic() + SETTLES
        while True:
            controls = self.controls()
            values = {control.name: control.value for control in controls}
            expected = self._page.evaluate(_NORMALISED, self._kernel.evaluate(f"{self._widget.render}(**{values!r})"))
            page_shows = [self.shown(number) for number in range(len(controls))]
            kernel_has = [control.shown() for control in controls]
            if page_shows == kernel_has and self.html() == expected:
                return controls
            if time.monotonic() > deadline:
                assert page_shows == kernel_has, "page (left) and kernel (right) differ"
                raise AssertionError(
                    f"the page's HTML is not what {self._widget.render} returns for {values}:"
                    f" {_first_difference(self.html(), expected)}"
                )
            self._page.wait_for_timeout(50)

    def changed(self, before: str) -> list[Control]:
        """Wait until the HTML differs from an earlier one and has settled, and return the controls.

        Raises:
            AssertionError: nothing changed in time, or page and render function do not agree in time.
        """
        deadline = time.monotonic() + SETTLES
        while self.html() == before:
            assert time.monotonic() < deadline, f"nothing changed; {[(c.name, c.value) for c in self.controls()]}"
            self._page.wait_for_timeout(20)
        return self.settled()

    def press(self, number: int, key: str) -> Control:
        """Focus a control, press a key that moves it, wait until the HTML has followed, and return the control.

        Raises:
            AssertionError: see `changed`.
        """
        before = self.html()
        self.element(number).press(key)
        return self.changed(before)[number]

    def grip(self, number: int) -> None:
        """Press the mouse on a slider's handle."""
        self._page.mouse.move(*_centre(self.element(number)))
        self._page.mouse.down()

    def pull(self, number: int, share: float) -> None:
        """Move the pressed mouse to a share of a slider's track, in ten steps."""
        track = self._child(number).locator(".noUi-base").bounding_box()
        assert track
        _, height = _centre(self.element(number))
        self._page.mouse.move(track["x"] + share * track["width"], height, steps=10)

    def release(self) -> None:
        """Let the mouse go."""
        self._page.mouse.up()

    def pictures_without_alt_text(self) -> list[str]:
        """List the images that are not drawn, or whose alternative text says nothing."""
        images = self.content.locator("img").all()
        drawn = "e => e.complete && e.naturalWidth > 0"
        return [
            f"image {number} of {len(images)}"
            for number, image in enumerate(images, start=1)
            if len((image.get_attribute("alt") or "").strip()) < 20 or not image.evaluate(drawn)
        ]

    def _child(self, number: int) -> Locator:
        return self.box.locator("> *").nth(number)


def _first_difference(shown: str, expected: str) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(shown, expected, strict=False)) if a != b), min(len(shown), len(expected))
    )
    context = slice(max(0, at - 100), at + 100)
    return f"{len(shown)} and {len(expected)} characters, from {at} on {shown[context]!r} for {expected[context]!r}"


def _centre(element: Locator) -> tuple[float, float]:
    box = element.bounding_box()
    assert box, "not on the page"
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
