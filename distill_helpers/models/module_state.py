"""What a model computes beside its weights: kinds of modules, their settings, adapters, and the attention function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

__all__ = ["module_settings", "state_beside_weights"]

# Where a module is in its life, and not what it computes.
_NOT_THE_FUNCTION = ("training", "gradient_checkpointing", "name_or_path", "is_quantized", "max_seq_len_cached")
# The same function up to rounding.
_EXACT_ATTENTION = (None, "eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")


def module_settings(module: nn.Module) -> dict[str, Any]:
    """The public attributes of a module that are numbers, texts, or lists and dictionaries of these."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and name not in _NOT_THE_FUNCTION and _is_plain(value)
    }


def state_beside_weights(model: nn.Module) -> dict[str, Any]:
    """Everything outside tensors that a model's outputs depend on, as far as it can be seen. Ready for JSON.

    For each module: its class, its settings (`module_settings`; for a LoRA layer, the scaling and the merged adapters
    are among them), the adapters of PEFT that are active, whether adapters are off, and a `forward` that was replaced.
    For the model: an attention function other than transformers' exact ones. A forward hook that changes outputs cannot
    be seen.
    """
    modules = {name: _module_state(module) for name, module in model.named_modules()}
    attention = getattr(getattr(model, "config", None), "_attn_implementation", None)
    return {"modules": modules, "attention": "exact" if attention in _EXACT_ATTENTION else str(attention)}


def _module_state(module: nn.Module) -> dict[str, Any]:
    state: dict[str, Any] = {"class": type(module).__qualname__, "settings": module_settings(module)}
    for name in ("active_adapters", "disable_adapters"):
        # Properties of PEFT's layers. Models of transformers have methods of the same names.
        if isinstance(getattr(type(module), name, None), property):
            state[name] = getattr(module, name)
    if "forward" in vars(module):
        replaced: Any = vars(module)["forward"]
        state["forward"] = getattr(replaced, "__qualname__", type(replaced).__qualname__)
    return state


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(entry) for key, entry in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
