"""Notebook 08: how much of a teacher's opinion each door lets through."""

from __future__ import annotations

import torch

from distill_helpers.course.drawings.canvas import CARD, HARD, MUTED, SOFT, TEACHER, Canvas
from distill_helpers.course.drawings.example import QUEUES, teacher_logits

__all__ = ["N_ANSWERS", "TOP", "draw"]

#: The answers that are drawn, and the number of log-probabilities that an API names.
N_ANSWERS, TOP = 20, 2
_DOORS = (16, 212, 408, 604)


def draw() -> Canvas:
    """The teacher's distribution above a wall, and what comes out by four doors."""
    shares = teacher_logits().softmax(-1)
    first = int(shares.argmax())
    answers = torch.multinomial(shares, N_ANSWERS, replacement=True, generator=torch.Generator().manual_seed(0))
    counts = (answers.bincount(minlength=len(QUEUES)) / N_ANSWERS).tolist()
    kept = shares.topk(TOP).indices.tolist()
    canvas = Canvas(
        "The API decides how much of the teacher's doubt gets out",
        "A teacher behind a wall holds five probabilities. Its likeliest answer as text shows one queue. "
        f"{N_ANSWERS} sampled answers show counts. The top {TOP} log-probabilities show two shares, and nothing of"
        " the others. A model of your own shows all logits.",
        352,
    )
    canvas.box(92, 74, 150, 76, "teacher", colour=TEACHER, below="the help desk's own,\none message")
    canvas.bars(262, 60, QUEUES, shares.tolist(), colour=TEACHER, width=120, step=21)
    canvas.rectangle(16, 184, 768, 12, "#8A8A84")
    doors: tuple[tuple[str, list[float | None], str], ...] = (
        ("likeliest answer", [1.0 if queue == first else None for queue in range(len(QUEUES))], HARD),
        (f"{N_ANSWERS} answers", list(counts), SOFT),
        (f"top {TOP} log-probs", [float(shares[k]) if k in kept else None for k in range(len(QUEUES))], SOFT),
        ("all logits", shares.tolist(), SOFT),
    )
    for left, (name, passed, colour) in zip(_DOORS, doors, strict=True):
        canvas.rectangle(left + 76, 182, 34, 16, CARD)
        canvas.arrow(left + 93, 172, left + 93, 216, colour=colour)
        canvas.text(left + 76, 236, name, bold=True, size=13)
        canvas.bars(left, 244, QUEUES, passed, colour=colour, width=62, name_width=76, step=19)
    canvas.text(604, 146, "?: does not get out", size=13, colour=MUTED)
    return canvas
