"""Notebook 09: its widgets, and the keys of its quiz."""

import re

import pytest
import torch

from distill_helpers import DistillationConfig, SampledTargets, TopKTargets
from distill_helpers.course.quiz import Question, load_quiz
from distill_helpers.course.widgets.language_models import render_next_token, render_top_k, target_errors
from distill_helpers.llm.output_heads import OutputHead
from distill_helpers.llm.token_level import completion_hidden_states, token_level_terms
from distill_helpers.llm.token_targets import target_divergence_and_gradient

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
    assert [markup.index(f"␣w{token}<") for token in top] == sorted(markup.index(f"␣w{token}<") for token in top)
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
    # An id of 4 bytes and an fp16 number for each token that is kept; a bucket is an fp32 number; a draw is an id.
    assert bucket[0] == 6 * k + 4
    assert errors[f"{k} likeliest, renormalised"][0] == 6 * k
    assert errors[f"{k} drawn"][0] == SampledTargets.of(teacher, k).bytes_per_token
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


QUIZ = {question.name: question for question in load_quiz("09_language_models")}


def key(name: str) -> str:
    question: Question = QUIZ[name]
    (right,) = [choice.text for choice in question.choices if choice.right]
    return right


def test_quiz_shift() -> None:
    labels = torch.tensor([[-100] * 4 + list(range(6))])
    positions = torch.arange(10.0)[None, :, None]
    counted = completion_hidden_states(positions, labels).flatten().int().tolist()
    assert key("shift") == f"{counted[0]} to {counted[-1]}"


def test_quiz_accumulation() -> None:
    head = OutputHead(torch.randn(V, 5, generator=torch.Generator().manual_seed(0)))
    hidden = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(40)
    config = DistillationConfig(alpha=0.0)

    def loss(rows: slice, num_items: int) -> float:
        terms = token_level_terms(hidden[rows], head, labels[rows], config, targets=None, num_items=num_items)
        return float(terms["total_loss"])

    in_parts = loss(slice(0, 30), 40) + loss(slice(30, 40), 40)
    assert in_parts == pytest.approx(loss(slice(0, 40), 40), rel=1e-5)
    assert key("accumulation") == "both sums, divided by 40"


def test_quiz_products(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    from distill_helpers import fused_distillation_loss

    products = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if re.search(r"\b(mm|addmm|addmm_)\.", str(func)):
                products.append(str(func))
            return func(*args, **(kwargs or {}))

    hidden, head = torch.randn(6, 4, requires_grad=True), torch.randn(V, 4, requires_grad=True)
    with Count():
        fused_distillation_loss(hidden, head, torch.randn(6, 4), torch.randn(V, 4)).backward()
    words = {2: "two", 4: "four", 6: "six"}
    assert key("products") == words[len(products)]


def test_quiz_truncation() -> None:
    teacher = random_logits(20)
    bucket = target_divergence_and_gradient(teacher, TopKTargets.of(teacher, 3, storage_dtype=torch.float32))[1]
    top = teacher.topk(3)
    renormalised = torch.full_like(teacher, -torch.inf).scatter(1, top.indices, top.values)
    assert bucket.abs().max() < 1e-6
    assert target_divergence_and_gradient(teacher, renormalised)[1].abs().max() > 0.01
    assert key("truncation") == "the k likeliest tokens, renormalised"
