"""The cache of what a teacher says: where it lies, when it counts, and how it survives a kill.

The cache is a folder for each key, the key being a hash of everything the tensors depend on: weights, tokenizer, texts,
length and dtype. A change to any of them is another folder, so a stale cache can't be read. Inside, one file holds
`SHARD_SIZE` texts and carries a checksum: an interrupted run goes on behind its last whole shard, and a damaged shard
is noticed, reported and made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "SHARD_SIZE",
    "cache_key",
    "read_or_compute",
    "read_shard",
    "settings_of",
    "tensor_bytes",
    "weights_fingerprint",
    "write_shard",
]

#: Texts in one file of the cache: what an interruption can cost at most.
SHARD_SIZE = 1024

# Entries of a configuration that say where a model came from or how it is stored, not what it computes.
_NOT_THE_FUNCTION = ("_name_or_path", "transformers_version", "dtype", "architectures")

_log = logging.getLogger(__name__)


def weights_fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of a model's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor of any dtype, for a hash."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def settings_of(model: PreTrainedModel) -> dict[str, Any]:
    """The entries of a model's configuration that say what it computes."""
    return {k: v for k, v in model.config.to_dict().items() if k not in _NOT_THE_FUNCTION}


def cache_key(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    length: int,
    dtype: torch.dtype,
    **more: Any,
) -> str:
    """A hash of everything that a teacher's tensors depend on; `more` is what the kind of tensor adds."""
    parts = {
        "weights": weights_fingerprint(model),
        # The configuration too: a changed activation or head count changes the logits and not the weights.
        "config": settings_of(model),
        "tokenizer": _tokenizer_fingerprint(tokenizer),
        "texts": hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest(),
        "max_length": length,
        "dtype": str(dtype),
        **more,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(
            f"{type(tokenizer).__name__} is a slow tokenizer; its fast version is needed for the cache key"
        )
    # Truncation and padding are the last call's settings, not the tokenizer's.
    state = {k: v for k, v in json.loads(backend.to_str()).items() if k not in ("truncation", "padding")}
    state["sides"] = [tokenizer.padding_side, tokenizer.truncation_side]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def write_shard(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one file of the cache, whole or not at all."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    # Written beside and moved into place: a kill in between leaves no half file under the real name.
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(contiguous, temporary, metadata={"sha256": _checksum(contiguous)})
    os.replace(temporary, path)


def read_shard(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor] | None:
    """The tensors of one file of the cache, or None, with a warning if it is damaged, where they must be computed."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            recorded = (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError) as error:
        _log.warning("cached teacher targets %s are unreadable (%s); labelling these texts again", path, error)
        return None
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if recorded != _checksum(tensors) or found != dict(shapes):
        _log.warning("cached teacher targets %s are damaged; labelling these texts again", path)
        return None
    return tensors


def read_or_compute(
    path: Path | None, shapes: Mapping[str, tuple[int, ...]], compute: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """One file of the cache where it is whole, else what `compute` returns, which is written there. None: no file."""
    tensors = None if path is None else read_shard(path, shapes)
    if tensors is None:
        tensors = compute()
        if path is not None:
            write_shard(path, tensors)
    return tensors


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()
