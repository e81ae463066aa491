"""The records of a journal: what became of one request, and the key that says what was asked."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from distill_helpers.api.teachers.answers import TeacherAnswer, Usage

__all__ = [
    "INTERRUPTED",
    "Failure",
    "JournalRecord",
    "UnreadableRecordError",
    "is_interruption",
    "read_quickly",
    "request_key",
    "utc_now",
]

#: The cause of a call that was under way when its run was interrupted.
INTERRUPTED = "Interrupted"


#: Fields of a request that a record leaves out. "messages" holds the input again, and both are part of the key.
_PROMPT = ("messages", "system")
_NOTHING = Usage()


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
        code: the server's own reason, a code or a type such as "unsupported_parameter"; None if it gave none. The
            server's message is never kept, since it may quote the text or the key.
        param: the parameter that the server named; None if it named none.
    """

    cause: str
    status: int | None = None
    code: str | None = None
    param: str | None = None

    @property
    def name(self) -> str:
        """All of it, such as "BadRequestError 400 (unsupported_parameter: max_tokens)"."""
        name = self.cause if self.status is None else f"{self.cause} {self.status}"
        reason = ": ".join(part for part in (self.code, self.param) if part is not None)
        return f"{name} ({reason})" if reason else name


class UnreadableRecordError(ValueError):
    """A record that a journal's reader would refuse, so that it must not be written."""


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
        lost_usage: an upper bound of the tokens of attempts that the provider may have charged, although their answers
            did not arrive or could not be read.

    Raises:
        ValueError: both an answer and a failure, or neither; a negative count.

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
    lost_usage: Usage = _NOTHING

    def __post_init__(self) -> None:
        if (self.answer is None) == (self.failure is None):
            raise ValueError("a record holds an answer or a failure, and not both")
        used, lost = self.lost_usage if self.answer is None else self.answer.usage, self.lost_usage
        if self.sample < 0 or min(used.input_tokens, used.output_tokens, lost.input_tokens, lost.output_tokens) < 0:
            raise ValueError("a record's sample and its counts of tokens must be 0 or more")

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
        lost_usage: Usage = _NOTHING,
    ) -> JournalRecord:
        """The record of a request that has just ended.

        Args:
            request: the body that was sent.
            input_text: the text that the request asks about.
            outcome: the answer, or the failure.
            sample: the number of the sample, from 0.
            batch: whether the request went through the provider's batch API.
            lost_usage: an upper bound of what attempts may have cost whose answers were lost.
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
            lost_usage=lost_usage,
        )

    def to_json(self) -> bytes:
        """The record as one line of JSON, without the line's end.

        Raises:
            UnreadableRecordError: `from_json` could not read the line: a log-probability is not finite, a text holds
                half a surrogate pair, or a field has another type than it should.
        """
        try:
            line = msgspec.json.encode(self)
            _RECORDS.decode(line)
        except (ValueError, TypeError, OverflowError) as error:
            why = str(error) if isinstance(error, msgspec.ValidationError) else type(error).__name__
            # The cause may quote the text.
            raise UnreadableRecordError(f"the record {self.key[:8]}… could not be read again: {why}") from None
        return line

    @classmethod
    def from_json(cls, line: str | bytes) -> JournalRecord:
        """Read a line of `to_json`.

        Raises:
            ValueError: the line is not a record.
        """
        return _RECORDS.decode(line)


_RECORDS = msgspec.json.Decoder(JournalRecord)


def is_interruption(record: Any) -> bool:
    """Whether a record only says what an interrupted call may have cost. Such a request is still to be asked.

    Args:
        record: a `JournalRecord`, or what `read_quickly` makes of its line.
    """
    return record.failure is not None and record.failure.cause == INTERRUPTED


def _quick(kind: Any) -> Any:
    """The type of a field, with msgspec's own structures in place of data classes, which take five times as long."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _quick_structure(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return functools.reduce(operator.or_, map(_quick, arguments))
    return origin[tuple(map(_quick, arguments))] if origin is tuple else kind


def _quick_structure(kind: type[Any]) -> type[msgspec.Struct]:
    types = get_type_hints(kind)
    fields: list[Any] = []
    for field in dataclasses.fields(kind):
        default = [] if field.default is dataclasses.MISSING else [field.default]
        if field.default_factory is not dataclasses.MISSING:
            default = [msgspec.field(default_factory=field.default_factory)]
        fields.append((field.name, _quick(types[field.name]), *default))
    checks = {name: vars(kind)[name] for name in ("__post_init__",) if name in vars(kind)}
    return msgspec.defstruct(kind.__name__, fields, namespace=checks)


#: Reads a line into an object with the attributes of a `JournalRecord`. It refuses the same lines as
#: `JournalRecord.from_json`, since it is made from the same fields and checks, and is quick enough for a whole journal.
read_quickly: Callable[[bytes], Any] = msgspec.json.Decoder(_quick(JournalRecord)).decode
