"""Checks of notebook 08's exercises."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import date
from typing import Any

import torch

from distill_helpers.api.batch_calibration import batch_calibrated
from distill_helpers.api.price_table import Price, PriceTable
from distill_helpers.api.pricing import estimate_api_distillation_cost
from distill_helpers.course.exercises import Attempt, Wrong, compare

__all__ = ["CHECKS"]


def _check_soft_label(attempt: Attempt) -> str:
    words = ["Mac", "Unix", "PC"]
    tokens = [(" Mac", 0.4), ("mac", 0.1), ("Un", 0.2), ("The", 0.15), (" PC", 0.04), ("Macro", 0.03)]
    got: Any = attempt([(token, math.log(p)) for token, p in tokens], list(words))
    if not isinstance(got, tuple | list) or len(got) != 2:
        raise Wrong("return two things: the probabilities of the words, and the mass that fell on none of them")
    probabilities, off = got
    masses = torch.tensor([0.5, 0.2, 0.04], dtype=torch.float64)
    values = torch.as_tensor([float(p) for p in probabilities], dtype=torch.float64)
    compare(
        values,
        masses / masses.sum(),
        {
            "these do not sum to 1: divide by what fell on the words": masses,
            "the entries are log-probabilities: take exp first": torch.tensor(
                [math.log(0.4) + math.log(0.1), math.log(0.2), math.log(0.04)], dtype=torch.float64
            ),
            "only one spelling counted: ' Mac' and 'mac' are the same word": torch.tensor(
                [0.4, 0.2, 0.04], dtype=torch.float64
            )
            / 0.64,
            "'Un' begins Unix and no other word: it counts": torch.tensor([0.5, 0.0, 0.04], dtype=torch.float64) / 0.54,
            "'Macro' is another word: a token must begin the word, not the word the token": torch.tensor(
                [0.53, 0.2, 0.04], dtype=torch.float64
            )
            / 0.77,
        },
    )
    compare(
        float(off),
        1 - float(masses.sum()),
        {
            "that is what fell on the words": float(masses.sum()),
            "what the server did not list is missing: the listed tokens do not sum to 1": 0.18,
        },
    )
    return (
        "a quarter of the mass fell on no queue, and the probabilities alone do not show it: that is why the package"
        " reports it"
    )


def _check_key(attempt: Attempt) -> str:
    request: dict[str, Any] = {
        "model": "m",
        "temperature": 0.0,
        "messages": [{"role": "system", "content": "one word"}, {"role": "user", "content": "my mac"}],
    }
    turned = dict(reversed(list(request.items())))

    def key(changes: dict[str, Any] | None = None, sample: int = 0) -> Any:
        return attempt(json.loads(json.dumps(request | (changes or {}))), sample)

    first = key()
    if not isinstance(first, str | int):
        raise Wrong(f"a key is a string, got {type(first).__name__}")
    if key() != first:
        raise Wrong("the same request got two keys: nothing random, no time, no id() may be in it")
    if attempt(turned, 0) != first:
        raise Wrong("the order of the dictionary's entries must not matter: sort the keys")
    if isinstance(first, int):
        raise Wrong(
            "hash() of a string is another number in every Python process, so a rerun would know nothing: hashlib"
        )
    others = {
        "another model must be another key": key({"model": "n"}),
        "another temperature must be another key: the parameters belong to it": key({"temperature": 1.0}),
        "another system prompt must be another key": key(
            {"messages": [{"role": "system", "content": "one letter"}, request["messages"][1]]}
        ),
        "another text must be another key": key(
            {"messages": [request["messages"][0], {"role": "user", "content": "x"}]}
        ),
        "another sample of the same request must be another key": key(sample=1),
    }
    for words, value in others.items():
        if value == first:
            raise Wrong(words)
    return "with such a key a rerun knows what it has, and a changed prompt never meets the old prompt's answers"


def _check_cost(attempt: Attempt) -> str:
    n, system, text, answer, share = 10_000, 900, 60, 5, 0.8
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
            "the batch discount is missing: half of everything": cost(batch=False),
            "the system prompt is sent, and charged, with every request": cost(system_prompt_tokens=0),
            "nothing is cached in your sum": cost(cached_share=0.0),
            "only the system prompt is cached, the texts differ": (
                n * (system + text) * (0.2 * 2.5 + 0.8 * 1.25) + n * 50
            )
            / 2e6,
            "prices are for a million tokens, not for a thousand": cost() * 1e3,
            "the answers are missing": cost() - n * answer * 10 / 2e6,
            "cached tokens are charged too, at their own price": (n * (system * 0.2 + text) * 2.5 + n * 50) / 2e6,
        },
    )
    return (
        "nine tenths of what is paid for is the prompt, again and again: shorten or cache it before you change models"
    )


def _check_calibrate(attempt: Attempt) -> str:
    generator = torch.Generator().manual_seed(8)
    p = torch.softmax(
        1.5 * torch.randn(40, 4, generator=generator) + torch.tensor([2.0, 0.0, 0.5, -1.0]), dim=1
    ).double()
    got = attempt(p.clone())
    right = torch.from_numpy(batch_calibrated(p.numpy()))
    logs = p.log()

    def normalised(weights: torch.Tensor) -> torch.Tensor:
        return weights / weights.sum(dim=1, keepdim=True)

    compare(
        got,
        right,
        {
            "nothing changed": p,
            "the rows must sum to 1 again": (logs - logs.mean(dim=0)).exp(),
            "that is the mean over the labels of each message: take the mean over the messages": (
                logs - logs.mean(dim=1, keepdim=True)
            ).exp(),
            "you divided by the mean of the probabilities; here the mean is of their logarithms": normalised(
                p / p.mean(dim=0)
            ),
            "these are logarithms: take exp and normalise": logs - logs.mean(dim=0),
            "the sign: subtract the mean": normalised((logs + logs.mean(dim=0)).exp()),
        },
    )
    return (
        "the order of two messages for one label stays as it was; only the labels compete on even terms now. No true"
        " label was needed"
    )


CHECKS: dict[str, Callable[[Attempt], str]] = {
    "1": _check_soft_label,
    "2": _check_key,
    "3": _check_cost,
    "4": _check_calibrate,
}
