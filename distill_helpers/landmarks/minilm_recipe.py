"""`minilm`: MiniLM and MiniLMv2."""

from __future__ import annotations

from typing import Any

from distill_helpers.data.labelled_texts import TextSplits
from distill_helpers.landmarks.stages import (
    Training,
    alternating_student,
    half_depth,
    random_twin,
    train_stage,
    train_stage_on_features,
    train_stage_on_labels,
)
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.architectures import ModelShape
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.students.creation import narrow_student
from distill_helpers.training.distilled_student import DistilledStudent

__all__ = ["minilm"]


def minilm(
    teacher: TextClassifier,
    data: TextSplits,
    training: Training | None = None,
    *,
    n_layers: int | None = None,
    hidden_size: int | None = None,
    n_heads: int | None = None,
    version: int = 1,
    relation_heads: int | None = None,
    from_teacher: bool = True,
    alpha: float = 0.0,
) -> DistilledStudent:
    """MiniLM (arXiv 2002.10957, section 3) and MiniLMv2 (arXiv 2012.15828, section 3.1): the last layer's attention.

    Stage 1 matches the last layer alone. Version 1 matches attention distributions and value relations; version 2
    matches the relations of queries, keys and values, split into relation heads, which leaves the student's width and
    number of heads free. Stage 2 fine-tunes on the task. Two things differ from the papers: the teacher is fine-tuned
    already, and stage 1 reads the task's texts.

    Args:
        teacher: the fine-tuned teacher.
        data: the task's messages.
        training: see `Training`.
        n_layers: the number of the student's layers; default half the teacher's.
        hidden_size, n_heads: default the teacher's. Other values give a narrow student with random layers.
        version: 1 or 2.
        relation_heads: the number of relation heads in version 2; default the number of the teacher's attention heads.
            The paper takes more (48 for 12).
        from_teacher: start from the teacher's layers, chosen by `alternating_layers`, where the width is equal. False
            starts from random weights.
        alpha: weight of the soft targets in stage 2. The paper's value is 0, hard labels alone.

    Raises:
        ValueError: another version; `relation_heads`, or another number of heads, with version 1; or one of the
            functions called here raises it.
    """
    if version not in (1, 2):
        raise ValueError(f"version must be 1 or 2, got {version!r}")
    if version == 1 and relation_heads is not None:
        raise ValueError(
            "relation_heads belong to version 2, and version 1 compares the attention heads one by one; pass version=2"
        )
    shape = ModelShape.of(teacher.model)
    training = training or Training()
    n_layers = half_depth(teacher, n_layers)
    width, heads = hidden_size or shape.width, n_heads or shape.n_heads
    if (width, heads) == (shape.width, shape.n_heads):
        student = alternating_student(teacher, n_layers)
        student = student if from_teacher else random_twin(student, training.seed)
    else:
        student = narrow_student(teacher, hidden_size=width, n_layers=n_layers, n_heads=heads, seed=training.seed)
    last: Any = {"response_loss_weight": 0.0, "layer_mapping": ((n_layers - 1, shape.n_layers - 1),)}
    if version == 1:
        first = DistillationConfig(
            attention_matching=True, attention_target="distributions", relations=("values",), **last
        )
    else:
        first = DistillationConfig(
            relations=("queries", "keys", "values"), relation_heads=relation_heads or shape.n_heads, **last
        )
    student = train_stage_on_features(student, teacher, data, first, training)
    if alpha == 0:
        return train_stage_on_labels(student, data, training)
    return train_stage(student, teacher, data, DistillationConfig(temperature=2.0, alpha=alpha), training)
