"""A teacher's answer: its text, why the text ended, the tokens that were used, and the log-probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["COMPLETE", "IMPOSSIBLE", "TRUNCATED", "TeacherAnswer", "TokenLogprob", "Usage"]

#: Two finish reasons by one name, whatever the provider calls them.
COMPLETE, TRUNCATED = "stop", "length"

#: The log-probability of a token that can't be written, as OpenAI writes it. Its exponential is 0.
IMPOSSIBLE = -9999.0


@dataclass(frozen=True)
class TokenLogprob:
    """A token that the teacher could have written at one position of its answer.

    Attributes:
        token: the token as text. If the token is only a part of a character, the text is a replacement character.
        logprob: natural logarithm of the token's probability, as the provider gives it; nothing is renormalised. `of`
            reads −∞ as `IMPOSSIBLE`, since JSON has no infinity.
        bytes: the token in UTF-8. The bytes are exact even where `token` is a replacement character.
    """

    token: str
    logprob: float
    bytes: tuple[int, ...]

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> TokenLogprob:
        """Read a token from a provider's JSON. If the JSON gives no bytes, the token's text is encoded.

        Raises:
            KeyError: there is no token or no log-probability.
            TypeError, ValueError: the log-probability is not a number, or the bytes are not bytes.
        """
        raw, logprob = entry.get("bytes"), entry["logprob"]
        if isinstance(logprob, bool) or not isinstance(logprob, int | float):
            raise TypeError(f"a log-probability must be a number, got {type(logprob).__name__}")
        if raw is not None and not isinstance(raw, list | tuple):
            raise TypeError(f"a token's bytes must be a list, got {type(raw).__name__}")
        as_bytes = entry["token"].encode() if raw is None else bytes(raw)
        return cls(token=entry["token"], logprob=max(float(logprob), IMPOSSIBLE), bytes=tuple(as_bytes))


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
            word. "no finish reason" and "unreadable log-probabilities" say what was wrong with the server's response.
        model: the model's name as the server reports it, which may be more exact than the name that was asked for.
        usage: the tokens that the provider charges for.
        top_logprobs: for each position of the answer, the likeliest tokens, the likeliest first; empty if the provider
            gave no log-probabilities.
        usage_reported: False if the server did not say how many tokens it used. The collector then puts an upper bound
            into `usage`, and charges it.

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
    usage_reported: bool = True

    def __repr__(self) -> str:
        logprobs = f", log-probabilities at {len(self.top_logprobs)} positions" if self.top_logprobs else ""
        bound = "" if self.usage_reported else "at most "
        return (
            f"TeacherAnswer({len(self.text)} characters, finish_reason={self.finish_reason!r}, model={self.model!r},"
            f" {bound}{self.usage.input_tokens} + {self.usage.output_tokens} tokens{logprobs})"
        )

    @property
    def usable(self) -> bool:
        """Whether a student may learn from the text: the answer is complete, not a refusal, and not empty."""
        return self.finish_reason == COMPLETE and bool(self.text.strip())

    @property
    def set_aside_reason(self) -> str:
        """Why a student may not learn from the text: "empty", or else the finish reason; "" if it may."""
        if self.usable:
            return ""
        return "empty" if self.finish_reason == COMPLETE else self.finish_reason
