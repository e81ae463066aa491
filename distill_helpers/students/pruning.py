"""Pruning: a student cut out of its teacher, layers and feed-forward neurons that do least first.

The first half of prune-then-heal (Minitron, arXiv 2407.14679 and 2408.11796); the second half is distillation as for
any other student. Importance is read off the activations in forward passes over a few hundred texts, no labels and no
gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill_helpers.data.labelled_texts import check_texts
from distill_helpers.models.architectures import feed_forward, keep_neurons, set_feed_forward_size, transformer_layers
from distill_helpers.models.batching import encode_texts, evaluation_mode, pad_batch
from distill_helpers.models.loading import Model
from distill_helpers.students.creation import cut_layers

__all__ = ["feed_forward_importance", "layer_importance", "prune"]


def layer_importance(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    batch_size: int = 64,
    max_length: int | None = None,
) -> list[float]:
    """How much each layer changes what passes through it: 1 - cosine between its input and its output.

    The Block Influence of ShortGPT (arXiv 2403.03853): mean over the real tokens of all texts, padding excluded, in one
    forward pass. 0 is a layer that hands on what it gets, up to a positive factor.

    Args:
        model: a classifier or a language model whose layers `architectures.transformer_layers` finds; used where
            it is, not changed.
        tokenizer: the model's own.
        texts: none of them empty; labels are not needed.
        batch_size: texts at a time; no influence on the result beyond rounding.
        max_length: in tokens; default the tokenizer's own.

    Returns:
        A number in [0, 2] for each layer, first layer first.

    Raises:
        TypeError: as `architectures.transformer_layers`.
        ValueError: no text, an empty one, a batch size below 1.
    """

    def change(states: Tensor, output: Tensor) -> Tensor:
        return 1 - torch.cosine_similarity(states.float(), output.float(), dim=-1)

    layers = list(transformer_layers(model))
    means = _mean_over_tokens(model, tokenizer, texts, layers, change, batch_size, max_length)
    return [float(mean) for mean in means]


def feed_forward_importance(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    batch_size: int = 64,
    max_length: int | None = None,
) -> list[Tensor]:
    """How active each feed-forward neuron is: mean |activation| over the real tokens of all texts, in one forward pass.

    Activation-based as in Minitron (arXiv 2407.14679). What is averaged is the input of the down projection: in Llama
    the product of gate and up, in BERT the output of GELU.

    Args:
        model: an encoder of the BERT family or a decoder of the Llama family; used where it is, not changed.
        tokenizer, texts, batch_size, max_length: see `layer_importance`.

    Returns:
        For each layer, first layer first: fp64, (neurons,), on the CPU.

    Raises:
        TypeError: as `architectures.transformer_layers` and `architectures.feed_forward`.
        ValueError: as `layer_importance`.
    """
    down = [feed_forward(layer).down for layer in transformer_layers(model)]
    return _mean_over_tokens(
        model, tokenizer, texts, down, lambda states, _: states.float().abs(), batch_size, max_length
    )


def _mean_over_tokens(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    modules: Sequence[nn.Module],
    measure: Callable[[Tensor, Tensor], Tensor],
    batch_size: int,
    max_length: int | None,
) -> list[Tensor]:
    """Mean over all real tokens of `measure(input, output)`, (batch, tokens, …), for each of a model's modules."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    encoded = sorted(encode_texts(tokenizer, texts, max_length), key=len)
    sums: dict[int, Tensor] = {}
    mask = torch.empty(0)

    def observe(index: int) -> Callable[..., None]:
        def hook(_: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
            states = args[0] if args else kwargs["hidden_states"]
            output = output[0] if isinstance(output, tuple) else output
            # Summed in fp64 on the CPU, since Apple's MPS has no fp64.
            total = measure(states, output)[mask].sum(dim=0).cpu().double()
            sums[index] = sums[index] + total if index in sums else total

        return hook

    handles = []
    try:
        handles = [m.register_forward_hook(observe(i), with_kwargs=True) for i, m in enumerate(modules)]
        with evaluation_mode(model), torch.inference_mode():
            for start in range(0, len(encoded), batch_size):
                batch = pad_batch(encoded[start : start + batch_size], tokenizer)
                batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
                mask = batch["attention_mask"].bool()
                model.base_model(**batch)  # no head: a language model's would be the larger part of the work
    finally:
        for handle in handles:
            handle.remove()
    n_tokens = sum(map(len, encoded))
    return [sums[index] / n_tokens for index in range(len(modules))]


def prune(
    teacher: Model,
    texts: Sequence[str],
    *,
    n_layers: int | None = None,
    feed_forward_size: int | None = None,
    batch_size: int = 64,
    max_length: int | None = None,
) -> Model:
    """A student made of the teacher's most important layers, and of the most important neurons in each of them.

    All importances are those in the whole teacher (`layer_importance`, `feed_forward_importance`): one cut, not one
    layer at a time. The student needs training afterwards, as any student does.

    Args:
        teacher: an encoder of the BERT family or a decoder of the Llama family; it is not changed. For `n_layers` alone
            any model of transformers whose layers are found.
        texts: some hundred training texts, labelled or not; never the test set.
        n_layers: layers to keep; None keeps all.
        feed_forward_size: feed-forward neurons to keep in each layer; None keeps all.
        batch_size, max_length: see `layer_importance`.

    Returns:
        The student, where the teacher is, with the teacher's tokenizer. What `save_pretrained` writes of it can be
        loaded as any model.

    Raises:
        TypeError: an architecture whose parts are not known.
        ValueError: neither size given, a size below 1 or above the teacher's, no text or an empty one.
    """
    _check_sizes(teacher.model, n_layers, feed_forward_size)
    check_texts(texts)
    options: Any = {"batch_size": batch_size, "max_length": max_length}
    layers = list(range(len(transformer_layers(teacher.model))))
    neurons: list[Tensor] = []
    if n_layers is not None:
        layers = _most_important(layer_importance(*teacher, texts, **options), n_layers)
    if feed_forward_size is not None:
        neurons = feed_forward_importance(*teacher, texts, **options)
    student = cut_layers(teacher, layers)
    if feed_forward_size is not None:
        for index, layer in zip(layers, transformer_layers(student.model), strict=True):
            keep_neurons(layer, torch.tensor(_most_important(neurons[index].tolist(), feed_forward_size)))
        set_feed_forward_size(student.model.config, feed_forward_size)
    return student


def _check_sizes(teacher: PreTrainedModel, n_layers: int | None, feed_forward_size: int | None) -> None:
    """Raise ValueError for sizes that this teacher cannot be pruned to."""
    if n_layers is None and feed_forward_size is None:
        raise ValueError("n_layers and feed_forward_size are both None; give one of them or both")
    layers = transformer_layers(teacher)
    if n_layers is not None and not 1 <= n_layers <= len(layers):
        raise ValueError(f"n_layers must lie between 1 and the teacher's {len(layers)}, got {n_layers}")
    if feed_forward_size is not None:
        most = min(feed_forward(layer).down.in_features for layer in layers)
        if not 1 <= feed_forward_size <= most:
            raise ValueError(f"feed_forward_size must lie between 1 and the teacher's {most}, got {feed_forward_size}")


def _most_important(importance: Sequence[float], n: int) -> list[int]:
    """Indices of the `n` largest, ascending; of equals the first."""
    return sorted(sorted(range(len(importance)), key=lambda i: -importance[i])[:n])
