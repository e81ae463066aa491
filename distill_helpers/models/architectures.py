"""Where a transformer keeps its parts: its layers and their feed-forward halves, whatever the architecture calls them.

This is the only module that tells BERT's `intermediate.dense` from DistilBERT's `ffn.lin1` and Llama's `mlp.up_proj`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from distill_helpers.models.layer_settings import keep_layers_in_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = [
    "FeedForward",
    "ModelShape",
    "embedding_weight",
    "feed_forward",
    "feed_forward_size_of",
    "keep_layers",
    "keep_neurons",
    "set_feed_forward_size",
    "transformer_layers",
]

_FEED_FORWARD = (
    (("intermediate.dense",), "output.dense"),  # BERT, MiniLM, RoBERTa, ELECTRA, DeBERTa
    (("ffn.lin1",), "ffn.lin2"),  # DistilBERT
    (("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),  # Llama, Mistral, Qwen, Gemma
    (("mlp.dense_h_to_4h",), "mlp.dense_4h_to_h"),  # GPT-NeoX, Falcon
    (("mlp.fc1",), "mlp.fc2"),  # Phi
    (("layer.1.DenseReluDense.wi_0", "layer.1.DenseReluDense.wi_1"), "layer.1.DenseReluDense.wo"),  # T5 1.1, Flan
    (("layer.1.DenseReluDense.wi",), "layer.1.DenseReluDense.wo"),  # T5
)
_FEED_FORWARD_SIZE = ("intermediate_size", "hidden_dim", "d_ff")


class FeedForward(NamedTuple):
    """The feed-forward half of a layer: `up` maps the width to the neurons, `down` maps the neurons to the width."""

    up: tuple[nn.Linear, ...]  # Llama has two: gate and up
    down: nn.Linear


class ModelShape(NamedTuple):
    """The sizes that decide which features two models can share.

    Args:
        n_layers: the number of transformer layers.
        width: the size of a hidden state.
        n_heads: the number of attention heads in each layer.

    Example:
        >>> dh.ModelShape.of(dh.load_course_model("help-desk-student").model)
        ModelShape(n_layers=2, width=128, n_heads=2)
    """

    n_layers: int
    width: int
    n_heads: int

    @classmethod
    def of(cls, model: PreTrainedModel) -> ModelShape:
        """The shape of an encoder or a decoder of transformers. Raises TypeError as `transformer_layers`."""
        config = model.config.get_text_config()
        return cls(len(transformer_layers(model)), config.hidden_size, config.num_attention_heads)


def transformer_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The list of a model's repeated layers: BERT's `encoder.layer`, Llama's `layers`, GPT-2's `h`.

    Returns:
        The list itself, not a copy.

    Raises:
        TypeError: an encoder–decoder, or a model with no such list or with several.
    """
    if model.config.is_encoder_decoder:
        raise TypeError(
            f"{type(model).__name__} has an encoder and a decoder; use a model that is one or the other, such as BERT"
            " or Llama"
        )
    n_layers = model.config.get_text_config().num_hidden_layers
    found = [m for m in model.base_model.modules() if isinstance(m, nn.ModuleList) and len(m) == n_layers]
    # T5 keeps a list inside each layer, too: its length may be that of the model by chance.
    nested = {inner for outer in found for inner in outer.modules() if inner is not outer}
    found = [layers for layers in found if layers not in nested]
    if len(found) != 1:
        raise TypeError(
            f"{type(model).__name__} has {len(found)} lists of {n_layers} layers where one is needed; use an encoder or"
            " a decoder of transformers"
        )
    return found[0]


def embedding_weight(model: PreTrainedModel) -> Tensor:
    """The matrix of word embeddings, (vocabulary, width): the parameter itself, not a copy."""
    embedding = model.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    return embedding.weight


def keep_layers(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Remove all layers but these from a model and from its configuration. Changes `model`.

    Args:
        model: any model whose layers `transformer_layers` finds.
        kept: the indices of the layers to keep, 0-based and ascending.

    Raises:
        TypeError: as `transformer_layers`.
    """
    layers = transformer_layers(model)
    n_layers = len(layers)
    for index in reversed(range(n_layers)):
        if index not in kept:
            del layers[index]
    module: Any
    for index, layer in enumerate(layers):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):  # the layer's place in the cache of keys and values
                module.layer_idx = index
    # Parts of a model may hold copies of its configuration; T5's stack of layers does.
    configs = {id(config): config for part in model.modules() if (config := getattr(part, "config", None)) is not None}
    texts = {id(text): text for config in configs.values() if (text := config.get_text_config()) is not None}
    for text in texts.values():
        if text.num_hidden_layers == n_layers:
            keep_layers_in_config(text, kept)


def feed_forward(layer: nn.Module) -> FeedForward:
    """The projections of a layer's feed-forward half: the modules themselves, not copies.

    Args:
        layer: one of `transformer_layers`.

    Raises:
        TypeError: an architecture other than BERT's, DistilBERT's and Llama's, such as a mixture of experts.
    """
    modules = dict(layer.named_modules())
    for up, down in _FEED_FORWARD:
        found = [modules.get(name) for name in (*up, down)]
        linear = [module for module in found if isinstance(module, nn.Linear)]
        if len(linear) == len(found):
            return FeedForward(tuple(linear[:-1]), linear[-1])
    raise TypeError(
        f"the feed-forward part of {type(layer).__name__} is not known; use an encoder of the BERT family or a decoder"
        " of the Llama family"
    )


def keep_neurons(layer: nn.Module, neurons: Tensor) -> None:
    """Remove all feed-forward neurons but these from a layer, weights and biases. Changes `layer`.

    The configuration stays as it is, because it holds one size for all layers; see `set_feed_forward_size`.

    Args:
        layer: one of `transformer_layers`.
        neurons: the indices of the neurons to keep, in their new order; int64, (kept neurons,).

    Raises:
        TypeError: as `feed_forward`.
    """
    up, down = feed_forward(layer)
    for linear in up:
        linear.weight = _selected(linear.weight, 0, neurons)
        if linear.bias is not None:
            linear.bias = _selected(linear.bias, 0, neurons)
        linear.out_features = len(neurons)
    down.weight = _selected(down.weight, 1, neurons)  # the bias belongs to the width, not to the neurons
    down.in_features = len(neurons)
    module: Any
    for module in layer.modules():
        if hasattr(module, "intermediate_size"):  # Llama's `mlp` keeps a copy of the size
            module.intermediate_size = len(neurons)


def _selected(parameter: Tensor, dim: int, indices: Tensor) -> nn.Parameter:
    kept = parameter.detach().index_select(dim, indices.to(parameter.device))
    return nn.Parameter(kept, requires_grad=parameter.requires_grad)


def feed_forward_size_of(config: PreTrainedConfig) -> int:
    """Neurons in each feed-forward layer, by the configuration. Raises TypeError if the configuration doesn't say."""
    return getattr(config.get_text_config(), _feed_forward_size_name(config))


def set_feed_forward_size(config: PreTrainedConfig, size: int) -> None:
    """Change how many feed-forward neurons each layer has. Raises TypeError as `feed_forward_size_of`."""
    setattr(config.get_text_config(), _feed_forward_size_name(config), size)


def _feed_forward_size_name(config: PreTrainedConfig) -> str:
    text = config.get_text_config()
    for name in _FEED_FORWARD_SIZE:
        if hasattr(text, name):
            return name
    raise TypeError(
        f"{type(text).__name__} has none of {', '.join(_FEED_FORWARD_SIZE)}; use an encoder of the BERT family or a"
        " decoder of the Llama family"
    )
