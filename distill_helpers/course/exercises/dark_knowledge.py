"""Checks of notebook 01's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from distill_helpers.course.exercises import Attempt, Wrong, compare, seeded_randn
from distill_helpers.course.experiments.digits import error_count
from distill_helpers.course.experiments.withheld_digit import raise_bias


def _messages(n: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) of an overconfident teacher, and labels of which each class has as many."""
    labels = torch.arange(n) % classes
    return 2 * seeded_randn(n, classes, seed=seed) + 2 * torch.nn.functional.one_hot(labels, classes), labels


#: Two sets of messages, with other numbers of classes, so that no answer is right by chance.
_CASES = (_messages(60, 5, seed=7), _messages(44, 4, seed=1007))


def _numbers(got: Any) -> Any:
    """One tensor of the numbers that an answer consists of."""
    return torch.stack([torch.as_tensor(part).double() for part in got]) if isinstance(got, tuple | list) else got


def _runner_up_rates(attempt: Attempt) -> str:
    for logits, labels in _CASES:
        order, p = logits.argsort(dim=-1, descending=True), logits.softmax(-1)
        wrong, second, sure = order[:, 0] != labels, order[:, 1] == labels, p.amax(-1)
        lead = p.topk(2).values.diff().squeeze(-1).neg()

        def rates(by: Tensor, hit: Tensor, extra: int = 0) -> Tensor:
            """The rates of `hit` on the less sure half, which has `extra` messages more, and on the surer one."""
            places = by.argsort()
            half = len(places) // 2 + extra
            return torch.stack([hit[part].double().mean() for part in (places[:half], places[half:])])

        below = sure < sure.median()
        right = rates(sure[wrong], second[wrong])
        compare(
            _numbers(attempt(logits.clone(), labels.clone())),
            right,
            {
                "only messages whose first choice is wrong count; take them out before you halve": rates(sure, second),
                "halve the wrong messages by their own certainties, not by those of all messages": torch.stack(
                    [second[wrong & part].double().mean() for part in (below, ~below)]
                ),
                "the less sure half comes first": right.flip(0),
                "if the number of wrong messages is odd, the surer half has one more": rates(
                    sure[wrong], second[wrong], extra=1
                ),
                "you take the least likely class for the runner-up; sort in descending order": rates(
                    sure[wrong], (order[:, -1] == labels)[wrong]
                ),
                "how sure the teacher is, is the probability of its first choice, not its logit": rates(
                    logits[wrong].amax(-1), second[wrong]
                ),
                "how sure the teacher is, is the probability of its first choice, not its lead": rates(
                    lead[wrong], second[wrong]
                ),
                "how sure the teacher is, is the probability of its first choice, not the entropy": rates(
                    -torch.special.entr(p[wrong]).sum(-1), second[wrong]
                ),
                "halve the wrong messages in the order of the teacher's certainty, not of their rows": rates(
                    torch.arange(int(wrong.sum())), second[wrong]
                ),
            },
        )
    return (
        "a random choice among the other four would be right once in four. On this page's messages both halves have"
        " about two in three: how sure a wrong teacher is says little of its second choice"
    )


def _made_at(attempt: Attempt) -> str:
    logits = _CASES[0][0].double()
    logits[:, 0] = logits[:, 1:].mean(-1) + 3e-5  # their centred logarithms are next to zero
    temperature, other = 2.0, 3.7
    known, lost = (logits / temperature).softmax(-1).float(), (logits / other).softmax(-1).float()
    a, b = (soft.log() for soft in (lost, known))
    centred_a, centred_b = (log - log.mean(-1, keepdim=True) for log in (a, b))
    compare(
        attempt(lost.clone(), known.clone(), temperature),
        other,
        {
            "that is the ratio of the two temperatures; multiply by the one that is known": other / temperature,
            "the ratio is upside down: at a higher T the logarithms lie closer together": temperature**2 / other,
            "each row's logarithms are the logits over T up to a constant; take the row's mean away first": (
                temperature * (b * a).sum() / a.square().sum()
            ),
            "every row has a constant of its own; take away each row's mean, not the mean of all": (
                temperature * ((b - b.mean()) * (a - a.mean())).sum() / (a - a.mean()).square().sum()
            ),
            "that compares probabilities; their logarithms are proportional to 1/T": temperature
            * (known.std() / lost.std()),
            "that is the mean of ratios of logarithms, which the constant of each row spoils": temperature
            * (b / a).mean(),
            "an entry near zero spoils a mean of ratios; divide a sum of products by a sum of squares": temperature
            * (centred_b / centred_a).mean(),
        },
    )
    compare(
        attempt(known.clone(), lost.clone(), other),
        temperature,
        {"exchange the two files, and the answer is the other temperature; yours is not": other},
    )
    return "the centred logarithms are the centred logits over T, so that their ratio is the ratio of the temperatures"


def _most_telling(attempt: Attempt) -> str:
    temperatures = (0.4, 0.8, 1.6, 3.0, 5.0, 9.0)
    for logits, labels in _CASES:
        z, prior = logits.double(), math.log2(logits.shape[1])

        def of_label(temperature: float, z: Tensor = z, labels: Tensor = labels) -> Tensor:
            return (z / temperature).softmax(-1).gather(1, labels[:, None])

        def received(temperature: float, prior: float = prior) -> Tensor:
            return prior + of_label(temperature).log2().mean()

        def stated(temperature: float, z: Tensor = z) -> Tensor:
            return torch.special.entr((z / temperature).softmax(-1)).sum(-1).mean() / math.log(2)

        best, worst = max(temperatures, key=received), min(temperatures, key=received)
        by_mean = max(temperatures, key=lambda t: of_label(t).mean())
        right, first, last = (torch.stack([torch.tensor(t).double(), received(t)]) for t in (best, *temperatures[::5]))
        compare(
            _numbers(attempt(logits.clone(), labels.clone(), temperatures)),
            right,
            {
                "that is in nats; bits need the logarithm to base 2": torch.stack([right[0], right[1] * math.log(2)]),
                "that is the doubt that is left, not the bits received": torch.stack([right[0], prior - right[1]]),
                "the first number is the T itself, not its place in the list": torch.stack(
                    [torch.tensor(temperatures.index(best)).double(), right[1]]
                ),
                "the doubt that a label states is its entropy; what counts is the doubt that it leaves": torch.stack(
                    [first[0], prior - stated(temperatures[0])]
                ),
                "the labels that state least doubt are not those that leave least": first,
                "the labels that state most doubt tell nothing": last,
                "that is the T at which the labels leave the most doubt": torch.stack(
                    [torch.tensor(worst).double(), received(worst)]
                ),
                "take the logarithm of each probability first, then the mean": torch.stack(
                    [torch.tensor(by_mean).double(), prior + of_label(by_mean).mean().log2()]
                ),
            },
        )
    return (
        "neither the sharpest labels nor the flattest tell most. An overconfident teacher tells more at a T above 1;"
        " finding that T is called calibration, and notebook 02 does it"
    )


def _corrected_errors(attempt: Attempt) -> str:
    biases, digit = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0), 2
    draws = (torch.Generator().manual_seed(seed) for seed in (5, 6))
    validation, test = (_without_a_digit(90, digit, generator) for generator in draws)
    n_test = 70  # another number of images than for validation
    test = (test[0][:n_test], test[1][:n_test])

    def errors(part: tuple[Tensor, Tensor], bias: float) -> int:
        return error_count(raise_bias(part[0], (digit,), bias), part[1])

    def answer(bias: float) -> Tensor:
        return torch.tensor([bias, errors(test, bias)]).double()

    def on(part: tuple[Tensor, Tensor], wanted: bool) -> float:
        """The bias that is best on the digit alone, or on the others alone."""
        return min(biases, key=lambda bias: _on_group(part, digit, bias, wanted))

    best = min(biases, key=lambda bias: errors(validation, bias))  # of equal ones the first, which is the smallest
    right = answer(best)
    given = validation[0].clone(), test[0].clone()
    got = attempt((given[0], validation[1].clone()), (given[1], test[1].clone()), digit, biases)
    if not (torch.equal(given[0], validation[0]) and torch.equal(given[1], test[0])):
        raise Wrong("your function changes the logits that it was given, so the biases add up; work on a clone")
    compare(
        _numbers(got),
        right,
        {
            "the test images chose: their errors flatter, since the bias was chosen for having few of them": answer(
                min(biases, key=lambda bias: errors(test, bias))
            ),
            "that bias leaves the fewest errors on the digit, and many on the others: count all images": answer(
                on(validation, True)
            ),
            "that bias leaves the fewest errors on the other digits, which is what no bias does: count all images": (
                answer(on(validation, False))
            ),
            "report the errors on the test images, not those on validation that chose": torch.tensor(
                [best, errors(validation, best)]
            ),
            "the errors are a number of images, not a share": torch.tensor([best, errors(test, best) / n_test]),
            "raise the one digit only: a bias on every class changes nothing": answer(0.0),
            "that lowers the digit's logit": torch.tensor([best, errors(test, -best)]),
            "the first number is the bias itself, not its place in the list": torch.tensor(
                [biases.index(best), errors(test, best)]
            ),
        },
    )
    return (
        "validation chooses, test reports: here the best bias for the test images is another one, and reporting its"
        " errors would flatter"
    )


def _on_group(part: tuple[Tensor, Tensor], digit: int, bias: float, wanted: bool) -> int:
    logits, labels = part
    group = (labels == digit) == wanted
    return error_count(raise_bias(logits[group], (digit,), bias), labels[group])


def _without_a_digit(n: int, digit: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Logits (n, 3) of a student that hardly ever says `digit`, and labels."""
    labels = torch.randint(3, (n,), generator=generator)
    logits = torch.randn(n, 3, generator=generator) + 1.5 * torch.nn.functional.one_hot(labels, 3)
    logits[:, digit] -= 1.5
    return logits, labels


CHECKS: dict[str, Callable[[Attempt], str]] = {
    "1": _runner_up_rates,
    "2": _made_at,
    "3": _most_telling,
    "4": _corrected_errors,
}
