"""Carrying batch files to the provider and results back, through the providers' own SDKs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from distill_helpers.api.journal.append_only_file import private_file
from distill_helpers.api.teachers.connection import import_sdk

if TYPE_CHECKING:
    import anthropic
    import openai

__all__ = ["fetch_batch_results", "submit_batch"]

_Client: TypeAlias = "openai.OpenAI | anthropic.Anthropic"
_OPENAI_ENDED = ("completed", "expired", "cancelled")


def submit_batch(client: _Client, requests_path: str | Path) -> str:
    """Submit one file of `write_batch_requests`.

        batch_id = submit_batch(openai.OpenAI(), "requests.jsonl")

    A file is submitted once: the batch's id is also written beside it (`….jsonl.batch`). If the call that makes the
    batch fails, it is not repeated, since the first attempt may have arrived, and both would be charged. After a
    time-out, look at the provider's list of batches before you submit the file again.

    Args:
        client: `openai.OpenAI()` or `anthropic.Anthropic()`, of the provider for which the requests were written.
        requests_path: the file.

    Returns:
        The batch's id.

    Raises:
        FileExistsError: the file was submitted before.
        openai.OpenAIError, anthropic.AnthropicError: the provider does not accept the file.
    """
    path = Path(requests_path)
    marker = path.with_name(path.name + ".batch")
    if marker.exists():
        raise FileExistsError(
            f"{path} was submitted as {marker.read_text().strip()}; fetch the batch's results, or delete {marker.name}"
            " to submit, and pay for, the whole file again"
        )
    if isinstance(client, _openai_client()):
        file = client.files.create(file=path, purpose="batch")
        batch_id = (
            client.with_options(max_retries=0)
            .batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
            .id
        )
    else:
        requests = [json.loads(line) for line in path.read_bytes().splitlines()]
        client = cast("anthropic.Anthropic", client)
        batch_id = client.with_options(max_retries=0).messages.batches.create(requests=requests).id
    marker.write_text(f"{batch_id}\n")
    return batch_id


def fetch_batch_results(client: _Client, batch_id: str, folder: str | Path) -> list[Path] | None:
    """Download a batch's results if the batch has ended. If it has not, call again later.

        paths = fetch_batch_results(openai.OpenAI(), batch_id, "results")

    Args:
        client: see `submit_batch`.
        batch_id: what `submit_batch` returned.
        folder: where the files are saved, named after the batch; the folder is made if it does not exist.

    Returns:
        Files for `merge_batch_results`. Anthropic gives one file. OpenAI gives an output file, an error file, both, or
        none after an early cancellation. While the provider works on the batch, the result is None.

    Raises:
        RuntimeError: OpenAI found a fault in the file of requests and did not process it; names code and line.
        openai.OpenAIError, anthropic.AnthropicError: there is no such batch, no permission, or no connection.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"\W", "_", batch_id)
    if isinstance(client, _openai_client()):
        batch = client.batches.retrieve(batch_id)
        if batch.status == "failed":
            faults = [f"{e.code} (line {e.line})" for e in (batch.errors.data if batch.errors else None) or []]
            raise RuntimeError(f"{batch_id} failed before it began: {', '.join(faults[:5]) or 'no reason given'}")
        if batch.status not in _OPENAI_ENDED:
            return None
        files = {"output": batch.output_file_id, "errors": batch.error_file_id}
        paths = []
        for kind, file_id in files.items():
            if file_id is not None:
                paths.append(target / f"{name}-{kind}.jsonl")
                with client.files.with_streaming_response.content(file_id) as response:
                    _save(response, paths[-1])
        return paths
    client = cast("anthropic.Anthropic", client)
    if client.messages.batches.retrieve(batch_id).processing_status != "ended":
        return None
    path = target / f"{name}-results.jsonl"
    with client.messages.batches.with_streaming_response.results(batch_id) as response:
        _save(response, path)
    return [path]


def _openai_client() -> type[openai.OpenAI]:
    """The class of OpenAI's clients. The SDK is imported here, so that importing this module stays quick."""
    client: type[openai.OpenAI] = import_sdk("openai").OpenAI
    return client


def _save(response: openai.APIResponse | anthropic.APIResponse, path: Path) -> None:
    """Save a download under another name until it is whole."""
    partial = path.with_name(path.name + ".part")
    with open(partial, "wb", opener=private_file) as file:
        file.writelines(response.iter_bytes())
    partial.replace(path)
