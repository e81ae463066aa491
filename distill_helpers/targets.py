"""Teacher targets: the teacher labels every text once, and the logits stay on disk.

The cache is a folder for each key, the key being a hash of everything the logits depend on: weights, tokenizer, texts,
length and dtype. A change to any of them is another folder, so a stale cache can't be read. Inside, one file holds
`SHARD_SIZE` texts and carries a checksum: an interrupted run goes on behind its last whole shard, and a damaged shard
is noticed, reported and made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill_helpers.batching import check_finite, predict_logits, resolve_max_length
from distill_helpers.data import check_texts
from distill_helpers.models import label_names_of, load_text_classifier, pick_device

__all__ = ["SHARD_SIZE", "precompute_teacher_logits", "settings_of", "weights_fingerprint"]

#: Texts in one file of the cache: what an interruption can cost at most.
SHARD_SIZE = 1024

# Entries of a configuration that say where a model came from or how it is stored, not what it computes.
_NOT_THE_FUNCTION = ("_name_or_path", "transformers_version", "dtype", "architectures")

_log = logging.getLogger(__name__)


def precompute_teacher_logits(
    teacher_model_name: str | Path | PreTrainedModel,
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase | None = None,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    max_length: int | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    label_names: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Tensor:
    """The teacher's logits for each text, computed once.

    Args:
        teacher_model_name: a folder, a Hub name in the local cache, or a loaded sequence classifier.
        texts: to be labelled; labelled text and unlabelled text alike.
        tokenizer: the *teacher's* own. Loaded with the teacher where that is a name, needed where it is a model.
        batch_size: texts at a time. Does not enter the key: it moves a logit in the seventh digit at most.
        device: default the best there is. A loaded model is moved there and cast to `dtype`.
        max_length: in the teacher's tokens; default its tokenizer's own.
        dtype: in which the teacher computes. fp32 is right on a CPU; bfloat16 is a choice for a GPU.
        label_names: the classes in the order of *your* labels; checked against the teacher's, since a teacher whose
            classes stand in another order trains a student that is confidently wrong.
        cache_dir: where to keep the logits; None keeps nothing.
        progress: show a progress bar.

    Returns:
        fp32, (texts, classes), on the CPU, in the order of the texts.

    Raises:
        ValueError: no text or an empty one (with its row), label names in another order, a model without its tokenizer,
            or a teacher that returns logits that are not finite.
    """
    check_texts(texts)
    if isinstance(teacher_model_name, str | Path):
        model, own_tokenizer = load_text_classifier(teacher_model_name, device=pick_device(device))
        tokenizer = tokenizer or own_tokenizer
    elif tokenizer is None:
        raise ValueError("pass the teacher's own tokenizer together with a loaded teacher")
    else:
        model = teacher_model_name
    if label_names is not None and tuple(label_names) != label_names_of(model):
        raise ValueError(
            f"the teacher's classes are {label_names_of(model)}, yours {tuple(label_names)}; reorder your labels"
        )
    length = resolve_max_length(tokenizer, max_length)
    model.to(device=pick_device(device), dtype=dtype)  # type: ignore[call-arg]

    shards = [list(texts[i : i + SHARD_SIZE]) for i in range(0, len(texts), SHARD_SIZE)]
    folder = None if cache_dir is None else Path(cache_dir) / _cache_key(model, tokenizer, texts, length, dtype)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    parts: list[Tensor] = []
    with tqdm(total=len(texts), desc="Teacher labels", unit="text", disable=not progress) as bar:
        for number, shard in enumerate(shards):
            path = None if folder is None else folder / f"{number:05d}.safetensors"
            logits = None if path is None else _read_shard(path, len(shard), len(label_names_of(model)))
            if logits is None:
                logits = predict_logits(model, tokenizer, shard, batch_size=batch_size, max_length=length)
                check_finite(logits, "in half precision try dtype=float32", first_row=number * SHARD_SIZE)
                if path is not None:
                    _write_shard(path, logits)
            parts.append(logits)
            bar.update(len(shard))
    return torch.cat(parts)


def weights_fingerprint(model: PreTrainedModel) -> str:
    """SHA-256 over the names, dtypes, shapes and bytes of a model's parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def settings_of(model: PreTrainedModel) -> dict[str, Any]:
    """The entries of a model's configuration that say what it computes."""
    return {k: v for k, v in model.config.to_dict().items() if k not in _NOT_THE_FUNCTION}


def _cache_key(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], length: int, dtype: torch.dtype
) -> str:
    parts = {
        "weights": weights_fingerprint(model),
        # The configuration too: a changed activation or head count changes the logits and not the weights.
        "config": settings_of(model),
        "tokenizer": _tokenizer_fingerprint(tokenizer),
        "texts": hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest(),
        "max_length": length,
        "dtype": str(dtype),
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


def _write_shard(path: Path, logits: Tensor) -> None:
    # Written beside and moved into place: a kill in between leaves no half file under the real name.
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    save_file({"logits": logits.contiguous()}, temporary, metadata={"sha256": _checksum(logits)})
    os.replace(temporary, path)


def _read_shard(path: Path, n_texts: int, n_classes: int) -> Tensor | None:
    """The shard's logits, or None where it must be computed."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            logits = file.get_tensor("logits")
            recorded = (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError) as error:
        _log.warning("cached teacher targets %s are unreadable (%s); labelling these texts again", path, error)
        return None
    if recorded != _checksum(logits) or logits.shape != (n_texts, n_classes):
        _log.warning("cached teacher targets %s are damaged; labelling these texts again", path)
        return None
    return logits


def _checksum(logits: Tensor) -> str:
    return hashlib.sha256(logits.contiguous().numpy().tobytes()).hexdigest()
