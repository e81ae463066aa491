"""From a server's JSON to an answer, whatever the server sends.

Compatible servers leave fields out, send null, or write a text in parts. What can be used becomes an answer. What
nobody should learn from gets a finish reason that says why, and is set aside later. The rest is a
`MalformedAnswerError`, which the collector records as a failure. An answer that was paid for is never lost or asked
again because of an odd field:

* a missing or odd count of tokens: `usage_reported` is False, and the collector charges the upper bound;
* a missing finish reason: `UNKNOWN_REASON`, since the text may be cut off;
* log-probabilities that were asked for and are no logarithms of probabilities: `BAD_LOGPROBS`;
* a missing model: the name that was asked for;
* half a surrogate pair in any text: the replacement character U+FFFD.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from distill_helpers.api.teachers.answers import COMPLETE, TRUNCATED, TeacherAnswer, TokenLogprob, Usage
from distill_helpers.api.teachers.connection import MalformedAnswerError

__all__ = ["BAD_LOGPROBS", "UNKNOWN_REASON", "read_anthropic", "read_openai"]

#: Finish reasons of answers that are set aside because of what the server sent.
UNKNOWN_REASON, BAD_LOGPROBS = "no finish reason", "unreadable log-probabilities"

#: No answer has more tokens. Larger counts are not counts, and JSON's readers disagree about them.
_MOST_TOKENS = 2**40
#: Other servers' words for the two finish reasons.
_REASONS = {
    "end_turn": COMPLETE,
    "stop_sequence": COMPLETE,
    "eos": COMPLETE,
    "eos_token": COMPLETE,
    "max_tokens": TRUNCATED,
    "model_length": TRUNCATED,
    "model_context_window_exceeded": TRUNCATED,
}


def read_openai(response: Mapping[str, Any], model: str, *, logprobs_asked: bool) -> TeacherAnswer:
    """Read an answer in OpenAI's dialect. Of several choices, the first is the answer.

    Args:
        response: the body.
        model: the name that was asked for.
        logprobs_asked: whether the request asked for log-probabilities. Others are left out if they can't be read.

    Raises:
        MalformedAnswerError: there is no choice with a message, or its content is not a text.
    """
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices:
        raise _malformed(response, "choices", "a list with an answer")
    choice = choices[0]
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(message, Mapping):
        raise _malformed(response, "choices[0].message", "an object")
    text, refused = _text_of_parts(message.get("content"), response, "choices[0].message.content")
    reason = "refusal" if refused or message.get("refusal") else _finish_reason(choice.get("finish_reason"))
    places = _logprobs(choice.get("logprobs"))
    if places is None and logprobs_asked and reason in (COMPLETE, TRUNCATED):
        reason = BAD_LOGPROBS
    return _answer(text, reason, response, model, _openai_usage(response.get("usage")), places or ())


def read_anthropic(response: Mapping[str, Any], model: str) -> TeacherAnswer:
    """Read an answer in Anthropic's dialect.

    If the model thinks, a thinking block comes first: only the text blocks are the answer.

    Args:
        response: the body.
        model: the name that was asked for.

    Raises:
        MalformedAnswerError: there is no content, or a text block without a text.
    """
    if response.get("content") is None and response.get("stop_reason") is None:
        raise _malformed(response, "content", "a list of blocks")
    text, refused = _text_of_parts(response.get("content"), response, "content")
    reason = "refusal" if refused else _finish_reason(response.get("stop_reason"))
    return _answer(text, reason, response, model, _anthropic_usage(response.get("usage")), ())


def _answer(
    text: str,
    reason: str,
    response: Mapping[str, Any],
    model: str,
    usage: Usage | None,
    places: tuple[tuple[TokenLogprob, ...], ...],
) -> TeacherAnswer:
    reported = response.get("model")
    return TeacherAnswer(
        text=text,
        finish_reason=reason,
        model=_clean(reported) if isinstance(reported, str) and reported.strip() else model,
        usage=usage or Usage(),
        top_logprobs=places,
        usage_reported=usage is not None,
    )


def _text_of_parts(content: Any, response: Mapping[str, Any], place: str) -> tuple[str, bool]:
    """The text of a content that is a text, null, or a list of parts; and whether a part is a refusal."""
    if content is None or isinstance(content, str):
        return _clean(content or ""), False
    if not isinstance(content, list):
        raise _malformed(response, place, "a text or a list of parts")
    texts, refused = [], False
    for number, part in enumerate(content):
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type", "text") if isinstance(part, Mapping) else None
        refused = refused or kind == "refusal"
        if kind in ("text", "output_text"):
            if not isinstance(part.get("text"), str):
                raise _malformed(response, f"{place}[{number}].text", "a text")
            texts.append(part["text"])
        elif not isinstance(kind, str):
            raise _malformed(response, f"{place}[{number}]", "an object with a type")
    return _clean("".join(texts)), refused


def _finish_reason(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        return UNKNOWN_REASON
    return _REASONS.get(value, _clean(value))


def _clean(text: str) -> str:
    """The text, with U+FFFD in place of each half of a surrogate pair: UTF-8 and the journal have no place for one."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _malformed(response: Mapping[str, Any], place: str, expected: str) -> MalformedAnswerError:
    error = MalformedAnswerError(f"the response is not as the provider documents it: {place} is not {expected}")
    error.body = response if response.get("error") else None  # some servers send an error with status 200
    return error


def _openai_usage(usage: Any) -> Usage | None:
    """None if a count is missing, or is no count."""
    if not isinstance(usage, Mapping):
        return None
    details = usage.get("prompt_tokens_details")
    details = details if isinstance(details, Mapping) else {}
    read, written = _count(details.get("cached_tokens") or 0), _count(details.get("cache_write_tokens") or 0)
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    if prompt is None or completion is None or read is None or written is None:
        return None
    return Usage(prompt, completion, read, written)


def _anthropic_usage(usage: Any) -> Usage | None:
    """None if a count is missing, or is no count."""
    if not isinstance(usage, Mapping):
        return None
    read = _count(usage.get("cache_read_input_tokens") or 0)
    written = _count(usage.get("cache_creation_input_tokens") or 0)
    prompt, completion = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
    if prompt is None or completion is None or read is None or written is None:
        return None
    # Anthropic's input_tokens leave out the tokens that were read from or written into the cache.
    return Usage(prompt + read + written, completion, read, written)


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_TOKENS:
        return None
    return value


def _logprobs(logprobs: Any) -> tuple[tuple[TokenLogprob, ...], ...] | None:
    """The likeliest tokens of each position; empty if the server sent none, None if they can't be read."""
    if logprobs is None:
        return ()
    places = logprobs.get("content") if isinstance(logprobs, Mapping) else logprobs
    if places is None:
        return ()
    try:
        return tuple(tuple(_token(entry) for entry in place["top_logprobs"] or ()) for place in places)
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _token(entry: Mapping[str, Any]) -> TokenLogprob:
    token = TokenLogprob.of({**entry, "token": _clean(_str(entry["token"]))})
    if math.isnan(token.logprob) or token.logprob > _ROUNDING:
        raise ValueError("not the logarithm of a probability")
    return token


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a token must be a text")
    return value


#: How far above 0 rounding may lift a log-probability.
_ROUNDING = 1e-3
