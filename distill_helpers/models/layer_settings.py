"""The settings of a configuration that name or count layers, cut together with the layers.

A configuration says `layer_types = ["full", "sliding", …]`, `mlp_only_layers = [0]` or `first_k_dense_replace = 3`. If
layers go and such a setting stays, the saved student is another model than the one that was trained.
`saved_structure.check_saved_structure` notices what this module does not know.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

__all__ = ["keep_layers_in_config", "layer_settings"]

# Lists of the indices of layers. Any other list with "layer" in its name and an entry for each layer is cut by entry.
_INDICES = ("mlp_only_layers", "moe_layers", "cross_attention_layers", "full_attn_idxs", "attn_layer_indices")
# Numbers that mean: so many layers from the first one on are dense, or look at all tokens.
_FIRST_LAYERS = ("first_k_dense_replace", "num_dense_layers", "max_window_layers")
_NUMBERS_LAYERS = re.compile(r"layer|idxs|pattern|every_n|sparse_step|interval|_period|_offset|dense_replace")
_ABOUT_ALL_LAYERS = re.compile(r"norm|num_hidden_layers|layerdrop|layer_scale|^n(um)?_layers?$")


def keep_layers_in_config(config: PreTrainedConfig, kept: Sequence[int]) -> None:
    """Make a configuration describe a model with these layers alone. Changes `config`.

    Args:
        config: of an encoder or a decoder.
        kept: the indices of the layers to keep, 0-based and ascending.
    """
    text: Any = config.get_text_config()
    n_layers = text.num_hidden_layers
    _name_dense_layers(text, n_layers)
    for name, value in list(vars(text).items()):
        if name in _INDICES and isinstance(value, list):
            setattr(text, name, [new for new, old in enumerate(kept) if old in value])
        elif name in _FIRST_LAYERS and isinstance(value, int):
            setattr(text, name, sum(old < value for old in kept))
        elif "layer" in name and isinstance(value, list) and len(value) == n_layers:
            # `layer_types`, `no_rope_layers`; not a list that has this length by chance, such as end tokens.
            setattr(text, name, [value[old] for old in kept])
    text.num_hidden_layers = len(kept)


def _name_dense_layers(text: Any, n_layers: int) -> None:
    """Replace Qwen's "every second layer has experts" by the list of the layers that have none."""
    step = getattr(text, "decoder_sparse_step", 1)
    if step != 1 and isinstance(getattr(text, "mlp_only_layers", None), list):
        dense = {i for i in range(n_layers) if (i + 1) % step} | set(text.mlp_only_layers)
        text.mlp_only_layers, text.decoder_sparse_step = sorted(dense), 1


def layer_settings(config: PreTrainedConfig) -> list[str]:
    """The names of a configuration's settings that seem to number layers, for a message."""
    settings = vars(config.get_text_config())
    named = [name for name, value in settings.items() if value not in (None, False) and _NUMBERS_LAYERS.search(name)]
    return sorted(name for name in named if not _ABOUT_ALL_LAYERS.search(name))
