"""The teacher's features, computed once and kept, so that the teacher need not run beside the student in every epoch.

Features are large: a hidden state of width 384 in fp16 takes 768 bytes for each token, while five logits take 20 bytes
for each *message*. `precompute_teacher_features` shows the size before it starts, and refuses to exceed a limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from distill_helpers.data.text_inputs import TextInput
from distill_helpers.models.architectures import ModelShape
from distill_helpers.models.batching import (
    check_batch_size,
    check_positions,
    encode_texts,
    evaluation_mode,
    model_batch,
    resolve_max_length,
)
from distill_helpers.models.capture import capture_features
from distill_helpers.models.features import Features
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.targets.cache import cache_key, compute_in_shards
from distill_helpers.targets.logits import teacher_classifier

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["TeacherFeatures", "pad_features", "precompute_teacher_features", "take_features"]

_PREFIX = "teacher_features."


class TeacherFeatures(NamedTuple):
    """The features of many texts, one text after the other. `precompute_teacher_features` makes them.

    Attributes:
        tensors: the features by name, as in `Features.tensors`: (tokens of all texts, width) for embeddings and hidden
            states, (tokens of all texts, heads, head width) for queries, keys and values.
        token_ids: the tokens of each text. They say where a text begins, and to which tokenization the features belong.
        shape: the teacher's shape.
        scaling, causal: as in `Features`.

    Example:
        >>> teacher = dh.load_course_model("help-desk-teacher", device="cpu")
        >>> texts = ["my mac shows a grey screen", "no driver"]
        >>> features = dh.precompute_teacher_features(teacher, texts, ["hidden.5"], device="cpu", progress=False)
        >>> features
        TeacherFeatures(2 texts, 12 tokens, hidden.5, torch.float16, 9,216 bytes)
        >>> features.tensors["hidden.5"].shape
        torch.Size([12, 384])
    """

    tensors: dict[str, Tensor]
    token_ids: list[list[int]]
    shape: ModelShape
    scaling: float
    causal: bool

    @property
    def nbytes(self) -> int:
        """The bytes of memory that the features take."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def __repr__(self) -> str:
        n_texts, n_tokens = len(self.token_ids), sum(map(len, self.token_ids))
        names, dtypes = ", ".join(self.tensors), {str(tensor.dtype) for tensor in self.tensors.values()}
        sizes = f"{', '.join(sorted(dtypes))}, {self.nbytes:,} bytes"
        return f"TeacherFeatures({n_texts:,} texts, {n_tokens:,} tokens, {names}, {sizes})"

    def rows(self, starts: Sequence[int], index: int) -> dict[str, Tensor]:
        """The features of text `index`, under their keys in a batch. `starts` comes from `token_starts`."""
        here = slice(starts[index], starts[index] + len(self.token_ids[index]))
        extra = {f"{_PREFIX}scaling": torch.tensor(self.scaling), f"{_PREFIX}causal": torch.tensor(self.causal)}
        return {f"{_PREFIX}{name}": tensor[here] for name, tensor in self.tensors.items()} | extra

    def token_starts(self) -> list[int]:
        """The row of the tensors at which each text begins."""
        return list(accumulate(map(len, self.token_ids[:-1]), initial=0))


@torch.inference_mode()
def precompute_teacher_features(
    teacher: str | Path | TextClassifier | PreTrainedModel,
    texts: Sequence[TextInput],
    names: Sequence[str],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    max_length: int | None = None,
    storage_dtype: torch.dtype = torch.float16,
    max_bytes: int = 4 * 1024**3,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> TeacherFeatures:
    """A teacher's features for each text, computed once and kept in memory and, if asked for, on disk.

    Args:
        teacher: a `TextClassifier`; a folder, or a Hub name in the local cache; or a model of transformers together
            with its `tokenizer`. The teacher computes in the precision that its weights have.
        texts: texts, or pairs of texts (tuples of two), none of them empty.
        names: the names of the features, as in `Features.tensors`. `FeatureTerms.teacher_names` says which ones a
            configuration needs.
        tokenizer: the teacher's own; needed with a bare model only.
        batch_size: the number of texts at a time.
        device: default the best there is. The teacher is moved there.
        max_length: longer texts are cut to so many tokens; default the tokenizer's own limit. The student's data set
            must use the same value.
        storage_dtype: the precision in which the features are kept. fp16 halves the size and rounds a value by at
            most 1/2,000 of itself.
        max_bytes: refuse to start where the features would take more.
        cache_dir: the folder in which the features are kept; None keeps them in memory only.
        progress: show a progress bar, with the size.

    Raises:
        ValueError: no text or an empty one, no name or an unknown one, a batch size below 1, more than `max_bytes`,
            values that `storage_dtype` can't hold, or a tokenizer that is missing or comes twice.

    Example:
        The features that a student of two layers learns from, where its hidden states shall follow the teacher's:

        >>> teacher = dh.load_course_model("help-desk-teacher", device="cpu")
        >>> config, student = dh.DistillationConfig(intermediate_layers=True), dh.ModelShape(2, 384, n_heads=12)
        >>> names = dh.FeatureTerms(config, student, dh.ModelShape.of(teacher.model)).teacher_names
        >>> texts = ["my mac shows a grey screen", "no driver"]
        >>> dh.precompute_teacher_features(teacher, texts, names, device="cpu", progress=False)
        TeacherFeatures(2 texts, 12 tokens, hidden.2, hidden.5, torch.float16, 18,432 bytes)
    """
    check_batch_size(batch_size)
    teacher = teacher_classifier(teacher, tokenizer, device)
    length = resolve_max_length(teacher.tokenizer, max_length)
    token_ids = encode_texts(teacher.tokenizer, texts, length)
    check_positions(teacher.model, token_ids)
    if not names:
        raise ValueError("name the features to keep, such as FeatureTerms(…).teacher_names")
    names = list(dict.fromkeys(names))  # a name given twice is one feature
    widths, scaling, causal = _shapes(teacher, token_ids[0], names)
    n_tokens = sum(map(len, token_ids))
    n_bytes = n_tokens * sum(map(math.prod, widths.values())) * storage_dtype.itemsize
    if n_bytes > max_bytes:
        raise ValueError(
            f"{n_tokens:,} tokens × {len(names)} features take {n_bytes / 2**20:,.0f} MiB, more than max_bytes"
            f" ({max_bytes / 2**20:,.0f} MiB); name fewer features, raise max_bytes, or let the teacher run live"
        )
    folder = None
    if cache_dir is not None:
        more: dict[str, Any] = {"features": sorted(names), "storage_dtype": str(storage_dtype)}
        folder = Path(cache_dir) / cache_key(teacher, texts, length, teacher.model.dtype, **more)

    def shapes(rows: slice) -> dict[str, tuple[int, ...]]:
        return {name: (sum(map(len, token_ids[rows])), *width) for name, width in widths.items()}

    def compute(rows: slice) -> dict[str, Tensor]:
        return _features_of(teacher, token_ids[rows], names, batch_size, storage_dtype)

    title = f"Teacher features ({n_bytes / 2**20:,.0f} MiB)"
    tensors = compute_in_shards(folder, len(texts), shapes, compute, title=title, progress=progress)
    ordered = {name: tensors[name] for name in names}
    return TeacherFeatures(ordered, token_ids, ModelShape.of(teacher.model), scaling, causal)


def pad_features(items: Sequence[dict[str, Any]], side: str) -> dict[str, Tensor]:
    """The features of several items of a data set as a batch, padded with zeros on one side."""
    batch: dict[str, Tensor] = {}
    for key in (key for key in items[0] if key.startswith(_PREFIX)):
        rows = [item[key] for item in items]
        # Scalars belong to the teacher and are the same for all texts.
        batch[key] = rows[0]
        if rows[0].dim():
            padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_side=side)
            batch[key] = padded if padded.dim() == 3 else padded.transpose(1, 2)
    return batch


def take_features(batch: dict[str, Any]) -> Features | None:
    """Remove the teacher's features from a batch and return them; None where the batch has none."""
    found = {key.removeprefix(_PREFIX): batch.pop(key) for key in list(batch) if key.startswith(_PREFIX)}
    if not found:
        return None
    return Features(scaling=float(found.pop("scaling")), causal=bool(found.pop("causal")), tensors=found)


def _shapes(
    teacher: TextClassifier, token_ids: list[int], names: Sequence[str]
) -> tuple[dict[str, tuple[int, ...]], float, bool]:
    """The shapes of one token's features by name, and `scaling` and `causal`, from a trial on one text."""
    with evaluation_mode(teacher.model), capture_features(teacher.model, names) as features:
        teacher.model(**model_batch(teacher.model, [token_ids], teacher.tokenizer))
    shapes = {name: tuple(_by_token(features[name]).shape[2:]) for name in names}
    return shapes, features.scaling, features.causal


def _by_token(tensor: Tensor) -> Tensor:
    """A feature of any kind as (batch, sequence, …)."""
    return tensor if tensor.dim() == 3 else tensor.transpose(1, 2)


def _features_of(
    teacher: TextClassifier, token_ids: list[list[int]], names: Sequence[str], batch_size: int, storage: torch.dtype
) -> dict[str, Tensor]:
    model = teacher.model
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    with evaluation_mode(model):
        for start in range(0, len(token_ids), batch_size):
            batch = model_batch(model, token_ids[start : start + batch_size], teacher.tokenizer)
            with capture_features(model, names) as features:
                model(**batch)
            real = batch["attention_mask"].bool()
            for name in names:
                kept = _by_token(features[name])[real].to(device="cpu", dtype=storage)
                if not kept.isfinite().all():
                    raise ValueError(
                        f"{name} has values that {storage} can't hold; pass torch.bfloat16 or torch.float32 as"
                        " storage_dtype"
                    )
                rows[name].append(kept)
    return {name: torch.cat(parts) for name, parts in rows.items()}
