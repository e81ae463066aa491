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


def _check_distance(attempt: Attempt) -> str:
    generator = torch.Generator().manual_seed(12)
    log_q, log_p = (torch.randn(40, 30, generator=generator).double().log_softmax(-1) for _ in range(2))
    drawn = torch.multinomial(log_q.exp(), 1, generator=generator)
    of_student, of_teacher = log_q.gather(1, drawn)[:, 0], log_p.gather(1, drawn)[:, 0]
    ratio = of_student - of_teacher
    compare(
        attempt(of_student.clone(), of_teacher.clone()),
        ratio.mean(),
        {
            "this is the judge that the parrot fools: the teacher's surprise alone": -of_teacher.mean(),
            "this is the teacher's perplexity of the text, which the parrot fools": (-of_teacher.mean()).exp(),
            "this is the student's own surprise: the teacher has no say in it": -of_student.mean(),
            "the sign: the distance grows with the probability that the student alone gives to what it wrote": (
                -ratio.mean()
            ),
            "in nats, without the exponential": ratio.mean().exp(),
            "the mean over the tokens, not their sum": ratio.sum(),
            "single tokens may well be negative, where the teacher is surer than the student. Only the mean is a"
            " distance, so take no absolute values": ratio.abs().mean(),
            "cutting negative tokens off at 0 leaves even the teacher's own copies, with their rounding, above 0; and"
            " it makes the estimate too large": ratio.clamp(min=0).mean(),
            "squares are another measure; the mean of log q − log p is the reverse KL": ratio.square().mean(),
            "differences of the probabilities are small wherever the text is unlikely; take logarithms": (
                (of_student.exp() - of_teacher.exp()).mean()
            ),
        },
    )
    few = ratio.argsort()[:12]
    compare(
        attempt(of_student[few].clone(), of_teacher[few].clone()),
        ratio[few].mean(),
        {
            "of few tokens an unbiased estimate may be below 0: do not cut it off": 0.0,
            "of few tokens an unbiased estimate may be below 0: take no absolute value of it": -ratio[few].mean(),
        },
    )
    return (
        "this is the reverse KL, estimated on the student's own text. It charges the parrot for being surer than the"
        " teacher: only the teacher itself gets 0"
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
    "2": _check_distance,
    "3": _check_tokens_per_call,
}
