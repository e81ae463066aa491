"""Widgets: pure functions from parameters to HTML, and one function that wires sliders to them.

A render function can be called, compared and tested without a browser; the sliders only call it again.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import ipywidgets
import torch
from torch import Tensor

from distill_helpers.batching import predict_logits
from distill_helpers.course.figures import probability_bars
from distill_helpers.models import TextClassifier

__all__ = ["live", "render_business_case", "render_side_by_side", "render_soft_targets"]


def live(render: Callable[..., str], **controls: ipywidgets.ValueWidget) -> ipywidgets.VBox:
    """Controls above, the rendered HTML below, rendered again whenever a control changes.

    Args:
        render: takes the controls' values by name, returns HTML.
        **controls: ipywidgets with a `value`.

    Returns:
        A box whose last child is the `ipywidgets.HTML` with the result.
    """
    output = ipywidgets.HTML()

    def refresh(_: object = None) -> None:
        output.value = render(**{name: control.value for name, control in controls.items()})

    for control in controls.values():
        control.observe(refresh, names="value")
    refresh()
    return ipywidgets.VBox([*controls.values(), output])


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


def render_soft_targets(
    message: int, temperature: float, *, texts: list[str], labels: list[int], names: tuple[str, ...], logits: Tensor
) -> str:
    """One message, its hard label, and the teacher's distribution at a temperature, with the bits that each carries.

    Args:
        message: index into `texts`, `labels` and `logits`.
        temperature: T > 0.
        texts, labels, names: labelled messages.
        logits: the teacher's, (texts, classes).

    Raises:
        ValueError: a message that does not exist, or a temperature that is not positive.
    """
    if not 0 <= message < len(texts):
        raise ValueError(f"message must be from 0 to {len(texts) - 1}, got {message}")
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}")
    soft = (logits[message].double() / temperature).softmax(-1)
    hard = torch.nn.functional.one_hot(torch.tensor(labels[message]), len(names))
    bits = float(torch.special.entr(soft).sum()) / torch.log(torch.tensor(2.0)).item()
    bars = probability_bars(
        names, [hard.tolist(), soft.tolist()], ["hard label", f"teacher at T = {temperature:g}"], names[labels[message]]
    )
    return (
        f"<blockquote>{html.escape(texts[message])}</blockquote>{bars}"
        f"<p>Entropy: 0.00 bits in the hard label, {bits:.2f} of at most"
        f" {torch.log2(torch.tensor(float(len(names)))).item():.2f} bits in the soft one.</p>"
    )


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
    return f"<table><tbody>{rows}</tbody></table><p>{verdict}</p>"
