"""Checks of notebook 07's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_helpers.course.exercises import Attempt, Wrong, compare
from distill_helpers.course.widgets.landmark_systems import Shape, parameter_counts

__all__ = ["CHECKS"]


def _check_layer_parameters(attempt: Attempt) -> str:
    for width, inner, neurons in ((32, 24, 100), (48, 16, 60)):
        matrices = 4 * width * inner + 2 * width * neurons
        norms, attention_biases = 4 * width, 3 * inner + width
        heads_gone = 4 * width * (width - inner) + 3 * (width - inner)
        right = parameter_counts(Shape(1, width, 1, neurons, 1))[1] - heads_gone
        compare(
            attempt(width, inner, neurons),
            right,
            {
                "the biases are missing, each linear layer has one, and so are the two norms": matrices,
                "the two norms are missing: each has a weight and a bias of the width": right - norms,
                "there are two norms: after the attention and after the feed-forward half": right - norms // 2,
                "the biases are missing: each of the six linear layers has one": matrices + norms,
                "the attention has four linear layers: queries, keys, values, and the output": right
                - width * inner
                - width,
                "the attention's output goes back to the layer's width: its bias has that width": right + inner - width,
                "the attention is narrower than the layer: use the width of its heads": right + heads_gone,
                "the feed-forward half has two matrices, up and down": right - width * neurons,
                "the feed-forward half has a bias of `neurons` going up and one of `width` going down": right
                + neurons
                - width,
                "the feed-forward half has biases too": matrices + attention_biases + norms,
            },
        )
    return (
        "with all heads this is the count of transformers' BERT; a head that is cut takes a slice of four matrices with"
        " it. With all heads and a feed-forward half of four widths, a layer has about 12 times the width squared"
    )


def _check_clean(attempt: Attempt) -> str:
    texts = [
        "how do i print from the mac",
        "how do i print from the mac",
        "the monitor shows only half of the image",
        "my disk is full and windows will not start",
        "which window manager draws borders",
        "what is a good image format",
        "which window manager draws borders",
        "the scanner does not answer the mac",
    ]
    asked = [0, 0, 1, 2, 1, 2, 1, 0]
    held_out = {"the monitor shows only half of the image", "again: how do i print from the mac"}
    probabilities = torch.tensor(
        [
            [0.9, 0.05, 0.05],
            [0.9, 0.05, 0.05],
            [0.1, 0.8, 0.1],
            [0.2, 0.7, 0.1],  # sure, but of another topic
            [0.3, 0.35, 0.35],  # below the limit; its twin says the same
            [0.3, 0.3, 0.4],  # at the limit
            [0.1, 0.8, 0.1],
            [0.45, 0.5, 0.05],  # above the limit, though another topic is likelier
        ]
    )
    got = attempt(list(texts), probabilities.clone(), list(asked), set(held_out), 0.4)
    if isinstance(got, Tensor):
        got = got.tolist()
    if not isinstance(got, list | tuple) or not all(isinstance(row, int) for row in got):
        raise Wrong(f"return the numbers of the rows that stay, as a list; got {got!r}")
    mistakes = {
        (0, 1, 5, 6, 7): "the same message is kept twice: keep its first appearance",
        (1, 5, 6, 7): "of equal messages the first stays, not the last",
        (
            5,
            6,
            7,
        ): "row 0 is missing: of equal messages one stays, and being part of a held-out text is not being equal",
        (0, 2, 5, 6, 7): "a test message got through: compare with held_out",
        (
            0,
            3,
            5,
            6,
            7,
        ): "row 3: the teacher is sure, but of another topic. Look at the probability of the topic that was asked for",
        (0, 5, 6): "row 7: the probability of the topic asked for suffices, though another topic is likelier",
        (0, 6, 7): "row 5 has exactly min_confidence: at least that much is enough",
        (0, 5, 7): "row 4 was dropped for its probability, so row 6 repeats nothing that was kept. Filter first, then"
        " remove repetitions",
        (): "no row is left",
    }
    rows = tuple(got)
    if rows in mistakes:
        raise Wrong(mistakes[rows])
    if rows != (0, 5, 6, 7):
        raise Wrong(f"got the rows {list(rows)}, expected [0, 5, 6, 7]")
    return (
        "drop held-out texts first, then rows whose topic is too improbable to the teacher, then repetitions among the"
        " rows that are left; of these the first one stays"
    )


_COLUMNS = "down has its neurons in the columns: (width, neurons)"


def _check_keep_neurons(attempt: Attempt) -> str:
    generator = torch.Generator().manual_seed(7)
    up, bias, down = (torch.randn(*shape, generator=generator) for shape in ((6, 4), (6,), (4, 6)))
    importance = torch.tensor([0.3, 0.7, 0.1, 0.9, 0.2, 0.8])  # the order: 3, 5, 1
    x = torch.randn(5, 4, generator=generator)
    try:
        got = attempt(up.clone(), bias.clone(), down.clone(), importance.clone(), 3)
    except Wrong as wrong:
        if "IndexError" in str(wrong):
            raise Wrong(f"{_COLUMNS}: its rows are the width, and there are fewer of them") from wrong
        raise
    if not isinstance(got, tuple | list) or len(got) != 3 or not all(isinstance(part, Tensor) for part in got):
        raise Wrong("return three tensors: up, bias, down")
    shapes = [tuple(part.shape) for part in got]
    if shapes == [(6, 4), (6,), (4, 6)]:
        raise Wrong("nothing became smaller: cut the neurons out, since zeros cost as much as before")
    if shapes == [(3, 4), (3,), (3, 6)]:
        raise Wrong(f"{_COLUMNS}. You cut its rows, which are the width")
    if shapes == [(3, 4), (6,), (4, 3)]:
        raise Wrong("the bias belongs to the neurons: cut it as well")
    if shapes != [(3, 4), (3,), (4, 3)]:
        raise Wrong(f"the shapes are {shapes}, expected [(3, 4), (3,), (4, 3)]")

    of_up, of_bias, of_down = (
        [_place(part, whole) for part in parts] for parts, whole in ((got[0], up), (got[1], bias), (got[2].T, down.T))
    )
    if sorted(of_up) == sorted(of_bias) == sorted(of_down) and not of_up == of_bias == of_down:
        raise Wrong(
            "up, bias and down keep the same neurons in different orders: use one list of neurons for all three"
        )

    def output(up: Tensor, bias: Tensor, down: Tensor) -> Tensor:
        return F.gelu(x @ up.T + bias) @ down.T

    def of(neurons: list[int]) -> Tensor:
        return output(up[neurons], bias[neurons], down[:, neurons])

    compare(
        output(*got),
        of([1, 3, 5]),
        {
            "these are the least important neurons": of([0, 2, 4]),
            "these are the first three neurons: choose by importance": of([0, 1, 2]),
            "the bias keeps other neurons than up": output(up[[1, 3, 5]], bias[[0, 1, 2]], down[:, [1, 3, 5]]),
        },
    )
    return (
        "rows of up, the same entries of its bias, the same columns of down. Any order of the neurons will do, if all"
        " three use it"
    )


def _place(part: Tensor, whole: Tensor) -> int:
    """Find which neuron of the whole matrix a part is; -1 if it is none of them."""
    return next((number for number, own in enumerate(whole) if torch.equal(own, part)), -1)


def _check_paired(attempt: Attempt) -> str:
    full = {0: 76.0, 1: 70.0, 2: 74.0, 3: 72.0, 4: 71.0}
    without = {0: 75.0, 1: 69.5, 2: 72.0, 3: 70.5, 7: 60.0}
    seeds = [0, 1, 2, 3]
    differences = torch.tensor([without[seed] - full[seed] for seed in seeds], dtype=torch.float64)
    mean, error = differences.mean(), differences.std() / math.sqrt(len(seeds))
    all_full, all_without = (torch.tensor([*scores.values()], dtype=torch.float64) for scores in (full, without))
    in_both = [torch.tensor([scores[seed] for seed in seeds], dtype=torch.float64) for scores in (full, without)]
    unpaired = (sum(scores.var() for scores in in_both) / len(seeds)) ** 0.5
    by_position = all_without - all_full
    got: Any = attempt(dict(full), dict(without))
    if not isinstance(got, tuple | list | Tensor) or len(got) != 2:
        raise Wrong("return two numbers: the mean difference, and its standard error")
    compare(
        torch.as_tensor([float(value) for value in got]),
        torch.stack([mean, error]),
        {
            "the sign: subtract full from without, so that a loss is negative": torch.stack([-mean, error]),
            "paired by position: then seed 4 meets seed 7. Pair them by their numbers": torch.stack(
                [by_position.mean(), by_position.std() / math.sqrt(5)]
            ),
            "seeds 4 and 7 have no partner: use only the seeds that both have": torch.stack(
                [all_without.mean() - all_full.mean(), error]
            ),
            "the seeds are paired: take the differences first, then their spread": torch.stack(
                [mean, torch.as_tensor(unpaired)]
            ),
            "that is the standard deviation of the differences: divide by the root of their number": torch.stack(
                [mean, differences.std()]
            ),
            "a sample of four: the standard deviation divides by n − 1": torch.stack(
                [mean, differences.std(unbiased=False) / math.sqrt(len(seeds))]
            ),
        },
    )
    return (
        "the runs differ by six points between seeds, and yet the difference is known to about a third of a point,"
        " because the effect of a seed on both runs cancels"
    )


CHECKS: dict[str, Callable[[Attempt], str]] = {
    "1": _check_layer_parameters,
    "2": _check_clean,
    "3": _check_keep_neurons,
    "4": _check_paired,
}
