"""What is saved is what was trained: a model that is built from the saved configuration has the same parts.

`save_pretrained` writes weights and a configuration. Loading builds a model from the configuration and fills in the
weights. If a cut has left the two in disagreement, then loading gives another model, mostly without an error.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from distill_helpers.models.architectures import transformer_layers
from distill_helpers.models.layer_settings import layer_settings
from distill_helpers.models.module_state import module_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["check_has_no_adapter", "check_saved_structure", "forget_source"]


class _Structure(NamedTuple):
    weights: dict[str, tuple[int, ...]]
    tied: list[list[str]]
    modules: dict[str, tuple[str, dict[str, Any]]]


def check_saved_structure(model: PreTrainedModel) -> None:
    """Raise ValueError unless a model that is built from this model's saved configuration is built in the same way.

    Compared are the names and shapes of all weights, which of them are tied, the class of each module and, of the
    modules inside the layers, their own settings, such as a layer's number and its kind of attention. The model is
    built on the meta device: that takes no memory, and well under a second for large models too.

    Raises:
        ValueError: a difference, with the first module that differs and the settings that number layers; or a model
            that does not save its own weights, such as one with an adapter of PEFT.
    """
    check_has_no_adapter(model)
    config: Any = model.config
    # As `save_pretrained` writes the configuration: entries that are the default are left out, and computed anew.
    saved = type(config).from_dict(json.loads(config.to_json_string()))
    saved._attn_implementation = config._attn_implementation
    with torch.device("meta"):
        rebuilt = type(model)(saved)
    difference = _first_difference(_structure(model), _structure(rebuilt))
    if difference is not None:
        raise ValueError(
            f"this {type(model).__name__} would be another model after saving and loading: {difference}. The saved"
            f" configuration does not describe these layers; of its settings, {layer_settings(config)} seem to number"
            " layers. Keep other layers (often the first one is special), or build the student from a configuration of"
            " your own"
        )


def check_has_no_adapter(model: PreTrainedModel) -> None:
    """Raise ValueError for a model with an adapter of PEFT, which saves the adapter alone."""
    if hasattr(model, "peft_config"):
        raise ValueError(
            f"{type(model).__name__} has an adapter, and saves the adapter alone, not the layers around it; merge it"
            " first: `model = model.merge_and_unload()`"
        )


def _structure(model: PreTrainedModel) -> _Structure:
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    # Outside the layers, modules keep copies of settings that a cut has changed, such as the number of layers.
    inside = {part for layer in transformer_layers(model) for part in layer.modules()}
    return _Structure(
        {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()},
        sorted(names for names in groups.values() if len(names) > 1),
        {
            name: (type(module).__name__, module_settings(module) if module in inside else {})
            for name, module in model.named_modules()
        },
    )


def _first_difference(own: _Structure, rebuilt: _Structure) -> str | None:
    """The first thing in which two structures differ, in words; None if they are equal."""
    for name in own.modules | rebuilt.modules:
        if name not in own.modules or name not in rebuilt.modules:
            return f"only one of the two has {name!r}"
        (kind, settings), (other_kind, others) = own.modules[name], rebuilt.modules[name]
        if kind != other_kind:
            return f"{name!r} is a {kind}, then a {other_kind}"
        for setting in settings.keys() & others.keys():
            if settings[setting] != others[setting]:
                return f"{setting} of {name!r} is {settings[setting]!r}, then {others[setting]!r}"
    for name in own.weights | rebuilt.weights:
        shapes = own.weights.get(name), rebuilt.weights.get(name)
        if shapes[0] != shapes[1]:
            return f"the weight {name!r} has the shape {shapes[0]}, then {shapes[1]}"
    if own.tied != rebuilt.tied:
        return f"the tied weights are {own.tied}, then {rebuilt.tied}"
    return None


def forget_source(model: PreTrainedModel) -> None:
    """Take away where a model was loaded from, which is no longer this model. Changes `model`.

    An adapter names its base by this entry. On a student that still had its teacher's, an adapter would be loaded into
    the teacher later.
    """
    model.name_or_path = model.config.name_or_path = ""
