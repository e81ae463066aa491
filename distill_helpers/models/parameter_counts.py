"""How many weights a model has and how many bytes they take, wherever its layers keep them.

Quantised layers do not keep their weights as parameters of the weights' shape. PyTorch's own layers pack them into
objects that are no parameters, bitsandbytes keeps two weights in a byte, GPTQ and AWQ keep eight in an integer of a
buffer, and the tensors of torchao hold other tensors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["count_bytes", "count_parameters"]


def count_parameters(model: nn.Module) -> int:
    """The number of a model's weights and biases. A quantised layer has as many as before it was quantised."""
    seen: set[int] = set()
    packed = [tensor for module in model.modules() for tensor in _packed_weights(module)]
    total = sum(tensor.numel() for tensor in _distinct(packed))
    for module in model.modules():
        own = [p for p in module._parameters.values() if p is not None and id(p) not in seen]
        seen.update(map(id, own))
        total += _n_in_integers(module) or sum(map(_n_weights, own))
    return total


def count_bytes(model: nn.Module) -> int:
    """The bytes of a model's parameters and buffers, and of what its quantised layers keep beside them."""
    named = [*model.parameters(), *model.buffers()]
    known = {id(tensor) for tensor in named}
    others = [t for module in model.modules() for t in _saved_beside(module) if id(t) not in known]
    return sum(map(_n_bytes, (*named, *_distinct(others))))


def _packed_weights(module: nn.Module) -> list[Tensor]:
    """The weights that a module saves although it has no parameters, as the quantised layers of torch.ao do.

    What a module saves beside its parameters are scales and other states. So are tensors without a dimension.
    """
    if any(parameter is not None for parameter in module._parameters.values()):
        return []
    return [tensor for tensor in _saved_beside(module) if tensor.dim() > 0]


def _saved_beside(module: nn.Module) -> list[Tensor]:
    """The tensors that a module saves of its own, without its parameters and buffers."""
    known = {id(tensor) for tensor in (*module._parameters.values(), *module._buffers.values())}
    own: dict[str, Any] = {}
    module._save_to_state_dict(own, "", True)
    return [tensor for value in own.values() for tensor in _tensors_in(value) if id(tensor) not in known]


def _distinct(tensors: list[Tensor]) -> list[Tensor]:
    """Each once: two layers may share their weights, and the packed weights of an LSTM hold its biases twice."""
    return list({(tensor.data_ptr(), tensor.shape): tensor for tensor in tensors}.values())


def _tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in a nest of tuples, lists and TorchScript objects, in which PyTorch packs quantised weights."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors_in(part)
    elif isinstance(value, torch.ScriptObject):
        yield from _tensors_in(value.__getstate__())


def _n_in_integers(module: nn.Module) -> int:
    """The weights and biases of a linear layer that keeps several weights in an integer; 0 for every other module.

    GPTQ, AWQ and HQQ have such layers. Only the layer's own numbers of features say how many weights there are.
    """
    features = [_size(module, name) for name in ("in_features", "out_features")]
    if not all(features):
        return 0
    own = {name: t for name, t in (*module._parameters.items(), *module._buffers.items()) if t is not None}
    packed = [t for t in own.values() if t.dim() > 1 and not t.is_floating_point() and not t.is_complex()]
    if not packed or any(hasattr(t, "quant_state") or t.numel() == math.prod(features) for t in packed):
        return 0
    return math.prod(features) + (own["bias"].numel() if "bias" in own else 0)


def _size(module: nn.Module, name: str) -> int:
    value = getattr(module, name, getattr(module, name.replace("_", ""), 0))
    return value if isinstance(value, int) else 0


def _n_weights(parameter: Tensor) -> int:
    # A four-bit parameter of bitsandbytes has the shape of its bytes, and beside it the weight's own shape.
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)


def _n_bytes(tensor: Tensor) -> int:
    if hasattr(tensor, "__tensor_flatten__"):  # a tensor that holds others, such as int8 weights and their scales
        names, _ = tensor.__tensor_flatten__()
        return sum(_n_bytes(getattr(tensor, name)) for name in names)
    return tensor.numel() * tensor.element_size()
