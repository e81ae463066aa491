"""Checks of notebook 00's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from distill_helpers.course.exercises import Attempt, Wrong, compare
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


def _check_share_that_agrees(attempt: Attempt) -> str:
    """00.3: agreement of two models from their logits."""
    first = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [1.0, 0.0, 0.5], [0.2, 0.1, 0.9], [1.0, 5.0, 0.0]])
    second = torch.tensor([[9.0, 1.0, 0.0], [0.0, 0.4, 0.3], [0.1, 0.0, 0.7], [0.2, 0.1, 0.9], [0.0, 5.0, 1.0]])
    expected = agreement(first, second)
    p, q = first.softmax(-1), second.softmax(-1)
    mistakes: dict[str, Tensor | float] = {
        "that is a count; divide by the number of messages": 5 * expected,
        "that is in percent; return a share": 100 * expected,
        "that is the share which disagrees": 1 - expected,
        "compare the answers, not the logits: how much each model gives a class is not asked": float(
            (first == second).float().mean()
        ),
        "compare the answers, not whole rows of logits": float((first == second).all(-1).float().mean()),
        "argmax over the classes, which are the last dimension; yours runs over the messages": float(
            (first.argmax(0) == second.argmax(0)).float().mean()
        ),
        "argmax needs a dimension; without one it looks for the largest logit of the whole batch": float(
            first.argmax() == second.argmax()
        ),
        "that is the overlap of the probabilities; agreement looks at the answers alone": torch.minimum(p, q)
        .sum(-1)
        .mean(),
    }
    compare(attempt(first, second), expected, mistakes)
    got = attempt(first, 0.001 * first)
    compare(got, 1.0)
    return (
        "two models agree on a message if both name the same class, so agreement needs no labels. Both may be wrong,"
        " and one may be much surer than the other"
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
    "3": _check_share_that_agrees,
    "4": _check_kl_by_hand,
}
