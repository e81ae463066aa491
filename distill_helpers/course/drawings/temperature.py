"""Notebook 02: one message at four temperatures."""

from __future__ import annotations

from distill_helpers.course.drawings.canvas import MUTED, RULE, SOFT, Canvas
from distill_helpers.course.drawings.example import QUEUES, message, teacher_logits

__all__ = ["TEMPERATURES", "draw"]

TEMPERATURES = (0.5, 1.0, 4.0, 16.0)


def draw() -> Canvas:
    """The teacher's probabilities of the five queues, from the likeliest to the least likely, at each temperature."""
    logits, order = teacher_logits().sort(descending=True)
    names = [QUEUES[queue] for queue in order.tolist()]
    at = {temperature: (logits / temperature).softmax(-1).tolist() for temperature in TEMPERATURES}
    highest = [f"{100 * shares[0]:.0f}% at T = {temperature:g}" for temperature, shares in at.items()]
    canvas = Canvas(
        "A higher temperature flattens the probabilities but keeps their order",
        "The teacher's probabilities of five queues for one message, at four temperatures. The likeliest queue has"
        f" {', '.join(highest[:-1])} and {highest[-1]}. The order never changes.",
        238,
    )
    canvas.text(20, 58, f"“{' '.join(message().split()[:6])} …”: softmax(logits / T)", size=14, colour=MUTED)
    for place, (temperature, shares) in enumerate(at.items()):
        left = 20 + 193 * place
        canvas.text(left + 72, 92, f"T = {temperature:g}", bold=True)
        canvas.bars(left, 104, names, shares, colour=SOFT, width=72, name_width=72, step=24)
        if place:
            canvas.line(left - 4, 78, left - 4, 222, colour=RULE, width=1)
    return canvas
