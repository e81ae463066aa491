"""Widget of notebook 01: the bias of a digit that the student has never seen."""

from __future__ import annotations

import torch
from torch import Tensor

from distill_helpers.course.experiments.digits import error_count
from distill_helpers.course.experiments.withheld_digit import raise_bias
from distill_helpers.course.figures import COLOURS, figure, figure_html, html_table

__all__ = ["HIGHEST_BIAS", "render_bias"]

HIGHEST_BIAS = 10.0


def render_bias(bias: float, *, logits: Tensor, labels: Tensor, missing: tuple[int, ...]) -> str:
    """Show the errors on the missing digits and on the others, without a bias and with it: a table and curves.

    Args:
        bias: added to the logits of the missing digits, from 0 to `HIGHEST_BIAS`.
        logits: of a student that learned without these digits, (images, classes).
        labels: (images,).
        missing: the digits that the student did not see. Some of the labels must name them, and some must not.

    Raises:
        ValueError: a bias outside the range, lengths that differ, or digits that no label or every label names.
    """
    if not 0 <= bias <= HIGHEST_BIAS:
        raise ValueError(f"bias must be from 0 to {HIGHEST_BIAS:g}, got {bias}")
    if len(logits) != len(labels):
        raise ValueError(f"need a label for each image, got {len(logits)} images and {len(labels)} labels")
    shows_missing = torch.isin(labels, torch.tensor(missing, dtype=labels.dtype))
    if not shows_missing.any() or shows_missing.all():
        raise ValueError(f"missing must name some of the digits in the labels, but not all of them, got {missing}")
    groups = {f"missing digits: {', '.join(map(str, missing))}": shows_missing, "the others": ~shows_missing}

    def errors(group: Tensor, height: float) -> int:
        return error_count(raise_bias(logits[group], missing, height), labels[group])

    lines = [(name, int(group.sum()), errors(group, 0.0), errors(group, bias)) for name, group in groups.items()]
    lines.append(("all", len(labels), sum(line[2] for line in lines), sum(line[3] for line in lines)))
    counts = {name: [errors(group, float(height)) for height in _GRID] for name, group in groups.items()}
    columns = ("digits", "images", "errors", f"errors at bias {bias:g}")
    return html_table(columns, lines) + _curves(bias, counts)


_GRID = torch.arange(0, HIGHEST_BIAS + 0.25, 0.25)


def _curves(bias: float, errors: dict[str, list[int]]) -> str:
    fig, axes = figure("More bias: fewer errors on what is missing, more on the rest", height=2.8)
    for colour, (name, counts) in zip(COLOURS, errors.items(), strict=False):
        axes.plot(_GRID.tolist(), counts, color=colour, label=name)
    total = [sum(pair) for pair in zip(*errors.values(), strict=True)]
    axes.plot(_GRID.tolist(), total, color="#444444", linestyle="--", label="all")
    axes.axvline(bias, color="#444444", linewidth=1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("bias added to the missing digits' logits")
    axes.set_ylabel("errors (images)")
    axes.legend(frameon=False, fontsize=8)
    alt = (
        "Errors against the bias: on the missing digits they fall, on the others they rise, and their sum is lowest in"
        f" between. A vertical line stands at the chosen bias, {bias:g}."
    )
    return figure_html(fig, alt)
