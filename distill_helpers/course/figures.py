"""Figures of the course: one palette, labelled axes, a title that states the answer, an alternative text.

`with_alt_text` is how a notebook shows a figure, `figure_html` how a widget does: the text travels with the PNG.
"""

from __future__ import annotations

import base64
import html
import io
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLOURS", "dot_figure", "figure", "figure_html", "probability_bars", "with_alt_text"]

#: Okabe and Ito's palette for the colour-blind, in an order whose greys differ: blue, orange, green, sky, vermilion.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00")

_STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
}

#: Matplotlib's settings are the process's; JupyterLab draws widgets in a thread of their own.
_STYLING = threading.Lock()


def figure(title: str, *, width: float = 7.0, height: float = 3.2) -> tuple[Figure, Axes]:
    """An empty figure in the course's style. `title` states the answer that the figure gives; sizes in inches."""
    if not title.strip():
        raise ValueError("a figure needs a title that states its answer")
    with _STYLING, plt.rc_context(_STYLE):
        fig = Figure(figsize=(width, height), layout="constrained", dpi=_STYLE["figure.dpi"])
        axes = fig.add_subplot()
        axes.set_title(title)
    return fig, axes


def with_alt_text(fig: Figure, alt: str) -> Image:
    """The figure as an image with an alternative text.

    Raises:
        ValueError: an alternative text of fewer than 20 characters, or an axis without a label.
    """
    return Image(_png(fig, alt), format="png", alt=alt)


def figure_html(fig: Figure, alt: str) -> str:
    """The figure as an `<img>` for a render function's HTML. Raises as `with_alt_text` does."""
    data = base64.b64encode(_png(fig, alt)).decode()
    return f"<img src='data:image/png;base64,{data}' alt='{html.escape(alt, quote=True)}' style='max-width:100%'>"


def dot_figure(table: pd.DataFrame, value: str, *, title: str, label: str, references: Mapping[str, float]) -> Figure:
    """One dot per seed and a bar at the mean, a line for each model.

    Args:
        table: long form, with the columns `model`, `seed` and `value`; models are drawn in their order of appearance.
        value: the column to draw.
        title: states the answer.
        label: of the horizontal axis, with its unit.
        references: values by name, drawn as vertical lines.
    """
    models = list(dict.fromkeys(table["model"]))
    fig, axes = figure(title, height=0.9 + 0.36 * len(models))
    for line, model in enumerate(models):
        values = table.loc[table["model"] == model, value].to_numpy()
        colour = COLOURS[line % len(COLOURS)]
        axes.plot(values, [line] * len(values), "o", color=colour, alpha=0.6, markersize=5)
        axes.plot([values.mean()], [line], "|", color=colour, markersize=18, markeredgewidth=2.5)
    for number, (name, position) in enumerate(references.items()):
        axes.axvline(position, color="#444444", linestyle=("--", ":")[number % 2], linewidth=1, label=name)
    axes.legend(frameon=False, fontsize=8)
    axes.set_yticks(range(len(models)), models)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.set_ylabel("model")
    return fig


def probability_bars(
    names: Sequence[str], probabilities: Sequence[Sequence[float]], owners: Sequence[str], highlight: str | None = None
) -> str:
    """An HTML table of horizontal bars: one line per class, one column per owner of a distribution.

    Built of text, not of pixels: a screen reader reads it, and it is the same on every machine to the printed digit.

    Args:
        names: the classes.
        probabilities: for each owner, one probability per class.
        owners: column heads.
        highlight: a class to print bold, the true one, say.

    Raises:
        ValueError: lengths that don't fit.
    """
    if len(probabilities) != len(owners) or any(len(p) != len(names) for p in probabilities):
        raise ValueError("need one column per owner and one probability per class")
    head = "".join(f"<th scope='col' style='text-align:left'>{html.escape(o)}</th>" for o in owners)
    lines = []
    for i, name in enumerate(names):
        label = f"<b>{html.escape(name)} ✓</b>" if name == highlight else html.escape(name)
        cells = "".join(_bar(column[i], COLOURS[k % len(COLOURS)]) for k, column in enumerate(probabilities))
        lines.append(f"<tr><th scope='row' style='text-align:left;font-weight:normal'>{label}</th>{cells}</tr>")
    return f"<table><thead><tr><th scope='col'>class</th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _png(fig: Figure, alt: str) -> bytes:
    if len(alt.strip()) < 20:
        raise ValueError(f"the alternative text must say what the figure shows, got {alt!r}")
    for axes in fig.axes:
        if not axes.get_xlabel() or not axes.get_ylabel():
            raise ValueError("label both axes, with units")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png")
    return buffer.getvalue()


def _bar(share: float, colour: str) -> str:
    return (
        "<td style='text-align:left;min-width:190px'>"
        f"<span style='display:inline-block;height:0.8em;width:{round(120 * share)}px;background:{colour}'></span>"
        f" {100 * share:.0f}%</td>"
    )
