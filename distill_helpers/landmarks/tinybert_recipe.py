"""`tinybert`: TinyBERT."""

from __future__ import annotations

from dataclasses import replace

from distill_helpers.data.labelled_texts import TextSplits
from distill_helpers.landmarks.stages import (
    Training,
    half_depth,
    train_stage,
    train_stage_on_features,
)
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.architectures import ModelShape
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.students.creation import narrow_student
from distill_helpers.training.distilled_student import DistilledStudent

__all__ = ["tinybert"]


def tinybert(
    teacher: TextClassifier,
    data: TextSplits,
    training: Training | None = None,
    *,
    n_layers: int | None = None,
    hidden_size: int | None = None,
    attention: bool = True,
    hidden: bool = True,
    embeddings: bool = True,
    augmentation: bool = True,
) -> DistilledStudent:
    """TinyBERT (arXiv 1909.10351, section 3): a narrow and shallow student, taught layer by layer, then by predictions.

    Stage 1 matches embeddings (equation 9), hidden states (8) and attention scores (7) on a uniform layer map, through
    projectors. Stage 2 matches the predictions at T = 1 (10). Both stages read the training messages and the transfer
    texts, which take the place of the paper's word replacement (section 3.2). One thing differs: no general
    distillation comes before. The layers therefore start random, and the word embeddings start from the principal
    components of the teacher's.

    Args:
        teacher: the fine-tuned teacher.
        data: the task's messages.
        training: see `Training`.
        n_layers: the number of the student's layers, which must divide the teacher's; default half the teacher's.
        hidden_size: the student's width; default half the teacher's. The number of the teacher's heads must divide it.
        attention, hidden, embeddings: the parts of stage 1. Without any of them there is no stage 1 (the paper's "w/o
            Trm").
        augmentation: read the transfer texts too.

    Raises:
        ValueError: one of the functions called here raises it.
    """
    shape = ModelShape.of(teacher.model)
    training = training or Training()
    student = narrow_student(
        teacher,
        hidden_size=shape.width // 2 if hidden_size is None else hidden_size,
        n_layers=half_depth(teacher, n_layers),
        seed=training.seed,
    )
    if not augmentation:
        training = replace(training, n_transfer=0)
    if attention or hidden or embeddings:
        first = DistillationConfig(
            response_loss_weight=0.0,
            intermediate_layers=hidden,
            attention_matching=attention,
            embedding_loss_weight=float(embeddings),
        )
        student = train_stage_on_features(student, teacher, data, first, training)
    second = DistillationConfig(temperature=1.0, alpha=1.0)
    return train_stage(student, teacher, data, second, training)
