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


def _errors_by_bias(attempt: Attempt) -> str:
    logits = torch.tensor(
        [[1, 0, -2], [0, 1, 0.5], [0.2, 1.5, 1], [3, 0, 0], [0.2, 1, 1.3], [0, 0.3, 0.1], [2, 0, 0.5]]
    )
    labels, digit, biases = torch.tensor([0, 2, 2, 2, 2, 1, 0]), 2, (1.0, 0.0, 2.0)

    def table(rows: list[Tensor]) -> Tensor:
        missing = labels == digit
        return torch.tensor(
            [[error_count(z[missing], labels[missing]), error_count(z[~missing], labels[~missing])] for z in rows]
        )

    right = table([raise_bias(logits, (digit,), bias) for bias in biases])
    given = logits.clone()
    got = attempt(given, labels.clone(), digit, biases)
    if not torch.equal(given, logits):
        raise Wrong("your function changes the logits that it was given, so the biases add up; work on a clone")
    compare(
        got,
        right,
        {
            "the biases add up; start from the given logits each time": table(
                [raise_bias(logits, (digit,), sum(biases[: i + 1])) for i in range(len(biases))]
            ),
            "a bias on every class changes nothing; raise the one digit only": table([logits] * len(biases)),
            "that lowers the digit's logit": table([raise_bias(logits, (digit,), -bias) for bias in biases]),
            "first the errors on the digit, then those on the others": right.flip(1),
            "the second column is for the other digits, without the missing one": torch.stack(
                [right[:, 0], right.sum(1)], dim=1
            ),
        },
    )
    return "the errors on the digit fall, the errors on the others rise: a bias moves the border, it adds no knowledge"


CHECKS: dict[str, Callable[[Attempt], str]] = {
    "1": _runner_up_rate,
    "2": _unsoften,
    "3": _bits_received,
    "4": _errors_by_bias,
}
