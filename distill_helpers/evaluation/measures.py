"""How good, how faithful, how calibrated, how big, how fast: one row for a model, one table for several.

Accuracy alone hides what distillation is about: a student can agree with its teacher more, or be better calibrated, at
the same accuracy.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch import Tensor
from transformers import PreTrainedModel

from distill_helpers.data.labelled_texts import LabelledTexts
from distill_helpers.evaluation.calibration import reliability_bins
from distill_helpers.models.batching import predict_logits, resolve_max_length
from distill_helpers.models.loading import TextClassifier

__all__ = [
    "agreement",
    "classification_metrics",
    "compare",
    "evaluate",
    "expected_calibration_error",
    "measure_latency",
    "measure_throughput",
    "model_size",
]


def evaluate(
    classifier: TextClassifier,
    data: LabelledTexts,
    *,
    teacher_logits: Tensor | None = None,
    batch_size: int = 64,
    max_length: int | None = None,
    timing: bool = False,
) -> dict[str, float]:
    """Every figure of a classifier on labelled messages, as one row.

    Args:
        classifier: model and tokenizer; the model is used where it is.
        data: usually the test set. Its label names must be the model's.
        teacher_logits: (texts, classes) of the teacher on the same messages, for `agreement`.
        batch_size: messages at a time.
        max_length: in tokens; default the tokenizer's own.
        timing: add `latency_ms` and `messages_per_s` (takes some seconds).

    Returns:
        `accuracy`, `macro_f1`, `nll` (nats), `ece`, `parameters`, `bytes`, and what was asked for.

    Raises:
        ValueError: label names that differ from the model's, teacher logits of another shape.
    """
    if data.label_names != classifier.label_names:
        raise ValueError(f"the data's classes are {data.label_names}, the model's {classifier.label_names}")
    model, tokenizer = classifier
    logits = predict_logits(model, tokenizer, data.texts, batch_size=batch_size, max_length=max_length)
    row = classification_metrics(logits, data.labels, teacher_logits) | model_size(model)
    if timing:
        row["latency_ms"] = measure_latency(classifier, data.texts, max_length=max_length)
        row["messages_per_s"] = measure_throughput(classifier, data.texts, batch_size=batch_size, max_length=max_length)
    return row


def classification_metrics(
    logits: Tensor, labels: Sequence[int], teacher_logits: Tensor | None = None
) -> dict[str, float]:
    """Accuracy, macro-F1, negative log-likelihood and ECE of logits, and the agreement with a teacher's.

    Args:
        logits: (texts, classes).
        labels: class indices.
        teacher_logits: same shape as `logits`; adds `agreement`.

    Raises:
        ValueError: lengths or shapes that differ, no text, logits that are not finite.
    """
    if logits.dim() != 2 or len(logits) != len(labels) or len(labels) == 0:
        raise ValueError(f"need logits (texts, classes) and as many labels, got {tuple(logits.shape)}, {len(labels)}")
    if not logits.isfinite().all():
        raise ValueError("the logits are not finite; a model that returns NaN cannot be evaluated")
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
    """Share of messages on which both give the same class.

    "Average top-1 agreement", one of the two measures of fidelity in Stanton et al. (arXiv 2106.05945, equation 2).

    Raises:
        ValueError: shapes that differ.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(f"shapes differ: {tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}")
    return float((student_logits.argmax(-1).cpu() == teacher_logits.argmax(-1).cpu()).double().mean())


def expected_calibration_error(probabilities: np.ndarray, labels: Sequence[int], n_bins: int = 15) -> float:
    """ECE with bins of equal width over the confidence (Guo et al., arXiv 1706.04599, equation 3).

    Args:
        probabilities: (texts, classes), rows sum to 1.
        labels: class indices.
        n_bins: bins over (0, 1].

    Returns:
        In [0, 1]; 0 when, in every bin, the share that is right equals the mean confidence.

    Raises:
        ValueError: `n_bins` below 1, rows that are no probabilities, or not one label per row.
    """
    bins = reliability_bins(probabilities, labels, n_bins)
    return float(((bins["accuracy"] - bins["confidence"]).abs() * bins["count"]).sum() / len(labels))


def model_size(model: PreTrainedModel) -> dict[str, float]:
    """`parameters`, and `bytes` of parameters and buffers as they are in memory."""
    tensors = [*model.parameters(), *model.buffers()]
    return {
        "parameters": float(sum(p.numel() for p in model.parameters())),
        "bytes": float(sum(t.numel() * t.element_size() for t in tensors)),
    }


@torch.inference_mode()
def answer(classifier: TextClassifier, text: str, max_length: int | None = None) -> int:
    """The class of one message, from its characters: what one request to a server costs."""
    model, tokenizer = classifier
    inputs = tokenizer(
        text,
        truncation=True,
        max_length=resolve_max_length(tokenizer, max_length),
        return_tensors="pt",
        return_token_type_ids=False,
    )
    return int(model(**inputs.to(model.device)).logits.argmax())


def measure_latency(
    classifier: TextClassifier,
    texts: Sequence[str],
    n_messages: int = 100,
    warmup: int = 10,
    max_length: int | None = None,
) -> float:
    """Median milliseconds to answer one message, tokenising included, one at a time.

    Raises:
        ValueError: no text, or counts below 1.
    """
    if not texts or n_messages < 1 or warmup < 1:
        raise ValueError("need at least one text, one message and one warm-up message")
    chosen = [texts[i % len(texts)] for i in range(warmup + n_messages)]
    classifier.model.eval()
    seconds = []
    for text in chosen:
        start = time.perf_counter()
        answer(classifier, text, max_length)  # ends with a value on the CPU, so a GPU has finished
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[warmup:])


def measure_throughput(
    classifier: TextClassifier,
    texts: Sequence[str],
    batch_size: int = 64,
    max_texts: int = 512,
    max_length: int | None = None,
) -> float:
    """Messages per second in batches, tokenising included."""
    sample = list(texts[:max_texts])
    predict_logits(*classifier, sample[:batch_size], batch_size=batch_size, max_length=max_length)  # warm-up
    start = time.perf_counter()
    predict_logits(*classifier, sample, batch_size=batch_size, max_length=max_length)
    return len(sample) / (time.perf_counter() - start)


def compare(rows: Mapping[str, Sequence[Mapping[str, float]]]) -> pd.DataFrame:
    """One line for each model, with the mean and the spread over its seeds.

    Args:
        rows: for each model its rows from `evaluate`, one per seed.

    Returns:
        Index: the models. Columns: `seeds`, and for each figure its mean, and `<figure>_sd`, the standard deviation
        over seeds (n − 1 in the denominator; NaN for a single seed).

    Raises:
        ValueError: a model without rows.
    """
    lines = {}
    for name, seeds in rows.items():
        if not seeds:
            raise ValueError(f"no rows for {name!r}")
        frame = pd.DataFrame(list(seeds))
        line: dict[str, float] = {"seeds": len(frame)}
        for figure in frame.columns:
            line[figure] = frame[figure].mean()
            line[f"{figure}_sd"] = frame[figure].std(ddof=1)
        lines[name] = line
    return pd.DataFrame.from_dict(lines, orient="index")
