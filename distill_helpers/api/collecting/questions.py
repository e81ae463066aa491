"""What is to be asked: every text once for each sample, under the key that the journal knows it by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from distill_helpers.api.journal.journal import request_key
from distill_helpers.api.teachers.providers import Teacher

__all__ = ["Question", "questions"]


class Question(NamedTuple):
    """A text that is asked about, the number of the sample, and the journal's key for them."""

    text: str
    sample: int
    key: str


def questions(teacher: Teacher, texts: Sequence[str], n_samples: int = 1) -> list[Question]:
    """The questions of a job, in the order of the texts; a text that comes twice is asked once.

    Args:
        teacher: whose requests the keys are of; nothing is asked of it.
        texts: to be asked about.
        n_samples: answers to each text; more than one at a temperature above 0 only.

    Raises:
        ValueError: no text, an empty one or one that is not Unicode (with its row), samples at temperature 0.
    """
    if isinstance(texts, str) or not texts:
        raise ValueError("texts must be a list of at least one text")
    for row, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"texts[{row}] is {'empty' if isinstance(text, str) else type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f'texts[{row}] holds half a surrogate pair, which no API takes; decode your file with errors="replace"'
            ) from None
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")
    if n_samples > 1 and teacher.request(texts[0]).get("temperature") == 0:
        raise ValueError(f"{n_samples} samples at temperature 0 are one answer, paid {n_samples} times; raise it")
    asked = []
    for text in dict.fromkeys(texts):
        request = teacher.request(text)
        asked += [Question(text, sample, request_key(request, sample)) for sample in range(n_samples)]
    return asked
