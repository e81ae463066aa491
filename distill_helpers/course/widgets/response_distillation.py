"""Widget of notebook 05: the hard and the soft label of one message."""

from __future__ import annotations

import html

import torch
from torch import Tensor

from distill_helpers.course.figures import probability_bars
from distill_helpers.losses.soft_targets import check_temperature

__all__ = ["render_soft_targets"]


def render_soft_targets(
    message: int, temperature: float, *, texts: list[str], labels: list[int], names: tuple[str, ...], logits: Tensor
) -> str:
    """Show one message, its hard label, the teacher's distribution at a temperature, and the entropies of both.

    Args:
        message: index into `texts`, `labels` and `logits`.
        temperature: T > 0.
        texts, labels, names: labelled messages.
        logits: the teacher's, (texts, classes).

    Raises:
        ValueError: a message that does not exist, or a temperature that is not positive and finite.
    """
    if not 0 <= message < len(texts):
        raise ValueError(f"message must be from 0 to {len(texts) - 1}, got {message}")
    check_temperature(temperature)
    soft = (logits[message].double() / temperature).softmax(-1)
    hard = torch.nn.functional.one_hot(torch.tensor(labels[message]), len(names))
    bits = float(torch.special.entr(soft).sum()) / torch.log(torch.tensor(2.0)).item()
    bars = probability_bars(
        names, [hard.tolist(), soft.tolist()], ["hard label", f"teacher at T = {temperature:g}"], names[labels[message]]
    )
    return (
        f"<blockquote>{html.escape(texts[message])}</blockquote>{bars}"
        f"<p>Entropy: 0.00 bits in the hard label, {bits:.2f} of at most"
        f" {torch.log2(torch.tensor(float(len(names)))).item():.2f} bits in the soft one.</p>"
    )
