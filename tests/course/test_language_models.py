"""The widgets of language models over their ranges."""

import pytest
import torch

from distill_helpers import TopKTargets
from distill_helpers.course.widgets.language_models import render_next_token, render_top_k, target_errors
from distill_helpers.token_targets import target_divergence_and_gradient

V = 40
IDS = [3, 7, 7, 1, 25, 30]
WORDS = [f" w{i}" for i in range(V)]


def random_logits(rows=6, seed=0, spread=2.0):
    return spread * torch.randn(rows, V, generator=torch.Generator().manual_seed(seed))


def rendered(position: int) -> str:
    return render_next_token(
        position,
        token_ids=IDS,
        logits={"teacher": random_logits(), "student <b>": random_logits(seed=1)},
        text_of=lambda ids: "".join(WORDS[i] for i in ids),
    )


@pytest.mark.parametrize("position", range(1, 6))
def test_the_next_token_over_its_range(position: int) -> None:
    markup = rendered(position)
    p = random_logits()[position - 1].softmax(-1)
    top = p.topk(6).indices.tolist()
    for token in top:
        assert f"␣w{token}<" in markup
    assert f"<b>{WORDS[IDS[position]]}</b>" in markup
    assert f"<b>␣w{IDS[position]}</b>" in markup or f"␣w{IDS[position]}" in markup
    shown = top + ([] if IDS[position] in top else [IDS[position]])
    rest = 100 * (1 - float(p[shown].sum()))
    assert f" {rest:.0f}%" in markup
    assert "student &lt;b&gt;" in markup
    entropy = float(torch.special.entr(p).sum())
    assert f"teacher: {entropy:.1f} nats" in markup


@pytest.mark.parametrize("position", [0, 6, -1])
def test_a_position_without_a_token_is_refused(position: int) -> None:
    with pytest.raises(IndexError, match="1 to 5"):
        rendered(position)


@pytest.mark.parametrize("k", [1, 4, 39])
def test_targets_over_their_range(k: int) -> None:
    teacher, student = random_logits(64), random_logits(64, seed=1)
    errors = target_errors(k, teacher, student, width=8)
    bucket = errors[f"{k} likeliest and a bucket"]
    exact, gradient = target_divergence_and_gradient(student, teacher)
    value, own = target_divergence_and_gradient(student, TopKTargets.of(teacher, k))
    assert bucket[0] == 6 * k + 4
    assert bucket[1] == pytest.approx(float(value.mean()))
    assert bucket[2] == pytest.approx(float((own - gradient).norm() / gradient.norm()))
    assert errors["all logits"][0] == 2 * V
    assert errors["all logits"][2] < 0.002
    assert errors["the head's input"] == (16.0, pytest.approx(float(exact.mean())), 0.0, 0.0)
    drawn = errors[f"{k} drawn"]
    assert drawn[2] / 6 < drawn[3] < drawn[2] / 4  # the square root of 25 draws
    assert bucket[2] == bucket[3]
    if k < 39:
        assert bucket[2] < errors[f"{k} likeliest, renormalised"][2]
    markup = render_top_k(k, teacher_logits=teacher, student_logits=student, width=8)
    assert f"<td>{bucket[0]:,.0f}</td><td>{bucket[1]:.2f}</td><td>{bucket[2]:.0%}</td>" in markup
    outside = 1 - float(teacher.softmax(1).topk(k).values.sum(1).mean())
    assert f"{outside:.0%} of the teacher's probability" in markup
