"""Widgets of notebook 00: teacher and student side by side, the business case, and the reader's record."""

from __future__ import annotations

import html
from typing import Any

from distill_helpers.course.figures import html_table, probability_bars
from distill_helpers.course.folders import notebook_names
from distill_helpers.course.record import forget, numbers_of_exercises, solved
from distill_helpers.models.text_models import TextClassifier, predict_logits

__all__ = ["render_business_case", "render_record", "render_side_by_side"]


def render_side_by_side(text: str, *, teacher: TextClassifier, student: TextClassifier) -> str:
    """Show the probabilities that teacher and student give one message, as bars.

    Args:
        text: the message; an empty one leads to a request to type.
        teacher, student: two models with the same classes.

    Raises:
        ValueError: the models have different classes.
    """
    if teacher.label_names != student.label_names:
        raise ValueError(f"teacher and student have different classes: {teacher.label_names}, {student.label_names}")
    if not text.strip():
        return "<p>Type a message above.</p>"
    columns = [predict_logits(model, [text])[0].softmax(-1).tolist() for model in (teacher, student)]
    answers = [html.escape(teacher.label_names[max(range(len(c)), key=c.__getitem__)]) for c in columns]
    verdict = "agree" if answers[0] == answers[1] else "disagree"
    bars = probability_bars(teacher.label_names, columns, ["teacher", "student"])
    return f"{bars}<p>They {verdict}: the teacher says <b>{answers[0]}</b>, the student <b>{answers[1]}</b>.</p>"


def render_business_case(
    requests_per_day: int,
    tokens_per_request: int,
    teacher_price: float,
    student_price: float,
    project_cost: float,
) -> str:
    """Compute what a smaller model saves, and show every line of the arithmetic.

    Args:
        requests_per_day: number of messages.
        tokens_per_request: read and written, for each message.
        teacher_price, student_price: in dollars for a thousand tokens.
        project_cost: in dollars, once: labelling, training, people.

    Raises:
        ValueError: a negative number, or a teacher's price of 0.
    """
    figures: dict[str, float] = {
        "requests_per_day": requests_per_day,
        "tokens_per_request": tokens_per_request,
        "teacher_price": teacher_price,
        "student_price": student_price,
        "project_cost": project_cost,
    }
    for name, value in figures.items():
        if value < 0 or (value == 0 and name == "teacher_price"):
            at_least = "above 0" if name == "teacher_price" else "0 or more"
            raise ValueError(f"{name} must be {at_least}, got {value}")
    thousands = requests_per_day * tokens_per_request / 1000
    before, after = thousands * teacher_price, thousands * student_price
    saved = before - after
    cut = 1 - student_price / teacher_price
    if saved > 0:
        verdict = f"The project pays for itself after <b>{project_cost / saved:,.0f} days</b>."
    else:
        verdict = "The student costs no less than the teacher: <b>it never pays for itself</b>."
    factor = "∞" if student_price == 0 else f"{teacher_price / student_price:,.1f}"
    lines: list[tuple[str, Any]] = [
        ("tokens a day", f"{requests_per_day:,} × {tokens_per_request:,} = {thousands:,.0f} thousand"),
        ("teacher", f"{thousands:,.0f} × ${teacher_price:g} = ${before:,.0f} a day"),
        ("student", f"{thousands:,.0f} × ${student_price:g} = ${after:,.0f} a day"),
        ("price ratio", f"{factor}× cheaper, a cut of {100 * cut:.1f}%"),
    ]
    # JupyterLab would typeset text between two dollar signs as mathematics.
    return f"<div class='mathjax_ignore tex2jax_ignore'>{html_table((), lines)}<p>{verdict}</p></div>"


def render_record(forget_all: bool) -> str:
    """Show which exercises of each notebook the reader has solved.

    Args:
        forget_all: begin a new record first.

    Raises:
        ValueError: a record with lines that are no exercise.
    """
    said = ""
    if forget_all:
        old = forget()
        said = f"The old record is now {html.escape(str(old))}." if old else "There was no record."
    done, numbers = set(solved()), numbers_of_exercises()
    rows = []
    for name in notebook_names():
        own = [number for number in numbers if number.startswith(name[:2])]
        marks = "  ".join(f"{number} {'✓' if number in done else '○'}" for number in own)
        rows.append((name.replace("_", " · ", 1).replace("_", " "), f"{len(done & set(own))} of {len(own)}", marks))
    caption = f"{len(done)} of {len(numbers)} exercises solved"
    return html_table(("notebook", "solved", "exercises"), rows, caption=caption) + f"<p>{said}</p>"
