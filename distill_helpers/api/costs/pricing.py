"""What asking a teacher costs: of a usage, of a whole job beforehand, and at most of one call.

Money is counted in decimals, so that a sum is exact before it becomes a float.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from distill_helpers.api.costs.price_table import RATES, Price, PriceTable, load_prices
from distill_helpers.api.teachers.answers import Usage

__all__ = [
    "Price",
    "PriceTable",
    "cost_usd",
    "estimate_api_distillation_cost",
    "load_prices",
    "worst_case_usage",
]

_MILLION = 1_000_000
#: Role and separators around a message; the course's SmolLM2 needs 5.
_TOKENS_PER_MESSAGE = 16
#: What a template or provider writes by itself, such as a default system prompt; the course's SmolLM2 needs 25.
_TOKENS_PER_REQUEST = 256
#: What a provider writes around tools or a schema.
_TOKENS_PER_STRUCTURE = 1024


def cost_usd(usage: Usage, price: Price, *, batch: bool = False) -> float:
    """What a usage costs, in US dollars, unrounded.

    Each input token is charged once: at the cache's price, at that of writing into the cache, or at that of input. The
    batch discount is taken off all of them, as Anthropic does; not every model of OpenAI has a cached price in batches.

    Raises:
        ValueError: `batch` for a model without a batch price.
    """
    return float(_cost(usage, price, batch))


def _cost(usage: Usage, price: Price, batch: bool) -> Decimal:
    cached, written = usage.cached_input_tokens, usage.cache_write_tokens
    # Some compatible servers count cached tokens apart from the input: charged all the same.
    plain = max(usage.input_tokens - cached - written, 0)
    tokens = (plain, cached, written, usage.output_tokens)
    total = sum((count * getattr(price, rate) for count, rate in zip(tokens, RATES, strict=True)), Decimal())
    return total * _share_paid(price, batch) / _MILLION


def _share_paid(price: Price, batch: bool) -> Decimal:
    if not batch:
        return Decimal(1)
    if price.batch_discount is None:
        raise ValueError(f"{price.model} has no batch price; ask live (batch=False), or add its batch_discount")
    return 1 - price.batch_discount


def estimate_api_distillation_cost(
    n_examples: int,
    avg_input_tokens: int = 200,
    avg_output_tokens: int = 300,
    teacher_model: str = "gpt-4o",
    *,
    system_prompt_tokens: int = 0,
    cached_share: float = 0.0,
    batch: bool = False,
    n_samples: int = 1,
    prices: PriceTable | None = None,
) -> dict[str, Any]:
    """What collecting a teacher's answers will cost.

    Args:
        n_examples: inputs.
        avg_input_tokens: of one input, without the system prompt.
        avg_output_tokens: of one answer, hidden reasoning included.
        teacher_model: a model of the table.
        system_prompt_tokens: sent, and charged, with every request.
        cached_share: the part of all *system prompt* tokens that is read from the provider's cache, 0 to 1; inputs
            differ and are never cached. The rest of the system prompt then counts as written into the cache. Providers
            cache long prompts only (OpenAI 1,024 tokens or more), Anthropic only where the request says so.
        batch: by the provider's batch API.
        n_samples: answers to each input, a request each.
        prices: default the package's.

    Returns:
        n_examples, n_samples, teacher_model, provider, batch; input_tokens, cached_input_tokens, output_tokens;
        input_cost_usd, output_cost_usd, total_cost_usd and cost_per_example_cents (all samples of one input), none of
        them rounded; price_as_of (ISO date) and price_source.

    Raises:
        ValueError: a count that is no whole number or too small, a share outside 0 to 1, an unknown model, one without
            a batch price, prompts longer than the price is for.
    """
    n_examples = _whole("n_examples", n_examples, 1)
    n_samples = _whole("n_samples", n_samples, 1)
    avg_input_tokens = _whole("avg_input_tokens", avg_input_tokens, 0)
    avg_output_tokens = _whole("avg_output_tokens", avg_output_tokens, 0)
    system_prompt_tokens = _whole("system_prompt_tokens", system_prompt_tokens, 0)
    if not 0 <= cached_share <= 1:
        raise ValueError(f"cached_share is a part of the system prompt's tokens, 0 to 1, got {cached_share}")
    price = (prices or load_prices())[teacher_model]
    prompt = avg_input_tokens + system_prompt_tokens
    if price.max_prompt_tokens is not None and prompt > price.max_prompt_tokens:
        raise ValueError(
            f"the price of {teacher_model} is for prompts of up to {price.max_prompt_tokens} tokens, not {prompt}; add"
            " the one for longer prompts under a name of your own to a copy of prices.toml"
        )

    requests = n_examples * n_samples
    system = requests * system_prompt_tokens
    cached = int(system * Decimal(str(cached_share)))
    read = Usage(
        input_tokens=requests * avg_input_tokens + system,
        cached_input_tokens=cached,
        cache_write_tokens=system - cached if cached_share else 0,
    )
    written = Usage(output_tokens=requests * avg_output_tokens)
    input_cost, output_cost = _cost(read, price, batch), _cost(written, price, batch)
    total = input_cost + output_cost
    return {
        "n_examples": n_examples,
        "n_samples": n_samples,
        "teacher_model": teacher_model,
        "provider": price.provider,
        "batch": batch,
        "input_tokens": read.input_tokens,
        "cached_input_tokens": cached,
        "output_tokens": written.output_tokens,
        "input_cost_usd": float(input_cost),
        "output_cost_usd": float(output_cost),
        "total_cost_usd": float(total),
        "cost_per_example_cents": float(total * 100 / n_examples),
        "price_as_of": price.as_of.isoformat(),
        "price_source": price.source,
    }


def _whole(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return number


def worst_case_usage(request: Mapping[str, Any], max_tokens: int | None = None) -> Usage:
    """An upper bound of the tokens that one attempt at a text request may use, without a tokenizer.

    A token stands for at least one byte of UTF-8, so a text has at most as many tokens as bytes; this holds for every
    tokenizer that does not rewrite characters first. To it come 16 tokens for each message, 256 for the request, and
    1,024 beside each tool list or schema, for what the chat template and the provider write around them. All of the
    input may be written into a cache, which is the dearest price of input.

    Args:
        request: a teacher's.
        max_tokens: of an answer; default the request's own limit, `max_completion_tokens` or `max_tokens`.

    Raises:
        ValueError: neither gives a limit.
    """
    limits = (max_tokens, request.get("max_completion_tokens"), request.get("max_tokens"))
    limit = next((limit for limit in limits if limit is not None), None)
    if limit is None:
        raise ValueError("the request has no limit of output: set max_tokens")
    messages = request.get("messages", ())
    tokens = _TOKENS_PER_REQUEST + _TOKENS_PER_MESSAGE * (len(messages) + 1)
    tokens += _text_bytes(messages) + _text_bytes(request.get("system", ""))
    for name, value in request.items():
        if name not in {"messages", "system"} and isinstance(value, Mapping | list):
            tokens += _TOKENS_PER_STRUCTURE + len(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    return Usage(
        input_tokens=tokens,
        output_tokens=limit * request.get("n", 1),
        cache_write_tokens=tokens,
    )


def _text_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode(errors="surrogatepass"))
    if isinstance(value, Mapping):
        return sum(map(_text_bytes, value.values()))
    return sum(map(_text_bytes, value)) if isinstance(value, Iterable) else 0
