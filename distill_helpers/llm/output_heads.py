"""The output head of a language model: the last layer, which turns hidden states into logits over the vocabulary."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from distill_helpers.llm.given_models import bare_model
from distill_helpers.llm.padding import right_padded_order

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from distill_helpers.models.text_models import LanguageModel

__all__ = [
    "OutputHead",
    "as_head",
    "head_width",
    "in_computing_dtype",
    "last_hidden_states",
    "logits_buffer",
    "logits_of",
    "output_head",
]

# Factors on the logits that some families apply after the head, by the names of their configurations' entries.
_SCALES = {"logit_scale": lambda factor: factor, "logits_scaling": lambda divisor: 1 / divisor}

#: A row of a logits buffer is padded to a multiple of so many numbers. Matrix products whose rows begin at arbitrary
#: addresses take up to a third longer.
_ALIGNMENT = 64


@dataclass(frozen=True, repr=False)
class OutputHead:
    """An output head that is a plain linear layer, possibly with a scale and a soft cap on its logits.

    logits = cap · tanh(scale · (hidden @ weight.T + bias) / cap). Without a cap there is no tanh.

    Args:
        weight: (vocabulary, width), floating point. The head may share this tensor with the embeddings.
        bias: (vocabulary,), or None.
        soft_cap: the largest logit, > 0 (Gemma 2's `final_logit_softcapping`), or None.
        scale: a factor on the logits, > 0.

    Raises:
        TypeError: `weight` is not a floating-point tensor; a quantised weight is an example.
        ValueError: the shapes do not fit, or the cap or the scale is not a positive, finite number.

    Example:
        >>> head = dh.OutputHead(torch.ones(4, 2), soft_cap=3.0)
        >>> head
        OutputHead(4 tokens, width 2, float32, soft_cap=3)
        >>> head.logits(torch.tensor([[5.0, 5.0]]))  # 10 before the cap
        tensor([[2.9924, 2.9924, 2.9924, 2.9924]])
    """

    weight: Tensor
    bias: Tensor | None = None
    soft_cap: float | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.weight, Tensor) or not self.weight.is_floating_point():
            got = self.weight.dtype if isinstance(self.weight, Tensor) else type(self.weight).__name__
            raise TypeError(
                f"a head's weight must be a floating-point tensor (vocabulary, width), got {got}; pass a head of"
                " another kind as the module that it is"
            )
        if self.weight.dim() != 2 or 0 in self.weight.shape:
            raise ValueError(f"a head's weight must be (vocabulary, width), got {tuple(self.weight.shape)}")
        if self.bias is not None and self.bias.shape != self.weight.shape[:1]:
            raise ValueError(f"a head of {len(self.weight)} rows cannot have a bias of shape {tuple(self.bias.shape)}")
        for name, number in {"soft_cap": self.soft_cap, "scale": self.scale}.items():
            if number is not None and not (isinstance(number, int | float) and 0 < number < math.inf):
                raise ValueError(f"{name} must be a positive, finite number, got {number!r}")

    def logits(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """The logits (rows, vocabulary) of hidden states (rows, width). If `out` is given, they are written there."""
        logits = torch.mm(hidden, self.weight.t(), out=out)
        if self.bias is not None:
            logits.add_(self.bias)
        if self.scale != 1.0:
            logits.mul_(self.scale)
        if self.soft_cap is not None:
            logits.div_(self.soft_cap).tanh_().mul_(self.soft_cap)
        return logits

    def gradient_before(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """Turn a gradient with respect to the logits into the gradient before scale and cap.

        Both arguments are overwritten.
        """
        if self.soft_cap is not None:
            gradient.mul_(logits.div_(self.soft_cap).square_().neg_().add_(1.0))
        return gradient if self.scale == 1.0 else gradient.mul_(self.scale)

    def __repr__(self) -> str:
        vocab_size, width = self.weight.shape
        dtype = str(self.weight.dtype).removeprefix("torch.")
        bias = "" if self.bias is None else ", with a bias"
        cap = "" if self.soft_cap is None else f", soft_cap={self.soft_cap:g}"
        scale = "" if self.scale == 1 else f", scale={self.scale:g}"
        return f"OutputHead({vocab_size:,} tokens, width {width:,}, {dtype}{bias}{cap}{scale})"


def output_head(model: LanguageModel | PreTrainedModel) -> OutputHead | nn.Module:
    """The head that turns the last hidden states of a causal language model into its logits.

    Args:
        model: a `LanguageModel`, or a causal language model of transformers.

    Returns:
        An `OutputHead` if the model's head is a plain linear layer. Any other head, such as one that LoRA wraps or a
        quantised one, is returned as the module that it is.

    Raises:
        ValueError: the model has no output embeddings, or it caps or scales its logits after a head that is not a
            plain linear layer.

    Example:
        >>> from transformers import AutoModelForCausalLM, GPT2Config
        >>> model = AutoModelForCausalLM.from_config(GPT2Config(vocab_size=100, n_embd=8, n_layer=1, n_head=2))
        >>> dh.output_head(model)
        OutputHead(100 tokens, width 8, float32)
    """
    bare = bare_model(model)
    module = bare.get_output_embeddings()
    if module is None:
        raise ValueError(f"{type(bare).__name__} has no output embeddings; pass a causal language model")
    config = bare.config.get_text_config()
    soft_cap = getattr(config, "final_logit_softcapping", None)
    scale = 1.0
    for name, factor_of in _SCALES.items():
        scale *= factor_of(getattr(config, name, None) or 1.0)
    if type(module) is nn.Linear:
        return OutputHead(module.weight, module.bias, soft_cap, scale)
    if soft_cap is not None or scale != 1.0:
        raise ValueError(
            f"{type(bare).__name__} caps or scales its logits, and its head is a {type(module).__name__}; leave the"
            " head itself unwrapped"
        )
    return module


def as_head(head: Tensor | OutputHead | nn.Module) -> OutputHead | nn.Module:
    """An `OutputHead` of a weight or of an `nn.Linear`. Any other head is returned as it is."""
    if isinstance(head, Tensor):
        return OutputHead(head)
    return OutputHead(head.weight, head.bias) if type(head) is nn.Linear else head


def last_hidden_states(model: LanguageModel | PreTrainedModel, **inputs: Any) -> Tensor:
    """The input of a causal language model's head, (batch, sequence, width). `output_head` turns it into logits.

    Args:
        model: a `LanguageModel`, or a model of transformers, alone or wrapped by PEFT.
        **inputs: `input_ids`, `attention_mask`, and whatever else the model takes. A batch may be padded on either
            side: the model reads it padded on the right, so that no token depends on the padding. Only if you pass
            `position_ids` or a cache does the model read the batch as it stands. With `position_ids` that begin anew
            and no mask, a row may hold several sequences (`llm.packing`).
    """
    decoder: Any = bare_model(model).get_decoder()
    if inputs.get("position_ids") is not None and inputs.get("past_key_values") is None:
        # transformers looks for the borders of packed sequences only where it makes no cache.
        inputs = {"use_cache": False, **inputs}
    order = right_padded_order(inputs)
    if order is None:
        return decoder(**inputs).last_hidden_state
    moved = {name: value for name, value in inputs.items() if getattr(value, "shape", None) == order.shape}
    moved = {name: value.gather(1, order) for name, value in moved.items()}
    hidden = decoder(**inputs | moved).last_hidden_state
    return hidden.gather(1, order.argsort(dim=1)[..., None].expand_as(hidden))


def head_width(head: OutputHead | nn.Module) -> int:
    """The width of the hidden states that a head takes. A model's `hidden_size` may be another number."""
    return head.weight.shape[1] if isinstance(head, OutputHead) else int(head.in_features)  # type: ignore[arg-type]


def logits_of(head: OutputHead | nn.Module, hidden: Tensor) -> Tensor:
    """The logits (rows, vocabulary) of hidden states (rows, width), for either result of `output_head`."""
    return head.logits(hidden) if isinstance(head, OutputHead) else head(hidden)


def in_computing_dtype(who: str, hidden: Tensor, head: OutputHead, vocab_size: int) -> tuple[Tensor, OutputHead]:
    """Hidden states, and the first `vocab_size` rows of their head, in the dtype of the computation.

    Under autocast this is autocast's dtype; otherwise the dtype that both share.

    Args:
        who: whose they are, "student" or "teacher", for the errors.
        hidden: (rows, width).
        head: its gradient is not tracked from here on.
        vocab_size: the rows of the head after these are padding.

    Raises:
        ValueError: the widths differ, or, without autocast, the dtypes.
    """
    if hidden.shape[-1] != head.weight.shape[1]:
        raise ValueError(
            f"the {who}'s hidden states are {hidden.shape[-1]} wide, its head {head.weight.shape[1]}; pass the head"
            " of the model that the hidden states come from"
        )
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head.weight.dtype
    if hidden.dtype != dtype and not torch.is_autocast_enabled(device):
        raise ValueError(f"the {who}'s hidden states are {hidden.dtype}, its head is {dtype}; convert one of the two")
    bias = None if head.bias is None else head.bias.detach()[:vocab_size].to(dtype)
    return hidden.to(dtype), replace(head, weight=head.weight.detach()[:vocab_size].to(dtype), bias=bias)


def logits_buffer(hidden: Tensor, n_rows: int, vocab_size: int) -> Tensor:
    """Room for the logits of hidden states, (n_rows, vocab_size). Each row is padded to a multiple of `_ALIGNMENT`."""
    buffer = hidden.new_empty(n_rows, math.ceil(vocab_size / _ALIGNMENT) * _ALIGNMENT)
    # Products in bf16 on a CPU with AMX read on past a row's end and multiply what is there by 0. A NaN stays a NaN.
    buffer[:, vocab_size:] = 0
    return buffer[:, :vocab_size]
