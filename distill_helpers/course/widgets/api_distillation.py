"""Widgets of notebook 08: what a job costs, and how right a teacher's answers are, the surest ones first."""

from __future__ import annotations

import html

import numpy as np

from distill_helpers.api.costs.pricing import PriceTable, estimate_api_distillation_cost, load_prices
from distill_helpers.api.labels.label_bias import batch_calibrated
from distill_helpers.course.figures import COLOURS, figure, figure_html

__all__ = ["render_cost", "render_trust", "right_by_share"]


def render_cost(
    teacher_model: str,
    n_examples: int,
    system_prompt_tokens: int,
    output_tokens: int,
    cached_share: float,
    batch: bool,
    *,
    input_tokens: int = 60,
    prices: PriceTable | None = None,
) -> str:
    """What a job costs at each model of its provider, the chosen one printed bold: a table.

    Args:
        teacher_model: a model of the price table.
        n_examples: messages.
        system_prompt_tokens: sent with each of them.
        output_tokens: of an answer.
        cached_share: of the system prompt's tokens, 0 to 1.
        batch: by the provider's batch API.
        input_tokens: of a message.
        prices: default the package's.

    Raises:
        ValueError: what `estimate_api_distillation_cost` raises.
    """
    table = load_prices() if prices is None else prices
    chosen = table[teacher_model]
    rows = []
    for price in table:
        if price.provider != chosen.provider or (batch and price.batch_discount is None):
            continue
        cost = estimate_api_distillation_cost(
            n_examples,
            input_tokens,
            output_tokens,
            price.model,
            system_prompt_tokens=system_prompt_tokens,
            cached_share=cached_share,
            batch=batch,
            prices=table,
        )
        cells = (cost["input_cost_usd"], cost["output_cost_usd"], cost["total_cost_usd"])
        tag = "b" if price.model == chosen.model else "span"
        rows.append(
            f"<tr><th scope='row' style='text-align:left'><{tag}>{html.escape(price.model)}</{tag}></th>"
            + "".join(f"<td><{tag}>${value:,.2f}</{tag}></td>" for value in cells)
            + f"<td>{price.as_of}</td></tr>"
        )
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("model", "reading", "writing", "both", "price of"))
    read = input_tokens + system_prompt_tokens
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f"<p>{n_examples:,} requests; each reads {read:,} tokens, {system_prompt_tokens / max(read, 1):.0%} of them the"
        f" system prompt, and writes {output_tokens:,}.</p>"
    )


def right_by_share(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How right the n surest answers are, for n = 1 to all: (inputs,).

    Args:
        probabilities: (inputs, labels).
        labels: the true ones, (inputs,).
    """
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    right = probabilities.argmax(axis=1)[order] == labels[order]
    return np.cumsum(right) / np.arange(1, len(labels) + 1)


def render_trust(
    share: float, calibrated: bool, *, probabilities: np.ndarray, labels: np.ndarray, names: tuple[str, ...]
) -> str:
    """How right a teacher's surest answers are, and which queues are left among them: a picture and a table.

    Args:
        share: of the answers that are kept, in (0, 1].
        calibrated: take the label bias off first.
        probabilities: (inputs, labels).
        labels: the true ones, (inputs,).
        names: of the labels.

    Raises:
        ValueError: a share out of range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}")
    p = batch_calibrated(probabilities) if calibrated else probabilities
    curve = 100 * right_by_share(p, labels)
    n = max(1, round(share * len(p)))
    kept = np.argsort(-p.max(axis=1), kind="stable")[:n]
    chosen = p.argmax(axis=1)
    title = f"The surest {share:.0%} are right in {curve[n - 1]:.0f}% of cases"
    fig, axes = figure(title, height=2.8)
    x = 100 * np.arange(1, len(p) + 1) / len(p)
    start = max(1, len(p) // 50)  # the first few answers say nothing
    axes.plot(x[start:], curve[start:], color=COLOURS[0])
    axes.plot([x[n - 1]], [curve[n - 1]], "o", color=COLOURS[4])
    axes.set(xlim=(0, 101), ylim=(0, 101), xlabel="answers kept, the surest ones (%)", ylabel="labels right (%)")
    alt = f"Share of right labels against the share of answers kept: {curve[-1]:.0f}% of all, {title.lower()}."
    rows = "".join(
        f"<tr><th scope='row' style='text-align:left'>{html.escape(name)}</th>"
        f"<td>{int((labels[kept] == label).sum())}</td><td>{int((chosen[kept] == label).sum())}</td></tr>"
        for label, name in enumerate(names)
    )
    head = "".join(f"<th scope='col'>{name}</th>" for name in ("queue", "kept messages of it", "labelled so"))
    return figure_html(fig, alt) + f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
