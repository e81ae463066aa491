"""Widgets of notebook 00: teacher and student side by side, and the business case."""

from __future__ import annotations

from typing import Any

from distill_helpers.course.figures import probability_bars
from distill_helpers.models.batching import predict_logits
from distill_helpers.models.loading import TextClassifier

__all__ = ["render_business_case", "render_side_by_side"]


def render_side_by_side(text: str, *, teacher: TextClassifier, student: TextClassifier) -> str:
    """What teacher and student make of one message, as bars.

    Args:
        text: the message; an empty one gives a request to type.
        teacher, student: with the same classes.

    Raises:
        ValueError: classes that differ.
    """
    if teacher.label_names != student.label_names:
        raise ValueError(f"teacher and student have different classes: {teacher.label_names}, {student.label_names}")
    if not text.strip():
        return "<p>Type a message above.</p>"
    columns = [predict_logits(*model, [text])[0].softmax(-1).tolist() for model in (teacher, student)]
    answers = [teacher.label_names[max(range(len(c)), key=c.__getitem__)] for c in columns]
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
    """What a smaller model saves, with every line of the arithmetic.

    Args:
        requests_per_day: messages.
        tokens_per_request: read and written, per message.
        teacher_price, student_price: dollars per thousand tokens.
        project_cost: dollars, once: labelling, training, people.

    Raises:
        ValueError: a number that is negative, or a teacher's price of 0.
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
            raise ValueError(f"{name} must be positive, got {value}")
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
    rows = "".join(f"<tr><th scope='row' style='text-align:left'>{k}</th><td>{v}</td></tr>" for k, v in lines)
    # Jupyter would take what stands between two dollar signs for mathematics.
    return f"<div class='mathjax_ignore tex2jax_ignore'><table><tbody>{rows}</tbody></table><p>{verdict}</p></div>"
