"""A teacher's answer: its text, why the text ended, the tokens that were used, and the log-probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["COMPLETE", "TRUNCATED", "TeacherAnswer", "TokenLogprob", "Usage"]

#: Two finish reasons by one name, whatever the provider calls them.
COMPLETE, TRUNCATED = "stop", "length"


@dataclass(frozen=True)
class TokenLogprob:
    """A token that the teacher could have written at one position of its answer.

    Attributes:
        token: the token as text. If the token is only a part of a character, the text is a replacement character.
        logprob: natural logarithm of the token's probability, as the provider gives it; nothing is renormalised.
        bytes: the token in UTF-8. The bytes are exact even where `token` is a replacement character.
    """

    token: str
    logprob: float
    bytes: tuple[int, ...]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> TokenLogprob:
        """Read a token from a provider's JSON. If the JSON gives no bytes, the token's text is encoded."""
        raw = entry.get("bytes")
        as_bytes = entry["token"].encode() if raw is None else bytes(raw)
        return cls(token=entry["token"], logprob=float(entry["logprob"]), bytes=tuple(as_bytes))


@dataclass(frozen=True)
class Usage:
    """Tokens that a provider charges for. Usages can be added and subtracted.

    Attributes:
        input_tokens: the whole prompt, including the system prompt and the tokens that came from a cache.
        output_tokens: what the teacher wrote, including hidden reasoning.
        cached_input_tokens: the part of the input that was read from the provider's cache.
        cache_write_tokens: the part of the input that was written into the cache (Anthropic charges more for it).

    Example:
        >>> dh.api.Usage(input_tokens=200, output_tokens=3) + dh.api.Usage(input_tokens=180, output_tokens=2)
        Usage(input_tokens=380, output_tokens=5, cached_input_tokens=0, cache_write_tokens=0)
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
    """One answer of a teacher.

    Attributes:
        text: the answer, without a reasoning model's thoughts.
        finish_reason: why the text ended: `COMPLETE`, `TRUNCATED`, "refusal", "content_filter", or the provider's own
            word.
        model: the model's name as the server reports it, which may be more exact than the name that was asked for.
        usage: the tokens that the provider charges for.
        top_logprobs: for each position of the answer, the likeliest tokens, the likeliest first; empty if the provider
            gave no log-probabilities.

    Example:
        >>> answer = dh.api.TeacherAnswer("Mac", "stop", "gpt-4o-mini", dh.api.Usage(200, 1))
        >>> answer
        TeacherAnswer(3 characters, finish_reason='stop', model='gpt-4o-mini', 200 + 1 tokens)
        >>> answer.usable
        True
    """

    text: str
    finish_reason: str
    model: str
    usage: Usage = field(default_factory=Usage)
    top_logprobs: tuple[tuple[TokenLogprob, ...], ...] = ()

    def __repr__(self) -> str:
        logprobs = f", log-probabilities at {len(self.top_logprobs)} positions" if self.top_logprobs else ""
        return (
            f"TeacherAnswer({len(self.text)} characters, finish_reason={self.finish_reason!r}, model={self.model!r},"
            f" {self.usage.input_tokens} + {self.usage.output_tokens} tokens{logprobs})"
        )

    @property
    def usable(self) -> bool:
        """Whether a student may learn from the text: the answer is complete, not a refusal, and not empty."""
        return self.finish_reason == COMPLETE and bool(self.text.strip())
