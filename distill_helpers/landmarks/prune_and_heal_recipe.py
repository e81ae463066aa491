"""Prune, then heal: Minitron, and what the article's Mistral row means."""

from __future__ import annotations

from distill_helpers.data.labelled_texts import TextSplits
from distill_helpers.landmarks.stages import (
    Training,
    half_depth,
    train_stage,
)
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.architectures import feed_forward_size
from distill_helpers.models.loading import TextClassifier
from distill_helpers.students.pruning import prune
from distill_helpers.training.train_student import DistilledStudent

__all__ = ["prune_and_heal"]


def prune_and_heal(
    teacher: TextClassifier,
    data: TextSplits,
    training: Training | None = None,
    *,
    n_layers: int | None = None,
    ffn_size: int | None = None,
    temperature: float = 2.0,
    alpha: float = 1.0,
) -> DistilledStudent:
    """Minitron (arXiv 2408.11796): prune by importance, then heal with the teacher's logits and nothing else.

    Layers by how much they change what passes through, feed-forward neurons by their activations, both measured on the
    training messages (`pruning.prune`). It is what the article's Mistral row means and what Gemma 2 and Llama 3.2 do.
    Differs: Minitron also prunes heads and width, and heals in one pass over billions of tokens.

    Args:
        teacher, data, training: see `Training`.
        n_layers: to keep; default half.
        ffn_size: feed-forward neurons to keep in each layer; default half.
        temperature, alpha: of healing; Minitron found the logits alone best, alpha = 1.

    Raises:
        ValueError: what the functions it is made of raise.
    """
    training = training or Training()
    student = prune(
        teacher,
        data.train.texts[:: max(1, len(data.train.texts) // 512)],
        n_layers=half_depth(teacher, n_layers),
        feed_forward_size=feed_forward_size(teacher.model.config) // 2 if ffn_size is None else ffn_size,
        max_length=training.max_length,
    )
    config = DistillationConfig(temperature=temperature, alpha=alpha)
    return train_stage(student, teacher, data, config, training)
