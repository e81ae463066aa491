"""Teacher targets: the teacher labels every text once, and the logits stay on disk (`target_cache`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill_helpers.data.labelled_texts import check_texts
from distill_helpers.models.batching import check_finite, predict_logits, resolve_max_length
from distill_helpers.models.loading import label_names_of, load_text_classifier, pick_device
from distill_helpers.targets.cache import SHARD_SIZE, cache_key, read_or_compute

__all__ = ["precompute_teacher_logits"]


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
    folder = None if cache_dir is None else Path(cache_dir) / cache_key(model, tokenizer, texts, length, dtype)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    parts: list[Tensor] = []
    with tqdm(total=len(texts), desc="Teacher labels", unit="text", disable=not progress) as bar:
        for number, shard in enumerate(shards):
            path = None if folder is None else folder / f"{number:05d}.safetensors"
            shape = (len(shard), len(label_names_of(model)))
            compute = partial(_logits_of, model, tokenizer, shard, batch_size, length, number * SHARD_SIZE)
            parts.append(read_or_compute(path, {"logits": shape}, compute)["logits"])
            bar.update(len(shard))
    return torch.cat(parts)


def _logits_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: list[str],
    batch_size: int,
    max_length: int,
    first_row: int,
) -> dict[str, Tensor]:
    logits = predict_logits(model, tokenizer, texts, batch_size=batch_size, max_length=max_length)
    check_finite(logits, "in half precision try dtype=float32", first_row=first_row)
    return {"logits": logits}
