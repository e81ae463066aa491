"""Widget of notebook 10: the gradient of the reverse KL at one token, estimated from tokens that a student draws."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from distill_helpers.course.figures import COLOURS, figure, figure_html
from distill_helpers.llm.token_targets import target_divergence_and_gradient
from distill_helpers.llm.written_targets import WrittenTargets

__all__ = ["STUDENT_LOGITS", "TEACHER_LOGITS", "WORDS", "DrawnGradient", "drawn_gradient", "render_draws"]

#: Made-up logits of a vocabulary of six words, for what comes next in "The girl went into the".
WORDS = ("forest", "house", "garden", "king", "the", "seven")
TEACHER_LOGITS = torch.tensor([3.0, 2.5, 2.0, -1.0, -3.0, -2.0])
STUDENT_LOGITS = torch.tensor([1.5, 1.0, 0.0, 1.0, 0.5, -0.5])


class DrawnGradient(NamedTuple):
    """The gradient of the reverse KL with respect to the student's logits, exact and estimated.

    Attributes:
        exact: from both models' whole distributions, (words,).
        estimated: the mean of the estimates of `n` drawn words, (words,).
        error: the length of their difference as a share of the exact gradient's length.
        expected_error: the root of this error's mean square over all draws of `n` words.
    """

    exact: Tensor
    estimated: Tensor
    error: float
    expected_error: float


def drawn_gradient(n: int, seed: int = 0) -> DrawnGradient:
    """Draw `n` words from the student, and estimate the gradient from the teacher's log-probabilities of them.

    Raises:
        ValueError: no word would be drawn.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    q = STUDENT_LOGITS.softmax(-1)
    exact = _gradients(STUDENT_LOGITS[None], TEACHER_LOGITS[None])[0]
    # What each word contributes when it is drawn.
    each = _gradients(
        STUDENT_LOGITS.expand(len(WORDS), -1), WrittenTargets.of(TEACHER_LOGITS.expand(len(WORDS), -1), _all_words())
    )
    drawn = torch.multinomial(q, n, replacement=True, generator=torch.Generator().manual_seed(seed))
    estimated = each[drawn].mean(dim=0)
    variance = float((q * (each - exact).square().sum(dim=1)).sum())
    return DrawnGradient(
        exact, estimated, float((estimated - exact).norm() / exact.norm()), (variance / n) ** 0.5 / float(exact.norm())
    )


def _all_words() -> Tensor:
    return torch.arange(len(WORDS))


def _gradients(student: Tensor, targets: Tensor | WrittenTargets) -> Tensor:
    return target_divergence_and_gradient(student, targets, divergence="reverse_kl")[1]


def render_draws(n: int, seed: int) -> str:
    """Draw the exact gradient beside its estimate from `n` drawn words, and say how far off the estimate is.

    Args:
        n: the number of words that are drawn.
        seed: of the draws.

    Raises:
        ValueError: no word would be drawn.
    """
    gradient = drawn_gradient(n, seed)
    fig, axes = figure(f"{n:,} drawn: off by {gradient.error:.0%}", width=6.0)
    places = torch.arange(len(WORDS)).numpy()
    axes.bar(places - 0.2, gradient.exact.numpy(), width=0.4, color=COLOURS[0], label="exact")
    axes.bar(places + 0.2, gradient.estimated.numpy(), width=0.4, color=COLOURS[1], label="from the drawn words")
    axes.axhline(0, color="#444444", linewidth=1)
    axes.set_xticks(places, WORDS)
    axes.set(xlabel="next word", ylabel="gradient at its logit (nats)")
    axes.legend(frameon=False)
    words = zip(WORDS, gradient.exact.tolist(), gradient.estimated.tolist(), strict=True)
    picture = figure_html(
        fig,
        "Gradient at each word's logit, exact and estimated: "
        + "; ".join(f"{word} {exact:+.2f} and {estimate:+.2f}" for word, exact, estimate in words)
        + ".",
    )
    return (
        f"{picture}<p>{n:,} drawn: the estimate is off by <b>{gradient.error:.0%}</b>; over many such draws by"
        f" {gradient.expected_error:.0%} (root mean square).</p>"
    )
