"""The last layer of a language model: from hidden states to logits over the vocabulary."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

__all__ = ["OutputHead", "last_hidden_states", "logits_of", "output_head"]

# Factors on the logits that some families apply after the head, by the names of their configurations' entries.
_SCALES = {"logit_scale": lambda factor: factor, "logits_scaling": lambda divisor: 1 / divisor}


@dataclass(frozen=True)
class OutputHead:
    """logits = cap · tanh(scale · (hidden @ weight.T + bias) / cap), without the tanh where there is no cap.

    Args:
        weight: (vocabulary, width), floating point. May be tied to the embeddings.
        bias: (vocabulary,), or None.
        soft_cap: of the logits, > 0 (Gemma 2's `final_logit_softcapping`), or None.
        scale: of the logits.

    Raises:
        TypeError: a weight that is not a floating-point tensor, such as a quantised one.
        ValueError: shapes that do not fit, or a cap or scale that is not a positive, finite number.
    """

    weight: Tensor
    bias: Tensor | None = None
    soft_cap: float | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.weight, Tensor) or not self.weight.is_floating_point():
            got = self.weight.dtype if isinstance(self.weight, Tensor) else type(self.weight).__name__
            raise TypeError(f"a head's weight must be a floating-point tensor (vocabulary, width), got {got}")
        if self.weight.dim() != 2 or 0 in self.weight.shape:
            raise ValueError(f"a head's weight must be (vocabulary, width), got {tuple(self.weight.shape)}")
        if self.bias is not None and self.bias.shape != self.weight.shape[:1]:
            raise ValueError(f"a head of {len(self.weight)} rows can't have a bias of shape {tuple(self.bias.shape)}")
        for name, number in {"soft_cap": self.soft_cap, "scale": self.scale}.items():
            if number is not None and not (isinstance(number, int | float) and 0 < number < math.inf):
                raise ValueError(f"{name} must be a positive, finite number, got {number!r}")

    def logits(self, hidden: Tensor, out: Tensor | None = None) -> Tensor:
        """The logits of hidden states (rows, width), (rows, vocabulary); written into `out` where it is given."""
        logits = torch.mm(hidden, self.weight.t(), out=out)
        if self.bias is not None:
            logits.add_(self.bias)
        if self.scale != 1.0:
            logits.mul_(self.scale)
        if self.soft_cap is not None:
            logits.div_(self.soft_cap).tanh_().mul_(self.soft_cap)
        return logits

    def gradient_before(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """From a gradient with respect to the logits to one before scale and cap; overwrites both arguments."""
        if self.soft_cap is not None:
            gradient.mul_(logits.div_(self.soft_cap).square_().neg_().add_(1.0))
        return gradient if self.scale == 1.0 else gradient.mul_(self.scale)


def output_head(model: PreTrainedModel) -> OutputHead | nn.Module:
    """What turns the last hidden states of a causal language model into its logits.

    Returns:
        An `OutputHead` where the head is a plain linear layer; else, as for one that LoRA wraps or that is quantised,
        the module itself.

    Raises:
        ValueError: a model without output embeddings; a head that is no plain layer in a model that caps or scales its
            logits.
    """
    module = model.get_output_embeddings()
    if module is None:
        raise ValueError(f"{type(model).__name__} has no output embeddings; is it a causal language model?")
    config = model.config.get_text_config()
    soft_cap = getattr(config, "final_logit_softcapping", None)
    scale = 1.0
    for name, factor_of in _SCALES.items():
        scale *= factor_of(getattr(config, name, None) or 1.0)
    if type(module) is nn.Linear:
        return OutputHead(module.weight, module.bias, soft_cap, scale)
    if soft_cap is not None or scale != 1.0:
        raise ValueError(f"{type(model).__name__} caps or scales its logits, and its head is a {type(module).__name__}")
    return module


def last_hidden_states(model: PreTrainedModel, **inputs: Any) -> Tensor:
    """What the head of a causal language model sees: (batch, sequence, width). `output_head` makes the logits of it.

    Args:
        model: as transformers has them, or wrapped by PEFT.
        **inputs: `input_ids`, `attention_mask` and whatever else the model takes.
    """
    return model.get_decoder()(**inputs).last_hidden_state


def logits_of(head: OutputHead | nn.Module, hidden: Tensor, out: Tensor | None = None) -> Tensor:
    """The logits (rows, vocabulary) of hidden states (rows, width), whichever `output_head` has returned.

    `out` is written into where the head is a plain product.
    """
    return head.logits(hidden, out) if isinstance(head, OutputHead) else head(hidden)
