"""Widgets of notebook 08: the cost of a job, and how often a teacher's answers are right, the surest ones first."""

from __future__ import annotations

import numpy as np

from distill_helpers.api.costs.price_table import PriceTable, load_prices
from distill_helpers.api.costs.pricing import estimate_api_distillation_cost
from distill_helpers.api.labels.label_bias import batch_calibrated
from distill_helpers.course.figures import COLOURS, figure, figure_html, html_table

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
    """Make a table of a job's cost at each model of a provider, with the chosen model in bold.

    Args:
        teacher_model: a model of the price table; it names the provider.
        n_examples: number of messages.
        system_prompt_tokens: sent with each message.
        output_tokens: of an answer.
        cached_share: of the system prompt's tokens, 0 to 1.
        batch: use the provider's batch API.
        input_tokens: of a message.
        prices: default the package's.

    Raises:
        ValueError: see `estimate_api_distillation_cost`.
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
        parts = (f"${cost[f'{part}_cost_usd']:,.2f}" for part in ("input", "output", "total"))
        rows.append((price.model, *parts, price.as_of))
    read = input_tokens + system_prompt_tokens
    return html_table(("model", "reading", "writing", "both", "prices of"), rows, highlight=chosen.model) + (
        f"<p>{n_examples:,} requests; each reads {read:,} tokens, {system_prompt_tokens / max(read, 1):.0%} of them the"
        f" system prompt, and writes {output_tokens:,}.</p>"
    )


def right_by_share(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute the share of right answers among the n surest, for n from 1 to all of them: (inputs,).

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
    """Show how often a teacher's surest answers are right, and the queues that are left: a picture and a table.

    Args:
        share: of the answers that are kept, in (0, 1].
        calibrated: remove the label bias first.
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
    rows = [
        (name, int((labels[kept] == label).sum()), int((chosen[kept] == label).sum()))
        for label, name in enumerate(names)
    ]
    return figure_html(fig, alt) + html_table(("queue", "kept messages of it", "given this label"), rows)
