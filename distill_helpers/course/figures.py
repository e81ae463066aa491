"""Figures and tables of the course: one palette, labelled axes, a title that states the answer, an alternative text.

A notebook shows a figure with `with_alt_text`, a widget with `figure_html`. Both put the alternative text beside the
PNG.
"""

from __future__ import annotations

import base64
import html
import io
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLOURS", "dot_figure", "figure", "figure_html", "html_table", "plain", "probability_bars", "with_alt_text"]

#: Okabe and Ito's palette for the colour-blind: blue, orange, green, sky, vermilion. In this order the greys differ.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00")

_STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
}

#: Matplotlib has one set of settings for the whole process, and JupyterLab draws widgets in a thread of their own.
_STYLING = threading.Lock()


def figure(title: str, *, width: float = 7.0, height: float = 3.2) -> tuple[Figure, Axes]:
    """Make an empty figure in the course's style.

    Args:
        title: states the answer that the figure gives.
        width, height: in inches.

    Raises:
        ValueError: an empty title.
    """
    if not title.strip():
        raise ValueError("a figure needs a title that states its answer")
    with _STYLING, plt.rc_context(_STYLE):
        fig = Figure(figsize=(width, height), layout="constrained", dpi=_STYLE["figure.dpi"])
        axes = fig.add_subplot()
        axes.set_title(title)
    return fig, axes


def with_alt_text(fig: Figure, alt: str) -> Image:
    """Turn a figure into an image with an alternative text.

    Raises:
        ValueError: an alternative text of fewer than 20 characters, or an axis without a label.
    """
    return Image(_png(fig, alt), format="png", alt=alt)


def figure_html(fig: Figure, alt: str) -> str:
    """Turn a figure into an `<img>` for a render function's HTML. Raises the errors of `with_alt_text`."""
    data = base64.b64encode(_png(fig, alt)).decode()
    return f"<img src='data:image/png;base64,{data}' alt='{html.escape(alt, quote=True)}' style='max-width:100%'>"


def dot_figure(table: pd.DataFrame, value: str, *, title: str, label: str, references: Mapping[str, float]) -> Figure:
    """Draw one line for each model, with a dot for each seed and a bar at the mean.

    Args:
        table: in long form, with the columns `model`, `seed` and `value`. The models keep their order of appearance.
        value: the column to draw.
        title: states the answer.
        label: of the horizontal axis, with its unit.
        references: values by name, drawn as vertical lines.
    """
    models = list(dict.fromkeys(table["model"]))
    fig, axes = figure(title, height=1.2 + 0.36 * len(models))
    for line, model in enumerate(models):
        values = table.loc[table["model"] == model, value].to_numpy()
        colour = COLOURS[line % len(COLOURS)]
        axes.plot(values, [line] * len(values), "o", color=colour, alpha=0.6, markersize=5)
        axes.plot([values.mean()], [line], "|", color=colour, markersize=18, markeredgewidth=2.5)
    for number, (name, position) in enumerate(references.items()):
        axes.axvline(position, color="#444444", linestyle=("--", ":")[number % 2], linewidth=1, label=plain(name))
    fig.legend(frameon=False, fontsize=8, ncols=2, loc="outside lower right")
    axes.set_ylim(-0.6, len(models) - 0.4)
    axes.set_yticks(range(len(models)), [plain(model) for model in models])
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.set_ylabel("model")
    return fig


def plain(name: object) -> str:
    """A name as Matplotlib shows it as written: a dollar sign would begin a formula, a leading underscore hide it."""
    text = str(name).replace("$", r"\$")
    return f"\u200b{text}" if text.startswith("_") else text


def html_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = "", highlight: str | None = None
) -> str:
    """Make an HTML table whose first column holds the heads of the rows. All texts are escaped.

    Args:
        columns: heads of the columns; empty for a table without them.
        rows: the cells as they are printed, the head of the row first.
        caption: printed above the table.
        highlight: the head of a row to print bold.
    """
    head = "".join(f"<th scope='col'>{html.escape(column, quote=False)}</th>" for column in columns)
    lines = []
    for row in rows:
        cells = [html.escape(str(cell), quote=False) for cell in row]
        first, *others = [f"<b>{cell}</b>" for cell in cells] if row[0] == highlight else cells
        data = "".join(f"<td>{cell}</td>" for cell in others)
        lines.append(f"<tr><th scope='row' style='text-align:left'>{first}</th>{data}</tr>")
    return (
        "<table>"
        + (f"<caption style='text-align:left'>{html.escape(caption, quote=False)}</caption>" if caption else "")
        + (f"<thead><tr>{head}</tr></thead>" if columns else "")
        + f"<tbody>{''.join(lines)}</tbody></table>"
    )


def probability_bars(
    names: Sequence[str], probabilities: Sequence[Sequence[float]], owners: Sequence[str], highlight: str | None = None
) -> str:
    """Make an HTML table of horizontal bars: one line for each class, one column for each distribution.

    The table consists of text, not of pixels, so that a screen reader can read it.

    Args:
        names: the classes.
        probabilities: for each distribution one probability for each class.
        owners: whose distributions they are; the heads of the columns.
        highlight: a class to print bold, the true one, say.

    Raises:
        ValueError: not one distribution for each owner, or not one probability for each class.
    """
    if len(probabilities) != len(owners):
        raise ValueError(f"need one column per owner, got {len(probabilities)} columns and {len(owners)} owners")
    for owner, column in zip(owners, probabilities, strict=True):
        if len(column) != len(names):
            raise ValueError(f"need one probability per class, got {len(column)} of {owner} for {len(names)} classes")
    head = "".join(f"<th scope='col' style='text-align:left'>{html.escape(o)}</th>" for o in owners)
    lines = []
    for i, name in enumerate(names):
        label = f"<b>{html.escape(name)} ✓</b>" if name == highlight else html.escape(name)
        cells = "".join(_bar(column[i], COLOURS[k % len(COLOURS)]) for k, column in enumerate(probabilities))
        lines.append(f"<tr><th scope='row' style='text-align:left;font-weight:normal'>{label}</th>{cells}</tr>")
    return f"<table><thead><tr><th scope='col'>class</th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _png(fig: Figure, alt: str) -> bytes:
    if len(alt.strip()) < 20:
        raise ValueError(f"the alternative text must say in 20 characters or more what the figure shows, got {alt!r}")
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
