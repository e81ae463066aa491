"""All figures of one model in one row, by the task that the model solves.

`measures.compare` makes one table of the rows of several models.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from distill_helpers.data.labelled_images import LabelledImages
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
from distill_helpers.models.batching import check_positions, evaluation_mode, pad_batch, rows_by_length, to_device
from distill_helpers.models.image_models import ImageClassifier, predict_image_logits
from distill_helpers.models.prediction_tasks import PredictionTask, prediction_task
from distill_helpers.models.text_models import TextClassifier, predict_logits
from distill_helpers.models.word_predictions import WordLogits, logits_of_all_words

__all__ = ["TextsWithLabels", "evaluate"]


class TextsWithLabels(Protocol):
    """What `evaluate` needs of a data set: `LabelledTexts`, or any object with `texts` and `labels`.

    If the object has `label_names` too, they must be the model's.
    """

    @property
    def texts(self) -> Sequence[Any]: ...

    @property
    def labels(self) -> Any: ...


class TokenizedTexts(Protocol):
    """Texts as tokens with a label each, such as a `TokenClassificationDataset` or a list of items."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


def evaluate(
    classifier: TextClassifier | ImageClassifier,
    data: TextsWithLabels | LabelledImages | TokenizedTexts,
    *,
    teacher_logits: Tensor | Sequence[Tensor] | WordLogits | None = None,
    batch_size: int = 64,
    max_length: int | None = None,
    timing: bool = False,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, float]:
    """All figures of a model on labelled messages, as one row. The model's task decides which figures these are.

    Args:
        classifier: model and tokenizer, or model and processor. The model is used where it is.
            `prediction_task(model)` is its task.
        data: usually the test set. If its `labels` are not class indices (`LabelledTexts`), any object with `texts` and
            `labels` will do: a matrix of 0 and 1 for several labels, numbers for a regression. For a token classifier,
            an object whose `texts` are lists of words with as many `labels` each; or one item for each text with
            `input_ids` and as many `labels` (`TokenClassificationDataset`). `IGNORE_INDEX` stands where there is none.
            For an `ImageClassifier`, `LabelledImages` or any object with `images` and `labels`.
        teacher_logits: the teacher's logits on the same messages, in the shape of the model's, or `WordLogits`. They
            add `agreement`, or `teacher_mse` and `teacher_spearman` for a regression.
        batch_size: the number of messages at a time.
        max_length: longer messages are cut to so many tokens; default the tokenizer's own limit.
        timing: add `latency_ms` and `messages_per_s`, which takes some seconds; for texts.
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
        '0.77 accuracy with 1,060,357 parameters'
    """
    task = prediction_task(classifier.model)
    if groups is not None and task != PredictionTask.REGRESSION:
        raise ValueError(f"groups rank scores, and this is a {task} model; leave them out")
    names = getattr(data, "label_names", None)
    if names is not None and tuple(names) != classifier.label_names:
        raise ValueError(f"the data's classes are {names}, the model's {classifier.label_names}")
    size = model_size(classifier.model)
    of_texts: Any = classifier  # where a tokenizer is used, the model reads texts
    if task == PredictionTask.TOKEN_CLASSIFICATION:
        if timing:
            raise ValueError("timing reads whole texts, as they come; leave it out for a token classifier")
        judge = _word_metrics if hasattr(data, "texts") else _token_metrics
        return judge(of_texts, data, teacher_logits, batch_size, max_length) | size
    inputs = _inputs_of(classifier, data, task, teacher_logits)
    if isinstance(classifier, ImageClassifier):
        if timing or max_length is not None:
            raise ValueError("timing and max_length are for texts; leave them out")
        logits = predict_image_logits(classifier, inputs, batch_size=batch_size)
    else:
        logits = predict_logits(classifier, inputs, batch_size=batch_size, max_length=max_length)
    labels: Any = data.labels  # type: ignore[union-attr]
    row = _figures(task, logits, labels, teacher_logits, groups)
    row |= size
    if timing:
        row["latency_ms"] = measure_latency(of_texts, inputs, max_length=max_length)
        row["messages_per_s"] = measure_throughput(of_texts, inputs, batch_size=batch_size, max_length=max_length)
    return row


def _inputs_of(
    classifier: TextClassifier | ImageClassifier, data: Any, task: PredictionTask, teacher_logits: Any
) -> Sequence[Any]:
    """The texts or images of a data set, as many as its labels. The teacher's logits must be one tensor."""
    unit = "image" if isinstance(classifier, ImageClassifier) else "text"
    inputs = getattr(data, f"{unit}s", None)
    if inputs is None or not hasattr(data, "labels"):
        raise ValueError(
            f"a {task} model of {unit}s is evaluated on an object with {unit}s and labels, got {type(data).__name__}"
        )
    if len(inputs) != len(data.labels):
        raise ValueError(f"{len(inputs)} {unit}s and {len(data.labels)} labels; each {unit} needs its own")
    if teacher_logits is not None and not isinstance(teacher_logits, Tensor):
        raise ValueError(f"teacher_logits must be one tensor, got {type(teacher_logits).__name__}")
    return inputs


def _figures(
    task: PredictionTask,
    logits: Tensor,
    labels: Any,
    teacher_logits: Any,
    groups: Sequence[Hashable] | None,
) -> dict[str, float]:
    """The figures of a task with one row of logits for each text or image."""
    if task == PredictionTask.MULTI_LABEL:
        return multi_label_metrics(logits, labels, teacher_logits)
    if task == PredictionTask.REGRESSION:
        if teacher_logits is not None and teacher_logits.dim() == 1:
            teacher_logits = teacher_logits[:, None]
        return regression_metrics(logits, labels, teacher_logits, groups=groups)
    return classification_metrics(logits, labels, teacher_logits)


def _word_metrics(
    classifier: TextClassifier, data: Any, teacher_logits: Any, batch_size: int, max_length: int | None
) -> dict[str, float]:
    """The figures of words with a label each. Every word is judged: none may be cut off."""
    if not hasattr(data, "labels") or len(data.texts) != len(data.labels):
        raise ValueError(f"{len(data.texts)} texts need a list of labels each, one for each of their words")
    logits = logits_of_all_words(classifier, data.texts, batch_size=batch_size, max_length=max_length).by_text()
    for row, (of_text, labels) in enumerate(zip(logits, data.labels, strict=True)):
        if isinstance(labels, str) or not hasattr(labels, "__len__") or len(labels) != len(of_text):
            raise ValueError(f"row {row}: {len(of_text)} words need a list of as many labels, got {labels!r}")
    if isinstance(teacher_logits, WordLogits):
        teacher_logits = teacher_logits.by_text()
    return token_classification_metrics(logits, data.labels, teacher_logits)


def _token_metrics(
    classifier: TextClassifier, items: Any, teacher_logits: Any, batch_size: int, max_length: int | None
) -> dict[str, float]:
    """The figures of tokens with a label each, which are tokenised already."""
    if max_length is not None or isinstance(teacher_logits, WordLogits):
        raise ValueError(
            "these items of a token classifier are tokenised already; leave out max_length and WordLogits, or pass an"
            " object with texts of words and labels"
        )
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
    model, tokenizer = classifier
    check_positions(model, token_ids)
    logits: dict[int, Tensor] = {}
    with evaluation_mode(model):
        for rows in rows_by_length(token_ids, batch_size):
            # On the right, where padding moves no position: BERT numbers the tokens from the left.
            batch = pad_batch([token_ids[i] for i in rows], tokenizer, side="right")
            of_batch = model(**to_device(batch, model.device)).logits.float().cpu()
            logits |= {i: of_text[: len(token_ids[i])] for i, of_text in zip(rows, of_batch, strict=True)}
    return [logits[i] for i in range(len(token_ids))]
