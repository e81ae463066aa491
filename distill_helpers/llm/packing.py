"""Packing: several sequences in one row, none of which reads another. A batch then has hardly any padding.

The positions begin anew with each sequence. Many models of transformers (GPT-2, Llama, Qwen3, Gemma 3) build their
masks from the positions and so see the borders, in every implementation of attention. Others (RWKV, Mamba, BLOOM, OPT)
would let a sequence read what stands before it. `check_packing` runs the model itself to tell the two apart.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from distill_helpers.llm.output_heads import last_hidden_states
from distill_helpers.models.batching import evaluation_mode

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["check_packing", "packed_positions", "rows_of_at_most"]

#: The layers that read no more than their mask shows, by the names that configurations give them. Others carry a state
#: or convolve, and the little that this lets through may be less than the rounding of half precision.
_MASKED_LAYERS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
#: The lengths of the sequences with which a model is tried, in tokens.
_TRIAL = (9, 5, 7)
#: How far the hidden states of a sequence may be from themselves, relative to their norm, when the tokens before the
#: sequence change: not at all, but for kernels that depend on the other rows of a product, such as those of experts.
_LEAK = 1e-6
#: How far they may be from those that the sequence has alone, in full precision and in half.
_ROUNDING, _HALF_ROUNDING = 1e-5, 0.05


def rows_of_at_most(lengths: Sequence[int], packed_length: int) -> list[list[int]]:
    """Which sequences share a row. The longest are placed first, each into the first row that has room.

    Args:
        lengths: the number of tokens in each sequence.
        packed_length: the largest number of tokens in a row. A longer sequence gets a row of its own.

    Returns:
        The sequences of each row by their numbers, in ascending order.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((i for i, free in enumerate(room) if lengths[number] <= free), None)
        if row is None:
            rows.append([])
            room.append(packed_length)
            row = len(rows) - 1
        rows[row].append(number)
        room[row] -= lengths[number]
    return [sorted(row) for row in rows]


def packed_positions(lengths: Sequence[int], width: int) -> list[int]:
    """The position of each token within its sequence, for one row. Each token of padding is at position 0."""
    positions = [position for length in lengths for position in range(length)]
    return positions + [0] * (width - len(positions))


@torch.no_grad()
def check_packing(model: PreTrainedModel, who: str = "model") -> None:
    """Raise ValueError if a model lets sequences that are packed into one row read each other.

    The model reads three short sequences of random tokens: each alone, all in one row, and once more in one row with
    other tokens in the first. Only if the second and third sequence come out alike every time may the model be packed.
    This takes five forward passes of at most 21 tokens.

    Before that, a model is refused by its configuration if it has layers without such a mask, as LFM2 and Qwen3-Next
    have.

    Args:
        model: a causal language model, on the device and with the attention implementation that it is going to use.
        who: names the model in the error, such as "student".
    """
    remedy = "leave packed_length out of the CompletionCollator"
    name = f"the {who} ({type(model).__name__}, attention {getattr(model.config, '_attn_implementation', None)!r})"
    inner: Any = model
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner  # PEFT hides the parameters
    if "position_ids" not in inspect.signature(inner.forward).parameters:
        raise ValueError(f"{name} takes no position_ids, so that packed sequences would read each other; {remedy}")
    config: Any = model.config.get_text_config()
    if others := sorted(set(getattr(config, "layer_types", None) or ()) - _MASKED_LAYERS):
        raise ValueError(f"{name} has layers of the type {others[0]!r}, which read across borders; {remedy}")
    generator = torch.Generator().manual_seed(0)

    def drawn(length: int) -> list[int]:
        return torch.randint(config.vocab_size, (length,), generator=generator).tolist()

    def hidden_of(*sequences: list[int]) -> Tensor:
        lengths = [len(ids) for ids in sequences]
        return last_hidden_states(
            model,
            input_ids=torch.tensor([list(chain(*sequences))], device=model.device),
            position_ids=torch.tensor([packed_positions(lengths, sum(lengths))], device=model.device),
        )[0].double()

    first, *rest = (drawn(length) for length in _TRIAL)
    with evaluation_mode(model):
        alone = torch.cat([hidden_of(ids) for ids in rest])
        packed, changed = (hidden_of(before, *rest)[len(first) :] for before in (first, drawn(len(first))))
    rounding = _HALF_ROUNDING if torch.finfo(model.dtype).bits < 32 else _ROUNDING
    leak, distance = (float((packed - other).norm() / other.norm()) for other in (changed, alone))
    if not leak <= _LEAK or not distance <= rounding:  # a NaN is no pass
        raise ValueError(
            f"{name} cannot read packed sequences: the hidden states of a sequence change by {leak:.1e} of their norm"
            f" with the tokens before it in the row, and are {distance:.1e} away from those that it has alone; {remedy}"
        )
