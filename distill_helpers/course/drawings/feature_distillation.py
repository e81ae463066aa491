"""Notebook 06: layer map, projector and relations."""

from __future__ import annotations

from distill_helpers.course.drawings.canvas import MUTED, RULE, SOFT, STUDENT, TEACHER, Canvas
from distill_helpers.losses.layer_maps import layer_map

__all__ = ["draw"]

_N_TEACHER, _N_STUDENT = 6, 3


def draw() -> Canvas:
    """Which teacher layer each student layer follows, and what can be compared although the widths differ."""
    followed = dict(layer_map("uniform", _N_STUDENT, _N_TEACHER))
    *most, last = (str(layer) for layer in followed.values())
    canvas = Canvas(
        "Each student layer follows one teacher layer, the last follows the last",
        f"A {_N_TEACHER}-layer teacher, 384 wide, beside a {_N_STUDENT}-layer student, 192 wide. The student's layers"
        f" follow teacher layers {', '.join(most)} and {last}. Hidden states need a projector from 192 to 384. Maps of"
        " tokens by tokens have the same size in both.",
        330,
    )
    bottom, step = 286, 38
    height = {}
    for layer in range(_N_TEACHER):
        top = bottom - step * (layer + 1)

        canvas.box(24, top, 170, 30, f"layer {layer}", colour=TEACHER if layer in followed.values() else "#B5B5B0")
        height[layer] = top + 15
    for place, layer in followed.items():
        canvas.box(300, height[layer] - 15, 100, 30, f"layer {place}", colour=STUDENT)
        canvas.arrow(194, height[layer], 300, height[layer], colour=SOFT)
    canvas.text(109, 310, "teacher, 384 wide", size=13, anchor="middle", colour=MUTED)
    canvas.text(350, 310, "student, 192 wide", size=13, anchor="middle", colour=MUTED)
    canvas.line(432, 60, 432, 312, colour=RULE, width=1)
    canvas.text(452, 76, "Hidden states: a projector", bold=True)
    for left, width, colour in ((452, 60, STUDENT), (648, 120, TEACHER)):
        canvas.rectangle(left, 92, width, 50, colour, outline=True)
        for line in range(1, 5):
            canvas.line(left, 92 + 10 * line, left + width, 92 + 10 * line, colour=colour, width=0.7)
    canvas.arrow(516, 117, 644, 117, "192 → 384", colour=SOFT)
    canvas.text(452, 160, "tokens × 192", size=12, colour=MUTED)
    canvas.text(648, 160, "tokens × 384", size=12, colour=MUTED)
    canvas.text(452, 200, "Attention and relations: no projector", bold=True)
    for left, colour in ((452, STUDENT), (648, TEACHER)):
        for number in range(7):
            canvas.line(left, 212 + 12 * number, left + 72, 212 + 12 * number, colour=colour, width=1)
            canvas.line(left + 12 * number, 212, left + 12 * number, 284, colour=colour, width=1)
        canvas.text(left, 302, "tokens × tokens", size=12, colour=MUTED)
    canvas.text(586, 244, "same size,", size=13, anchor="middle", colour=MUTED)
    canvas.text(586, 262, "head by head", size=13, anchor="middle", colour=MUTED)
    return canvas
