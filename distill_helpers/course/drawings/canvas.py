"""A page of a drawing: boxes, arrows, bars and words on a light card, as SVG.

A card has its own background, so that it can be read in a light and in a dark theme. Words are dark, and colours say
whose something is: blue is a hard label, orange a soft one, grey the teacher, green the student.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Literal, Self

from distill_helpers.course.figures import COLOURS

__all__ = ["CARD", "HARD", "INK", "MUTED", "RULE", "SOFT", "STUDENT", "TEACHER", "WIDTH", "Canvas", "tint"]

WIDTH = 800
HARD, SOFT, STUDENT, *_ = COLOURS
TEACHER = "#6B6B6B"
INK, MUTED = "#222222", "#595959"
#: The card, and its border and thin lines between its parts.
CARD, RULE = "#FCFCFA", "#D9D9D4"
#: The width of a character in an ordinary sans-serif font, as a share of the font's size: wide rather than narrow.
_CHARACTER, _BOLD_CHARACTER = 0.51, 0.55
_MARGIN = 16

Anchor = Literal["start", "middle", "end"]


def tint(colour: str, strength: float = 0.16) -> str:
    """Mix a colour with white.

    Args:
        colour: as "#RRGGBB".
        strength: the share of the colour, from 0 to 1.
    """
    parts = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(255 - strength * (255 - part)):02X}" for part in parts)


class Canvas:
    """A drawing in the making. All positions and sizes are in pixels, from the upper left corner.

    Args:
        title: the answer that the drawing gives, printed at its top.
        alt: what the drawing shows, for those who don't see it.
        height: of the card, which is `WIDTH` wide.

    Raises:
        ValueError: an empty title, or an alternative text of fewer than 40 characters or with square brackets, which
            would end it in Markdown.
    """

    def __init__(self, title: str, alt: str, height: int) -> None:
        if not title.strip():
            raise ValueError("a drawing needs a title that states its answer")
        if len(alt) < 40 or set(alt) & set("[]"):
            raise ValueError(
                f"alt must say in 40 characters or more, without brackets, what is to be seen; got {alt!r}"
            )
        self.title, self.alt, self.height = title, alt, height
        self._parts: list[str] = []
        self.text(_MARGIN + 4, 32, title, size=18, bold=True)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: int = 15,
        anchor: Anchor = "start",
        bold: bool = False,
        colour: str = INK,
    ) -> Self:
        """Write words. `y` is the line on which they stand; line breaks begin a new line below.

        Raises:
            ValueError: words that would leave the card.
        """
        for number, line in enumerate(words.split("\n")):
            width = self.width_of(line, size=size, bold=bold)
            left = x - {"start": 0, "middle": width / 2, "end": width}[anchor]
            bottom = y + 1.25 * size * number
            if left < _MARGIN / 2 or left + width > WIDTH - _MARGIN / 2 or not size <= bottom <= self.height - 4:
                raise ValueError(f"{line!r} would leave the card: {left:.0f} to {left + width:.0f}, at {bottom:.0f}")
            weight = ' font-weight="bold"' if bold else ""
            self._add(
                f'<text x="{x:g}" y="{bottom:g}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{weight}>'
                f"{html.escape(line, quote=False)}</text>"
            )
        return self

    @staticmethod
    def width_of(line: str, *, size: int = 15, bold: bool = False) -> float:
        """How wide a line is at most, in pixels."""
        return len(line) * size * (_BOLD_CHARACTER if bold else _CHARACTER)

    def box(
        self, x: float, y: float, width: float, height: float, label: str = "", *, colour: str = INK, below: str = ""
    ) -> Self:
        """Draw a rounded box with a bold label in its middle and a smaller line below the label.

        Raises:
            ValueError: words that are wider than the box.
        """
        for line, size, bold in ((label, 15, True), (below, 13, False)):
            if (needed := max(self.width_of(part, size=size, bold=bold) for part in line.split("\n"))) > width:
                raise ValueError(f"{line!r} needs {needed:.0f} pixels, the box has {width:g}")
        self._add(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8" fill="{tint(colour)}"'
            f' stroke="{colour}" stroke-width="2"/>'
        )
        lines = label.count("\n") + 1
        rows = below.count("\n") + 1 if below else 0
        top = y + height / 2 - (19 * lines + 16 * rows) / 2
        if label:
            self.text(x + width / 2, top + 15, label, anchor="middle", bold=True)
        if below:
            self.text(x + width / 2, top + 19 * lines + 12, below, size=13, anchor="middle", colour=MUTED)
        return self

    def rectangle(self, x: float, y: float, width: float, height: float, colour: str, *, outline: bool = False) -> Self:
        """Fill a rectangle, or draw its outline alone."""
        style = f'fill="none" stroke="{colour}" stroke-width="1.5"' if outline else f'fill="{colour}"'
        return self._add(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" {style}/>')

    def line(self, x1: float, y1: float, x2: float, y2: float, *, colour: str = INK, width: float = 2) -> Self:
        """Draw a straight line."""
        return self._add(
            f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{colour}" stroke-width="{width:g}"/>'
        )

    def arrow(
        self,
        x1: float,
        y1: float,
        x2: float,
        y2: float,
        label: str = "",
        *,
        colour: str = INK,
        width: float = 2,
    ) -> Self:
        """Draw an arrow, with a label above its middle."""
        length, angle = math.hypot(x2 - x1, y2 - y1), math.atan2(y2 - y1, x2 - x1)
        head = 5 + 2 * width
        end = max(length - head, 0) / length if length else 0
        self.line(x1, y1, x1 + end * (x2 - x1), y1 + end * (y2 - y1), colour=colour, width=width)
        corners = [(x2, y2)]
        for turn in (math.pi - 0.4, math.pi + 0.4):
            corners.append((x2 + head * math.cos(angle + turn), y2 + head * math.sin(angle + turn)))
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        self._add(f'<polygon points="{points}" fill="{colour}"/>')
        if label:
            self.text((x1 + x2) / 2, (y1 + y2) / 2 - 8, label, size=13, anchor="middle", colour=MUTED)
        return self

    def path(self, points: Sequence[tuple[float, float]], *, colour: str, width: float = 2) -> Self:
        """Draw a line through points."""
        through = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        return self._add(f'<polyline points="{through}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>')

    def bars(
        self,
        x: float,
        y: float,
        names: Sequence[str],
        shares: Sequence[float | None],
        *,
        colour: str,
        width: float = 120,
        name_width: float = 90,
        step: float = 22,
    ) -> Self:
        """Draw one horizontal bar for each name, its percentage beside it.

        Args:
            x, y: the upper left corner.
            names: written to the left of the bars.
            shares: from 0 to 1; 1 is `width` long. None is shown as a question mark.
            colour: of the bars.
            width: of a share of 1.
            name_width: of the column of names.
            step: from one bar to the next.
        """
        for row, (name, share) in enumerate(zip(names, shares, strict=True)):
            top = y + step * row
            self.text(x + name_width - 8, top + 13, name, size=13, anchor="end", colour=MUTED)
            length = max(width * (share or 0.0), 1)
            self.rectangle(x + name_width, top + 2, length, 13, colour)
            if share != 0:
                said = "?" if share is None else "<1%" if share < 0.005 else f"{100 * share:.0f}%"
                self.text(x + name_width + length + 6, top + 13, said, size=13)
        return self

    def svg(self) -> str:
        """The drawing as a file."""
        title, alt = (html.escape(words, quote=False) for words in (self.title, self.alt))
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}"'
            f' height="{self.height}" role="img" font-family="Helvetica, Arial, DejaVu Sans, sans-serif">\n'
            f"<title>{title}</title>\n<desc>{alt}</desc>\n"
            f'<rect x="1" y="1" width="{WIDTH - 2}" height="{self.height - 2}" rx="12" fill="{CARD}"'
            f' stroke="{RULE}"/>\n' + "\n".join(self._parts) + "\n</svg>\n"
        )

    def _add(self, part: str) -> Self:
        self._parts.append(part)
        return self
