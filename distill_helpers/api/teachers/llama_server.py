"""A language model on this machine, behind a server that speaks OpenAI's and Anthropic's dialects: llama.cpp's own.

    with local_server() as server:
        teacher = OpenAITeacher(server.model, base_url=server.openai_url, api_key="local")

The server is another process: a crash in it leaves the notebook alive, and it ends when the notebook's process does,
however that ends. It listens on loopback only, and its log holds errors and no text of a request.

This file is also that process's program. It is run by its path, not with `python -m`: importing the package would load
torch, which takes longer than loading the model.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import logging
import os
import queue
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
#: llama.cpp's verbosity. From warnings (2) on, the log quotes the bodies of malformed requests.
_ERRORS_ONLY = 1


@dataclass(frozen=True)
class LocalServer:
    """A server that is ready.

    Attributes:
        openai_url: `base_url` for OpenAI's SDK. Any word will do as the key.
        anthropic_url: `base_url` for Anthropic's SDK. Any word will do as the key.
        model: the name to ask for, which answers bear as well: the file's name without its ending.
        log_file: what the server writes; it stays when the server has ended.
        process_id: of the server's process.
    """

    openai_url: str
    anthropic_url: str
    model: str
    log_file: Path
    process_id: int


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
    """Serve a GGUF model on a free port of this machine for as long as the context lasts.

    Unlike llama.cpp's defaults, attention and its cache are in fp32, so that a text gets the same answer and the same
    log-probabilities whatever was asked before or beside it; and a request that says nothing else samples at
    temperature 1 from the whole distribution, as the providers do.

    Log-probabilities are those of the weights computed in fp32 only where the file's weights are in fp32. llama.cpp
    rounds the input of a quantised layer to 8 bits: the course's Q4_1 file is off by about 0.07 on average and by 0.3
    to 0.5 on the worst of the 20 likeliest tokens.

    Args:
        model_path: a `.gguf` file; default the course's SmolLM2, see `models.language_model_path`.
        context_length: tokens of prompt and answer together, of each request; rounded up to a multiple of 256. A longer
            prompt is refused with status 400, a longer answer ends as truncated.
        parallel: requests that are answered at once; others wait.
        threads: of computation; default as many as llama.cpp chooses, one for each core.
        log_file: the server's output is appended to it; default a new file in the folder for temporary files.
        start_timeout_s: how long to wait for the server to be ready.

    Yields:
        Where it is reached.

    Raises:
        ValueError: a number outside its range.
        ModuleNotFoundError: `xllamacpp` is not installed.
        FileNotFoundError: the course's model is not installed.
        RuntimeError: the server ended before it was ready, say for want of the file; with the end of its log.
        TimeoutError: it was not ready in time; with the end of its log.
    """
    for name, number in {"context_length": context_length, "parallel": parallel, "threads": threads}.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    if not start_timeout_s > 0:
        raise ValueError(f"start_timeout_s must be above 0, got {start_timeout_s}")
    if importlib.util.find_spec("xllamacpp") is None:
        raise ModuleNotFoundError("a local server needs the package xllamacpp; install distill-helpers[course]")
    if model_path is None:
        from distill_helpers.models.loading import language_model_path  # not above: the server's process runs this file

        model_path = language_model_path()
    model_path = Path(model_path).absolute()
    log_file = _new_log_file() if log_file is None else Path(log_file).absolute()
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
            # -P: without it the files beside this one could be imported in place of others of the same names.
            [sys.executable, "-P", __file__, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    try:
        try:
            address = _wait_until_ready(server, start_timeout_s)
        except (RuntimeError, TimeoutError) as error:
            message = (
                f"the local server of {model_path} {error}; its log {log_file} ends:\n{_tail(log_file, log_start)}"
            )
            raise type(error)(message) from None
        yield LocalServer(f"{address}/v1", address, model_path.stem, log_file, server.pid)
        if server.poll() is not None:
            _LOG.warning("the local server ended by itself, exit code %d; its log: %s", server.returncode, log_file)
    finally:
        server.kill()  # it has nothing to save, and nothing that it is busy with can delay this
        server.wait()
        for pipe in (server.stdin, server.stdout):
            if pipe is not None:
                pipe.close()


def _new_log_file() -> Path:
    descriptor, name = tempfile.mkstemp(prefix="local-server-", suffix=".log")
    os.close(descriptor)
    return Path(name)


def _wait_until_ready(server: subprocess.Popen[bytes], timeout_s: float) -> str:
    """The server's address, once it answers there. Its errors are predicates of a sentence about the server."""
    deadline = time.monotonic() + timeout_s
    lines: queue.Queue[bytes] = queue.Queue()
    assert server.stdout is not None
    # A thread, since a pipe can't be read with a time limit on Windows. It ends with the server at the latest.
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
        if _is_healthy(address, deadline - time.monotonic()):
            return address
        time.sleep(0.05)
    raise RuntimeError(f"ended with exit code {server.returncode} before it was ready")


def _is_healthy(address: str, timeout_s: float) -> bool:
    # Not urllib, which would ask a proxy where the environment names one.
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=max(timeout_s, 0.1))
    try:
        connection.request("GET", "/health")
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
    """Be the server's process: load the model, announce the address, end with the parent."""
    import xllamacpp

    parent = os.getppid()
    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["name"]}  # else answers bear the file's whole path
    params.hostnames, params.port = [_LOOPBACK], 0  # the system picks the port, so that nobody else can be first
    params.n_parallel = settings["parallel"]
    params.n_ctx = settings["context_length"] * settings["parallel"]  # llama.cpp divides it among the requests
    if settings["threads"] is not None:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.verbosity = _ERRORS_ONLY
    # Flash attention computes in fp16, and differently for a prompt whose beginning is cached: see `local_server`.
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.sampling.temp, params.sampling.top_k, params.sampling.top_p, params.sampling.min_p = 1.0, 0, 1.0, 0.0
    # Finished prompts are not kept, which takes up to 8 GB. What the next one shares with the last one still is.
    params.cache_ram_mib = 0
    # Web pages of other machines may not read answers, and nobody what the requests are.
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
    os._exit(0)  # not by way of the server's destructor, which waits for answers that nobody wants now


def _wait_for_end_of(parent: int) -> None:
    """Return when standard input, which the parent holds open, ends: it does however the parent ends."""
    ended = threading.Event()

    def read_to_the_end() -> None:
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=read_to_the_end, daemon=True).start()
    # A forked child of the parent, say a data loader's worker, can hold the pipe open longer than the parent lives.
    while not ended.wait(timeout=1.0) and os.getppid() == parent:
        pass


def _main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interrupting a notebook's cell reaches its kernel's children too
    announcement = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the library prints goes to the log
    _serve(json.loads(sys.argv[1]), announcement)


if __name__ == "__main__":
    _main()
