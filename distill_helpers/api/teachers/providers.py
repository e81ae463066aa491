"""Teachers behind an API: OpenAI's and Anthropic's dialects, through the providers' own SDKs.

A teacher turns a text into a *request*, the JSON body that its provider expects, and a response into a `TeacherAnswer`.
The same body goes into a live call and into a file of the provider's batch API, and its hash is the answer's key in the
journal. `base_url` sends the calls to any compatible server: vLLM, Ollama, llama.cpp, the course's own local one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import anthropic
import openai

from distill_helpers.api.teachers.answers import COMPLETE, TRUNCATED, TeacherAnswer, TokenLogprob, Usage
from distill_helpers.api.teachers.connection import MalformedAnswerError, SDKConnection

__all__ = ["AnthropicTeacher", "OpenAITeacher", "Teacher", "make_teacher"]


class Teacher(Protocol):
    """What the collector asks of a teacher; write your own for a third dialect."""

    model: str
    #: What `ask` raises when one request fails: recorded, and the next one is asked. Anything else ends the collection.
    failures: tuple[type[Exception], ...]

    def request(self, text: str) -> dict[str, Any]:
        """The body of the call that asks about a text: JSON, the same for the same text."""

    async def ask(self, request: Mapping[str, Any]) -> TeacherAnswer:
        """Send a request; raises `failures`."""

    def read(self, response: Mapping[str, Any]) -> TeacherAnswer:
        """The answer in a response's body; raises `MalformedAnswerError`."""

    async def close(self) -> None:
        """Close the connections; another request opens new ones."""


class OpenAITeacher:
    """A teacher that speaks OpenAI's Chat Completions, with log-probabilities where the model gives them.

    Args:
        model: its name at the provider.
        system_prompt: sent before each text; nothing is sent where it is empty.
        examples: (text, answer) pairs that are sent before each text as earlier turns: few-shot examples.
        temperature: None leaves it out, which reasoning models demand.
        max_tokens: of an answer, reasoning included; sent as `max_completion_tokens`.
        top_logprobs: how many of the likeliest tokens to return at each position, 1 to 20; None asks for none.
        parameters: more of the body, such as `{"seed": 0}`.
        api_key: default the environment's `OPENAI_API_KEY`; any word for a local server.
        base_url: of a compatible server; default OpenAI's.
        timeout_s: of one attempt.
        max_retries: of a failing call; the SDK waits as `retry-after` says, up to two minutes, else ever longer.

    Raises:
        ValueError: a number outside its range, an empty example.
        openai.OpenAIError: no key.
    """

    failures: tuple[type[Exception], ...] = (openai.APIError, MalformedAnswerError)

    def __init__(
        self,
        model: str,
        system_prompt: str = "",
        temperature: float | None = 0.0,
        max_tokens: int = 1024,
        *,
        examples: Sequence[tuple[str, str]] = (),
        top_logprobs: int | None = None,
        parameters: Mapping[str, Any] | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_s: float = 60.0,
        max_retries: int = 5,
    ) -> None:
        _check_numbers(temperature, 2.0, max_tokens, timeout_s, max_retries)
        if top_logprobs is not None and not 1 <= top_logprobs <= 20:
            raise ValueError(f"top_logprobs must be 1 to 20 or None, got {top_logprobs}")
        self.model = model
        self._messages = [{"role": "system", "content": system_prompt}] if system_prompt else []
        self._messages += _turns(examples)
        self._body: dict[str, Any] = {"model": model, "max_completion_tokens": max_tokens, **(parameters or {})}
        if temperature is not None:
            self._body["temperature"] = temperature
        if top_logprobs is not None:
            self._body |= {"logprobs": True, "top_logprobs": top_logprobs}
        self._connection = SDKConnection(
            partial(openai.AsyncOpenAI, api_key=api_key, base_url=base_url, timeout=timeout_s, max_retries=max_retries),
            openai.DefaultAioHttpClient,
        )

    def request(self, text: str) -> dict[str, Any]:
        return {**self._body, "messages": [*self._messages, {"role": "user", "content": text}]}

    async def ask(self, request: Mapping[str, Any]) -> TeacherAnswer:
        return self.read(await self._connection.post("/chat/completions", request))

    def read(self, response: Mapping[str, Any]) -> TeacherAnswer:
        with _documented_shape("OpenAI"):
            choice = response["choices"][0]
            message, usage = choice["message"], response.get("usage") or {}
            details = usage.get("prompt_tokens_details") or {}
            refused = message.get("refusal")
            logprobs = (choice.get("logprobs") or {}).get("content") or []
            return TeacherAnswer(
                text=message.get("content") or "",
                finish_reason="refusal" if refused else choice["finish_reason"],
                model=response["model"],
                usage=Usage(
                    input_tokens=usage.get("prompt_tokens", 0),
                    output_tokens=usage.get("completion_tokens", 0),
                    cached_input_tokens=details.get("cached_tokens") or 0,
                    cache_write_tokens=details.get("cache_write_tokens") or 0,
                ),
                top_logprobs=tuple(
                    tuple(TokenLogprob.of(entry) for entry in place["top_logprobs"]) for place in logprobs
                ),
            )

    async def close(self) -> None:
        await self._connection.close()


class AnthropicTeacher:
    """A teacher that speaks Anthropic's Messages. It gives no log-probabilities: sample several answers instead.

    Args:
        model: its name at the provider.
        system_prompt: sent beside each text; nothing is sent where it is empty.
        examples: (text, answer) pairs that are sent before each text as earlier turns: few-shot examples.
        temperature: 0 to 1; None leaves it out, which the newer models demand.
        max_tokens: of an answer, thinking included.
        parameters: more of the body.
        api_key: default the environment's `ANTHROPIC_API_KEY`; any word for a local server.
        base_url: of a compatible server; default Anthropic's.
        timeout_s: of one attempt.
        max_retries: of a failing call; the SDK waits as `retry-after` says, else ever longer.

    Raises:
        ValueError: a number outside its range, an empty example.
    """

    failures: tuple[type[Exception], ...] = (anthropic.APIError, MalformedAnswerError)

    def __init__(
        self,
        model: str,
        system_prompt: str = "",
        temperature: float | None = None,
        max_tokens: int = 1024,
        *,
        examples: Sequence[tuple[str, str]] = (),
        parameters: Mapping[str, Any] | None = None,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout_s: float = 60.0,
        max_retries: int = 5,
    ) -> None:
        _check_numbers(temperature, 1.0, max_tokens, timeout_s, max_retries)
        self.model = model
        self._messages = _turns(examples)
        self._body: dict[str, Any] = {"model": model, "max_tokens": max_tokens, **(parameters or {})}
        if system_prompt:
            self._body["system"] = system_prompt
        if temperature is not None:
            self._body["temperature"] = temperature
        self._connection = SDKConnection(
            partial(
                anthropic.AsyncAnthropic, api_key=api_key, base_url=base_url, timeout=timeout_s, max_retries=max_retries
            ),
            anthropic.DefaultAioHttpClient,
        )

    def request(self, text: str) -> dict[str, Any]:
        return {**self._body, "messages": [*self._messages, {"role": "user", "content": text}]}

    async def ask(self, request: Mapping[str, Any]) -> TeacherAnswer:
        return self.read(await self._connection.post("/v1/messages", request))

    def read(self, response: Mapping[str, Any]) -> TeacherAnswer:
        with _documented_shape("Anthropic"):
            usage = response.get("usage") or {}
            read, written = (usage.get(f"cache_{kind}_input_tokens") or 0 for kind in ("read", "creation"))
            stop = response["stop_reason"]
            return TeacherAnswer(
                # A thinking block comes first where there is one: only the text blocks are the answer.
                text="".join(block["text"] for block in response["content"] if block["type"] == "text"),
                finish_reason=_ANTHROPIC_REASONS.get(stop, stop),
                model=response["model"],
                usage=Usage(
                    # Anthropic counts what came from the cache and went into it apart from the rest.
                    input_tokens=usage.get("input_tokens", 0) + read + written,
                    output_tokens=usage.get("output_tokens", 0),
                    cached_input_tokens=read,
                    cache_write_tokens=written,
                ),
            )

    async def close(self) -> None:
        await self._connection.close()


_ANTHROPIC_REASONS = {
    "end_turn": COMPLETE,
    "stop_sequence": COMPLETE,
    "max_tokens": TRUNCATED,
    "model_context_window_exceeded": TRUNCATED,
}


def make_teacher(provider: str, model: str, **options: Any) -> OpenAITeacher | AnthropicTeacher:
    """The teacher of a provider by name, "openai" or "anthropic".

    Raises:
        ValueError: another provider.
    """
    teachers: dict[str, type[OpenAITeacher] | type[AnthropicTeacher]] = {
        "openai": OpenAITeacher,
        "anthropic": AnthropicTeacher,
    }
    if provider not in teachers:
        raise ValueError(
            f"unknown provider {provider!r}: choose one of {sorted(teachers)}; a compatible server of another name is"
            ' reached with "openai" and its base_url'
        )
    return teachers[provider](model, **options)


def _turns(examples: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    for row, pair in enumerate(examples):
        if len(pair) != 2 or not all(isinstance(part, str) and part.strip() for part in pair):
            raise ValueError(f"example {row} must be a text and an answer, neither of them empty")
    roles = ("user", "assistant")
    return [{"role": role, "content": part} for pair in examples for role, part in zip(roles, pair, strict=True)]


def _check_numbers(
    temperature: float | None, highest: float, max_tokens: int, timeout_s: float, max_retries: int
) -> None:
    if temperature is not None and not 0 <= temperature <= highest:
        raise ValueError(f"temperature must be 0 to {highest:g} or None, got {temperature}")
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
    if not timeout_s > 0:
        raise ValueError(f"timeout_s must be above 0, got {timeout_s}")
    if max_retries < 0:
        raise ValueError(f"max_retries must be 0 or more, got {max_retries}")


@contextlib.contextmanager
def _documented_shape(provider: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise MalformedAnswerError(f"the response is not as {provider} documents it ({type(error).__name__})") from None
