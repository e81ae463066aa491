"""Distillation through data, the idea of Phi-2."""

from __future__ import annotations

from collections.abc import Sequence

from distill_helpers.data.labelled_texts import LabelledTexts, TextSplits
from distill_helpers.landmarks.stages import (
    Training,
    alternating_student,
    random_twin,
    teacher_logits,
    train_stage_on_labels,
)
from distill_helpers.llm.synthetic_data import SyntheticMessage, filter_messages
from distill_helpers.models.loading import TextClassifier
from distill_helpers.training.train_student import DistilledStudent

__all__ = ["data_driven"]


def data_driven(
    teacher: TextClassifier,
    data: TextSplits,
    messages: Sequence[SyntheticMessage],
    training: Training | None = None,
    *,
    n_layers: int | None = None,
    min_confidence: float = 0.8,
    relabel: bool = True,
    real_messages: bool = True,
) -> DistilledStudent:
    """Distillation through data, the idea of Phi-2 and its predecessors (Gunasekar et al., arXiv 2306.11644).

    A language model has written messages (`synthetic_data.write_messages`); filters keep what the teacher is sure of
    and what repeats nothing (`filter_messages`); the student learns from *labels*, never from a distribution. Phi-2's
    student was no compressed teacher, and neither is this one: its layers start random.

    Args:
        teacher, data, training: see `Training`; `n_transfer` is not used. The teacher only judges.
        messages: as the language model wrote them.
        n_layers: of a student as wide as the teacher; default half its layers.
        min_confidence: see `filter_messages`; 0 lets messages pass of which the teacher is not sure.
        relabel: the label is the topic that the teacher finds likeliest; else the one that the writer was asked for.
        real_messages: learn from the training messages too.

    Raises:
        ValueError: what the functions it is made of raise, such as messages of which no filter leaves any.
    """
    training = training or Training()
    student = random_twin(alternating_student(teacher, n_layers), training.seed)
    kept = filter_messages(
        messages,
        teacher_logits(teacher, [message.text for message in messages], training),
        data.label_names,
        known={"training": data.train.texts, "validation": data.validation.texts, "test": data.test.texts},
        min_confidence=min_confidence,
        relabel=relabel,
    ).messages
    if not kept:
        raise ValueError(f"the filters left none of {len(messages)} messages; write more, or lower min_confidence")
    texts = [message.text for message in kept] + data.train.texts * real_messages
    labels = [data.label_names.index(message.topic) for message in kept] + data.train.labels * real_messages
    enlarged = TextSplits(LabelledTexts(texts, labels, data.label_names), data.validation, data.test)
    return train_stage_on_labels(student, enlarged, training)
