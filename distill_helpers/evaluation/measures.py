"""How good, how faithful, how calibrated, how large, how fast; and one table for several models.

Accuracy alone hides what distillation is about. At the same accuracy a student can agree more often with its teacher,
or be better calibrated. `model_rows.evaluate` brings the figures together in one row; `task_metrics` has those of other
tasks than one class for each text.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from distill_helpers.data.text_inputs import TextInput
from distill_helpers.evaluation.calibration import reliability_bins
from distill_helpers.models.batching import (
    check_positions,
    encode_texts,
    evaluation_mode,
    inputs_for,
    resolve_max_length,
)
from distill_helpers.models.parameter_counts import count_bytes, count_parameters
from distill_helpers.models.text_models import TextClassifier, predict_logits

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "agreement",
    "classification_metrics",
    "compare",
    "expected_calibration_error",
    "measure_latency",
    "measure_throughput",
    "model_size",
]


def classification_metrics(
    logits: Tensor, labels: Sequence[int], teacher_logits: Tensor | None = None
) -> dict[str, float]:
    """Accuracy, macro-F1, negative log-likelihood and ECE of logits, and their agreement with a teacher's logits.

    Args:
        logits: (texts, classes).
        labels: class indices, one for each text.
        teacher_logits: of the same shape as `logits`. They add `agreement`.

    Raises:
        ValueError: lengths or shapes that differ, no text, logits of a single class or that are not finite, or labels
            that are no class indices, with their row.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
        >>> teacher_logits = torch.tensor([[3.0, 0.0], [0.0, 3.0], [0.0, 1.0]])
        >>> row = dh.classification_metrics(logits, [0, 1, 1], teacher_logits)
        >>> {name: round(figure, 2) for name, figure in row.items()}
        {'accuracy': 0.67, 'macro_f1': 0.67, 'nll': 0.52, 'ece': 0.32, 'agreement': 0.67}
    """
    from sklearn.metrics import accuracy_score, f1_score, log_loss

    if logits.dim() != 2 or len(logits) != len(labels) or len(labels) == 0:
        raise ValueError(
            f"need logits (texts, classes) and one label for each text, got {tuple(logits.shape)}, {len(labels)} labels"
        )
    _check_classes(logits)
    given = np.asarray(labels)
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
        raise ValueError(
            f"labels must be class indices, one for each text, got {given.dtype} of shape {given.shape};"
            " `multi_label_metrics` and `regression_metrics` take other labels"
        )
    if (wrong := np.flatnonzero((given < 0) | (given >= logits.shape[1]))).size:
        row = wrong[0]
        raise ValueError(
            f"row {row}: label {given[row]} is none of the {logits.shape[1]} classes; leave out messages without labels"
        )
    probabilities = logits.double().softmax(dim=-1).cpu().numpy()
    predicted, classes = probabilities.argmax(axis=1), np.arange(logits.shape[1])
    row = {
        "accuracy": float(accuracy_score(labels, predicted)),
        "macro_f1": float(f1_score(labels, predicted, average="macro", labels=classes, zero_division=0)),
        "nll": float(log_loss(labels, probabilities, labels=classes)),
        "ece": expected_calibration_error(probabilities, labels),
    }
    if teacher_logits is not None:
        row["agreement"] = agreement(logits, teacher_logits)
    return row


def agreement(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """The share of messages on which student and teacher give the same class.

    This is the "average top-1 agreement", one of the two measures of fidelity in Stanton et al. (arXiv 2106.05945,
    equation 2).

    Raises:
        ValueError: shapes that differ, a single class, or logits that are not finite.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            "student and teacher need logits of the same messages and classes, got the shapes"
            f" {tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        )
    for logits in (student_logits, teacher_logits):
        _check_classes(logits)
    return float((student_logits.argmax(-1).cpu() == teacher_logits.argmax(-1).cpu()).double().mean())


def _check_classes(logits: Tensor) -> None:
    if logits.shape[-1] == 1:
        raise ValueError(
            "the logits have a single class, which is always predicted; use `regression_metrics` if they are scores, or"
            " `multi_label_metrics` if they are yes or no"
        )
    if not logits.isfinite().all():
        raise ValueError("the logits are not finite; a model that returns NaN cannot be evaluated")


def expected_calibration_error(probabilities: np.ndarray, labels: Sequence[int], n_bins: int = 15) -> float:
    """ECE with bins of equal width over the confidence (Guo et al., arXiv 1706.04599, equation 3).

    Args:
        probabilities: (texts, classes). Each row sums to 1.
        labels: class indices, one for each text.
        n_bins: the number of bins over (0, 1].

    Returns:
        A number in [0, 1]. It is 0 if, in every bin, the share of right answers equals the mean confidence.

    Raises:
        ValueError: `n_bins` below 1, rows that are no probabilities, or not one label for each row.
    """
    bins = reliability_bins(probabilities, labels, n_bins)
    return float(((bins["accuracy"] - bins["confidence"]).abs() * bins["count"]).sum() / len(labels))


def model_size(model: nn.Module) -> dict[str, float]:
    """The number of `parameters`, and the `bytes` of parameters and buffers as they are in memory.

    A quantised layer counts with all its weights, wherever the layer keeps them (`models.parameter_counts`).
    """
    return {"parameters": float(count_parameters(model)), "bytes": float(count_bytes(model))}


@torch.inference_mode()
def answer(classifier: TextClassifier, text: TextInput, max_length: int | None = None) -> int:
    """The class of one message, starting from its characters: the work of one request to a server."""
    model, tokenizer = classifier
    first, second = text if isinstance(text, tuple) else (text, None)
    length = resolve_max_length(tokenizer, max_length)
    inputs = tokenizer(first, second, truncation="longest_first", max_length=length, return_tensors="pt")
    return int(model(**inputs_for(model, inputs.to(model.device))).logits.argmax())


def measure_latency(
    classifier: TextClassifier,
    texts: Sequence[TextInput],
    n_messages: int = 100,
    warmup: int = 10,
    max_length: int | None = None,
) -> float:
    """The median time to answer one message, in milliseconds, tokenising included. One message at a time.

    Args:
        classifier: model and tokenizer. The model is used where it is, without dropout, and keeps its mode.
        texts: messages, or pairs of texts, used again from the first if there are too few.
        n_messages: how many answers are timed.
        warmup: how many answers come before, untimed.
        max_length: longer messages are cut to so many tokens; default the tokenizer's own limit.

    Raises:
        ValueError: no text, counts below 1, or, with its row, an empty text or one of more tokens than the model has
            positions.
    """
    if not texts or n_messages < 1 or warmup < 1:
        raise ValueError("need at least one text, one message and one warm-up message")
    chosen = [texts[i % len(texts)] for i in range(warmup + n_messages)]
    # A limit above the positions would end in an error of torch, at the first long text.
    check_positions(classifier.model, encode_texts(classifier.tokenizer, chosen, max_length))
    seconds = []
    with evaluation_mode(classifier.model):
        for text in chosen:
            start = time.perf_counter()
            answer(classifier, text, max_length)  # ends with a number on the CPU, so a GPU has finished by then
            seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[warmup:])


def measure_throughput(
    classifier: TextClassifier,
    texts: Sequence[TextInput],
    batch_size: int = 64,
    max_texts: int = 512,
    max_length: int | None = None,
) -> float:
    """Messages per second in batches, tokenising included.

    Args:
        classifier: model and tokenizer. The model is used where it is.
        texts: messages, of which the first `max_texts` are timed.
        batch_size: the number of messages at a time.
        max_texts: how many messages to time at most.
        max_length: longer messages are cut to so many tokens; default the tokenizer's own limit.

    Raises:
        ValueError: no text, or a batch size below 1.
    """
    sample = list(texts[:max_texts])
    predict_logits(classifier, sample[:batch_size], batch_size=batch_size, max_length=max_length)  # warm-up
    start = time.perf_counter()
    predict_logits(classifier, sample, batch_size=batch_size, max_length=max_length)
    return len(sample) / (time.perf_counter() - start)


def compare(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> pd.DataFrame:
    """One line for each model, with the mean and the spread over its seeds.

    Args:
        rows: for each model its rows from `evaluate`, one for each seed.

    Returns:
        A table whose index is the models. Its columns are `seeds`, the mean of each figure under the figure's name, and
        the standard deviation over seeds as `<figure>_sd` (n − 1 in the denominator; NaN for a single seed).

    Raises:
        ValueError: a model without rows.

    Example:
        >>> dh.compare({"student": [{"accuracy": 0.81}, {"accuracy": 0.83}], "teacher": [{"accuracy": 0.88}]}).round(3)
                 seeds  accuracy  accuracy_sd
        student      2      0.82        0.014
        teacher      1      0.88          NaN
    """
    import pandas as pd

    lines = {}
    for name, seeds in rows.items():
        if not seeds:
            raise ValueError(f"no rows for {name!r}; pass one row for each seed")
        frame = pd.DataFrame(list(seeds))
        line: dict[str, float] = {"seeds": len(frame)}
        for figure in frame.columns:
            line[figure] = frame[figure].mean()
            line[f"{figure}_sd"] = frame[figure].std(ddof=1)
        lines[name] = line
    return pd.DataFrame.from_dict(lines, orient="index")
