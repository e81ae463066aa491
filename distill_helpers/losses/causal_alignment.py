"""The causal shift: position t of a causal language model predicts token t + 1.

The shift is defined here and nowhere else. `DistillationLoss`, `count_items` and `llm.token_level` apply it.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["causal_shift"]


def causal_shift(*, logits: Tensor | None = None, targets: Tensor | None = None) -> Tensor:
    """Align logits and targets of a causal language model, in which position t predicts token t + 1. One at a time.

    Args:
        logits: (batch, sequence, vocabulary); returned without the last position, which predicts nothing.
        targets: labels or mask of the tokens themselves, (batch, sequence); returned without the first token, which
            nothing predicts.

    Raises:
        ValueError: both or neither of the two, or a tensor without a sequence dimension.
    """
    if (logits is None) == (targets is None):
        raise ValueError("pass either logits or targets, and not both")
    if logits is not None:
        if logits.dim() != 3:
            raise ValueError(f"a causal loss needs (batch, sequence, vocabulary), got {tuple(logits.shape)}")
        return logits[:, :-1]
    assert targets is not None
    if targets.dim() != 2:
        raise ValueError(f"a causal loss needs targets (batch, sequence), got {tuple(targets.shape)}")
    return targets[:, 1:]
