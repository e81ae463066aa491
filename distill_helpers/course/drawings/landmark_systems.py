"""Notebook 07: the landmark systems by year and by idea."""

from __future__ import annotations

from distill_helpers.course.drawings.canvas import MUTED, RULE, TEACHER, Canvas

__all__ = ["draw"]

_YEARS = {2019: 196, 2020: 336, 2023: 508, 2024: 642}
#: For each idea its systems: year, name, size, and how far right of the year's line they stand.
_IDEAS = {
    "copy layers": ((2019, "DistilBERT", "66 M", 0),),
    "match the inside": (
        (2019, "TinyBERT", "14.5 M", 0),
        (2020, "MiniLM", "66 M", 0),
        (2020, "MiniLMv2", "66 M", 92),
    ),
    "learn from written text": ((2023, "Phi-1, Phi-2", "1.3 B, 2.7 B", 0),),
    "prune, then heal": ((2024, "Minitron, Llama 3.2", "1 B to 8 B", -50),),
    "train on logits": ((2024, "Gemma 2", "2 B, 9 B", 0),),
}


def draw() -> Canvas:
    """One row for each idea, one column for each year."""
    canvas = Canvas(
        "Five ways to a small model, and the systems that took them",
        "A timeline. DistilBERT, 2019, copies layers. TinyBERT, 2019, MiniLM and MiniLMv2, 2020, match hidden "
        "states, attention or relations. Phi-1 and Phi-2, 2023, learn from text that larger models wrote or "
        "selected. Minitron and Llama 3.2, 2024, are pruned and healed with logits. Gemma 2, 2024, is trained on "
        "a teacher's distributions.",
        382,
    )
    for year, left in _YEARS.items():
        canvas.text(left, 62, str(year), bold=True, size=14, colour=MUTED)
    for row, (idea, systems) in enumerate(_IDEAS.items()):
        top = 78 + 60 * row
        if row:
            canvas.line(20, top - 6, 780, top - 6, colour=RULE, width=1)
        canvas.text(20, top + 29, idea, size=14)
        for year, name, size, shift in systems:
            width = max(canvas.width_of(name, bold=True), canvas.width_of(size, size=13)) + 24
            canvas.box(_YEARS[year] + shift, top, width, 48, name, colour=TEACHER, below=size)
    return canvas
