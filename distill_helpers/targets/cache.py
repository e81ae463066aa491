"""The cache of what a teacher says: where it lies, when it counts, and how it survives a kill.

The cache has a folder for each key. The key (`cache_key`) is a hash of everything that the tensors depend on: weights,
adapters, configuration, tokenizer, texts, length and dtype. A change to any of these leads to another folder, so that a
stale cache can't be read. Each file of a folder (a shard) holds the tensors of `SHARD_SIZE` texts and carries a
checksum, which covers the shard's number and folder. An interrupted run goes on after its last complete shard, and a
damaged shard is noticed, reported and computed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from distill_helpers.data.text_inputs import TextInput
from distill_helpers.models.module_state import state_beside_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from distill_helpers.models.text_models import LanguageModel, TextClassifier

__all__ = [
    "SHARD_SIZE",
    "cache_key",
    "compute_in_shards",
    "model_key",
    "read_or_compute",
    "read_shard",
    "settings_of",
    "tensor_bytes",
    "weights_fingerprint",
    "write_shard",
]

#: The number of texts in one shard, which is the most that an interruption can cost.
SHARD_SIZE = 1024

# Entries of a configuration that say where a model came from or how it is stored, and not what the model computes.
_NOT_THE_FUNCTION = ("_name_or_path", "transformers_version", "dtype", "architectures")

_log = logging.getLogger(__name__)


def weights_fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 over everything in a model that its outputs depend on, apart from its configuration.

    These are the names, dtypes, shapes and bytes of all parameters and buffers, those that are not saved among them,
    and the state beside the weights: kinds of modules, their settings, active adapters with their scaling
    (`module_state.state_beside_weights`). Forward hooks are not covered.
    """
    digest = hashlib.sha256()
    entries: dict[str, Any] = {**model.state_dict(), **dict(model.named_buffers())}
    for name, entry in sorted(entries.items()):
        _add_to_digest(digest, name, entry)
    digest.update(json.dumps(state_beside_weights(model), sort_keys=True).encode())
    return digest.hexdigest()


def _add_to_digest(digest: Any, name: str, entry: Any) -> None:
    """Hash an entry of a `state_dict`: a tensor, or, in a quantised layer, a dtype or a tuple of tensors."""
    if isinstance(entry, tuple | list):
        for index, part in enumerate(entry):
            _add_to_digest(digest, f"{name}.{index}", part)
    elif isinstance(entry, Tensor):
        digest.update(f"{name} {entry.dtype} {tuple(entry.shape)}\n".encode())
        digest.update(tensor_bytes(entry))
    else:
        digest.update(f"{name} {entry!r}\n".encode())


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor of any dtype, for a hash. Of a quantised tensor, those of the values that it stands for."""
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data


def settings_of(model: PreTrainedModel) -> dict[str, Any]:
    """The entries of a model's configuration that say what it computes."""
    return {k: v for k, v in model.config.to_dict().items() if k not in _NOT_THE_FUNCTION}


def cache_key(
    teacher: TextClassifier | LanguageModel,
    texts: Sequence[TextInput],
    length: int,
    dtype: torch.dtype,
    **more: Any,
) -> str:
    """A hash of everything that a teacher's tensors depend on.

    A forward hook that changes the teacher's outputs is not seen: give such a teacher a `cache_dir` of its own.

    Args:
        teacher: model and tokenizer.
        texts: texts or pairs, in their order. A pair is another key than any text.
        length: the number of tokens at which texts are cut.
        dtype: the precision in which the teacher computes.
        **more: what the kind of tensor adds to the key, such as the names of the features.

    Raises:
        ValueError: a slow tokenizer, which can't be hashed.
    """
    model, tokenizer = teacher
    return model_key(
        model,
        dtype,
        tokenizer=_tokenizer_fingerprint(tokenizer),
        texts=hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest(),
        max_length=length,
        **more,
    )


def model_key(model: PreTrainedModel, dtype: torch.dtype, **more: Any) -> str:
    """A hash of what a model computes, and of `more`: what the model reads, and what is kept of its outputs."""
    parts = {
        "weights": weights_fingerprint(model),
        # A changed activation or head count changes the logits and not the weights.
        "config": settings_of(model),
        "dtype": str(dtype),
        **more,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(
            f"{type(tokenizer).__name__} is a slow tokenizer, which the cache key can't hash; load its fast version, or"
            " leave out cache_dir"
        )
    # Truncation and padding are settings of the last call, not of the tokenizer.
    state = {k: v for k, v in json.loads(backend.to_str()).items() if k not in ("truncation", "padding")}
    state["side"] = tokenizer.truncation_side  # the model, not the tokenizer, decides on which side is padded
    # What the file of a tokenizer says of these, the object in memory may have changed.
    state["padding"] = tokenizer.pad_token_id
    state["segments"] = "token_type_ids" in tokenizer.model_input_names
    state["split_special_tokens"] = bool(getattr(tokenizer, "split_special_tokens", False))
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def write_shard(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write one shard, completely or not at all.

    Args:
        path: of the shard. Its number and folder are part of the checksum, so that a copy elsewhere is refused.
        tensors: by name.
    """
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    # The file is written under another name and moved into place, so that a kill leaves no half file under this name.
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    save_file(contiguous, temporary, metadata={"sha256": _checksum(path, contiguous)})
    os.replace(temporary, path)


def read_shard(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor] | None:
    """The tensors of one shard; None where the shard does not exist, and None with a warning where it is damaged.

    Args:
        path: of the shard.
        shapes: of the tensors that the shard must hold, by name.
    """
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
    if recorded != _checksum(path, tensors) or found != dict(shapes):
        _log.warning("cached teacher targets %s are damaged; labelling these texts again", path)
        return None
    return tensors


def read_or_compute(
    path: Path | None, shapes: Mapping[str, tuple[int, ...]], compute: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """The tensors of a complete shard; otherwise those that `compute` returns, which are then written to the shard.

    Args:
        path: of the shard; None neither reads nor writes.
        shapes: of the tensors that the shard must hold, by name.
        compute: returns the tensors.
    """
    tensors = None if path is None else read_shard(path, shapes)
    if tensors is None:
        tensors = compute()
        if path is not None:
            write_shard(path, tensors)
    return tensors


def compute_in_shards(
    folder: Path | None,
    n_texts: int,
    shapes: Callable[[slice], Mapping[str, tuple[int, ...]]],
    compute: Callable[[slice], dict[str, Tensor]],
    *,
    title: str,
    progress: bool,
) -> dict[str, Tensor]:
    """The tensors of all texts, by name, from the complete shards of a folder and from `compute` for the others.

    Args:
        folder: the folder of the key, made if needed; None keeps nothing on disk.
        n_texts: the number of texts.
        shapes: the shapes of the tensors of some texts, by name.
        compute: computes the tensors of some texts.
        title: of the progress bar.
        progress: show a progress bar.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, Tensor]] = []
    with tqdm(total=n_texts, desc=title, unit="text", disable=not progress) as bar:
        for number, start in enumerate(range(0, n_texts, SHARD_SIZE)):
            rows = slice(start, min(start + SHARD_SIZE, n_texts))
            path = None if folder is None else folder / f"{number:05d}.safetensors"
            parts.append(read_or_compute(path, shapes(rows), partial(compute, rows)))
            bar.update(rows.stop - rows.start)
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _checksum(path: Path, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(f"{path.parent.name}/{path.name}\n".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()
