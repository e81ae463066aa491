"""What a forward pass leaves behind: hidden states, queries, keys and values, and the attention that they make.

`capture.capture_features` fills `Features`; the losses and the caches read them. Needs torch alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["EMBEDDINGS", "Features", "attention_pairs"]

#: The name of the first layer's input in `Features`.
EMBEDDINGS = "embeddings"


@dataclass
class Features:
    """What a forward pass left behind, by name.

    Attributes:
        tensors: "embeddings" (input of layer 0) and "hidden.3" (output of layer 3, before a decoder's final norm),
            (batch, sequence, width); "queries.3", "keys.3" and
            "values.3", (batch, heads, sequence, head width), after any rotation of positions; a module's own name for
            whatever else was asked for. Layers count from 0.
        scaling: by which the model multiplies queries · keys before the softmax.
        causal: no token looks at a later one.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    scaling: float = 1.0
    causal: bool = False

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise KeyError(f"{name!r} was not captured; there are {sorted(self.tensors)}. Run the model inside `with`")
        return self.tensors[name]

    def attention_scores(self, layer: int) -> Tensor:
        """Scaled queries · keys before mask and softmax, (batch, heads, queries, keys)."""
        queries, keys = self[f"queries.{layer}"], self[f"keys.{layer}"]
        # Grouped-query attention: several heads of queries share one of keys.
        keys = keys.repeat_interleave(queries.shape[1] // keys.shape[1], dim=1)
        return queries @ keys.transpose(-1, -2) * self.scaling

    def attention(self, layer: int, attention_mask: Tensor) -> Tensor:
        """Attention probabilities, (batch, heads, queries, keys); rows of padding are 0.

        Args:
            layer: from 0.
            attention_mask: (batch, sequence), 1 where there is a token.
        """
        pairs = attention_pairs(attention_mask, self.causal)
        scores = self.attention_scores(layer).float()
        # Not -inf: a row of padding would be NaN, before it is set to 0.
        probabilities = scores.masked_fill(~pairs, torch.finfo(scores.dtype).min).softmax(dim=-1)
        return probabilities.masked_fill(~pairs, 0.0)


def attention_pairs(attention_mask: Tensor, causal: bool = False) -> Tensor:
    """Which (query, key) pairs count: both are tokens and, if causal, the key is not later. (batch, 1, seq, seq) bool.

    Raises:
        ValueError: a mask that is not (batch, sequence).
    """
    if attention_mask.dim() != 2:
        raise ValueError(f"attention_mask must be (batch, sequence), got {tuple(attention_mask.shape)}")
    real = attention_mask.bool()
    pairs = real[:, None, :, None] & real[:, None, None, :]
    return pairs.tril() if causal else pairs
