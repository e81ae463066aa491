"""What a teacher behind an API says: text, why it ended, tokens used, and the log-probabilities it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["COMPLETE", "TRUNCATED", "TeacherAnswer", "TokenLogprob", "Usage"]

#: The finish reasons that the package acts on; a provider's other ones are kept as they come.
COMPLETE, TRUNCATED = "stop", "length"


@dataclass(frozen=True)
class TokenLogprob:
    """A token that the teacher could have written at one position.

    Attributes:
        token: as text; a token that is a part of a character shows as a replacement sign.
        logprob: natural logarithm of its probability; nothing is renormalised.
        bytes: its UTF-8 bytes, exact where `token` is not.
    """

    token: str
    logprob: float
    bytes: tuple[int, ...]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> TokenLogprob:
        """From a provider's JSON or a journal's; where it gives no bytes they are those of the text."""
        raw = entry.get("bytes")
        as_bytes = entry["token"].encode() if raw is None else bytes(raw)
        return cls(token=entry["token"], logprob=float(entry["logprob"]), bytes=tuple(as_bytes))


@dataclass(frozen=True)
class Usage:
    """Tokens that a provider charges for.

    Attributes:
        input_tokens: all of the prompt, the system prompt and what came from a cache included.
        output_tokens: written, hidden reasoning included.
        cached_input_tokens: those of the input that were read from the provider's cache.
        cache_write_tokens: those of the input that were written into it (Anthropic charges more for them).
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return self._plus(other, 1)

    def __sub__(self, other: Usage) -> Usage:
        return self._plus(other, -1)

    def _plus(self, other: Usage, sign: int) -> Usage:
        return Usage(
            self.input_tokens + sign * other.input_tokens,
            self.output_tokens + sign * other.output_tokens,
            self.cached_input_tokens + sign * other.cached_input_tokens,
            self.cache_write_tokens + sign * other.cache_write_tokens,
        )


@dataclass(frozen=True)
class TeacherAnswer:
    """One answer.

    Attributes:
        text: without a reasoning model's thoughts.
        finish_reason: `COMPLETE`, `TRUNCATED`, "refusal", "content_filter", or the provider's own word.
        model: as the server names it, which may be more exact than what was asked for.
        usage: tokens.
        top_logprobs: for each position of the answer the likeliest tokens, likeliest first; empty without.
    """

    text: str
    finish_reason: str
    model: str
    usage: Usage = field(default_factory=Usage)
    top_logprobs: tuple[tuple[TokenLogprob, ...], ...] = ()

    @property
    def usable(self) -> bool:
        """Whether the text may be learned from: complete, not refused, not empty."""
        return self.finish_reason == COMPLETE and bool(self.text.strip())
