"""A language model on this machine, behind llama.cpp's own server, which speaks OpenAI's and Anthropic's dialects.

    with local_server("my-model.gguf") as server:
        teacher = OpenAITeacher(server.model, base_url=server.openai_url, api_key="local")

The server is a process of its own: if the server crashes, the notebook lives on, and if the notebook's process ends, in
whatever way, the server ends too. Its log holds errors and no text of a request.

The server listens on loopback only, and that alone would not keep web pages out: anybody's page may send requests to
loopback, and by DNS rebinding it may even read the answers. So the addresses hold a random key, without which the
server answers nothing but 404, whatever the request's host, origin or content type is.

This file is also the program of the server's process. The process runs the file by its path, so that it needs nothing
but the standard library and xllamacpp.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import queue
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

__all__ = ["LocalServer", "local_server"]

_LOG = logging.getLogger(__name__)
_LOOPBACK = "127.0.0.1"
_TAIL_LINES = 15
#: The environment variable that gives the server's process the random beginning of all paths.
_PREFIX = "DISTILL_HELPERS_LOCAL_SERVER_PREFIX"
#: llama.cpp's verbosity. From warnings (2) on, the log quotes the bodies of malformed requests.
_ERRORS_ONLY = 1


@dataclass(frozen=True)
class LocalServer:
    """A local server that is ready to answer.

    Attributes:
        openai_url: `base_url` for OpenAI's SDK. It holds the server's random key, so show it to nobody else. As
            `api_key`, any word will do.
        anthropic_url: `base_url` for Anthropic's SDK, with the same random key.
        model: the name to ask for, which the answers bear as well: the model file's name without its ending.
        log_file: what the server writes; the file stays when the server has ended.
        process_id: of the server's process.
    """

    openai_url: str
    anthropic_url: str
    model: str
    log_file: Path
    process_id: int

    def __repr__(self) -> str:
        return f"LocalServer({self.model!r}, at {urlsplit(self.openai_url).netloc}, process {self.process_id})"


@contextlib.contextmanager
def local_server(
    model_path: str | Path | None = None,
    *,
    context_length: int = 2048,
    parallel: int = 2,
    threads: int | None = None,
    log_file: str | Path | None = None,
    start_timeout_s: float = 60.0,
) -> Iterator[LocalServer]:
    """Serve a GGUF model on a free port of this machine, as long as the `with` block runs.

        with local_server("my-model.gguf") as server:
            teacher = OpenAITeacher(server.model, base_url=server.openai_url, api_key="local")

    Two settings differ from llama.cpp's defaults. Attention and its cache are computed in fp32, so that a text gets the
    same answer and the same log-probabilities, whatever was asked before it or beside it. And a request that does not
    say how to sample is sampled at temperature 1 from the whole distribution, as the providers do.

    The log-probabilities are those of the weights computed in fp32 only if the file's weights are in fp32, because
    llama.cpp rounds the input of a quantised layer to 8 bits. For the course's Q4_1 file, this error is about 0.07 on
    average, and 0.3 to 0.5 on the worst of the 20 likeliest tokens.

    Args:
        model_path: a `.gguf` file; default the course's SmolLM2, see `language_model_path`.
        context_length: limit of each request in tokens, prompt and answer together; rounded up to a multiple of 256. A
            longer prompt is refused with status 400, and a longer answer ends as truncated.
        parallel: how many requests are answered at once; further ones wait.
        threads: of the computation; default as many as llama.cpp chooses, one for each core.
        log_file: the server's output is appended to this file; default a new file in the folder for temporary files.
        start_timeout_s: how long to wait until the server is ready, in seconds.

    Yields:
        The server's addresses and the model's name.

    Raises:
        ValueError: a number outside its range.
        ModuleNotFoundError: `xllamacpp` is not installed; the extra `local-server` brings it.
        FileNotFoundError: there is no `model_path`, and the course's model is not installed.
        RuntimeError: the server ended before it was ready, for instance because there is no such file; the message
            quotes the end of the server's log.
        TimeoutError: the server was not ready in time; the message quotes the end of the server's log.
    """
    from distill_helpers.data.installed_files import require_package  # not above: the server's process runs this file

    for name, number in {"context_length": context_length, "parallel": parallel, "threads": threads}.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    if not start_timeout_s > 0:
        raise ValueError(f"start_timeout_s must be above 0, got {start_timeout_s}")
    require_package("xllamacpp", "A local server", extra="local-server")
    model_path = (_course_model() if model_path is None else Path(model_path)).absolute()
    log_file = _new_log_file() if log_file is None else Path(log_file).absolute()
    prefix = f"/{secrets.token_urlsafe(32)}"
    settings = {
        "path": str(model_path),
        "name": model_path.stem,
        "context_length": context_length,
        "parallel": parallel,
        "threads": threads,
    }
    with log_file.open("ab") as log:
        log_start = log.tell()
        server = subprocess.Popen(
            # -P: without it, modules in this file's folder could hide other modules of the same names.
            [sys.executable, "-P", __file__, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            # Not among the arguments, which every user of the machine can list.
            env=os.environ | {_PREFIX: prefix},
        )
    try:
        try:
            address = _wait_until_ready(server, prefix, start_timeout_s)
        except (RuntimeError, TimeoutError) as error:
            message = (
                f"the local server of {model_path} {error}; its log {log_file} ends:\n{_tail(log_file, log_start)}"
            )
            raise type(error)(message) from None
        yield LocalServer(f"{address}/v1", address, model_path.stem, log_file, server.pid)
        if server.poll() is not None:
            _LOG.warning("the local server ended by itself, exit code %d; its log: %s", server.returncode, log_file)
    finally:
        server.kill()  # the server has nothing to save, and a kill does not wait for a running answer
        server.wait()
        for pipe in (server.stdin, server.stdout):
            if pipe is not None:
                pipe.close()


def _course_model() -> Path:
    from distill_helpers.models.loading import language_model_path  # not above: the server's process runs this file

    try:
        return language_model_path()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; or pass model_path, a .gguf file of your own") from None


def _new_log_file() -> Path:
    descriptor, name = tempfile.mkstemp(prefix="local-server-", suffix=".log")
    os.close(descriptor)
    return Path(name)


def _wait_until_ready(server: subprocess.Popen[bytes], prefix: str, timeout_s: float) -> str:
    """The server's address, once the server answers there. The errors continue the sentence "the local server …"."""
    deadline = time.monotonic() + timeout_s
    lines: queue.Queue[bytes] = queue.Queue()
    assert server.stdout is not None
    # In a thread, since Windows can't read a pipe with a time limit. The thread ends with the server at the latest.
    threading.Thread(target=lambda pipe: lines.put(pipe.readline()), args=(server.stdout,), daemon=True).start()
    not_ready = TimeoutError(f"was not ready within {timeout_s:g} s")
    try:
        address = lines.get(timeout=timeout_s).decode().strip()
        if not address:  # the pipe's end
            raise RuntimeError(f"ended with exit code {server.wait(timeout=timeout_s)} before it was ready")
    except (queue.Empty, subprocess.TimeoutExpired):
        raise not_ready from None
    while server.poll() is None:
        if time.monotonic() > deadline:
            raise not_ready
        if _is_healthy(address + prefix, deadline - time.monotonic()):
            return address + prefix
        time.sleep(0.05)
    raise RuntimeError(f"ended with exit code {server.returncode} before it was ready")


def _is_healthy(address: str, timeout_s: float) -> bool:
    # Not urllib, which would ask a proxy if the environment names one.
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=max(timeout_s, 0.1))
    try:
        connection.request("GET", f"{parts.path}/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(log_file: Path, start: int) -> str:
    with log_file.open("rb") as log:
        log.seek(start)
        lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])


def _serve(settings: dict[str, Any], announcement: IO[str]) -> None:
    """Run as the server's process: load the model, announce the address, and end when the parent ends."""
    import xllamacpp

    parent = os.getppid()
    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["name"]}  # without it, answers bear the file's whole path
    params.hostnames, params.port = [_LOOPBACK], 0  # the system picks a free port, so no other process can take it
    params.n_parallel = settings["parallel"]
    params.n_ctx = settings["context_length"] * settings["parallel"]  # llama.cpp divides it among the requests
    if settings["threads"] is not None:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.verbosity = _ERRORS_ONLY
    # Flash attention computes in fp16, and computes a prompt differently if its beginning is cached.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.sampling.temp, params.sampling.top_k, params.sampling.top_p, params.sampling.min_p = 1.0, 0, 1.0, 0.0
    # Do not keep finished prompts, which take up to 8 GB. The beginning that a prompt shares with the last one is kept.
    params.cache_ram_mib = 0
    # Who does not know the random beginning of the paths gets 404 and nothing else.
    params.api_prefix = os.environ.pop(_PREFIX, "")
    # Web pages of other machines may not read answers, and nobody may list the requests.
    params.cors_origins, params.ui, params.endpoint_slots = "localhost", False, False
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        sys.exit(str(error))
    print(
        f"serving {settings['path']} at {server.listening_address}, {settings['parallel']} requests at once of"
        f" {settings['context_length']} tokens",
        file=sys.stderr,
        flush=True,
    )
    announcement.write(f"{server.listening_address}\n")
    announcement.close()
    _wait_for_end_of(parent)
    os._exit(0)  # skips the server's destructor, which waits for answers that nobody wants any more


def _wait_for_end_of(parent: int) -> None:
    """Wait until standard input ends. The parent holds it open, so it ends with the parent, however the parent ends."""
    ended = threading.Event()

    def read_to_the_end() -> None:
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=read_to_the_end, daemon=True).start()
    # A forked child of the parent, such as a data loader's worker, may hold the pipe open after the parent has ended.
    while not ended.wait(timeout=1.0) and os.getppid() == parent:
        pass


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interrupting a notebook's cell interrupts its kernel's children too
    announcement = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the library prints goes to the log
    _serve(json.loads(sys.argv[1]), announcement)


if __name__ == "__main__":
    _main()
