"""Widget of notebook 04: the triangle of all distributions over three classes, with the pull of both labels.

A corner is certainty of one class, the middle is 1/3 each. The height of a point above the lower side is the
probability of the label's class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from distill_helpers.course.figures import COLOURS, figure, figure_html, html_table

__all__ = ["CLASSES", "LABEL", "TEACHERS", "descent", "pull", "render_simplex"]

#: Three queues, of which the hard label names the first, and the probabilities that two teachers give them.
CLASSES, LABEL = ("Billing", "Returns", "Technical"), np.array([1.0, 0.0, 0.0])
TEACHERS = {"unsure": np.array([0.3, 0.6, 0.1]), "sure": np.array([0.01, 0.98, 0.01])}
#: Where the corners are drawn.
_CORNERS = np.array([[0.5, 1.0], [0.0, 0.0], [1.0, 0.0]])
_STEPS, _RATE = 2_000, 0.05
_SPACES = 12


def pull(logits: NDArray[np.float64], temperature: float, alpha: float, teacher: str = "unsure") -> NDArray[np.float64]:
    """Compute minus the gradient of α T² KL + (1 − α) CE with respect to a student's logits.

    Args:
        logits: (…, 3).
        temperature: above 0.
        alpha: the teacher's weight, in [0, 1].
        teacher: a key of `TEACHERS`.

    Returns:
        (…, 3), in nats.

    Raises:
        ValueError: a value outside its range.
        KeyError: no teacher has this name.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature!r}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha!r}")
    soft = temperature * (_softmax(np.log(TEACHERS[teacher]) / temperature) - _softmax(logits / temperature))
    return alpha * soft + (1 - alpha) * (LABEL - _softmax(logits))


def descent(temperature: float, alpha: float, teacher: str = "unsure") -> NDArray[np.float64]:
    """Follow a student whose logits are free, by 2,000 steps of gradient descent at a rate of 0.05 from the middle.

    Returns:
        Its distribution before the first step and after each, (2001, 3).
    """
    path = np.zeros((_STEPS + 1, 3))
    for step in range(_STEPS):
        path[step + 1] = path[step] + _RATE * pull(path[step], temperature, alpha, teacher)
    return _softmax(path)


def render_simplex(temperature: float, alpha: float, teacher: str = "unsure") -> str:
    """Show where the loss pulls a student from everywhere in the triangle, and where one from the middle ends.

    Arrows are as long as the pull is strong, on a scale of their own in each picture.

    Args:
        temperature: of the soft term, above 0.
        alpha: the teacher's weight, in [0, 1].
        teacher: a key of `TEACHERS`.

    Raises:
        ValueError: a value outside its range.
        KeyError: no teacher has this name.
    """
    path = descent(temperature, alpha, teacher)
    end = path[-1]
    title = f"After {_STEPS:,} steps the student says {end[0]:.0%} {CLASSES[0]}"
    fig, axes = figure(title, width=6.0, height=4.4)
    axes.fill(*_CORNERS.T, facecolor="none", edgecolor="#888888")
    inner = [(i, j, _SPACES - i - j) for i in range(1, _SPACES) for j in range(1, _SPACES - i)]
    q = np.array(inner) / _SPACES
    force = pull(np.log(q), temperature, alpha, teacher)
    moved = q * (force - (q * force).sum(axis=1, keepdims=True))  # how softmax moves where its logits move by `force`
    arrows = moved @ _CORNERS
    scale = np.linalg.norm(arrows, axis=1).max() * _SPACES
    axes.quiver(*(q @ _CORNERS).T, *arrows.T, color="#777777", angles="xy", scale_units="xy", scale=scale, width=0.004)
    axes.plot(*(np.stack([LABEL, TEACHERS[teacher]]) @ _CORNERS).T, "--", color="#444444", linewidth=1)
    axes.plot(*(path @ _CORNERS).T, color=COLOURS[2], linewidth=2)
    axes.plot(*(path[0] @ _CORNERS), ".", color=COLOURS[2], markersize=9)
    for name, point, colour, marker, side in (
        (f"{CLASSES[0]}: the hard label", LABEL, COLOURS[0], "s", "left"),
        ("teacher", TEACHERS[teacher], COLOURS[1], "^", "right"),
        ("student", end, COLOURS[2], "o", "left"),
    ):
        x, y = point @ _CORNERS
        axes.plot([x], [y], marker, color=colour, markersize=9)
        beside = (9, -14 if name == "student" else 4) if side == "left" else (-9, 4)
        axes.annotate(name, (x, y), xytext=beside, textcoords="offset points", ha=side, color=colour, fontweight="bold")
    for name, (x, y) in zip(CLASSES[1:], _CORNERS[1:], strict=True):
        axes.annotate(name, (x, y), xytext=(0, -12), textcoords="offset points", ha="center")
    axes.set(
        xlim=(-0.16, 1.16),
        ylim=(-0.09, 1.09),
        xticks=[],
        yticks=np.linspace(0, 1, 6),
        yticklabels=range(0, 101, 20),
        xlabel=f"the rest is shared by {CLASSES[1]} and {CLASSES[2]}",
        ylabel=f"probability of {CLASSES[0]} (%)",
    )
    rows = {"hard label": LABEL, "teacher": TEACHERS[teacher], "student": end}
    said = "; ".join(f"{name} {_in_words(point)}" for name, point in rows.items())
    alt = f"A triangle with arrows that show how the loss moves a student. {said}."
    return figure_html(fig, alt) + html_table(
        ("", *CLASSES), [(name, *(f"{share:.1%}" for share in point)) for name, point in rows.items()]
    )


def _in_words(point: NDArray[np.float64]) -> str:
    return ", ".join(f"{name} {share:.0%}" for name, share in zip(CLASSES, point, strict=True))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: NDArray[np.float64] = e / e.sum(axis=-1, keepdims=True)
    return shares
