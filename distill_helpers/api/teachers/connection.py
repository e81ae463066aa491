"""A connection to a provider through its own SDK: one call returns the response's body, and no error quotes a text.

A call may take several attempts, since the SDK repeats those that fail. An attempt whose response never arrived may
have been answered, and charged, all the same. `Attempts` counts those.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from distill_helpers.data.installed_files import require_package

__all__ = ["ATTEMPTS", "Attempts", "MalformedAnswerError", "NoBudgetForRetryError", "SDKConnection", "import_sdk"]

# At DEBUG both SDKs log the bodies of requests, which hold the customers' texts. If you want these lines, set the level
# of these two loggers; setting the root logger to DEBUG is not enough.
for _name in ("openai", "anthropic"):
    if logging.getLogger(_name).level == logging.NOTSET:
        logging.getLogger(_name).setLevel(logging.INFO)


class MalformedAnswerError(ValueError):
    """A response has a good status, but its body is not what the provider documents. The message quotes no text.

    Attributes:
        body: the body, if it holds an error of the server's; None otherwise.
    """

    body: Any = None


class NoBudgetForRetryError(RuntimeError):
    """A call was cut off, and the budget has no room for another attempt."""


@dataclass
class Attempts:
    """The attempts at one call. Whoever calls puts a new one into `ATTEMPTS` before the call.

    Attributes:
        may_retry: asked before each attempt after a lost one; False ends the call with `NoBudgetForRetryError`.
        sent: number of attempts.
        lost: number of attempts that reached the server, as far as is known, and whose response did not arrive whole.
            A response with an error's status is not lost: providers do not charge for it.
    """

    may_retry: Callable[[], Awaitable[bool]] | None = None
    sent: int = 0
    lost: int = 0


#: The attempts at the call that the current task makes; None if nobody counts them.
ATTEMPTS: ContextVar[Attempts | None] = ContextVar("ATTEMPTS", default=None)


class _StopRetryingError(BaseException):
    """Passes through the SDKs, which repeat a call after an `Exception`. `SDKConnection.post` catches it."""


def import_sdk(name: str) -> Any:
    """Import a provider's SDK, "openai" or "anthropic", which takes a second or two.

    Raises:
        ModuleNotFoundError: the SDK, or the aiohttp that the SDK uses here, is not installed.
    """
    for package in (name, "aiohttp"):  # without aiohttp the SDK raises an error that names an extra of its own
        require_package(package, "A teacher behind an API", extra="api")
    return importlib.import_module(name)


class SDKConnection:
    """An asynchronous client of a provider's SDK. After `close`, the next call makes a new client.

    The client is made anew because its connections belong to one event loop. Its transport is the SDK's own transport
    over aiohttp. That takes two thirds of the default transport's CPU time for a call, and with a hundred calls at a
    time, CPU time is what limits a collection.

    Args:
        sdk: the SDK's name, "openai" or "anthropic".
        client: the name of the client's class in the SDK.
        **options: passed to the client: api_key, base_url, timeout, max_retries.

    Attributes:
        errors: the SDK's errors for a call that failed.

    Raises:
        ModuleNotFoundError: the SDK is not installed.
        openai.OpenAIError: there is no key.
    """

    def __init__(self, sdk: str, client: str, **options: Any) -> None:
        self._sdk = import_sdk(sdk)
        self.errors: type[Exception] = self._sdk.APIError
        http_client = _counting(self._sdk.DefaultAioHttpClient)
        self._make_client = lambda: getattr(self._sdk, client)(http_client=http_client(), **options)
        self._client: Any = self._make_client()  # now, so that a missing key shows at once

    async def post(self, path: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request; returns the response's body, a JSON object.

        The SDK's typed methods are not used. The request is complete already, and the results of a batch are read from
        JSON as well, so a typed method would only convert back and forth. (It would also reject a field that another
        version or server calls by another name.)

        Raises:
            MalformedAnswerError: the body is not a JSON object.
            NoBudgetForRetryError: see `Attempts`.
            openai.APIError, anthropic.APIError: any other failure of the call.
        """
        import aiohttp
        import httpx2  # a requirement of both SDKs

        self._client = self._client or self._make_client()
        try:
            response = await self._client.post(path, body=request, cast_to=httpx2.Response)
        except self._sdk.APITimeoutError as error:
            if not _broken_connection(error):
                raise
            raise self._sdk.APIConnectionError(request=error.request) from None
        except _StopRetryingError:
            raise NoBudgetForRetryError("a call was cut off, and the budget has no room for another attempt") from None
        except (aiohttp.ClientError, httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError):
            # What the SDK lets pass, such as a redirect to an address that is none. The cause would carry the request.
            request_line = httpx2.Request("POST", "/")
            raise self._sdk.APIConnectionError(request=request_line) from None
        return _parse(response.content)

    async def close(self) -> None:
        """Close the client's connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None


def _counting(client: type[Any]) -> type[Any]:
    """A class of HTTP clients that counts the attempts of each call in `ATTEMPTS`."""

    class Counting(client):  # type: ignore[misc]
        async def send(self, request: Any, **options: Any) -> Any:
            attempts = ATTEMPTS.get()
            if attempts is None:
                return await super().send(request, **options)
            if attempts.lost and attempts.may_retry is not None and not await attempts.may_retry():
                raise _StopRetryingError
            attempts.sent += 1
            try:
                return await super().send(request, **options)
            except BaseException as error:
                attempts.lost += not _never_connected(error)
                raise

    return Counting


def _never_connected(error: BaseException | None) -> bool:
    """Whether there was no connection over which the request could have gone, for instance because nobody listens."""
    import aiohttp

    while error is not None:
        if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _broken_connection(error: BaseException | None) -> bool:
    """Whether the connection was reset or closed. The transport reports that as a time-out, so look at the causes."""
    import aiohttp

    while error is not None:
        if isinstance(error, aiohttp.ClientConnectionError):
            return not isinstance(error, TimeoutError)
        error = error.__cause__ or error.__context__
    return False


def _parse(body: bytes) -> dict[str, Any]:
    try:
        response = json.loads(body)
    except (ValueError, RecursionError):  # the cause would carry the body
        raise MalformedAnswerError(f"the response is not JSON ({len(body)} bytes)") from None
    if not isinstance(response, dict):
        raise MalformedAnswerError(f"the response is a JSON {type(response).__name__}, not an object")
    return response
