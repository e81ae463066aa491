"""`distilbert`: DistilBERT."""

from __future__ import annotations

from distill_helpers.data.labelled_texts import TextSplits
from distill_helpers.landmarks.stages import (
    Training,
    alternating_student,
    random_twin,
    train_stage,
)
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.training.distilled_student import DistilledStudent

__all__ = ["distilbert"]


def distilbert(
    teacher: TextClassifier,
    data: TextSplits,
    training: Training | None = None,
    *,
    n_layers: int | None = None,
    from_teacher: bool = True,
    soft_weight: float = 5.0,
    task_weight: float = 2.0,
    cosine_weight: float = 1.0,
) -> DistilledStudent:
    """DistilBERT (arXiv 1910.01108, sections 2 and 3): the teacher's alternating layers, and a loss of three parts.

    The parts are soft targets at T = 2, the task's own loss, and the cosine of the last hidden states, weighted
    5 : 2 : 1 as in the paper's code. One thing differs: the task's loss is classification, the paper's is masked
    language modelling.

    Args:
        teacher: the fine-tuned teacher.
        data: the task's messages.
        training: see `Training`.
        n_layers: the number of the student's layers; default half the teacher's, as in the paper.
        from_teacher: start from the teacher's layers, chosen by `alternating_layers`. False starts from random weights,
            the paper's ablation.
        soft_weight, task_weight, cosine_weight: weights of the three parts; 0 leaves a part out.

    Raises:
        ValueError: a negative weight, or no positive one; or one of the functions called here raises it.
    """
    response, total = soft_weight + task_weight, soft_weight + task_weight + cosine_weight
    if min(soft_weight, task_weight, cosine_weight) < 0 or total == 0:
        raise ValueError(
            "soft_weight, task_weight and cosine_weight must be at least 0, and one of them positive, got"
            f" {(soft_weight, task_weight, cosine_weight)}"
        )
    config = DistillationConfig(
        temperature=2.0,
        alpha=soft_weight / response if response else 1.0,
        response_loss_weight=response / total,
        cosine_loss_weight=cosine_weight / total,
    )
    training = training or Training()
    student = alternating_student(teacher, n_layers)
    if not from_teacher:
        student = random_twin(student, training.seed)
    return train_stage(student, teacher, data, config, training)
