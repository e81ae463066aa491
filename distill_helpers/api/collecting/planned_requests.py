"""The requests that a job needs: one for each text and sample, under the key by which the journal knows it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from distill_helpers.api.journal.records import request_key
from distill_helpers.api.teachers.teacher import Teacher

__all__ = ["PlannedRequest", "plan_requests"]


class PlannedRequest(NamedTuple):
    """A request that a job needs, whether or not the journal already has its answer.

    Attributes:
        text: the text that the teacher is asked about.
        sample: the number of the sample, from 0.
        key: `request_key` of the request and the sample.
    """

    text: str
    sample: int
    key: str

    def __repr__(self) -> str:
        return f"PlannedRequest({self.key[:8]}…, sample {self.sample}, {len(self.text)} characters)"


def plan_requests(teacher: Teacher, texts: Sequence[str], n_samples: int = 1) -> list[PlannedRequest]:
    """The requests of a job, in the order of the texts. A text that is listed twice is asked once.

    Args:
        teacher: makes the requests from which the keys are computed; nothing is sent.
        texts: the inputs.
        n_samples: answers to each text; more than one only at a temperature above 0.

    Raises:
        ValueError: no texts, a text that is empty or not Unicode (with its row), several samples at temperature 0, or
            a request that is not JSON.
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
    try:
        json.dumps(teacher.request(texts[0]), ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError) as error:
        raise ValueError(
            "the requests can't be sent as JSON, because of the system prompt, an example or a parameter"
            f" ({type(error).__name__}): use text in Unicode, finite numbers, lists and dictionaries"
        ) from None
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}")
    if n_samples > 1 and teacher.request(texts[0]).get("temperature") == 0:
        raise ValueError(
            f"{n_samples} samples at temperature 0 would be one answer, paid {n_samples} times; raise the temperature"
        )
    planned = []
    for text in dict.fromkeys(texts):
        request = teacher.request(text)
        planned += [PlannedRequest(text, sample, request_key(request, sample)) for sample in range(n_samples)]
    return planned
