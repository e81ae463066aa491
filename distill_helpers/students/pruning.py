"""Pruning: a student cut out of its teacher, without the layers and feed-forward neurons that do least.

Pruning is the first half of prune-then-heal (Minitron, arXiv 2407.14679 and 2408.11796). The second half is
distillation, as for any other student. Importance is measured on the activations of forward passes over a few hundred
texts. It needs no labels and no gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from distill_helpers.data.text_inputs import TextInput, check_inputs
from distill_helpers.models.architectures import feed_forward, keep_neurons, set_feed_forward_size, transformer_layers
from distill_helpers.models.batching import (
    check_batch_size,
    check_positions,
    encode_texts,
    evaluation_mode,
    model_batch,
)
from distill_helpers.models.capture import watch
from distill_helpers.models.saved_structure import check_saved_structure
from distill_helpers.models.text_models import LanguageModel, Model, TextClassifier
from distill_helpers.students.creation import cut_layers

__all__ = ["feed_forward_importance", "layer_importance", "prune"]


def layer_importance(
    teacher: TextClassifier | LanguageModel,
    texts: Sequence[TextInput],
    *,
    batch_size: int = 64,
    max_length: int | None = None,
) -> list[float]:
    """How much each layer changes what passes through it: 1 - the cosine between its input and its output.

    This is the Block Influence of ShortGPT (arXiv 2403.03853). It is the mean over the real tokens of all texts,
    without padding, in one forward pass. A layer that hands on its input, up to a positive factor, has importance 0.

    Args:
        teacher: a classifier or a language model whose layers `architectures.transformer_layers` finds. The model is
            used where it is, and is not changed.
        texts: none of them empty. Labels are not needed.
        batch_size: the number of texts at a time. It changes the result by no more than rounding.
        max_length: longer texts are cut to so many tokens; default the tokenizer's own limit.

    Returns:
        A number in [0, 2] for each layer, first layer first.

    Raises:
        TypeError: as `architectures.transformer_layers`.
        ValueError: no text, an empty text (with its row), or a batch size below 1.

    Example:
        >>> student = dh.load_course_model("help-desk-student", device="cpu")
        >>> [round(layer, 1) for layer in dh.layer_importance(student, ["no sound", "my mac shows a grey screen"])]
        [0.1, 0.4]
    """

    def change(states: Tensor, output: Tensor) -> Tensor:
        return 1 - torch.cosine_similarity(states.float(), output.float(), dim=-1)

    layers = list(transformer_layers(teacher.model))
    means = _mean_over_tokens(teacher, texts, layers, change, batch_size, max_length)
    return [float(mean) for mean in means]


def feed_forward_importance(
    teacher: TextClassifier | LanguageModel,
    texts: Sequence[TextInput],
    *,
    batch_size: int = 64,
    max_length: int | None = None,
) -> list[Tensor]:
    """How active each feed-forward neuron is: mean |activation| over the real tokens of all texts, in one forward pass.

    The measure is based on activations, as in Minitron (arXiv 2407.14679). The activation of a neuron is its entry in
    the input of the down projection: in Llama the product of gate and up, in BERT the output of GELU.

    Args:
        teacher: an encoder of the BERT family or a decoder of the Llama family. The model is used where it is, and is
            not changed.
        texts, batch_size, max_length: see `layer_importance`.

    Returns:
        For each layer, first layer first: fp64, (neurons,), on the CPU.

    Raises:
        TypeError: as `architectures.transformer_layers` and `architectures.feed_forward`.
        ValueError: as `layer_importance`.

    Example:
        >>> student = dh.load_course_model("help-desk-student", device="cpu")
        >>> neurons = dh.feed_forward_importance(student, ["no sound", "my mac shows a grey screen"])
        >>> [len(layer) for layer in neurons]
        [512, 512]
    """
    down = [feed_forward(layer).down for layer in transformer_layers(teacher.model)]
    return _mean_over_tokens(teacher, texts, down, lambda states, _: states.float().abs(), batch_size, max_length)


def _mean_over_tokens(
    teacher: TextClassifier | LanguageModel,
    texts: Sequence[TextInput],
    modules: Sequence[nn.Module],
    measure: Callable[[Tensor, Tensor], Tensor],
    batch_size: int,
    max_length: int | None,
) -> list[Tensor]:
    """The mean of `measure(input, output)`, (batch, tokens, …), over all real tokens, for each of a model's modules."""
    check_batch_size(batch_size)
    model, tokenizer = teacher
    encoded = encode_texts(tokenizer, texts, max_length)
    check_positions(model, encoded)
    encoded.sort(key=len)
    sums: dict[int, Tensor] = {}
    mask = torch.empty(0)

    def add(index: int, states: Tensor, output: Tensor) -> None:
        # The sums are in fp64 on the CPU, because Apple's MPS has no fp64.
        total = measure(states, output)[mask].sum(dim=0).cpu().double()
        sums[index] = sums[index] + total if index in sums else total

    with watch(modules, add), evaluation_mode(model), torch.inference_mode():
        for start in range(0, len(encoded), batch_size):
            batch = model_batch(model, encoded[start : start + batch_size], tokenizer)
            mask = batch["attention_mask"].bool()
            model.base_model(**batch)  # without the head, which would be most of a language model's work
    n_tokens = sum(map(len, encoded))
    return [sums[index] / n_tokens for index in range(len(modules))]


def prune(
    teacher: Model,
    texts: Sequence[TextInput],
    *,
    n_layers: int | None = None,
    feed_forward_size: int | None = None,
    batch_size: int = 64,
    max_length: int | None = None,
) -> Model:
    """A student that keeps the teacher's most important layers, and the most important neurons in each of them.

    Every importance is measured in the whole teacher (`layer_importance`, `feed_forward_importance`), and everything is
    cut at once rather than one layer at a time. The student needs training afterwards, as any student does.

    Args:
        teacher: an encoder of the BERT family or a decoder of the Llama family. The teacher is not changed. If only
            `n_layers` is given, any model of transformers whose layers are found.
        texts: some hundred training texts, labelled or not; never the test set.
        n_layers: the number of layers to keep. None keeps all.
        feed_forward_size: the number of feed-forward neurons to keep in each layer. None keeps all.
        batch_size, max_length: see `layer_importance`.

    Returns:
        The student, where the teacher is, with the teacher's tokenizer. A student saved with `save_pretrained` loads
        like any other model.

    Raises:
        TypeError: an architecture whose parts are not known.
        ValueError: neither size is given, a size below 1 or above the teacher's, no text, or an empty text.

    Example:
        >>> teacher = dh.load_course_model("help-desk-student", device="cpu")
        >>> dh.prune(teacher, ["no sound", "my mac shows a grey screen"], n_layers=1, feed_forward_size=128)
        TextClassifier(BertForSequenceClassification, 5 classes, 763,397 parameters, cpu)
    """
    _check_sizes(teacher.model, n_layers, feed_forward_size)
    check_inputs(texts)
    options: Any = {"batch_size": batch_size, "max_length": max_length}
    layers = list(range(len(transformer_layers(teacher.model))))
    neurons: list[Tensor] = []
    if n_layers is not None:
        layers = _most_important(layer_importance(teacher, texts, **options), n_layers)
    if feed_forward_size is not None:
        neurons = feed_forward_importance(teacher, texts, **options)
    student = cut_layers(teacher, layers)
    if feed_forward_size is not None:
        for index, layer in zip(layers, transformer_layers(student.model), strict=True):
            keep_neurons(layer, torch.tensor(_most_important(neurons[index].tolist(), feed_forward_size)))
        set_feed_forward_size(student.model.config, feed_forward_size)
        check_saved_structure(student.model)
    return student


def _check_sizes(teacher: PreTrainedModel, n_layers: int | None, feed_forward_size: int | None) -> None:
    """Raise ValueError for sizes to which this teacher cannot be pruned."""
    if n_layers is None and feed_forward_size is None:
        raise ValueError("n_layers and feed_forward_size are both None; give one of them or both")
    layers = transformer_layers(teacher)
    if n_layers is not None and not 1 <= n_layers <= len(layers):
        raise ValueError(f"n_layers must lie between 1 and the teacher's {len(layers)}, got {n_layers}")
    if feed_forward_size is not None:
        limit = min(feed_forward(layer).down.in_features for layer in layers)
        if not 1 <= feed_forward_size <= limit:
            raise ValueError(f"feed_forward_size must lie between 1 and the teacher's {limit}, got {feed_forward_size}")


def _most_important(importance: Sequence[float], n: int) -> list[int]:
    """The indices of the `n` largest, ascending. Of equal ones the first is taken."""
    return sorted(sorted(range(len(importance)), key=lambda i: -importance[i])[:n])
