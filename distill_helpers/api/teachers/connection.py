"""A connection to a provider through its own SDK: one call in, the body of the response out, no text in an error."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import anthropic
import httpx2
import openai

__all__ = ["MalformedAnswerError", "SDKConnection"]

# At DEBUG both SDKs log the bodies of requests, which are the customers' texts. Whoever wants that sets the level of
# these loggers; a root logger at DEBUG alone does not.
for _name in ("openai", "anthropic"):
    if logging.getLogger(_name).level == logging.NOTSET:
        logging.getLogger(_name).setLevel(logging.INFO)


class MalformedAnswerError(ValueError):
    """A response with a good status whose body is not what the provider documents. Names no text."""


class SDKConnection:
    """An SDK's client, made again after it was closed: its connections belong to one event loop.

    Its transport is the SDK's own over aiohttp, which takes two thirds of the default one's CPU time for a call: at a
    hundred calls at a time that time is what limits a collection.
    """

    def __init__(
        self,
        client: Callable[..., openai.AsyncOpenAI | anthropic.AsyncAnthropic],
        transport: Callable[[], httpx2.AsyncClient],
    ) -> None:
        self._connect = lambda: client(http_client=transport())
        self._client: openai.AsyncOpenAI | anthropic.AsyncAnthropic | None = self._connect()  # a missing key shows now

    async def post(self, path: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """The body of the response, a JSON object.

        The request is complete, and a batch's results are read from JSON as well: so the SDK's typed method would only
        convert it forth and back. (It also lacks what some version or server calls by another name.)
        """
        self._client = self._client or self._connect()
        try:
            response = await self._client.post(path, body=request, cast_to=httpx2.Response)
        except (openai.APITimeoutError, anthropic.APITimeoutError) as error:
            if not _broken_connection(error):
                raise
            sdk = openai if isinstance(error, openai.APITimeoutError) else anthropic
            raise sdk.APIConnectionError(request=error.request) from None
        return _parse(response.content)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None


def _broken_connection(error: BaseException | None) -> bool:
    """Whether a connection was reset or closed. The transport calls that a time-out as well, so look at the causes."""
    while error is not None:
        if isinstance(error, aiohttp.ClientConnectionError):
            return not isinstance(error, TimeoutError)
        error = error.__cause__ or error.__context__
    return False


def _parse(body: bytes) -> dict[str, Any]:
    try:
        response = json.loads(body)
    except ValueError:  # the cause would carry the body
        raise MalformedAnswerError(f"the response is not JSON ({len(body)} bytes)") from None
    if not isinstance(response, dict):
        raise MalformedAnswerError(f"the response is a JSON {type(response).__name__}, not an object")
    return response
