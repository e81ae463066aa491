"""The reason that a server gives for a refusal: its code, type and parameter, and never its message.

A server's message may quote the customer's text or the key. The codes and names of parameters are words of the API, so
they can be kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["ServerReason", "server_reason"]

#: What a code, a type or a parameter may look like. A sentence, or anything as long as a key, is left out.
_WORD = re.compile(r"[A-Za-z_][\w.\-\[\]]{0,47}", re.ASCII)
_KEY = re.compile(r"(?i)\b(?:sk|pk|key|api|bearer|token)[-_].*\d")
#: Fields whose names are everyday words in messages, and fields that differ from request to request.
_NOT_IN_MESSAGES = frozenset({"messages", "system", "model", "n", "stop", "user", "seed"})


class ServerReason(NamedTuple):
    """Why a server refuses a request, in the words of the API.

    Attributes:
        code: the server's code or, if it gives none, its type, such as "unsupported_parameter".
        param: the parameter that the server names, such as "max_completion_tokens". If the body has no field for it,
            the one parameter of the request that the message names.
    """

    code: str | None = None
    param: str | None = None


def server_reason(body: Any, request: Mapping[str, Any]) -> ServerReason:
    """Read the reason from an error's body, in any of the shapes that servers use.

    Words that occur in the request's messages are left out, since a server may quote them.

    Args:
        body: the decoded body, or its field "error"; None or text gives no reason.
        request: the body that was sent.

    Example:
        >>> from distill_helpers.api.teachers.server_reasons import server_reason
        >>> body = {"error": {"code": "unsupported_parameter", "param": "max_tokens", "message": "secret"}}
        >>> server_reason(body, {"max_tokens": 5, "messages": []})
        ServerReason(code='unsupported_parameter', param='max_tokens')
    """
    prompt = repr([request.get("messages"), request.get("system")])
    code = param = None
    messages: list[str] = []
    for entry in _entries(body):
        code = code or _word(entry.get("code"), prompt) or _word(entry.get("type"), prompt)
        param = param or _param(entry, request, prompt)
        messages += [text for name in ("message", "msg") if isinstance(text := entry.get(name), str)]
    if param is None:
        fields = [name for name in request if name not in _NOT_IN_MESSAGES]
        named = {name for name in fields for text in messages if _mentions(text, name) and not _mentions(prompt, name)}
        param = named.pop() if len(named) == 1 else None
    return ServerReason(code, param)


def _entries(body: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """The objects of an error's body that may hold a reason, the innermost first."""
    if isinstance(body, list):
        for part in body[:8]:
            yield from _entries(part, depth)
    if isinstance(body, Mapping) and depth < 4:
        for name in ("error", "detail", "message"):
            yield from _entries(body.get(name), depth + 1)
        if body.get("type") != "error":  # Anthropic's envelope
            yield body


def _param(entry: Mapping[str, Any], request: Mapping[str, Any], prompt: str) -> str | None:
    given = entry.get("param")
    if given is None and isinstance(place := entry.get("loc"), list):  # pydantic: ["body", "max_tokens"]
        given = ".".join(str(part) for part in place if part != "body")
    return given if isinstance(given, str) and given in request else _word(given, prompt)


def _word(value: Any, prompt: str) -> str | None:
    """A word of the API; None for anything else."""
    if not isinstance(value, str) or not _WORD.fullmatch(value) or _KEY.search(value):
        return None
    return None if _mentions(prompt, value) else value


def _mentions(text: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None
