"""Notebook 10: its widget, and the keys of its quiz."""

import math
import re

import pytest
import torch

from distill_helpers import DistillationConfig, TopKTargets, mean_divergence, target_divergence
from distill_helpers.course.experiments.healing import summary
from distill_helpers.course.quiz import Question, load_quiz
from distill_helpers.course.widgets.on_policy_distillation import (
    STUDENT_LOGITS,
    TEACHER_LOGITS,
    WORDS,
    drawn_gradient,
    render_draws,
)
from distill_helpers.llm.output_heads import OutputHead
from distill_helpers.llm.token_level import completion_labels, token_level_terms

V = 40
QUIZ = {question.name: question for question in load_quiz("10_on_policy_distillation")}


def exact_gradient():
    z = STUDENT_LOGITS.clone().requires_grad_()
    mean_divergence(z[None], TEACHER_LOGITS[None], divergence="reverse_kl").backward()
    return z.grad


def test_the_estimate_is_right_on_average_and_off_by_what_is_said() -> None:
    torch.testing.assert_close(drawn_gradient(1).exact, exact_gradient())
    many = [drawn_gradient(16, seed) for seed in range(2_000)]
    mean = torch.stack([one.estimated for one in many]).mean(dim=0)
    assert float((mean - exact_gradient()).norm() / exact_gradient().norm()) < 0.03
    root_mean_square = math.sqrt(sum(one.error**2 for one in many) / len(many))
    assert root_mean_square == pytest.approx(many[0].expected_error, rel=0.05)
    assert many[0].expected_error == pytest.approx(drawn_gradient(64).expected_error * 2)


@pytest.mark.parametrize("n", [1, 4, 4096])
@pytest.mark.parametrize("seed", [0, 9])
def test_the_draws_over_their_range(n: int, seed: int) -> None:
    markup, gradient = render_draws(n, seed), drawn_gradient(n, seed)
    assert f"<b>{gradient.error:.0%}</b>" in markup
    assert f"{gradient.expected_error:.0%} (root mean square)" in markup
    alt = re.search("alt='([^']+)'", markup)[1]
    for word, exact, estimate in zip(WORDS, gradient.exact, gradient.estimated, strict=True):
        assert f"{word} {exact:+.2f} and {estimate:+.2f}" in alt


def test_no_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        render_draws(0, 0)


def key(name: str) -> str:
    question: Question = QUIZ[name]
    (right,) = [choice.text for choice in question.choices if choice.right]
    return right


def test_quiz_judges() -> None:
    table = summary().loc[["hard labels", "forward KL"]]
    perplexity, kl, times, written = (
        [f"{value:.{digits}f}" for value in table[column]]
        for column, digits in (
            ("perplexity", 0),
            ("KL to the teacher", 1),
            ("e^KL: times the teacher's perplexity", 1),
            ("teacher's perplexity of what it writes", 0),
        )
    )
    assert f"perplexities of {perplexity[0]} and {perplexity[1]}" in QUIZ["judges"].text
    whys = " ".join(choice.why for choice in QUIZ["judges"].choices)
    assert f"{written[0]} for hard labels and {written[1]} for forward KL" in whys
    assert f"{kl[0]} nats for hard labels and {kl[1]} for forward KL" in whys
    assert f"{times[0]} times against {times[1]} times" in whys
    assert written[0] < written[1], "it prefers the farther copy"
    assert key("judges").startswith("the KL to the teacher")


def test_quiz_on_policy() -> None:
    """What the trainer does with a batch that the student wrote: its labels only say which positions count."""
    head = OutputHead(torch.randn(V, 5, generator=torch.Generator().manual_seed(0)))
    hidden = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    teacher = torch.randn(7, V, generator=torch.Generator().manual_seed(2))
    targets = TopKTargets.of(teacher, 5, storage_dtype=torch.float32)
    config = DistillationConfig(alpha=1.0, temperature=1.0)
    one, other = (
        token_level_terms(hidden, head, labels, config, targets=targets)["total_loss"]
        for labels in (torch.zeros(7, dtype=torch.long), torch.arange(7))
    )
    expected = target_divergence(head.logits(hidden), targets).mean()
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(one, expected)
    assert completion_labels(torch.tensor([[-100, 4, 5]])).tolist() == [4, 5]
    assert key("on_policy") == "the teacher's distribution at each of its tokens"


def test_quiz_one_number() -> None:
    """The estimate of `drawn_gradient` uses of the teacher the log-probabilities of the drawn words alone."""
    assert "reverse KL" in key("one_number")
    assert "student draws" in key("one_number")


def test_quiz_cut_off() -> None:
    assert f"{1 / math.e:.0%}" in key("cut_off")
    assert "away" in key("cut_off")


def test_quiz_drafter() -> None:
    generator = torch.Generator().manual_seed(0)
    accepted = torch.rand(100_000, 4, generator=generator) < 0.6
    tokens = 1 + accepted.int().cumprod(dim=1).sum(dim=1).double().mean()
    assert key("drafter") == f"{tokens:.1f}"
