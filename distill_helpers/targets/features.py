"""Teacher features computed once and kept, instead of running the teacher beside the student in every epoch.

They are large: a hidden state of width 384 in fp16 is 768 bytes a token, against 20 bytes a *message* for five logits.
`precompute_teacher_features` says the size before it starts, and refuses to pass a limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from distill_helpers.models.architectures import ModelShape
from distill_helpers.models.batching import encode_texts, evaluation_mode, pad_batch, resolve_max_length
from distill_helpers.models.capture import capture_features
from distill_helpers.models.features import Features
from distill_helpers.models.loading import TextClassifier, pick_device
from distill_helpers.targets.cache import SHARD_SIZE, cache_key, read_or_compute

__all__ = ["TeacherFeatures", "pad_features", "precompute_teacher_features", "take_features"]

_PREFIX = "teacher_features."


class TeacherFeatures(NamedTuple):
    """The features of many texts, end to end.

    Attributes:
        tensors: by the names of `Features.tensors`: (tokens of all texts, width) for hidden states, (tokens, heads,
            head width) for queries, keys and values.
        token_ids: of each text; they say where a text begins, and which tokenization the features belong to.
        shape: the teacher's.
        scaling, causal: as in `Features`.
    """

    tensors: dict[str, Tensor]
    token_ids: list[list[int]]
    shape: ModelShape
    scaling: float
    causal: bool

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the features take."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def rows(self, starts: Sequence[int], index: int) -> dict[str, Tensor]:
        """The features of text `index`, under the keys of a batch; `starts` from `token_starts`."""
        here = slice(starts[index], starts[index] + len(self.token_ids[index]))
        extra = {f"{_PREFIX}scaling": torch.tensor(self.scaling), f"{_PREFIX}causal": torch.tensor(self.causal)}
        return {f"{_PREFIX}{name}": tensor[here] for name, tensor in self.tensors.items()} | extra

    def token_starts(self) -> list[int]:
        """Where each text's tokens begin in the tensors."""
        starts = [0]
        for ids in self.token_ids[:-1]:
            starts.append(starts[-1] + len(ids))
        return starts


@torch.inference_mode()
def precompute_teacher_features(
    teacher: TextClassifier,
    texts: Sequence[str],
    names: Sequence[str],
    *,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    max_length: int | None = None,
    dtype: torch.dtype = torch.float16,
    max_bytes: int = 4 * 1024**3,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> TeacherFeatures:
    """A teacher's features for each text, computed once, in memory and, if asked for, on disk.

    Args:
        teacher: model (moved to `device`) and its own tokenizer.
        texts: none of them empty.
        names: which features, by the names of `Features.tensors`: those of `FeatureTerms.teacher_names`.
        batch_size: texts at a time.
        device: default the best there is.
        max_length: in tokens; default the tokenizer's own. The student's dataset must use the same.
        dtype: of what is kept. fp16 halves the size and rounds by 1/2,000 of a value.
        max_bytes: refuse to start where the features would take more.
        cache_dir: where to keep them; None keeps them in memory only.
        progress: show a progress bar, with the size.

    Raises:
        ValueError: no text or an empty one, no name or an unknown one, more than `max_bytes`, or values that `dtype`
            can't hold.
    """
    model = teacher.model.to(pick_device(device))  # type: ignore[arg-type]
    length = resolve_max_length(teacher.tokenizer, max_length)
    token_ids = encode_texts(teacher.tokenizer, texts, length)
    if not names:
        raise ValueError("name the features to keep, such as FeatureTerms(…).teacher_names")
    names = list(dict.fromkeys(names))  # a name given twice is one feature
    shapes, scaling, causal = _shapes(teacher, token_ids[0], names)
    n_tokens = sum(map(len, token_ids))
    n_bytes = n_tokens * sum(map(math.prod, shapes.values())) * dtype.itemsize
    if n_bytes > max_bytes:
        raise ValueError(
            f"{n_tokens:,} tokens × {len(names)} features take {n_bytes / 2**20:,.0f} MiB, more than max_bytes"
            f" ({max_bytes / 2**20:,.0f} MiB); name fewer features, raise it, or let the teacher run live"
        )
    folder = None
    if cache_dir is not None:
        key = cache_key(model, teacher.tokenizer, texts, length, dtype, features=sorted(names))
        folder = Path(cache_dir) / key
        folder.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, Tensor]] = []
    title = f"Teacher features ({n_bytes / 2**20:,.0f} MiB)"
    with tqdm(total=len(texts), desc=title, unit="text", disable=not progress) as bar:
        for number, start in enumerate(range(0, len(texts), SHARD_SIZE)):
            shard = token_ids[start : start + SHARD_SIZE]
            path = None if folder is None else folder / f"{number:05d}.safetensors"
            expected = {name: (sum(map(len, shard)), *shape) for name, shape in shapes.items()}
            compute = partial(_features_of, teacher, shard, names, batch_size, dtype)
            parts.append(read_or_compute(path, expected, compute))
            bar.update(len(shard))
    joined = {name: torch.cat([part[name] for part in parts]) for name in names}
    return TeacherFeatures(joined, token_ids, ModelShape.of(model), scaling, causal)


def pad_features(items: Sequence[dict[str, Any]], padding_side: str) -> dict[str, Tensor]:
    """The features of several items of a dataset as a batch, padded with zeros on the tokenizer's side."""
    batch: dict[str, Tensor] = {}
    for key in (key for key in items[0] if key.startswith(_PREFIX)):
        rows = [item[key] for item in items]
        # Scalars are the teacher's, one for all.
        batch[key] = rows[0]
        if rows[0].dim():
            padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_side=padding_side)
            batch[key] = padded if padded.dim() == 3 else padded.transpose(1, 2)
    return batch


def take_features(batch: dict[str, Any]) -> Features | None:
    """Take the teacher's features out of a batch (it is changed); None where it has none."""
    found = {key.removeprefix(_PREFIX): batch.pop(key) for key in list(batch) if key.startswith(_PREFIX)}
    if not found:
        return None
    return Features(scaling=float(found.pop("scaling")), causal=bool(found.pop("causal")), tensors=found)


def _shapes(
    teacher: TextClassifier, token_ids: list[int], names: Sequence[str]
) -> tuple[dict[str, tuple[int, ...]], float, bool]:
    """For each name the shape of one token's features, and the attention's constants, from a trial on one text."""
    with capture_features(teacher.model, names) as features:
        batch = pad_batch([token_ids], teacher.tokenizer)
        teacher.model(**{k: v.to(teacher.model.device) for k, v in batch.items()})
    shapes = {name: tuple(_by_token(features[name]).shape[2:]) for name in names}
    return shapes, features.scaling, features.causal


def _by_token(tensor: Tensor) -> Tensor:
    """(batch, sequence, …), whichever kind of feature it is."""
    return tensor if tensor.dim() == 3 else tensor.transpose(1, 2)


def _features_of(
    teacher: TextClassifier, token_ids: list[list[int]], names: Sequence[str], batch_size: int, dtype: torch.dtype
) -> dict[str, Tensor]:
    model = teacher.model
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    with evaluation_mode(model):
        for start in range(0, len(token_ids), batch_size):
            batch = pad_batch(token_ids[start : start + batch_size], teacher.tokenizer)
            with capture_features(model, names) as features:
                model(**{k: v.to(model.device) for k, v in batch.items()})
            real = batch["attention_mask"].bool()
            for name in names:
                kept = _by_token(features[name])[real.to(model.device)].to(device="cpu", dtype=dtype)
                if not kept.isfinite().all():
                    raise ValueError(f"{name} has values that {dtype} can't hold; use torch.bfloat16 or torch.float32")
                rows[name].append(kept)
    return {name: torch.cat(parts) for name, parts in rows.items()}
