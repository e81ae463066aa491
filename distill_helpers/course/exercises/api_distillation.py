"""Checks of notebook 08's exercises."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import torch

from distill_helpers.api.costs.price_table import Price, PriceTable
from distill_helpers.api.costs.pricing import estimate_api_distillation_cost
from distill_helpers.api.labels.label_bias import batch_calibrated, matched_to_prior
from distill_helpers.course.exercises import Attempt, Wrong, compare

__all__ = ["CHECKS"]


def _check_samples(attempt: Attempt) -> str:
    words = ["Mac", "Unix", "PC"]
    answers = ["Mac", "mac.", " Mac", "Unix", "PC", "MAC", "I think so", "mac", "Macro", "Unix."]
    got: Any = attempt(list(answers), list(words))
    if not isinstance(got, tuple | list) or len(got) != 3 or any(isinstance(part, float) for part in got[::2]):
        raise Wrong("return three things: the words' probabilities, the share that named none, the standard errors")
    probabilities, off, errors = got

    def shares(*counts: int) -> torch.Tensor:
        return torch.tensor(counts, dtype=torch.float64) / sum(counts)

    p = shares(5, 2, 1)
    compare(
        _vector(probabilities),
        p,
        {
            "these do not sum to 1: divide by the answers that named a word": 0.8 * p,
            "'mac' and 'MAC' are Mac: the case does not matter": shares(2, 2, 1),
            "'mac.' and 'Unix.' name a word as well: strip spaces and full stops from both ends": shares(4, 1, 1),
            "' Mac' names a word as well: strip spaces and full stops from both ends": shares(3, 1, 1),
            "'Macro' is another word: the answer must equal the word, not begin with it": shares(6, 2, 1),
        },
    )
    compare(float(off), 0.2, {"that is the share that named a word": 0.8, "return a share, not a count": 2.0})
    variance = p * (1 - p)
    compare(
        _vector(errors),
        (variance / 8).sqrt(),
        {
            "only eight answers named a word, and the shares divide by these eight": (variance / 10).sqrt(),
            "that is the spread of a single sample: divide by the root of the number of samples": variance.sqrt(),
            "that is the variance: take its root": variance / 8,
        },
    )
    return "five of eight is 63%, give or take 17 points: a handful of samples finds a clear favourite, and little more"


def _vector(values: Any) -> torch.Tensor:
    return torch.as_tensor([float(value) for value in values], dtype=torch.float64)


def _check_to_ask(attempt: Attempt) -> str:
    records: list[tuple[str, str | None, str | None]] = [
        ("a", "Mac", None),
        ("b", None, "RateLimitError 429"),
        ("c", None, "APITimeoutError"),
        ("c", "Unix", None),
    ]
    lines = [json.dumps({"key": key, "answer": answer, "failure": failure}) for key, answer, failure in records]
    torn = '{"key": "e", "answer": "P'
    lines.append(torn)
    wanted = ["f", "a", "b", "c", "e", "f"]
    for retry_failed, right in ((False, ["f", "e"]), (True, ["f", "b", "e"])):
        got: Any = attempt(list(wanted), list(lines), retry_failed)
        if not isinstance(got, list):
            raise Wrong(f"return a list of keys, got {type(got).__name__}")
        if got == right:
            continue
        when = f"retry_failed={retry_failed}: "
        reasons = {
            "a was answered: asking again is paying again": "a" in got,
            "c failed once and was answered later: the latest line counts": "c" in got,
            "b has a record, a failure, and is asked again only if retry_failed": "b" in got and not retry_failed,
            "b failed: it is asked again": "b" not in got and retry_failed,
            "the line of e is torn, so its answer is lost: ask again": "e" not in got,
            "f has no record: ask it": "f" not in got,
            "f is wanted twice and asked once": got.count("f") > 1,
            "keep the order of wanted": sorted(got) == sorted(right),
        }
        raise Wrong(when + next((words for words, holds in reasons.items() if holds), f"got {got}, expected {right}"))
    got = attempt(["a", "c"], lines[:-1], True)
    if got == ["c"]:
        raise Wrong("the last line was whole this time, and its answer is lost: try to read it, do not drop it")
    if got != []:
        raise Wrong(f"where every line is whole, a and c are answered: got {got}, expected []")
    try:
        attempt(list(wanted), [lines[0], torn, *lines[1:-1]], False)
    except Wrong as wrong:
        if "raised ValueError" not in str(wrong) and "raised JSONDecodeError" not in str(wrong):
            raise Wrong(f"a line in the middle is torn: raise a ValueError, not another error ({wrong})") from wrong
    else:
        raise Wrong(
            "a line in the middle is torn and nobody is told: a kill tears the last line alone, so the file is damaged;"
            " raise a ValueError"
        )
    return "no answer is paid for twice, what a kill tore is asked for again, and a damaged file is reported"


def _check_cost(attempt: Attempt) -> str:
    n, system, text, answer, share = 10_000, 2_000, 60, 5, 0.8
    price = {"input": 2.5, "cached": 1.25, "output": 10.0}
    table = PriceTable(
        [Price("openai", "m", 2.5, 1.25, 2.5, 10.0, date.today(), "https://example.org", 0.5)]  # type: ignore[arg-type]
    )

    def cost(**options: Any) -> float:
        own: dict[str, Any] = {
            "system_prompt_tokens": system,
            "cached_share": share,
            "batch": True,
            "prices": table,
        } | options
        return float(estimate_api_distillation_cost(n, text, answer, "m", **own)["total_cost_usd"])

    compare(
        attempt(n, system, text, answer, share, dict(price)),
        cost(),
        {
            "the batch discount is missing: it halves every price": cost(batch=False),
            "the system prompt is sent, and charged, with every request": cost(system_prompt_tokens=0),
            "nothing is cached in your sum": cost(cached_share=0.0),
            "only the system prompt is cached, the texts differ": (
                n * (system + text) * (0.2 * 2.5 + 0.8 * 1.25) + n * 50
            )
            / 2e6,
            "the prices are for a million tokens, not for a thousand": cost() * 1e3,
            "the answers are missing": cost() - n * answer * 10 / 2e6,
            "cached tokens are charged too, at a price of their own": (n * (system * 0.2 + text) * 2.5 + n * 50) / 2e6,
        },
    )
    return (
        "the prompt, sent with every request, is more than nine tenths of the bill: shorten or cache it before you"
        " change models"
    )


def _check_matched(attempt: Attempt) -> str:
    generator = torch.Generator().manual_seed(8)
    bias = torch.tensor([2.0, 0.0, 0.5, -1.0])
    p = torch.softmax(1.5 * torch.randn(40, 4, generator=generator) + bias, dim=1).double()
    shares = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)

    def normalised(weights: torch.Tensor) -> torch.Tensor:
        return weights / weights.sum(dim=1, keepdim=True)

    once = p * (shares / p.mean(dim=0))
    compare(
        attempt(p.clone(), shares.clone()),
        torch.from_numpy(matched_to_prior(p.numpy(), shares.numpy())),
        {
            "nothing changed": p,
            "one round is not enough: after one round the mean is nearer to the shares, but not equal": normalised(
                once
            ),
            "the rows must sum to 1 again": once,
            "that is the calibration for equally frequent classes": torch.from_numpy(batch_calibrated(p.numpy())),
            "your result makes the classes equally frequent again: use the shares": torch.from_numpy(
                matched_to_prior(p.numpy(), [0.25] * 4)
            ),
            "you multiply by the shares, which leaves the bias in: divide by the mean of p too": normalised(p * shares),
        },
    )
    return "a few hundred labelled messages give the shares; with them a frequent class is not mistaken for a bias"


CHECKS: dict[str, Callable[[Attempt], str]] = {
    "1": _check_samples,
    "2": _check_to_ask,
    "3": _check_cost,
    "4": _check_matched,
}
