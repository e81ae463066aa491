"""Notebook 04: the parts of the loss, from logits to one number."""

from __future__ import annotations

from distill_helpers.course.drawings.canvas import HARD, INK, MUTED, SOFT, STUDENT, TEACHER, Canvas

__all__ = ["draw"]


def draw() -> Canvas:
    """Two branches: teacher and student through T and KL, student and label through cross-entropy."""
    canvas = Canvas(
        "The loss has two branches, and the student's logits feed both",
        "Teacher logits v and student logits z are divided by T, and softmax turns them into two distributions. T"
        " squared times their KL is weighted by alpha. The cross-entropy of z and the hard label y is weighted by"
        " one minus alpha. The loss is their sum.",
        300,
    )
    canvas.box(16, 62, 160, 56, "teacher's logits v", colour=TEACHER)
    canvas.box(16, 142, 160, 56, "student's logits z", colour=STUDENT)
    canvas.box(16, 222, 160, 56, "hard label y", colour=HARD)
    canvas.box(226, 62, 140, 56, "softmax(v / T)", colour=TEACHER)
    canvas.box(226, 142, 140, 56, "softmax(z / T)", colour=STUDENT)
    canvas.arrow(176, 90, 226, 90, colour=TEACHER)
    canvas.arrow(176, 170, 226, 170, colour=STUDENT)
    canvas.box(426, 92, 156, 76, "T² · KL", colour=SOFT, below="teacher first,\nat temperature T")
    canvas.arrow(366, 90, 426, 116, colour=TEACHER)
    canvas.arrow(366, 170, 426, 146, colour=STUDENT)
    canvas.box(426, 206, 156, 72, "cross-entropy", colour=HARD, below="at T = 1")
    canvas.arrow(176, 250, 426, 250, colour=HARD)
    canvas.path([(200, 170), (200, 222), (410, 222)], colour=STUDENT)
    canvas.arrow(400, 222, 426, 222, colour=STUDENT)
    canvas.box(682, 150, 98, 68, "loss", colour=INK, below="the sum")
    canvas.arrow(582, 130, 682, 170, colour=SOFT)
    canvas.arrow(582, 242, 682, 202, colour=HARD)
    canvas.text(640, 134, "× α", size=14, colour=MUTED)
    canvas.text(636, 250, "× (1 − α)", size=14, colour=MUTED)
    return canvas
