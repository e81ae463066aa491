"""What asking a teacher costs: the cost of a usage, an estimate of a whole job, and an upper bound of one call.

Money is counted in decimals, so a sum is exact before it becomes a float.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from distill_helpers.api.costs.price_table import RATES, Price, PriceTable, load_prices
from distill_helpers.api.teachers.answers import TeacherAnswer, Usage

__all__ = ["cost_usd", "estimate_api_distillation_cost", "with_charged_usage", "worst_case_usage"]

_MILLION = 1_000_000
#: Servers' names for the limit of an answer.
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens")
#: Role and separators around a message. The course's SmolLM2 needs 5.
_TOKENS_PER_MESSAGE = 16
#: What a chat template or a provider adds, such as a default system prompt. The course's SmolLM2 needs 25.
_TOKENS_PER_REQUEST = 256
#: What a provider adds around tools or a schema.
_TOKENS_PER_STRUCTURE = 1024


def cost_usd(usage: Usage, price: Price, *, batch: bool = False) -> float:
    """What a usage costs, in US dollars, unrounded.

    Each input token is charged once: at the price of cached input, of a cache write, or of plain input. The batch
    discount is taken off all three, as Anthropic does. Not every model of OpenAI has a cached price in batches.

    Raises:
        ValueError: `batch` for a model without a batch price.

    Example:
        >>> from distill_helpers.api.costs import cost_usd
        >>> usage = dh.api.Usage(input_tokens=1_000_000, output_tokens=100_000)
        >>> price = dh.api.load_prices()["gpt-4o-mini"]
        >>> cost_usd(usage, price, batch=True) / cost_usd(usage, price)
        0.5
    """
    return float(_cost(usage, price, batch))


def _cost(usage: Usage, price: Price, batch: bool) -> Decimal:
    cached, written = usage.cached_input_tokens, usage.cache_write_tokens
    # Some compatible servers leave cached tokens out of the input tokens. They are charged all the same.
    plain = max(usage.input_tokens - cached - written, 0)
    tokens = (plain, cached, written, usage.output_tokens)
    total = sum((count * getattr(price, rate) for count, rate in zip(tokens, RATES, strict=True)), Decimal())
    return total * _share_paid(price, batch) / _MILLION


def _share_paid(price: Price, batch: bool) -> Decimal:
    if not batch:
        return Decimal(1)
    if price.batch_discount is None:
        raise ValueError(f"{price.model} has no batch price; pass batch=False, or add a batch_discount to the table")
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
    """Estimate what it costs to collect a teacher's answers.

    Args:
        n_examples: number of inputs.
        avg_input_tokens: tokens of one input, without the system prompt.
        avg_output_tokens: tokens of one answer, hidden reasoning included.
        teacher_model: a model of the table.
        system_prompt_tokens: tokens of the system prompt, which is sent, and charged, with every request.
        cached_share: the part of all *system prompt* tokens that is read from the provider's cache, 0 to 1. The rest of
            the system prompt then counts as written into the cache; with a share of 0 it is plain input. Inputs
            differ from one another and are never cached. Providers cache only long prompts (OpenAI: 1,024 tokens or
            more), and Anthropic only if the request says so.
        batch: whether the provider's batch API is used.
        n_samples: answers to each input. Each answer is a request of its own.
        prices: default the package's table.

    Returns:
        n_examples, n_samples, teacher_model, provider, batch; input_tokens, cached_input_tokens, output_tokens;
        input_cost_usd, output_cost_usd, total_cost_usd and cost_per_example_cents (all samples of one input), none of
        them rounded; price_as_of (ISO date) and price_source.

    Raises:
        ValueError: a count that is not a whole number or is too small, a share outside 0 to 1, a model that is not in
            the table, a batch for a model without a batch price, or prompts that are longer than the price covers.

    Example:
        >>> cost = dh.api.estimate_api_distillation_cost(10_000, 200, 5, "gpt-4o-mini", system_prompt_tokens=500)
        >>> f"{cost['input_tokens']:,} tokens, {cost['input_cost_usd'] / cost['total_cost_usd']:.0%} of the cost"
        '7,000,000 tokens, 97% of the cost'
    """
    n_examples = _whole("n_examples", n_examples, 1)
    n_samples = _whole("n_samples", n_samples, 1)
    avg_input_tokens = _whole("avg_input_tokens", avg_input_tokens, 0)
    avg_output_tokens = _whole("avg_output_tokens", avg_output_tokens, 0)
    system_prompt_tokens = _whole("system_prompt_tokens", system_prompt_tokens, 0)
    if not 0 <= cached_share <= 1:
        raise ValueError(f"cached_share must be a part of 0 to 1 of the system prompt's tokens, got {cached_share}")
    price = (prices or load_prices())[teacher_model]
    prompt = avg_input_tokens + system_prompt_tokens
    if price.max_prompt_tokens is not None and prompt > price.max_prompt_tokens:
        raise ValueError(
            f"the price of {teacher_model} is for prompts of up to {price.max_prompt_tokens} tokens, not {prompt}; add"
            " the price for longer prompts to a copy of prices.toml, under a name of your own"
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

    A token stands for at least one byte of UTF-8, so a text has at most as many tokens as bytes. This holds for every
    tokenizer that does not rewrite characters first. The chat template and the provider write more tokens around the
    text: the bound adds 16 tokens for each message, 256 for the request, and 1,024 for each tool list or schema. The
    bound counts all of the input as written into a cache, since a cache write is the dearest kind of input.

    Args:
        request: a teacher's.
        max_tokens: limit of an answer; default the request's own, by any of the names that servers know. If a request
            has several of them, the largest counts.

    Raises:
        ValueError: neither the argument nor the request has a limit.

    Example:
        >>> from distill_helpers.api.costs import worst_case_usage
        >>> worst_case_usage({"max_tokens": 5, "messages": [{"role": "user", "content": "no sound"}]})
        Usage(input_tokens=300, output_tokens=5, cached_input_tokens=0, cache_write_tokens=300)
    """
    named = [limit for name in _LIMITS if (limit := request.get(name)) is not None]
    limit = max(named, default=None) if max_tokens is None else max_tokens
    if limit is None:
        raise ValueError("the request has no limit of output: pass max_tokens")
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


def with_charged_usage(answer: TeacherAnswer, bound: Usage) -> TeacherAnswer:
    """The answer with the usage that is charged: the reported one, or the bound if the server reported none.

    No prompt has 0 tokens, and no text either, so a count of 0 there is not a report.

    Args:
        answer: as the teacher read it.
        bound: `worst_case_usage` of the request.

    Example:
        >>> from distill_helpers.api.costs import with_charged_usage
        >>> silent = dh.api.TeacherAnswer("Mac", "stop", "m", dh.api.Usage(0, 0))
        >>> with_charged_usage(silent, bound=dh.api.Usage(300, 5))
        TeacherAnswer(3 characters, finish_reason='stop', model='m', at most 300 + 5 tokens)
    """
    used = answer.usage
    if answer.usage_reported and used.input_tokens > 0 and (used.output_tokens > 0 or not answer.text):
        return answer
    return replace(answer, usage=bound, usage_reported=False)


def _text_bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode(errors="surrogatepass"))
    if isinstance(value, Mapping):
        return sum(map(_text_bytes, value.values()))
    return sum(map(_text_bytes, value)) if isinstance(value, Iterable) else 0
