"""`data_driven`: distillation through data, the idea of Phi-2."""

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
from distill_helpers.llm.message_filters import filter_messages
from distill_helpers.llm.synthetic_data import SyntheticMessage
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.training.distilled_student import DistilledStudent

__all__ = ["data_driven", "kept_messages"]


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

    A language model has written messages (`write_messages` of `distill_helpers.llm`). Filters keep the messages of
    which the teacher is sure and which repeat no other message (`filter_messages`). The student learns from the
    *labels* of these messages and never from a distribution. Phi-2 was no compressed teacher, and neither is this
    student: its layers start random.

    Args:
        teacher: judges and labels the written messages. The student does not learn from its logits.
        data: the task's messages.
        messages: the messages as the language model wrote them.
        training: see `Training`; `n_transfer` is not used.
        n_layers: the number of the student's layers; default half the teacher's. The student is as wide as the teacher.
        min_confidence: see `filter_messages`; 0 lets messages pass of which the teacher is not sure.
        relabel: label a message with the topic that the teacher finds likeliest. False takes the topic for which the
            writer was asked.
        real_messages: learn from the training messages too.

    Raises:
        ValueError: the filters leave no message; or one of the functions called here raises it.
    """
    training = training or Training()
    student = random_twin(alternating_student(teacher, n_layers), training.seed)
    kept = kept_messages(teacher, data, messages, training, min_confidence=min_confidence, relabel=relabel)
    if not kept:
        raise ValueError(f"the filters left none of {len(messages)} messages; write more, or lower min_confidence")
    texts = [message.text for message in kept] + data.train.texts * real_messages
    labels = [data.label_names.index(message.topic) for message in kept] + data.train.labels * real_messages
    enlarged = TextSplits(LabelledTexts(texts, labels, data.label_names), data.validation, data.test)
    return train_stage_on_labels(student, enlarged, training)


def kept_messages(
    teacher: TextClassifier,
    data: TextSplits,
    messages: Sequence[SyntheticMessage],
    training: Training,
    *,
    min_confidence: float = 0.8,
    relabel: bool = True,
) -> list[SyntheticMessage]:
    """The written messages from which the student of `data_driven` learns; see there for the arguments."""
    return filter_messages(
        messages,
        teacher_logits(teacher, [message.text for message in messages], training),
        data.label_names,
        known={"training": data.train.texts, "validation": data.validation.texts, "test": data.test.texts},
        min_confidence=min_confidence,
        relabel=relabel,
    ).messages
