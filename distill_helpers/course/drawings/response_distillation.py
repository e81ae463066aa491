"""Notebook 05: the teacher reads each text once, the student many times."""

from __future__ import annotations

from distill_helpers.course.drawings.canvas import HARD, MUTED, SOFT, STUDENT, TEACHER, Canvas
from distill_helpers.data.corpora import load_help_desk

__all__ = ["draw"]


def draw() -> Canvas:
    """Messages and the transfer set go through the teacher once; its labels on disk teach the student."""
    desk = load_help_desk()
    messages, windows = f"{len(desk.train):,}", f"{len(desk.transfer):,}"
    canvas = Canvas(
        "The teacher reads every text once, the student many times",
        f"{messages} labelled messages and {windows} windows cut from them pass through the teacher "
        "once, and its logits are stored on disk. In every epoch the student reads the texts and the stored "
        "logits; the teacher is no longer needed.",
        300,
    )
    canvas.box(20, 76, 170, 76, "messages", colour=HARD, below=f"{messages}, each with\nits sender's queue")
    canvas.arrow(105, 152, 105, 206)
    canvas.text(114, 184, "cut into pieces", size=13, colour=MUTED)
    canvas.box(20, 206, 170, 76, "transfer set", colour=MUTED, below=f"{windows} windows,\nwithout labels here")
    canvas.box(280, 146, 120, 76, "teacher", colour=TEACHER, below="reads each text\nonce")
    canvas.arrow(190, 124, 280, 166)
    canvas.arrow(190, 244, 280, 202)
    canvas.box(468, 146, 120, 76, "on disk", colour=SOFT, below="five logits\nfor each text")
    canvas.arrow(400, 184, 468, 184, colour=SOFT)
    canvas.box(656, 146, 124, 76, "student", colour=STUDENT, below="reads them\nin every epoch")
    canvas.arrow(588, 184, 656, 184, colour=SOFT)
    canvas.path([(190, 96), (718, 96), (718, 132)], colour=HARD)
    canvas.arrow(718, 120, 718, 146, colour=HARD)
    canvas.text(454, 88, "the texts, with hard labels where there are any", size=13, anchor="middle", colour=MUTED)
    canvas.path([(190, 264), (718, 264), (718, 236)], colour=MUTED)
    canvas.arrow(718, 248, 718, 222, colour=MUTED)
    canvas.text(454, 284, "the texts alone", size=13, anchor="middle", colour=MUTED)
    return canvas
