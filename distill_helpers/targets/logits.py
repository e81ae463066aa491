"""The teacher's logits: the teacher reads every text once, and the logits stay on disk (`targets.cache`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill_helpers.data.text_inputs import TextInput, check_inputs
from distill_helpers.models.batching import (
    check_finite,
    check_positions,
    encode_texts,
    position_limit,
    resolve_max_length,
)
from distill_helpers.models.loading import load_text_classifier, pick_device
from distill_helpers.models.prediction_tasks import PredictionTask, prediction_task
from distill_helpers.models.text_models import TextClassifier, check_label_names, predict_logits
from distill_helpers.targets.cache import cache_key, compute_in_shards

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["precompute_teacher_logits", "teacher_classifier"]


def precompute_teacher_logits(
    teacher_model_name: str | Path | TextClassifier | PreTrainedModel,
    texts: Sequence[TextInput],
    tokenizer: PreTrainedTokenizerBase | None = None,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    max_length: int | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    label_names: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
    task: str = "single_label",
) -> Tensor:
    """The teacher's logits for each text, computed once.

    Args:
        teacher_model_name: a `TextClassifier`; a folder, or a Hub name in the local cache; or a sequence classifier of
            transformers together with its `tokenizer`.
        texts: the texts to be labelled, or pairs of texts (tuples of two), whether or not they have hard labels.
        tokenizer: the *teacher's* own. Needed with a bare model only: a `TextClassifier` holds its own tokenizer, and a
            folder or Hub name is loaded with its own.
        batch_size: the number of texts at a time. It moves a logit in the seventh digit at most, and is no part of the
            cache key.
        device: default the best there is. The teacher is moved there and cast to `dtype`.
        max_length: longer texts are cut to so many of the teacher's tokens; default its tokenizer's own limit.
        dtype: the precision in which the teacher computes. fp32 is right on a CPU; bfloat16 is an option on a GPU.
        label_names: the classes in the order of *your* labels, to be checked against the teacher's. A teacher whose
            classes stand in another order trains a student that is confidently wrong.
        cache_dir: the folder in which the logits are kept; None keeps nothing.
        progress: show a progress bar.
        task: what you take the logits for, "single_label", "multi_label" or "regression". The teacher must agree
            (`prediction_task`): the softmax of a loss for one class of several would match the logits of any other
            teacher without a word, and teach nothing of what they mean.

    Returns:
        fp32, (texts, classes), on the CPU, in the order of the texts. A column is a class, a label or a score.

    Raises:
        ValueError: a teacher of another task, or whose task is not known; no text, an empty one or one of more tokens
            than the teacher has positions (with its row), label names in another order, a bare model without its
            tokenizer, a `TextClassifier` with a second one, or logits that are not finite.

    Example:
        >>> teacher = dh.load_course_model("help-desk-teacher", device="cpu")
        >>> logits = dh.precompute_teacher_logits(teacher, ["my mac shows a grey screen"], device="cpu", progress=False)
        >>> logits.shape, teacher.label_names[logits.argmax()]
        (torch.Size([1, 5]), 'comp.sys.mac.hardware')
    """
    check_inputs(texts)
    teacher = teacher_classifier(teacher_model_name, tokenizer, device)
    check_teacher_task(teacher, task)
    check_label_names(teacher.label_names, label_names)
    length = resolve_max_length(teacher.tokenizer, max_length)
    if length > position_limit(teacher.model):  # before any work, and with the row among all texts
        check_positions(teacher.model, encode_texts(teacher.tokenizer, texts, length))
    teacher.model.to(dtype=dtype)  # type: ignore[call-arg]

    def compute(rows: slice) -> dict[str, Tensor]:
        logits = predict_logits(teacher, texts[rows], batch_size=batch_size, max_length=length)
        check_finite(logits, "in half precision try dtype=torch.float32", first_row=rows.start)
        return {"logits": logits}

    return compute_in_shards(
        None if cache_dir is None else Path(cache_dir) / cache_key(teacher, texts, length, dtype),
        len(texts),
        lambda rows: {"logits": (rows.stop - rows.start, len(teacher.label_names))},
        compute,
        title="Teacher labels",
        progress=progress,
    )["logits"]


def check_teacher_task(teacher: TextClassifier, task: str) -> None:
    """Raise ValueError, with the remedy, if the teacher's logits mean something else than the task says."""
    of_teacher = prediction_task(teacher.model)
    if of_teacher == PredictionTask.TOKEN_CLASSIFICATION:
        raise ValueError(
            f"the teacher, a {type(teacher.model).__name__}, classifies tokens; this function keeps one row of logits"
            " for each text. Use `precompute_teacher_word_logits`, or a teacher of whole texts"
        )
    if of_teacher != task:
        raise ValueError(
            f"the teacher's task is {str(of_teacher)!r}, by its {_why(teacher)}, and task={str(task)!r}"
            f" asks for other logits; pass task={str(of_teacher)!r} here, to DistillationDataset and to"
            " DistillationConfig, or correct `model.config.problem_type`"
        )


def _why(teacher: TextClassifier) -> str:
    problem, n = teacher.model.config.problem_type, teacher.model.config.num_labels
    return f"{n} output{'s' * (n != 1)}" if problem is None else f"problem_type {problem!r}"


def teacher_classifier(
    source: str | Path | TextClassifier | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None = None,
    device: str | torch.device | None = None,
) -> TextClassifier:
    """The teacher that a caller has named, with its tokenizer, on a device.

    Args:
        source: a `TextClassifier`; a folder, or a Hub name in the local cache; or a sequence classifier of
            transformers.
        tokenizer: needed with a bare model, refused with a `TextClassifier`, optional with a name.
        device: default the best there is. A model that was passed in is itself moved there.

    Raises:
        ValueError: a bare model without a tokenizer, or a `TextClassifier` with a second one.
        OSError: as `load_text_classifier`.
    """
    if isinstance(source, str | Path):
        model, own_tokenizer = load_text_classifier(source, device=device)
        return TextClassifier(model, own_tokenizer if tokenizer is None else tokenizer)
    if isinstance(source, TextClassifier):
        if tokenizer is not None:
            raise ValueError("a TextClassifier has the teacher's own tokenizer already; leave out tokenizer=")
        teacher = source
    elif tokenizer is None:
        raise ValueError(
            f"a bare {type(source).__name__} has no tokenizer; pass TextClassifier(model, tokenizer), or the teacher's"
            " own tokenizer as tokenizer="
        )
    else:
        teacher = TextClassifier(source, tokenizer)
    teacher.model.to(pick_device(device))  # type: ignore[arg-type]
    return teacher
