"""Checks of notebook 00's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_helpers.course.exercises import Attempt, Wrong, compare, seeded_randn
from distill_helpers.evaluation.measures import agreement


def _check_price_cut(attempt: Attempt) -> str:
    """00.1: the share of the teacher's price that is saved."""
    teacher, student = 0.03, 0.0012
    mistakes = {
        "that is the share which you still pay; the cut is what you no longer pay": student / teacher,
        "that is how many times cheaper the student is, not a cut": teacher / student,
        "that is in dollars; a cut is a share of the teacher's price": teacher - student,
        "divide by the teacher's price, which is the one that is cut": teacher / student - 1,
        "that is in percent; return a share": 100 * (1 - student / teacher),
    }
    compare(attempt(teacher, student), 1 - student / teacher, mistakes)
    # The ratio of the prices does not exist for a student that costs nothing; the cut does.
    compare(attempt(0.03, 0.0), 1.0)
    compare(
        attempt(0.02, 0.03),
        -0.5,
        {
            "a student that costs more is a negative cut; do not hide it": 0.0,
            "a student that costs more is a negative cut; the sign matters": 0.5,
        },
    )
    return (
        "1 − student / teacher. A tenth of the price is a cut of 90%, a thirtieth one of 96.7%; neither says anything"
        " about the number of parameters"
    )


def _check_break_even(attempt: Attempt) -> str:
    """00.2: messages a day at which the project pays for itself."""
    cost, days, tokens, teacher, student = 20_000, 365, 800, 0.03, 0.004
    saved = tokens / 1000 * (teacher - student)
    mistakes = {
        "the prices are for a thousand tokens": cost / days / (1000 * saved),
        "that is the number of messages in all; divide by the days": cost / saved,
        "the student's tokens cost something too; what counts is the difference": cost / days / (0.8 * teacher),
        "only the student's price is in it; what counts is the difference": cost / days / (0.8 * student),
        "tokens_per_request is missing": cost / days / (teacher - student),
        "tokens_per_request is missing: the prices are for a thousand tokens": cost / days / (teacher - student) * 1000,
        "that is what one message saves, upside down": saved * days / cost,
    }
    compare(attempt(cost, days, tokens, teacher, student), cost / days / saved, mistakes)
    never = cost / days / (0.8 * (0.004 - 0.005))
    words = "a student that costs more than the teacher never pays for itself: return math.inf"
    compare(attempt(cost, days, tokens, 0.004, 0.005), math.inf, {words: never, f"{words}, not 0": 0.0})
    compare(attempt(cost, days, tokens, 0.004, 0.004), math.inf)
    return (
        "every message saves its tokens times the difference of the two prices. With less traffic than this the project"
        " needs another reason than money"
    )


def _check_agreement_beyond_luck(attempt: Attempt) -> str:
    """00.3: Cohen's kappa of two models from their logits."""
    named = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 2, 0, 1, 0, 2], [0, 0, 0, 1, 1, 1, 0, 2, 0, 1, 3, 3]])
    first, second = (
        2 * F.one_hot(answers, 4) + seeded_randn(12, 4, seed=seed).clamp(-0.9, 0.9)
        for seed, answers in enumerate(named)
    )
    a = agreement(first, second)
    s, t = (logits.argmax(-1).bincount(minlength=4) / 12 for logits in (first, second))
    p, q = (logits.softmax(-1).mean(dim=0) for logits in (first, second))
    c = float(s @ t)

    def beyond(luck: float) -> float:
        return (a - luck) / (1 - luck)

    mistakes: dict[str, Tensor | float] = {
        "that is the whole agreement: some of it is luck": a,
        "that is c, the agreement by luck": c,
        "luck is subtracted, and not yet divided by what luck leaves, 1 − c": a - c,
        "divide by 1 − c, what luck leaves, and not by c": (a - c) / c,
        "luck is 1 / classes only if every class is named equally often": beyond(1 / 4),
        "one model's shares, squared, are the luck of two models with these shares": beyond(float(s @ s)),
        "the other model's shares, squared, are the luck of two models with these shares": beyond(float(t @ t)),
        "the shares are those of the answers: a mean of probabilities says how sure the models are": beyond(
            float(p @ q)
        ),
        "that is luck for models that follow the more frequent of the two shares": beyond(
            float(torch.minimum(s, t).sum())
        ),
        "that is in percent; return a share": 100 * beyond(c),
        "that is what luck leaves of disagreement: 1 minus it is asked for": (1 - a) / (1 - c),
    }
    compare(attempt(first, second), beyond(c), mistakes)
    compare(attempt(first, 0.001 * first), 1.0)
    always = torch.tensor([[2.0, 0.0, 1.0], [1.0, 0.5, 0.0]])
    got = attempt(always, always)
    if isinstance(got, Tensor | float) and math.isnan(got):
        raise Wrong("NaN where both models always name the same class: 0 / 0. There agreement proves nothing: return 0")
    words = "two models that always name the same class agree whatever they read: that proves nothing, return 0"
    compare(got, 0.0, {words: 1.0})
    turned = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    compare(attempt(turned, turned.flip(0)), -1.0, {"fewer equal answers than luck gives is below 0": 0.0})
    return (
        "0 for a model that ignores its messages, whatever the shares, and 1 for equal answers. No label is needed:"
        " both models may be wrong"
    )


def _check_kl_by_hand(attempt: Attempt) -> str:
    """00.4: KL(p‖q) in nats for each message, with 0·log 0 = 0."""
    p = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    q = torch.tensor([[0.5, 0.3, 0.2], [0.25, 0.25, 0.5]])
    terms = p * (p / q).log()
    expected = terms.sum(-1)
    mistakes: dict[str, Tensor | float] = {
        "that is KL(q‖p): the expectation is under p, the first argument": (q * (q / p).log()).sum(-1),
        "that is in bits; nats need the natural logarithm": expected / math.log(2),
        "the sign is wrong: log of p over q, not of q over p": -expected,
        "that is the cross-entropy, −Σ p log q; the entropy of p is missing": -(p * q.log()).sum(-1),
        "that is the mean over the classes; KL is their sum": terms.mean(-1),
        "weight every term with p": (p / q).log().sum(-1),
        "one number for each message is asked for; yours is the mean over them": expected.mean(),
        "one number for each message is asked for; yours is the sum over them": expected.sum(),
    }
    compare(attempt(p, q), expected, mistakes)

    p, q = torch.tensor([[0.75, 0.25, 0.0], [1.0, 0.0, 0.0]]), torch.tensor([[0.5, 0.25, 0.25], [0.6, 0.4, 0.0]])
    got = attempt(p, q)
    if isinstance(got, Tensor) and got.isnan().any():
        raise Wrong("NaN where p is 0: such a term counts as 0, but torch makes NaN of 0 × −inf")
    compare(got, torch.tensor([0.75 * math.log(1.5), -math.log(0.6)]))

    got = attempt(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]]))
    if isinstance(got, Tensor) and got.numel() and got.isfinite().all():
        raise Wrong("q is 0 where p is not, so KL is infinite; adding a small number to q, or clamping q, hides that")
    compare(got, torch.tensor([math.inf]))
    return (
        "a class that p rules out adds nothing, whatever q says of it. A class that only q rules out costs infinitely"
        " much. A softmax of finite logits rules out no class, except by rounding, and log_softmax avoids the rounding"
    )


CHECKS: dict[str, Callable[[Attempt], str]] = {
    "1": _check_price_cut,
    "2": _check_break_even,
    "3": _check_agreement_beyond_luck,
    "4": _check_kl_by_hand,
}
