"""What a forward pass leaves behind: hidden states, queries, keys and values, and the attention that they make.

`capture.capture_features` fills `Features`; the losses and the caches read them. This module needs torch alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["EMBEDDINGS", "Features", "attention_pairs"]

#: The name of the first layer's input in `Features`.
EMBEDDINGS = "embeddings"


@dataclass(repr=False)
class Features:
    """What a forward pass left behind, by name. Layers count from 0.

    Attributes:
        tensors: "embeddings" (the input of layer 0) and "hidden.3" (the output of layer 3, before a decoder's final
            norm), (batch, sequence, width); "queries.3", "keys.3" and "values.3", (batch, heads, sequence, head width),
            after any rotation of positions; any other module that was asked for, by its own name.
        scaling: the model multiplies queries · keys by this factor before the softmax.
        causal: True if no token looks at a later one.

    Example:
        >>> features = dh.Features({"queries.0": torch.ones(1, 2, 3, 4), "keys.0": torch.ones(1, 2, 3, 4)}, scaling=0.5)
        >>> features
        Features(2 tensors: queries.0, keys.0)
        >>> features.attention(0, attention_mask=torch.tensor([[1, 1, 0]]))[0, 0]
        tensor([[0.5000, 0.5000, 0.0000],
                [0.5000, 0.5000, 0.0000],
                [0.0000, 0.0000, 0.0000]])
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    scaling: float = 1.0
    causal: bool = False

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise KeyError(f"{name!r} was not captured; there are {sorted(self.tensors)}. Run the model inside `with`")
        return self.tensors[name]

    def __repr__(self) -> str:
        names = list(self.tensors)
        shown = ", ".join(names if len(names) <= 4 else [*names[:3], "…"])
        return f"Features({len(names)} tensors: {shown})" if names else "Features(nothing captured yet)"

    def attention_scores(self, layer: int) -> Tensor:
        """Scaled queries · keys before mask and softmax, (batch, heads, queries, keys)."""
        queries, keys = self[f"queries.{layer}"], self[f"keys.{layer}"]
        # In grouped-query attention several heads of queries share one head of keys.
        keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
        return queries @ keys.transpose(-1, -2) * self.scaling

    def attention(self, layer: int, attention_mask: Tensor) -> Tensor:
        """Attention probabilities, (batch, heads, queries, keys). Rows of padding are 0.

        Args:
            layer: counts from 0.
            attention_mask: (batch, sequence), 1 where there is a token.
        """
        pairs = attention_pairs(attention_mask, self.causal)
        scores = self.attention_scores(layer).float()
        # The smallest number instead of -inf: a row of padding would be NaN before it is set to 0.
        probabilities = scores.masked_fill(~pairs, torch.finfo(scores.dtype).min).softmax(dim=-1)
        return probabilities.masked_fill(~pairs, 0.0)


def attention_pairs(attention_mask: Tensor, causal: bool = False) -> Tensor:
    """Which (query, key) pairs count: both are tokens and, if causal, the key is not later than the query.

    Args:
        attention_mask: (batch, sequence), 1 where there is a token.
        causal: leave out keys that are later than the query.

    Returns:
        bool, (batch, 1, queries, keys).

    Raises:
        ValueError: a mask that is not (batch, sequence).
    """
    if attention_mask.dim() != 2:
        raise ValueError(f"attention_mask must be (batch, sequence), got {tuple(attention_mask.shape)}")
    real = attention_mask.bool()
    pairs = real[:, None, :, None] & real[:, None, None, :]
    return pairs.tril() if causal else pairs
