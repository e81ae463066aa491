"""Teachers behind an API: OpenAI's and Anthropic's dialects, through the providers' own SDKs.

A teacher turns a text into a *request*, the JSON body that its provider expects, and turns a response into a
`TeacherAnswer`. Live calls and files for the provider's batch API carry the same body, and the hash of that body is the
answer's key in the journal. `base_url` sends the calls to any compatible server: vLLM, Ollama, llama.cpp, or the
package's own `local_server`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from distill_helpers.api.teachers.answers import TeacherAnswer
from distill_helpers.api.teachers.connection import MalformedAnswerError, NoBudgetForRetryError, SDKConnection
from distill_helpers.api.teachers.reading import read_anthropic, read_openai

__all__ = ["AnthropicTeacher", "OpenAITeacher", "make_teacher"]


class _SDKTeacher(ABC):
    """What the teachers of both providers share: building a request, and sending it.

    Args:
        path: where the SDK posts requests.
        connection: the SDK's client.
        messages: what stands before each text: a system prompt, few-shot examples.
        body: the rest of each request; its "model" is the teacher's model.
    """

    failures: tuple[type[Exception], ...]

    def __init__(
        self, path: str, connection: SDKConnection, messages: Sequence[Mapping[str, str]], body: Mapping[str, Any]
    ) -> None:
        self.model: str = body["model"]
        self.failures = (connection.errors, MalformedAnswerError, NoBudgetForRetryError)
        self._path, self._connection, self._messages, self._body = path, connection, list(messages), dict(body)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"

    def request(self, text: str) -> dict[str, Any]:
        """The body of the call that asks about a text, as JSON. The same text always gives the same body."""
        return {**self._body, "messages": [*self._messages, {"role": "user", "content": text}]}

    async def ask(self, request: Mapping[str, Any]) -> TeacherAnswer:
        """Send a request and read the answer; raises `failures`."""
        return self.read(await self._connection.post(self._path, request))

    @abstractmethod
    def read(self, response: Mapping[str, Any]) -> TeacherAnswer:
        """Read the answer from a response's body; raises `MalformedAnswerError`."""

    async def close(self) -> None:
        """Close the connections. Another request opens new ones."""
        await self._connection.close()


class OpenAITeacher(_SDKTeacher):
    """A teacher that speaks OpenAI's Chat Completions, with log-probabilities if the model gives them.

        teacher = OpenAITeacher("gpt-4o-mini", "Name the queue.", max_tokens=5, top_logprobs=20)
        teacher.request("my screen stays black")["messages"]

    Args:
        model: the model's name at the provider.
        system_prompt: sent before each text; if it is empty, no system prompt is sent.
        temperature: None leaves the field out, which reasoning models demand.
        max_tokens: limit of an answer, reasoning included; sent as `max_completion_tokens`. For a compatible server
            that knows only `max_tokens`, pass `parameters={"max_tokens": 20}`, which then takes its place.
        examples: few-shot examples: (text, answer) pairs that are sent before each text as earlier turns.
        top_logprobs: how many of the likeliest tokens to return at each position, 1 to 20; None asks for none.
        parameters: further fields of the request, such as `{"seed": 0}`. They win over the arguments, and None leaves a
            field out: `{"temperature": None, "max_completion_tokens": None}`. Without any limit of an answer, no
            budget can be kept.
        api_key: default the environment's `OPENAI_API_KEY`. For a local server any word will do.
        base_url: address of a compatible server; default OpenAI's.
        timeout_s: limit of one attempt, in seconds.
        max_retries: how often a failing call is repeated. The SDK waits as `retry-after` says, up to two minutes;
            without this header each wait is longer than the last.

    Raises:
        ModuleNotFoundError: the SDK is not installed.
        ValueError: a number outside its range, an empty example, or a parameter that would make another kind of answer.
        openai.OpenAIError: there is no key.
    """

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
        system = [{"role": "system", "content": system_prompt}] if system_prompt else []
        # If you name the limit of an answer as compatible servers do, the other name would be refused or contradict it.
        limit = {} if (parameters or {}).get("max_tokens") is not None else {"max_completion_tokens": max_tokens}
        logprobs = {} if top_logprobs is None else {"logprobs": True, "top_logprobs": top_logprobs}
        body = _body({"model": model, **limit}, parameters, {"temperature": temperature, **logprobs})
        connection = SDKConnection(
            "openai", "AsyncOpenAI", api_key=api_key, base_url=base_url, timeout=timeout_s, max_retries=max_retries
        )
        super().__init__("/chat/completions", connection, [*system, *_turns(examples)], body)

    def read(self, response: Mapping[str, Any]) -> TeacherAnswer:
        """Read the answer from a response's body; raises `MalformedAnswerError`."""
        return read_openai(response, self.model, logprobs_asked=bool(self._body.get("logprobs")))


class AnthropicTeacher(_SDKTeacher):
    """A teacher that speaks Anthropic's Messages. It gives no log-probabilities: ask for several samples instead.

        teacher = AnthropicTeacher("claude-haiku-4-5", "Name the queue.", temperature=1.0, max_tokens=5)
        teacher.request("my screen stays black")["system"]

    Args:
        model: the model's name at the provider.
        system_prompt: sent beside each text; if it is empty, no system prompt is sent.
        temperature: 0 to 1; None leaves the field out, which the newer models demand.
        max_tokens: limit of an answer, thinking included.
        examples: few-shot examples: (text, answer) pairs that are sent before each text as earlier turns.
        parameters: further fields of the request. They win over the arguments, and None leaves a field out.
        api_key: default the environment's `ANTHROPIC_API_KEY`. For a local server any word will do.
        base_url: address of a compatible server; default Anthropic's.
        timeout_s: limit of one attempt, in seconds.
        max_retries: how often a failing call is repeated. The SDK waits as `retry-after` says; without this header each
            wait is longer than the last.

    Raises:
        ModuleNotFoundError: the SDK is not installed.
        ValueError: a number outside its range, an empty example, or a parameter that would make another kind of answer.
    """

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
        more = {"system": system_prompt or None, "temperature": temperature}
        body = _body({"model": model, "max_tokens": max_tokens}, parameters, more)
        connection = SDKConnection(
            "anthropic",
            "AsyncAnthropic",
            api_key=api_key,
            base_url=base_url,
            timeout=timeout_s,
            max_retries=max_retries,
        )
        super().__init__("/v1/messages", connection, _turns(examples), body)

    def read(self, response: Mapping[str, Any]) -> TeacherAnswer:
        """Read the answer from a response's body; raises `MalformedAnswerError`."""
        return read_anthropic(response, self.model)


def make_teacher(provider: str, model: str, **options: Any) -> OpenAITeacher | AnthropicTeacher:
    """Make a provider's teacher by name.

    Args:
        provider: "openai" or "anthropic".
        model: the model's name at the provider.
        **options: further arguments of `OpenAITeacher` or `AnthropicTeacher`.

    Raises:
        ModuleNotFoundError: the provider's SDK is not installed.
        ValueError: another provider, or an option outside its range.
    """
    teachers: dict[str, type[OpenAITeacher] | type[AnthropicTeacher]] = {
        "openai": OpenAITeacher,
        "anthropic": AnthropicTeacher,
    }
    if provider not in teachers:
        raise ValueError(
            f"unknown provider {provider!r}: choose one of {sorted(teachers)}; for a compatible server of another"
            ' provider, choose "openai" and pass its base_url'
        )
    return teachers[provider](model, **options)


def _turns(examples: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    for row, pair in enumerate(examples):
        if len(pair) != 2 or not all(isinstance(part, str) and part.strip() for part in pair):
            raise ValueError(f"example {row} must be a text and an answer, neither of them empty")
    roles = ("user", "assistant")
    return [{"role": role, "content": part} for pair in examples for role, part in zip(roles, pair, strict=True)]


def _body(first: Mapping[str, Any], parameters: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request, in this order. Parameters win over the others, and a field that is None is left out."""
    parameters = parameters or {}
    for name in ("model", "messages"):
        if name in parameters:
            raise ValueError(
                f"parameters may not hold {name!r}; the teacher has an argument for it, or makes it itself"
            )
    if parameters.get("stream"):
        raise ValueError("parameters may not hold 'stream': an answer is read whole; leave it out")
    if parameters.get("n") not in (None, 1):
        raise ValueError(
            f"parameters['n'] is {parameters['n']!r}, but one answer to a request is read and all would be paid for;"
            " pass n_samples to the collector instead"
        )
    body = {**first, **parameters, **{name: value for name, value in more.items() if name not in parameters}}
    return {name: value for name, value in body.items() if value is not None}


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
