"""Rows of tokens of several lengths in one batch: padded on the right to be read, on the left to be continued.

A causal model reads from left to right. Padding on the right is therefore invisible to every token, whatever the model
does with positions: learnt, rotary, ALiBi or a recurrent state. Padding on the left shifts learnt positions and enters
a recurrent state. It is used only where a model writes, since all rows of a batch must be continued at one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from distill_helpers.models.batching import padded_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["padded", "padding_token", "right_padded_order"]


def padding_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that fills a batch: the tokenizer's padding token, else its end of text, else 0. The mask hides it."""
    tokens = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((int(token) for token in tokens if token is not None), 0)


def padded(
    token_ids: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase, *, side: str = "right"
) -> dict[str, Tensor]:
    """A batch for a causal language model. The side on which the tokenizer pads does not matter.

    Args:
        token_ids: the tokens of each row.
        tokenizer: says which token pads. A tokenizer without a padding token is fine.
        side: "right" for a model that reads, "left" for one that writes.

    Returns:
        `input_ids` and `attention_mask`, both int64, (batch, longest). The mask is 0 where there is padding.
    """
    return padded_rows(token_ids, padding_token(tokenizer), side)


def right_padded_order(inputs: Mapping[str, Any]) -> Tensor | None:
    """The order of columns, (batch, sequence), that brings the tokens of each row before its padding.

    Args:
        inputs: of a model.

    Returns:
        None if the tokens come first already, if there is no mask (batch, sequence), or if the caller has decided on
        the positions by `position_ids` or a cache.
    """
    mask = inputs.get("attention_mask")
    if mask is None or mask.dim() != 2 or any(inputs.get(name) is not None for name in ("position_ids", _CACHE)):
        return None
    tokens = mask.bool()
    if not (tokens[:, 1:] & ~tokens[:, :-1]).any():
        return None
    return tokens.int().argsort(dim=1, descending=True, stable=True)


_CACHE = "past_key_values"
