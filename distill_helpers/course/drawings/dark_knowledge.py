"""Notebook 01: what a soft label says of a digit that is not in the picture."""

from __future__ import annotations

from distill_helpers.course.drawings.canvas import HARD, MUTED, SOFT, Canvas
from distill_helpers.course.experiments.digits import N_CLASSES, predict, teacher_for

__all__ = ["TEMPERATURE", "draw"]

#: The training image, a 5, that the teacher of seed 0 finds most like a 3; and the temperature of its soft label.
_ROW, TEMPERATURE = 92, 4.0


def draw() -> Canvas:
    """An image of a 5 with its hard and its soft label."""
    data, teacher = teacher_for(0)
    image, label = data.train_images[_ROW].view(8, 8), int(data.train_labels[_ROW])
    shares = (predict(teacher, data.train_images[_ROW : _ROW + 1])[0] / TEMPERATURE).softmax(-1).tolist()
    canvas = Canvas(
        f"This {label} looks a little like a 3, and only the soft label says so",
        f"A handwritten {label}, 8 by 8 pixels. Its hard label puts everything on the {label}. The teacher's soft "
        f"label at T = {TEMPERATURE:g} puts {100 * shares[label]:.0f}% on the {label} and {100 * shares[3]:.0f}% "
        "on the 3.",
        286,
    )
    canvas.text(
        20,
        266,
        f"Of the training images of a {label}, the one that the teacher finds most like a 3. What T does: notebook 02.",
        size=13,
        colour=MUTED,
    )
    for row in range(8):
        for column in range(8):
            grey = round(255 * (1 - float(image[row, column] / image.max())))
            canvas.rectangle(24 + 22 * column, 62 + 22 * row, 22, 22, f"#{grey:02X}{grey:02X}{grey:02X}")
    canvas.rectangle(24, 62, 176, 176, MUTED, outline=True)
    hard = [float(digit == label) for digit in range(N_CLASSES)]
    for left, name, colour, heights in (
        (240, "hard label: the class alone", HARD, hard),
        (524, f"soft label: the teacher at T = {TEMPERATURE:g}", SOFT, shares),
    ):
        canvas.text(left, 76, name, bold=True, size=14)
        for digit, height in enumerate(heights):
            x = left + 24 * digit
            canvas.rectangle(x, 218 - 108 * height, 17, max(108 * height, 1), colour)
            canvas.text(x + 8, 236, str(digit), size=13, anchor="middle", colour=MUTED)
            if height >= 0.1:
                canvas.text(x + 8, 212 - 108 * height, f"{100 * height:.0f}%", size=13, anchor="middle")
        canvas.line(left - 4, 218, left + 240, 218, colour=MUTED, width=1)
    return canvas
