"""Notebook 10: whose text the student reads while it learns."""

from __future__ import annotations

from distill_helpers.course.drawings.canvas import MUTED, SOFT, STUDENT, TEACHER, Canvas

__all__ = ["draw"]


def draw() -> Canvas:
    """Off-policy, both models read somebody's text; on-policy, they read what the student has written."""
    canvas = Canvas(
        "Off-policy, the student reads a book; on-policy, it reads its own writing",
        "Two rows. Off-policy, teacher and student read a tale, and the loss compares their distributions of the "
        "next token. On-policy, the student continues an opening, and the loss compares both models at each token"
        " that it wrote. In both rows the loss trains the student.",
        370,
    )
    for top, name, source, below, colour in (
        (60, "off-policy", "a tale", "written by people", MUTED),
        (208, "on-policy", "an opening", "the student goes on", STUDENT),
    ):
        canvas.text(24, top + 12, name, bold=True)
        canvas.box(24, top + 24, 160, 76, source, colour=colour, below=below)
        canvas.box(300, top + 4, 150, 46, "teacher", colour=TEACHER)
        canvas.box(300, top + 68, 150, 46, "student", colour=STUDENT)
        canvas.arrow(184, top + 50, 300, top + 27)
        canvas.arrow(184, top + 74, 300, top + 91)
        canvas.box(590, top + 24, 180, 66, "loss", colour=SOFT, below="at each token\nafter the opening")
        canvas.arrow(450, top + 27, 590, top + 46, colour=TEACHER)
        canvas.arrow(450, top + 82, 590, top + 66, colour=STUDENT)
        canvas.path([(680, top + 90), (680, top + 106), (470, top + 106)], colour=SOFT)
        canvas.arrow(480, top + 106, 450, top + 106, colour=SOFT)
        canvas.text(560, top + 123, "trains", size=13, colour=MUTED)
    canvas.path([(375, 322), (375, 346), (104, 346), (104, 330)], colour=STUDENT)
    canvas.arrow(104, 340, 104, 308, colour=STUDENT)
    canvas.text(114, 340, "writes the rest", size=13, colour=MUTED)
    return canvas
