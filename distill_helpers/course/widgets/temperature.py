"""Widgets of notebook 02: one message, and the reliability of a whole set of messages, at a temperature."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from distill_helpers.course.figures import COLOURS, figure, figure_html, probability_bars
from distill_helpers.evaluation.calibration import reliability_bins
from distill_helpers.evaluation.measures import classification_metrics
from distill_helpers.losses.soft_targets import check_temperature

__all__ = ["render_reliability", "render_temperature"]


def render_temperature(
    message: int, temperature: float, *, texts: Sequence[str], names: Sequence[str], logits: Tensor
) -> str:
    """Show a message and the model's distribution at T = 1 and at another temperature, and say what stays the same.

    Args:
        message: index into `texts` and `logits`.
        temperature: T > 0.
        texts, names: messages and classes.
        logits: (texts, classes).

    Raises:
        ValueError: a message that does not exist, or a temperature that is not positive and finite.
    """
    if not 0 <= message < len(texts):
        raise ValueError(f"message must be from 0 to {len(texts) - 1}, got {message}")
    check_temperature(temperature)
    z = logits[message].double()
    columns = [(z / t).softmax(-1) for t in (1.0, temperature)]
    top = z.topk(2)
    first, second = (names[int(i)] for i in top.indices)
    gap = float(top.values[0] - top.values[1])
    entropies = [float(torch.special.entr(p).sum()) / math.log(2) for p in columns]
    bars = probability_bars(names, [p.tolist() for p in columns], ["T = 1", f"T = {temperature:g}"], first)
    return (
        f"<blockquote>{html.escape(texts[message])}</blockquote>{bars}"
        f"<p>✓ the largest probability, <b>{html.escape(first)}</b>, at every T."
        f" Second: {html.escape(second)}, {gap:.2f} logits below, at every T.</p>"
        f"<p>How many times as probable as the second: exp({gap:.2f}/{temperature:g}) ="
        f" <b>{_number(gap / temperature)}</b>. Entropy: {entropies[0]:.2f} bits at T = 1,"
        f" <b>{entropies[1]:.2f}</b> of at most {math.log2(len(names)):.2f} bits at T = {temperature:g}.</p>"
    )


def render_reliability(temperature: float, *, logits: Tensor, labels: Sequence[int]) -> str:
    """Draw the reliability diagram of messages whose logits are divided by a temperature, with NLL and ECE.

    Args:
        temperature: T > 0.
        logits: (texts, classes).
        labels: class indices.

    Raises:
        ValueError: a temperature that is not positive and finite, or labels that do not fit the logits.
    """
    check_temperature(temperature)
    table = reliability_bins((logits.double() / temperature).softmax(-1), labels)
    row = classification_metrics(logits.double() / temperature, labels)
    filled = table[table["count"] > 0]
    over = float(((filled["confidence"] - filled["accuracy"]) * filled["count"]).sum())
    side = "overconfident" if over > 0 else "underconfident"
    fig, axes = figure(f"T = {temperature:.2f}: {side} on average", width=5.0, height=4.0)
    axes.plot([0, 1], [0, 1], color="#444444", linestyle="--", linewidth=1, label="calibrated")
    sizes = 12 + 260 * filled["count"] / filled["count"].max()
    axes.scatter(filled["confidence"], filled["accuracy"], s=sizes, color=COLOURS[0], label="bin (area: messages)")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.05)  # the largest dots stand near 1
    axes.set_xlabel("mean confidence of the bin (share)")
    axes.set_ylabel("share that is right")
    axes.legend(frameon=False, loc="upper left")
    picture = figure_html(
        fig,
        f"Reliability diagram at T = {temperature:.2f}: share that is right against mean confidence, one dot per bin,"
        f" beside the diagonal; the model is {side} on average.",
    )
    return (
        f"{picture}<p>NLL {row['nll']:.3f} nats, ECE {100 * row['ece']:.1f}%, accuracy {100 * row['accuracy']:.1f}%:"
        f" {side} on average.</p>"
    )


def _number(exponent: float) -> str:
    # A larger number would fill the line, and only its order of magnitude matters.
    return f"{math.exp(exponent):,.2f}" if exponent < math.log(1e6) else f"10^{exponent / math.log(10):.0f}"
