"""Checks of notebook 10's exercises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from distill_helpers.course.exercises import Attempt, Wrong, compare, needs_gradient, seeded_randn
from distill_helpers.losses.soft_targets import mean_divergence

__all__ = ["CHECKS"]


def _check_drawn_loss(attempt: Attempt) -> str:
    n, vocabulary = 4, 6
    logits, others = (seeded_randn(n, vocabulary, seed=seed).double() for seed in (9, 10))
    log_p, q = others.log_softmax(-1), logits.softmax(-1)

    def over_all_draws(loss: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]) -> torch.Tensor:
        """The gradient of each row's logits, a mean over the tokens that may be drawn, each as often as q draws it."""
        mean = torch.zeros_like(logits)
        for token in range(vocabulary):
            student = logits.clone().requires_grad_()
            got = loss(student, log_p[:, token].clone(), torch.full((n,), token))
            if not isinstance(got, torch.Tensor) or got.shape != ():
                raise Wrong("return a scalar tensor: the mean over the tokens")
            needs_gradient(got, student)
            assert student.grad is not None
            mean += q[:, [token]] * student.grad
        return mean

    def by_mistake(of_token: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        return over_all_draws(lambda z, p, y: of_token(z.log_softmax(-1).gather(1, y[:, None])[:, 0], p).mean())

    exact = logits.clone().requires_grad_()
    mean_divergence(exact, others, divergence="reverse_kl").backward()
    right = exact.grad
    assert right is not None
    compare(
        over_all_draws(attempt),
        right,
        {
            "the mean of your gradient over all draws is 0: that of log q always is, since probabilities sum to 1": (
                torch.zeros_like(right)
            ),
            "the sign is wrong: this makes likelier what the teacher finds unlikely": -right,
            "divide by the number of tokens: the loss is a mean": n * right,
            "the weight log q − log p has to be a constant: a gradient flows through it as well": by_mistake(
                lambda log_q, p: log_q * (log_q - p)
            ),
            "the draws come as often as q draws them: do not weigh them with q once more": by_mistake(
                lambda log_q, p: log_q.exp() * (log_q - p)
            ),
            "do not weigh with q once more, not even with a constant q": by_mistake(
                lambda log_q, p: log_q.exp().detach() * (log_q - p).detach() * log_q
            ),
            "the teacher's log-probability alone is the weight: the student's own is missing, which keeps it from"
            " drawing one token for ever": by_mistake(lambda log_q, p: -p * log_q),
            "this weighs with probabilities: the weight is the difference of their logarithms": by_mistake(
                lambda log_q, p: (log_q.exp() - p.exp()).detach() * log_q
            ),
        },
    )
    return (
        "a drawn token gets less likely by as much as the student is surer of it than the teacher. One draw is noisy;"
        " the mean over draws is the gradient of the reverse KL, from one number of the teacher for each token"
    )


def _check_parrot_wins(attempt: Attempt) -> str:
    for seed, spread in ((41, 1.0), (13, 4.0), (15, 2.0)):
        # A teacher that is sure at some places, and a student that is near it at some.
        sure = torch.linspace(0.3, 4, 60).double()[:, None]
        teacher, noise = (seeded_randn(60, 9, seed=seed + step).double() for step in (0, 1))
        student = (teacher + spread * torch.linspace(0, 1, 60).double()[:, None] * noise) * sure
        teacher = teacher * sure
        log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
        p, q = log_p.exp(), log_q.exp()
        of_student = (q * (log_q - log_p)).sum(-1)
        of_parrot = -log_p.max(-1).values
        expected = (of_parrot < of_student).double().mean()
        own_word = -log_p.gather(1, log_q.argmax(-1, keepdim=True))[:, 0]
        mistakes = {
            "this is the share that the student wins: the parrot wins where its KL is the smaller one": 1 - expected,
            "that is the forward KL of the student; the reverse one is a mean over the student's own words": (
                (of_parrot < (p * (log_p - log_q)).sum(-1)).double().mean()
            ),
            "this parrot repeats the student's likeliest word; it has to be the teacher's": (
                (own_word < of_student).double().mean()
            ),
            "the student's cross-entropy with the teacher still has its own doubt in it: subtract its entropy": (
                (of_parrot < -(q * log_p).sum(-1)).double().mean()
            ),
            "the parrot's KL is −log of the teacher's highest probability, not that probability": (
                (p.max(-1).values < of_student).double().mean()
            ),
            "compare at each place first, and take the share afterwards": (
                (of_parrot.mean() < of_student.mean()).double()
            ),
            "a KL is a sum over the words, not their mean": (
                (of_parrot < (q * (log_q - log_p)).mean(-1)).double().mean()
            ),
        }
        compare(
            attempt(student.clone(), teacher.clone()),
            expected,
            {words: value for words, value in mistakes.items() if abs(float(value - expected)) > 0.01},
        )
    return (
        "it can: where a student is further from its teacher than −log of the teacher's highest probability, even this"
        " judge prefers the parrot. So no single number replaces reading"
    )


def _check_tokens_per_call(attempt: Attempt) -> str:
    for acceptances in ([0.8, 0.6, 0.3], [0.5, 0.9], [0.6] * 4, [0.0, 0.5], [1.0, 1.0]):
        sure = torch.tensor([1.0, *acceptances]).double().cumprod(0)
        mean = sum(acceptances) / len(acceptances)
        mistakes: dict[str, torch.Tensor | float] = {
            "the first refused draft ends the call: the drafts after it are thrown away": 1 + sum(acceptances),
            "the token that the teacher itself adds in each call is missing": sure.sum() - 1,
            "with n drafts, up to n + 1 tokens come out of a call": sure[:-1].sum(),
            "this is the probability that all drafts are accepted": sure[-1],
            "the acceptances differ from draft to draft: their mean does not say how far a call gets": sum(
                mean**i for i in range(len(acceptances) + 1)
            ),
        }
        expected = float(sure.sum())
        compare(
            attempt(list(acceptances)),
            expected,
            {words: value for words, value in mistakes.items() if abs(float(value) - expected) > 0.01},
        )
    return (
        "the i-th draft counts only if all before it were accepted as well: with 60% each, four drafts give 2.3 tokens"
        " a call, and a fifth one would add 0.08"
    )


CHECKS: dict[str, Callable[[Attempt], str]] = {
    "1": _check_drawn_loss,
    "2": _check_parrot_wins,
    "3": _check_tokens_per_call,
}
