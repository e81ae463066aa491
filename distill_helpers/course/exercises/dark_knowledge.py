"""Checks of notebook 01's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from distill_helpers.course.exercises import Attempt, Wrong, compare
from distill_helpers.course.experiments.digits import error_count
from distill_helpers.course.experiments.withheld_digit import raise_bias

#: Logits of seven messages; the right queue ranks first, second, third or last.
_LOGITS = torch.tensor(
    [
        [3.0, 2.0, 0.0, -1.0, 1.0],
        [0.5, 2.5, 2.0, -2.0, 0.0],
        [4.0, 1.0, 3.5, 0.0, 2.0],
        [1.0, 0.0, -1.0, 2.0, 3.0],
        [2.0, 1.5, 1.0, 0.5, 0.0],
        [0.0, 1.0, 2.0, 3.0, 5.0],
        [2.0, 0.0, 1.0, 4.0, 3.0],
    ]
)
_LABELS = torch.tensor([0, 2, 4, 3, 4, 4, 4])


def _runner_up_rate(attempt: Attempt) -> str:
    order = _LOGITS.argsort(dim=-1, descending=True)
    first, second, last = (order[:, i] == _LABELS for i in (0, 1, -1))
    n_wrong = (~first).sum()
    compare(
        attempt(_LOGITS.clone(), _LABELS.clone()),
        second.sum() / n_wrong,
        {
            "that divides by all messages; only messages whose first choice is wrong count": second.double().mean(),
            "that counts messages whose label is the first or the second choice": (first | second).double().mean(),
            "that is the accuracy of the first choice": first.double().mean(),
            "you take the least likely class for the runner-up; sort in descending order": last.sum() / n_wrong,
        },
    )
    return "the runner-up counts only where the first choice failed; there, a random choice would be right once in four"


def _unsoften(attempt: Attempt) -> str:
    soft = torch.tensor([[0.62, 0.21, 0.09, 0.05, 0.03], [0.3, 0.25, 0.2, 0.15, 0.1], [0.1, 0.1, 0.6, 0.1, 0.1]])
    temperature = 4.0
    power = soft**temperature
    compare(
        attempt(soft.clone(), temperature),
        power / power.sum(-1, keepdim=True),
        {
            "the rows do not sum to 1: normalise after raising to the power": power,
            "that softens the label a second time; undo the division by T": (soft.log() / temperature).softmax(-1),
            "that takes probabilities for logits; their logarithms are logits": (temperature * soft).softmax(-1),
            "normalise each row by its own sum, not by the sum of all rows": power / power.sum(),
        },
    )
    compare(attempt(soft.clone(), 1.0), soft, {"at T = 1 nothing may change": power / power.sum(-1, keepdim=True)})
    return "log p equals the logits over T, up to a constant that the softmax ignores: p to the power T, normalised"


def _bits_received(attempt: Attempt) -> str:
    p = _LOGITS.softmax(-1)
    of_label = p.gather(1, _LABELS[:, None]).squeeze(1)
    entropy = torch.special.entr(p).sum(-1).mean() / math.log(2)
    prior = math.log2(p.shape[1])
    compare(
        attempt(_LOGITS.clone(), _LABELS.clone()),
        prior + of_label.log2().mean(),
        {
            "that is in nats; bits need the logarithm to base 2": math.log(p.shape[1]) + of_label.log().mean(),
            "that is the doubt that is left, not the bits received": -of_label.log2().mean(),
            "you use the entropy that the label states; use the probability of the queue that was right": (
                prior - entropy
            ),
            "you take the highest probability instead of the probability of the right queue": (
                prior + p.max(-1).values.log2().mean()
            ),
            "take the logarithm of each probability first, then the mean": prior + of_label.mean().log2(),
        },
    )
    return "the doubt before minus the doubt left. A label that misleads gives negative bits; its entropy hides this"


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
    if isinstance(got, tuple | list):
        got = torch.stack([torch.as_tensor(value).double() for value in got])
    compare(
        got,
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
    "1": _runner_up_rate,
    "2": _unsoften,
    "3": _bits_received,
    "4": _corrected_errors,
}
