"""Notebook 09: the logits of a batch, to scale."""

from __future__ import annotations

import math

from distill_helpers.course.drawings.canvas import INK, MUTED, SOFT, STUDENT, TEACHER, Canvas

__all__ = ["PARAMETERS", "TOKENS", "VOCABULARY", "draw"]

#: A batch of today, and the parameters of SmolLM2-135M.
TOKENS, VOCABULARY, PARAMETERS = 16_384, 128_256, 134_515_008


def draw() -> Canvas:
    """Three copies of a batch's logits as areas, and beside them a model's weights in the same scale."""
    logits, weights = (4 * numbers / 1e9 for numbers in (TOKENS * VOCABULARY, PARAMETERS))
    canvas = Canvas(
        f"The logits of one batch: {logits:.1f} GB, three times",
        f"Three large squares, {TOKENS:,} tokens by {VOCABULARY:,} logits each, {logits:.1f} GB in fp32: the "
        "student's logits, the teacher's logits and the gradient. Beside them, to scale, a small square: all "
        f"weights of SmolLM2-135M, {weights:.1f} GB.",
        328,
    )
    side = 190.0
    squares = (("student's logits", STUDENT), ("teacher's logits", TEACHER), ("gradient", SOFT))
    for place, (name, colour) in enumerate(squares):
        canvas.box(24 + 206 * place, 84, side, side, name, colour=colour, below=f"{logits:.1f} GB")
    canvas.text(24, 74, f"{VOCABULARY:,} logits per token →", size=13, colour=MUTED)
    canvas.text(24, 296, f"{TOKENS:,} tokens, in fp32, drawn to scale", size=13, colour=MUTED)
    small = side * math.sqrt(weights / logits)
    canvas.box(684, 84 + side - small, small, small, colour=INK)
    canvas.text(684 + small / 2, 296, "SmolLM2-135M,", size=13, anchor="middle")
    canvas.text(684 + small / 2, 312, f"all weights: {weights:.1f} GB", size=13, anchor="middle")
    return canvas
