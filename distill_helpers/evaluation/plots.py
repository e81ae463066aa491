"""Two figures: the history of a run, and several models beside each other. Matplotlib comes with the extra `plot`.

The functions return a `Figure` and show nothing. `figure.savefig("history.png")` writes it, and a notebook in which
`matplotlib.pyplot` has been imported shows a figure with which a cell ends. The titles name numbers, so that
`figure.get_suptitle()` can serve as the alternative text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distill_helpers.data.installed_files import require_package
from distill_helpers.evaluation.measures import compare

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

__all__ = ["plot_compare", "plot_history"]

# Okabe and Ito's palette for the colour-blind; the markers tell lines apart without colour.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#CC79A7", "#000000")
_MARKERS = "os^Dv*X"


def plot_history(history: pd.DataFrame | Sequence[Mapping[str, float]], *, title: str = "") -> Figure:
    """Draw a training run epoch by epoch: its losses in one panel, the other figures of its validation in another.

    Args:
        history: `DistilledStudent.history`, or rows with `epoch` and other numbers. A column whose name ends with
            `loss` is a loss; of the others, those are drawn whose name begins with `eval_`.
        title: by default it says how the first loss went, and over how many epochs.

    Raises:
        ValueError: no row, no column `epoch`, or nothing to draw.
        ModuleNotFoundError: matplotlib is missing; the message names the extra that brings it.

    Example:
        >>> history = [{"epoch": 1, "loss": 1.2, "eval_accuracy": 0.6}, {"epoch": 2, "loss": 0.9, "eval_accuracy": 0.7}]
        >>> figure = dh.plot_history(history)
        >>> figure.get_suptitle(), [axes.get_ylabel() for axes in figure.axes]
        ('loss from 1.2 to 0.9 in 2 epochs', ['loss', 'validation'])
    """
    import pandas as pd

    frame = pd.DataFrame(history)
    if len(frame) == 0 or "epoch" not in frame:
        raise ValueError("need one row or more with the column epoch, such as `DistilledStudent.history`")
    drawn = [name for name in _numbers(frame) if name.endswith("loss") or name.startswith("eval_")]
    losses = [name for name in drawn if name.endswith("loss")]
    panels = {"loss": losses, "validation": [name for name in drawn if name not in losses]}
    panels = {label: names for label, names in panels.items() if names}
    if not panels:
        raise ValueError(f"the history has neither a loss nor a column eval_…, only {list(frame.columns)}")
    figure, all_axes = _empty_figure(len(panels))
    for axes, (label, names) in zip(all_axes, panels.items(), strict=True):
        for number, name in enumerate(names):
            _line(axes, frame, name, name, number)
        _finish(axes, "epoch", label)
    first = frame[drawn[0]].dropna()
    count = f"{len(frame)} epoch{'s' * (len(frame) != 1)}"
    _entitle(figure, title or f"{drawn[0]} from {first.iloc[0]:.3g} to {first.iloc[-1]:.3g} in {count}")
    return figure


def plot_compare(
    results: Mapping[str, pd.DataFrame | Sequence[Mapping[str, float]]], value: str | None = None, *, title: str = ""
) -> Figure:
    """Draw one figure of several models: over the epochs if they have histories, as bars if they have rows.

    Args:
        results: for each model its history (`DistilledStudent.history`), or its rows from `evaluate`, one for each
            seed. A bar is the mean over seeds, and the line on it the standard deviation.
        value: the column to draw. Default: `eval_accuracy` of histories and `accuracy` of rows, or, where some model
            lacks it, the first column of numbers that all models have.
        title: by default it names the lowest and the highest model. Of histories, the last epoch counts.

    Raises:
        ValueError: no model, a model without rows or without the column (with its name), or histories beside rows.
        ModuleNotFoundError: matplotlib is missing; the message names the extra that brings it.

    Example:
        >>> rows = {"student": [{"accuracy": 0.81}, {"accuracy": 0.83}], "teacher": [{"accuracy": 0.88}]}
        >>> dh.plot_compare(rows).get_suptitle()
        'accuracy from 0.82 (student) to 0.88 (teacher)'
    """
    import pandas as pd

    frames = {name: pd.DataFrame(rows) for name, rows in results.items()}
    if not frames:
        raise ValueError("there is no model to draw; pass the history or the rows of each model by its name")
    for name, frame in frames.items():
        if len(frame) == 0:
            raise ValueError(f"no rows for {name!r}; pass its history, or its rows from `evaluate`")
    with_epochs = [name for name, frame in frames.items() if "epoch" in frame]
    if 0 < len(with_epochs) < len(frames):
        other = next(name for name in frames if name not in with_epochs)
        raise ValueError(f"{with_epochs[0]!r} has a column epoch and {other!r} has none; draw the two kinds apart")
    value = _common_column(frames, value, "eval_accuracy" if with_epochs else "accuracy")
    figure, (axes,) = _empty_figure(1)
    if with_epochs:
        finals = {name: float(frame[value].dropna().iloc[-1]) for name, frame in frames.items()}
        for number, (name, frame) in enumerate(frames.items()):
            _line(axes, frame, value, name, number)
        _finish(axes, "epoch", value)
    else:
        table = compare({name: [{value: x} for x in frame[value].dropna()] for name, frame in frames.items()})
        finals = dict(zip(frames, table[value].tolist(), strict=True))
        spread = table[f"{value}_sd"].fillna(0.0)  # a single seed has none, and gets a line of no length
        axes.bar(range(len(table)), table[value], yerr=spread, color=_COLOURS[0], alpha=0.8, capsize=4)
        axes.set_xticks(range(len(table)), list(frames))
        _as_they_are(axes.get_xticklabels())
        axes.set(xlabel="model", ylabel=value)
    low, high = min(finals, key=finals.__getitem__), max(finals, key=finals.__getitem__)
    _entitle(figure, title or f"{value} from {finals[low]:.3g} ({low}) to {finals[high]:.3g} ({high})")
    return figure


def _numbers(frame: pd.DataFrame) -> list[str]:
    """The columns that hold numbers, `epoch` apart."""
    found = frame.select_dtypes("number").columns
    return [str(name) for name in found if name != "epoch" and frame[name].notna().any()]


def _common_column(frames: Mapping[str, pd.DataFrame], value: str | None, default: str) -> str:
    columns = {name: _numbers(frame) for name, frame in frames.items()}
    first, *others = columns.values()
    common = [name for name in first if all(name in names for names in others)]
    if value is None:
        if not common:
            raise ValueError(f"the models have no column of numbers in common: {columns}")
        return default if default in common else common[0]
    for name, names in columns.items():
        if value not in names:
            raise ValueError(f"{name!r} has no numbers {value!r}; it has {names}")
    return value


def _empty_figure(n_panels: int) -> tuple[Figure, list[Axes]]:
    require_package("matplotlib", "a plot", extra="plot")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + 4.5 * n_panels, 3.6), layout="constrained")
    return figure, [figure.add_subplot(1, n_panels, number + 1) for number in range(n_panels)]


def _line(axes: Axes, frame: pd.DataFrame, column: str, label: str, number: int) -> None:
    points = frame[["epoch", column]].dropna()
    style: dict[str, Any] = {"color": _COLOURS[number % len(_COLOURS)], "marker": _MARKERS[number % len(_MARKERS)]}
    # A label that begins with an underscore would be left out of the legend.
    axes.plot(points["epoch"], points[column], label=label.lstrip("_") or label, **style)


def _finish(axes: Axes, xlabel: str, ylabel: str) -> None:
    axes.set(xlabel=xlabel, ylabel=ylabel)
    _as_they_are(axes.legend(frameon=False, fontsize=8).get_texts())


def _entitle(figure: Figure, title: str) -> None:
    _as_they_are([figure.suptitle(title)])


def _as_they_are(texts: Iterable[Text]) -> None:
    """Show names as they are: matplotlib would read what stands between two dollar signs as mathematics."""
    for text in texts:
        text.set_parse_math(False)
