"""`prune_and_heal`: Minitron, which the article's row on Mistral means."""

from __future__ import annotations

from distill_helpers.data.labelled_texts import TextSplits
from distill_helpers.landmarks.stages import (
    Training,
    half_depth,
    train_stage,
)
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.architectures import feed_forward_size_of
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.students.pruning import prune
from distill_helpers.training.distilled_student import DistilledStudent

__all__ = ["prune_and_heal"]


def prune_and_heal(
    teacher: TextClassifier,
    data: TextSplits,
    training: Training | None = None,
    *,
    n_layers: int | None = None,
    feed_forward_size: int | None = None,
    temperature: float = 2.0,
    alpha: float = 1.0,
) -> DistilledStudent:
    """Minitron (arXiv 2408.11796): prune by importance, then heal with the teacher's logits and nothing else.

    A layer is the more important the more it changes the hidden states, and a feed-forward neuron the larger its
    activations are; both are measured on the training messages (`prune`). The article's row on Mistral means this
    system, and Gemma 2 and Llama 3.2 do the same. Two things differ: Minitron also prunes heads and width, and it heals
    in one pass over billions of tokens.

    Args:
        teacher: the fine-tuned teacher.
        data: the task's messages. The importance is measured on 512 to 1,023 of the training messages, or on all where
            there are fewer.
        training: see `Training`.
        n_layers: the number of layers to keep; default half.
        feed_forward_size: the number of feed-forward neurons to keep in each layer; default half.
        temperature, alpha: those of healing. Minitron found the logits alone best, alpha = 1.

    Raises:
        ValueError: one of the functions called here raises it.
    """
    training = training or Training()
    if feed_forward_size is None:
        feed_forward_size = feed_forward_size_of(teacher.model.config) // 2
    student = prune(
        teacher,
        data.train.texts[:: max(1, len(data.train.texts) // 512)],
        n_layers=half_depth(teacher, n_layers),
        feed_forward_size=feed_forward_size,
        max_length=training.max_length,
    )
    config = DistillationConfig(temperature=temperature, alpha=alpha)
    return train_stage(student, teacher, data, config, training)
