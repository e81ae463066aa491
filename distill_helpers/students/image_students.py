"""New students that read images: a smaller version of a vision transformer, from its configuration."""

from __future__ import annotations

import copy
from typing import Any

import torch

from distill_helpers.models.architectures import feed_forward_size_of, set_feed_forward_size, transformer_layers
from distill_helpers.models.image_loading import check_transformers
from distill_helpers.models.image_models import ImageClassifier
from distill_helpers.models.layer_settings import keep_layers_in_config
from distill_helpers.models.saved_structure import check_has_no_adapter, check_saved_structure, forget_source
from distill_helpers.students.creation import check_narrow

__all__ = ["create_image_student"]


def create_image_student(
    teacher: ImageClassifier,
    *,
    hidden_size: int,
    n_layers: int | None = None,
    n_heads: int | None = None,
    dropout: float = 0.0,
    seed: int = 0,
) -> ImageClassifier:
    """The teacher's architecture, narrower and shallower, with random weights and with the teacher's processor.

    Both models see the same pixel values, cut into the same patches, and have the same classes and the same task.
    `cut_layers` makes a student that keeps some of the teacher's own layers.

    Args:
        teacher: a vision transformer, such as ViT, DeiT or BEiT. The teacher is not changed.
        hidden_size: the width. The feed-forward layers get narrower in proportion.
        n_layers: the number of layers; default as many as the teacher.
        n_heads: attention heads in each layer; default as many as the teacher.
        dropout: of hidden states and attention.
        seed: of the weights.

    Returns:
        A model on the teacher's device and in its precision, and the teacher's own processor.

    Raises:
        ImportError: transformers is older than 5.23.
        TypeError: a teacher that is no `ImageClassifier`, or no transformer with one width, such as a convolutional
            network; a student must then be brought.
        ValueError: a width or a number of layers below 1 or above the teacher's, or a width that the heads do not
            divide.

    Example:
        >>> from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil
        >>> config = ViTConfig(image_size=8, patch_size=4, hidden_size=32, num_hidden_layers=4, num_attention_heads=2)
        >>> processor = ViTImageProcessorPil(size={"height": 8, "width": 8})
        >>> teacher = dh.ImageClassifier(ViTForImageClassification(config), processor)
        >>> dh.create_image_student(teacher, hidden_size=16, n_layers=1)
        ImageClassifier(ViTForImageClassification, 2 classes, 52,802 parameters, cpu)
    """
    check_transformers()
    if not isinstance(teacher, ImageClassifier):
        raise TypeError(f"the teacher must be an ImageClassifier, got {type(teacher).__name__}")
    check_has_no_adapter(teacher.model)
    config: Any = copy.deepcopy(teacher.model.config)
    needed = ("hidden_size", "num_hidden_layers", "num_attention_heads")
    lacking = [name for name in needed if not isinstance(getattr(config, name, None), int)]
    if lacking or not hasattr(config, "patch_size"):
        raise TypeError(
            f"{type(teacher.model).__name__} is no vision transformer of one width (its configuration lacks"
            f" {', '.join(lacking or ['patch_size'])}); bring a student of your own, `ImageClassifier(model,"
            " teacher.processor)` with the teacher's classes"
        )
    transformer_layers(teacher.model)  # checks the architecture
    n_layers = config.num_hidden_layers if n_layers is None else n_layers
    n_heads = config.num_attention_heads if n_heads is None else n_heads
    check_narrow(config, hidden_size, n_layers, n_heads)
    set_feed_forward_size(config, max(1, round(feed_forward_size_of(config) * hidden_size / config.hidden_size)))
    if getattr(config, "pooler_output_size", None) == config.hidden_size:
        config.pooler_output_size = hidden_size
    config.hidden_size, config.num_attention_heads = hidden_size, n_heads
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
    keep_layers_in_config(config, range(n_layers))
    torch.manual_seed(seed)
    model: Any = type(teacher.model)(config)
    model.to(teacher.model.dtype)
    check_saved_structure(model)
    forget_source(model)
    return ImageClassifier(model.to(teacher.model.device).eval(), teacher.processor)
