"""The records of a journal: what became of one request, and the key that says what was asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from distill_helpers.api.teachers.answers import TeacherAnswer

__all__ = ["Failure", "JournalRecord", "request_key", "utc_now"]

#: Fields of a request that a record leaves out. "messages" holds the input again, and both are part of the key.
_PROMPT = ("messages", "system")


def request_key(request: Mapping[str, Any], sample: int = 0) -> str:
    """The SHA-256 of a request and a sample number, as 64 hexadecimal digits.

    The hash covers the request's whole JSON: model, parameters and messages. The order of its fields does not matter.

    Example:
        >>> from distill_helpers.api.journal.records import request_key
        >>> request_key({"model": "m", "messages": []})[:12]
        '09ca59655156'
        >>> request_key({"messages": [], "model": "m"})[:12]
        '09ca59655156'
    """
    canonical = json.dumps(request, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{canonical}#{sample}".encode()).hexdigest()


def utc_now() -> str:
    """The time now in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Failure:
    """Why a request got no answer.

    Attributes:
        cause: the name of the exception.
        status: the HTTP status; None if there was no response.
    """

    cause: str
    status: int | None = None

    @property
    def name(self) -> str:
        """Cause and status together, such as "RateLimitError 429"."""
        return self.cause if self.status is None else f"{self.cause} {self.status}"


@dataclass(frozen=True)
class JournalRecord:
    """What became of one request: an answer or a failure.

    Attributes:
        key: `request_key` of the request and the sample.
        input_text: the text that the teacher was asked about.
        sample: the number of the sample, from 0, if an input is asked several times.
        parameters: the request without its messages and system prompt.
        date: UTC, ISO 8601, to the second.
        answer: the teacher's answer; None after a failure.
        failure: why there is no answer; None after an answer.
        batch: whether the request went through the provider's batch API, at the batch price.

    Raises:
        ValueError: both an answer and a failure, or neither.

    Example:
        >>> from distill_helpers.api import JournalRecord, TeacherAnswer
        >>> request = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "no sound"}]}
        >>> record = JournalRecord.of(request, "no sound", TeacherAnswer("PC", "stop", "gpt-4o-mini-2024-07-18"))
        >>> record.answer.text, record.sample, dict(record.parameters)
        ('PC', 0, {'model': 'gpt-4o-mini'})
    """

    key: str
    input_text: str
    sample: int
    parameters: Mapping[str, Any]
    date: str
    answer: TeacherAnswer | None = None
    failure: Failure | None = None
    batch: bool = False

    def __post_init__(self) -> None:
        if (self.answer is None) == (self.failure is None):
            raise ValueError("a record holds an answer or a failure, and not both")

    def __repr__(self) -> str:
        outcome = repr(self.answer) if self.failure is None else f"failed: {self.failure.name}"
        batch = ", batch" if self.batch else ""
        return f"JournalRecord({self.key[:8]}…, sample {self.sample}, {self.date}{batch}, {outcome})"

    @classmethod
    def of(
        cls,
        request: Mapping[str, Any],
        input_text: str,
        outcome: TeacherAnswer | Failure,
        sample: int = 0,
        *,
        batch: bool = False,
    ) -> JournalRecord:
        """The record of a request that has just ended.

        Args:
            request: the body that was sent.
            input_text: the text that the request asks about.
            outcome: the answer, or the failure.
            sample: the number of the sample, from 0.
            batch: whether the request went through the provider's batch API.
        """
        return cls(
            key=request_key(request, sample),
            input_text=input_text,
            sample=sample,
            parameters={name: value for name, value in request.items() if name not in _PROMPT},
            date=utc_now(),
            answer=outcome if isinstance(outcome, TeacherAnswer) else None,
            failure=outcome if isinstance(outcome, Failure) else None,
            batch=batch,
        )

    def to_json(self) -> bytes:
        """The record as one line of JSON, without the line's end."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, line: str | bytes) -> JournalRecord:
        """Read a line of `to_json`.

        Raises:
            ValueError: the line is not a record.
        """
        return _RECORDS.decode(line)


_RECORDS = msgspec.json.Decoder(JournalRecord)
