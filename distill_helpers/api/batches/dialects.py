"""The batch files of OpenAI and Anthropic: what a request and a result look like, and how large a file may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from distill_helpers.api.journal.records import Failure
from distill_helpers.api.teachers.answers import TeacherAnswer
from distill_helpers.api.teachers.connection import MalformedAnswerError
from distill_helpers.api.teachers.providers import AnthropicTeacher, OpenAITeacher
from distill_helpers.api.teachers.server_reasons import server_reason
from distill_helpers.api.teachers.teacher import Teacher

__all__ = ["ENVELOPE", "BatchDialect", "NotAsked", "batch_dialect"]

#: Bytes around the requests of a batch that are sent as one object.
ENVELOPE = len('{"requests": []}')


class NotAsked(NamedTuple):
    """A request that the provider did not process: there is neither an answer nor a failure.

    Attributes:
        why: "expired" or "canceled".
    """

    why: str


_Outcome = TeacherAnswer | Failure | NotAsked


@dataclass(frozen=True)
class BatchDialect:
    """A provider's limits for one batch, and how its files write a request and a result.

    Attributes:
        max_requests: limit of one batch.
        max_bytes: limit of one batch.
        line: makes a request's line from its key and body.
        body: the name of the line's field that holds the body.
        outcome: reads a line of results from the line, the teacher and the request's body. It raises `KeyError` for a
            line of another provider. A line that is odd in any other way is a failure of its request alone.
    """

    max_requests: int
    max_bytes: int
    line: Callable[[str, Mapping[str, Any]], dict[str, Any]]
    body: str
    outcome: Callable[[Mapping[str, Any], Teacher, Mapping[str, Any]], TeacherAnswer | Failure | NotAsked]


def _openai_line(key: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}


def _openai_outcome(line: Mapping[str, Any], teacher: Teacher, request: Mapping[str, Any]) -> _Outcome:
    error, response = line["error"], line["response"]
    if error:
        code = error.get("code") if isinstance(error, Mapping) else None
        if isinstance(code, str) and code in _NOT_ASKED:
            return _NOT_ASKED[code]
        return Failure(server_reason(error, request).code or "APIError")
    status = response.get("status_code") if isinstance(response, Mapping) else None
    if status == 200:
        return _answer(response.get("body"), teacher, request)
    if isinstance(status, bool) or not isinstance(status, int):
        return Failure(MalformedAnswerError.__name__)
    reason = server_reason(response.get("body"), request)
    cause = _CAUSES.get(status, "InternalServerError" if status >= 500 else "APIStatusError")
    return Failure(cause, status, reason.code, reason.param)


def _anthropic_line(key: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"custom_id": key, "params": body}


def _anthropic_outcome(line: Mapping[str, Any], teacher: Teacher, request: Mapping[str, Any]) -> _Outcome:
    result = line["result"]
    kind = result.get("type") if isinstance(result, Mapping) else None
    if kind == "succeeded":
        return _answer(result.get("message"), teacher, request)
    if kind == "errored":
        code, param = server_reason(result.get("error"), request)
        status = _ANTHROPIC_STATUS.get(code or "")
        if status is None:
            return Failure(code or "APIError", param=param)
        return Failure(_CAUSES.get(status, "InternalServerError"), status, code, param)
    return _NOT_ASKED[kind] if isinstance(kind, str) and kind in _NOT_ASKED else Failure(MalformedAnswerError.__name__)


def _answer(body: Any, teacher: Teacher, request: Mapping[str, Any]) -> TeacherAnswer | Failure:
    try:
        if not isinstance(body, Mapping):
            raise MalformedAnswerError("the body is not an object")
        return teacher.read(body)
    except MalformedAnswerError as error:
        reason = server_reason(error.body, request)
        return Failure(type(error).__name__, None, reason.code, reason.param)


#: The exception that a live call raises for each status, in both SDKs.
_CAUSES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
}
_ANTHROPIC_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "api_error": 500,
}
_EXPIRED, _CANCELED = NotAsked("expired"), NotAsked("canceled")
_NOT_ASKED = {
    "batch_expired": _EXPIRED,
    "batch_cancelled": _CANCELED,
    "expired": _EXPIRED,
    "canceled": _CANCELED,
}
# Sources of the limits: openai.types.batch_create_params, and
# platform.claude.com/docs/en/build-with-claude/batch-processing. A key has 64 characters, which is as many as Anthropic
# allows for a custom_id.
_OPENAI = BatchDialect(50_000, 200_000_000, _openai_line, "body", _openai_outcome)
_ANTHROPIC = BatchDialect(100_000, 256_000_000, _anthropic_line, "params", _anthropic_outcome)


def batch_dialect(teacher: Teacher) -> BatchDialect:
    """The batch dialect of a teacher's provider.

    Raises:
        ValueError: the teacher is neither an `OpenAITeacher` nor an `AnthropicTeacher`.
    """
    if isinstance(teacher, OpenAITeacher):
        return _OPENAI
    if isinstance(teacher, AnthropicTeacher):
        return _ANTHROPIC
    raise ValueError(f"no batch API is known for a {type(teacher).__name__}; collect live, or use a provider's teacher")
