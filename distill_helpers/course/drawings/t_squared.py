"""Notebook 03: gradients as arrows, with and without the factor."""

from __future__ import annotations

import torch

from distill_helpers.course.drawings.canvas import MUTED, SOFT, TEACHER, Canvas
from distill_helpers.course.drawings.example import teacher_logits
from distill_helpers.losses.soft_targets import soft_target_divergence

__all__ = ["TEMPERATURES", "draw", "gradient_length"]

TEMPERATURES = (1.0, 2.0, 4.0, 8.0, 16.0)


def gradient_length(temperature: float) -> float:
    """The length of the gradient of KL, without T², in the logits of a student that finds all queues equally likely."""
    student = torch.zeros(1, len(teacher_logits()), requires_grad=True)
    # The package's divergence has the factor T².
    divergence = soft_target_divergence(student, teacher_logits()[None], temperature=temperature).sum()
    (gradient,) = torch.autograd.grad(divergence / temperature**2, student)
    return float(gradient.norm())


def draw() -> Canvas:
    """One arrow for each temperature, as long as the gradient: KL alone in the first column, T² · KL in the second."""
    lengths = {temperature: gradient_length(temperature) for temperature in TEMPERATURES}
    first, last = TEMPERATURES[0], TEMPERATURES[-1]
    canvas = Canvas(
        "Dividing the logits by T shrinks the gradient; T² keeps it from fading",
        f"Arrows show the length of the soft loss's gradient for T from {first:g} to {last:g}. Without T², the "
        f"arrow at T = {last:g} is 1/{lengths[first] / lengths[last]:.0f} as long as at T = {first:g}. With T², it"
        f" is {last**2 * lengths[last] / lengths[first]:.1f} times as long.",
        286,
    )
    canvas.text(
        20,
        270,
        "In the logits of a student that finds all five queues equally likely; one message.",
        size=13,
        colour=MUTED,
    )
    longest = max(temperature**2 * length for temperature, length in lengths.items())
    for left, head in ((90, "gradient of KL"), (450, "gradient of T² · KL")):
        canvas.text(left, 70, head, bold=True)
    for row, (temperature, length) in enumerate(lengths.items()):
        y = 98 + 32 * row
        canvas.text(76, y + 5, f"T = {temperature:g}", anchor="end", size=14)
        for left, value, colour in ((90, length, TEACHER), (450, temperature**2 * length, SOFT)):
            pixels = 270 * value / longest
            if pixels > 14:
                canvas.arrow(left, y, left + pixels, y, colour=colour, width=3)
            else:
                canvas.line(left, y, left + max(pixels, 1), y, colour=colour, width=5)
            canvas.text(
                left + pixels + 8, y + 5, f"{value:.3f}" if value < 0.1 else f"{value:.2f}", size=13, colour=MUTED
            )
    return canvas
