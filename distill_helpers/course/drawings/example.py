"""The message of the drawings: a real one, whose teacher is of two minds."""

from __future__ import annotations

from functools import cache

from torch import Tensor

from distill_helpers.data.corpora import load_help_desk
from distill_helpers.models.loading import load_course_model
from distill_helpers.models.text_models import predict_logits

__all__ = ["QUEUES", "message", "sender", "teacher_logits"]

#: The queues of the help desk as a reader calls them, in the order of the data.
QUEUES = ("graphics", "Windows", "PC", "Mac", "X window")
_BEGINNING = "why is my mouse so jumpy"


@cache
def _row() -> int:
    (row,) = (row for row, text in enumerate(load_help_desk().validation.texts) if text.startswith(_BEGINNING))
    return row


def message() -> str:
    """The message's text."""
    return load_help_desk().validation.texts[_row()]


def sender() -> str:
    """The queue that its sender chose, one of `QUEUES`."""
    return QUEUES[load_help_desk().validation.labels[_row()]]


@cache
def teacher_logits() -> Tensor:
    """The shipped teacher's logits of the message, one for each of `QUEUES`."""
    return predict_logits(load_course_model("help-desk-teacher", device="cpu"), [message()])[0]
