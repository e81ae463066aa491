"""A fine-tuned teacher as an adapter that is small enough to ship: the difference from its base, cut to a low rank."""

from __future__ import annotations

import copy
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel

__all__ = ["LINEAR_LAYERS", "low_rank_adapter"]

#: The linear layers of the course's encoder, by the last part of their names.
LINEAR_LAYERS = ("query", "key", "value", "dense")


@torch.no_grad()
def low_rank_adapter(tuned: PreTrainedModel, base: PreTrainedModel, rank: int) -> Any:
    """Make a LoRA adapter (Hu et al. 2021, equation 3) of what fine-tuning has changed in a sequence classifier.

    Of each linear layer's change, a matrix, the adapter has the best approximation of this rank: the largest singular
    values and their vectors (Eckart and Young 1936). The head is kept whole. What else has changed is left out:
    embeddings, biases and norms.

    Args:
        tuned: all of its weights may have changed.
        base: of the same shape, as it was before. It is copied.
        rank: of each factor, from 1 up to the smaller side of the smallest layer.

    Returns:
        PEFT's model of `base` and the adapter, in half precision; `save_pretrained` writes the adapter alone.

    Raises:
        ValueError: a rank that no layer has.

    Example:
        `recipes.make_teacher` makes the teacher of the task `help-desk` so.
    """
    layers = dict(tuned.named_modules())
    names = [name for name in layers if name.rpartition(".")[2] in LINEAR_LAYERS]
    widest = min(min(layers[name].weight.shape) for name in names)
    if not 1 <= rank <= widest:
        raise ValueError(f"rank must be from 1 to {widest}, the smaller side of the smallest layer; got {rank}")
    config = LoraConfig(task_type="SEQ_CLS", r=rank, lora_alpha=rank, target_modules=list(LINEAR_LAYERS))
    adapter: Any = get_peft_model(copy.deepcopy(base), config)
    wrapped = dict(adapter.base_model.model.named_modules())
    for name in names:
        change = layers[name].weight.float() - wrapped[name].base_layer.weight.float()
        u, s, v = torch.linalg.svd(change, full_matrices=False)
        # The root on both sides gives the two factors the same range, which half precision likes.
        wrapped[name].lora_A["default"].weight.copy_(s[:rank, None].sqrt() * v[:rank])
        wrapped[name].lora_B["default"].weight.copy_(u[:, :rank] * s[:rank].sqrt())
    wrapped["classifier"].modules_to_save["default"].load_state_dict(layers["classifier"].state_dict())
    return adapter.half()
