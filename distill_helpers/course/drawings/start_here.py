"""Notebook 00: from a message to a soft label to a student."""

from __future__ import annotations

from distill_helpers.course.drawings.canvas import HARD, MUTED, SOFT, STUDENT, TEACHER, Canvas
from distill_helpers.course.drawings.example import QUEUES, message, sender, teacher_logits

__all__ = ["draw"]


def draw() -> Canvas:
    """A sender with message and hard label, the teacher's soft label, and the student that learns the soft one."""
    shares = teacher_logits().softmax(-1).tolist()
    first, second = sorted(range(len(QUEUES)), key=lambda queue: -shares[queue])[:2]
    words = message().split()
    canvas = Canvas(
        "A hard label names one queue; a soft label also says which others come close",
        "A person sends a message and picks one queue, its hard label. A large teacher gives the message a soft "
        f"label: {100 * shares[first]:.0f}% {QUEUES[first]}, {100 * shares[second]:.0f}% {QUEUES[second]}. A small"
        " student learns from the soft label.",
        374,
    )
    canvas.box(20, 68, 170, 66, "sender", colour=HARD, below="a person at a desk")
    canvas.arrow(105, 134, 105, 206)
    canvas.text(114, 174, "writes", size=13, colour=MUTED)
    canvas.arrow(190, 101, 404, 101, "picks one queue", colour=HARD)
    canvas.box(20, 206, 170, 84, "message", colour=MUTED, below=f"“{' '.join(words[:3])}\n{' '.join(words[3:6])} …”")
    canvas.arrow(190, 248, 236, 248)
    canvas.box(236, 206, 120, 84, "teacher", colour=TEACHER, below="22.7 million\nparameters")
    canvas.arrow(356, 248, 404, 248, colour=SOFT)
    for upper, name, colour, label in (
        (54, "hard label", HARD, [float(queue == sender()) for queue in QUEUES]),
        (196, "soft label", SOFT, shares),
    ):
        canvas.text(410, upper + 10, name, bold=True, size=14)
        canvas.bars(394, upper + 16, QUEUES, label, colour=colour, width=80, step=19, name_width=90)
    canvas.arrow(604, 248, 652, 248, colour=SOFT)
    canvas.box(652, 206, 130, 84, "student", colour=STUDENT, below="a twentieth\nof the teacher")
    canvas.text(20, 346, "The colours of all drawings:", size=13, colour=MUTED)
    legend = (("hard label", HARD), ("soft label", SOFT), ("teacher", TEACHER), ("student", STUDENT))
    for place, (name, colour) in enumerate(legend):
        canvas.rectangle(236 + 120 * place, 335, 13, 13, colour)
        canvas.text(256 + 120 * place, 346, name, size=13)
    return canvas
