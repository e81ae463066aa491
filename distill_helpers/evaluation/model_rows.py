"""All figures of one model in one row, by the task that the model solves.

`measures.compare` makes one table of the rows of several models.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from distill_helpers.evaluation.measures import (
    classification_metrics,
    measure_latency,
    measure_throughput,
    model_size,
)
from distill_helpers.evaluation.task_metrics import (
    multi_label_metrics,
    regression_metrics,
    token_classification_metrics,
)
from distill_helpers.models.batching import check_batch_size, check_positions, evaluation_mode, pad_batch, to_device
from distill_helpers.models.prediction_tasks import PredictionTask, prediction_task
from distill_helpers.models.text_models import TextClassifier, predict_logits

__all__ = ["TextsWithLabels", "evaluate"]


class TextsWithLabels(Protocol):
    """What `evaluate` needs of a data set: `LabelledTexts`, or any object with `texts` and `labels`.

    If the object has `label_names` too, they must be the model's.
    """

    @property
    def texts(self) -> Sequence[Any]: ...

    @property
    def labels(self) -> Any: ...


def evaluate(
    classifier: TextClassifier,
    data: TextsWithLabels | Sequence[Mapping[str, Any]],
    *,
    teacher_logits: Tensor | Sequence[Tensor] | None = None,
    batch_size: int = 64,
    max_length: int | None = None,
    timing: bool = False,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, float]:
    """All figures of a model on labelled messages, as one row. The model's task decides which figures these are.

    Args:
        classifier: model and tokenizer. The model is used where it is. `prediction_task(model)` is its task.
        data: usually the test set. If its `labels` are not class indices (`LabelledTexts`), any object with `texts` and
            `labels` will do: a matrix of 0 and 1 for several labels, numbers for a regression. For a token classifier,
            one item for each text with `input_ids` and as many `labels`, `IGNORE_INDEX` where there is none.
        teacher_logits: the teacher's logits on the same messages, in the shape of the model's. They add `agreement`, or
            `teacher_mse` and `teacher_spearman` for a regression.
        batch_size: the number of messages at a time.
        max_length: longer messages are cut to so many tokens; default the tokenizer's own limit.
        timing: add `latency_ms` and `messages_per_s`, which takes some seconds.
        groups: for a reranker, the query of each text. They add `pairwise_accuracy` and `ndcg`.

    Returns:
        `parameters`, `bytes`, the figures that were asked for, and those of the task: `accuracy`, `macro_f1`, `nll`
        (nats) and `ece` for one class of several, of a text or of a token (`classification_metrics`,
        `token_classification_metrics`); those of `multi_label_metrics`; those of `regression_metrics`.

    Raises:
        ValueError: label names that differ from the model's, labels that the task does not have, teacher logits of
            another shape, an option that the task does not have, or a model whose task is not known
            (`prediction_task`).

    Example:
        >>> student = dh.load_course_model("help-desk-student", device="cpu")
        >>> row = dh.evaluate(student, dh.load_help_desk().test.subset(range(0, 1950, 10)))
        >>> f"{row['accuracy']:.2f} accuracy with {row['parameters']:,.0f} parameters"
        '0.78 accuracy with 1,060,357 parameters'
    """
    task = prediction_task(classifier.model)
    if groups is not None and task != PredictionTask.REGRESSION:
        raise ValueError(f"groups rank scores, and this is a {task} model; leave them out")
    names = getattr(data, "label_names", None)
    if names is not None and tuple(names) != classifier.label_names:
        raise ValueError(f"the data's classes are {names}, the model's {classifier.label_names}")
    size = model_size(classifier.model)
    if task == PredictionTask.TOKEN_CLASSIFICATION:
        if timing or max_length is not None:
            raise ValueError("the items of a token classifier are tokenised already; leave out timing and max_length")
        return _token_metrics(classifier, data, teacher_logits, batch_size) | size
    if not hasattr(data, "texts") or not hasattr(data, "labels"):
        raise ValueError(f"a {task} model is evaluated on an object with texts and labels, got {type(data).__name__}")
    if len(data.texts) != len(data.labels):
        raise ValueError(f"{len(data.texts)} texts and {len(data.labels)} labels; each text needs its own")
    if teacher_logits is not None and not isinstance(teacher_logits, Tensor):
        raise ValueError(f"teacher_logits must be one tensor, got {type(teacher_logits).__name__}")
    logits = predict_logits(classifier, data.texts, batch_size=batch_size, max_length=max_length)
    if task == PredictionTask.MULTI_LABEL:
        row = multi_label_metrics(logits, data.labels, teacher_logits)
    elif task == PredictionTask.REGRESSION:
        teacher_scores = teacher_logits
        if teacher_scores is not None and teacher_scores.dim() == 1:
            teacher_scores = teacher_scores[:, None]
        row = regression_metrics(logits, data.labels, teacher_scores, groups=groups)
    else:
        row = classification_metrics(logits, data.labels, teacher_logits)
    row |= size
    if timing:
        row["latency_ms"] = measure_latency(classifier, data.texts, max_length=max_length)
        row["messages_per_s"] = measure_throughput(classifier, data.texts, batch_size=batch_size, max_length=max_length)
    return row


def _token_metrics(
    classifier: TextClassifier, items: Any, teacher_logits: Tensor | Sequence[Tensor] | None, batch_size: int
) -> dict[str, float]:
    if not hasattr(items, "__getitem__") or len(items) == 0:
        raise ValueError(
            "a token classifier needs one item or more with input_ids and a label for each of them, got"
            f" {type(items).__name__}; a text and a label do not say which token the label belongs to"
        )
    for row, item in enumerate(items):
        if "input_ids" not in item or "labels" not in item:
            raise ValueError(f"row {row}: the item needs input_ids and labels, and has {sorted(item)}")
        n_tokens, n_labels = len(item["input_ids"]), len(item["labels"])
        if n_tokens != n_labels:
            raise ValueError(f"row {row}: {n_tokens} input_ids and {n_labels} labels; give each token a label, or -100")
    labels = [[int(label) for label in item["labels"]] for item in items]
    logits = _token_logits(classifier, [[int(i) for i in item["input_ids"]] for item in items], batch_size)
    return token_classification_metrics(logits, labels, teacher_logits)


@torch.inference_mode()
def _token_logits(classifier: TextClassifier, token_ids: list[list[int]], batch_size: int) -> list[Tensor]:
    """For each text the logits of its tokens, (tokens, classes), in fp32 on the CPU."""
    check_batch_size(batch_size)
    model, tokenizer = classifier
    check_positions(model, token_ids)
    by_length = sorted(range(len(token_ids)), key=lambda i: len(token_ids[i]))
    logits: dict[int, Tensor] = {}
    with evaluation_mode(model):
        for start in range(0, len(by_length), batch_size):
            rows = by_length[start : start + batch_size]
            # On the right, where padding moves no position: BERT numbers the tokens from the left.
            batch = pad_batch([token_ids[i] for i in rows], tokenizer, side="right")
            of_batch = model(**to_device(batch, model.device)).logits.float().cpu()
            logits |= {i: of_text[: len(token_ids[i])] for i, of_text in zip(rows, of_batch, strict=True)}
    return [logits[i] for i in range(len(token_ids))]
