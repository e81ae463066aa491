"""Before hours are spent: one call that says what is wrong with a teacher, a student and a batch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.batching import encode_texts, pad_batch
from distill_helpers.models.prediction_tasks import prediction_task
from distill_helpers.models.text_models import LanguageModel
from distill_helpers.models.word_pieces import encode_words
from distill_helpers.training.batch_checks import (
    BATCH_CHECKS,
    check_forward,
    check_labels,
    check_lengths,
    check_padding,
)
from distill_helpers.training.findings import Finding, Pair, raise_for_errors
from distill_helpers.training.pair_checks import PAIR_CHECKS, check_pair

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["PreflightReport", "preflight"]


@dataclass(frozen=True)
class PreflightReport:
    """What `preflight` found.

    Args:
        findings: in the order of the checks.
        checks: the names of all checks that ran.

    Example:
        >>> dh.PreflightReport((), ("dropout", "gradient"))
        PreflightReport(2 checks, nothing found)
    """

    findings: tuple[Finding, ...]
    checks: tuple[str, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings with which the training would learn the wrong thing, or stop."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def raise_for_errors(self) -> None:
        """Raise ValueError with every error and its remedy, if there is one."""
        raise_for_errors(self.findings)

    def __repr__(self) -> str:
        if not self.findings:
            return f"PreflightReport({len(self.checks)} checks, nothing found)"
        return f"PreflightReport({len(self.checks)} checks)\n" + "\n".join(f"  {f}" for f in self.findings)


def preflight(
    teacher: Pair,
    student: Pair,
    batch: Mapping[str, Any] | Sequence[str] | Sequence[Sequence[str]],
    config: DistillationConfig | None = None,
) -> PreflightReport:
    """Look for what makes a distillation learn the wrong thing in silence. Neither model is changed.

    The checks of the pair need no forward pass: vocabularies and padded rows, the order of the labels, chat templates,
    end-of-text and padding tokens, dropout in the teacher, adapters that are off, half precision, shared weights, a
    frozen student. Those of the batch take five forward passes and a backward pass: positions, what the mask of a
    language model's labels covers, labels outside the classes or worse than chance for the teacher, logits that are not
    finite, a teacher that diverges from itself, logits that depend on the rest of the batch, cached logits that are not
    the teacher's, and a gradient that does not reach the student or reaches the teacher.

    Args:
        teacher, student: two classifiers or two language models. Each is used where it is, in the mode in which it is.
        batch: a few rows as the collator makes them (`input_ids`, `attention_mask`, and, if you have them, `labels` and
            `teacher_logits`), or a few texts; for token classifiers, the words of a few texts.
        config: the objective; default soft targets alone at a temperature of 1.

    Returns:
        The report. `report.raise_for_errors()` stops a script.

    Raises:
        TypeError: a classifier together with a language model.
        ValueError: an empty batch, or a batch without `input_ids`.

    Example:
        >>> teacher = dh.load_course_model("help-desk-teacher", device="cpu")
        >>> student = dh.load_course_model("help-desk-student", device="cpu")
        >>> texts = ["my mac shows a grey screen", "windows will not start"]
        >>> dh.preflight(teacher, student, texts)
        PreflightReport(21 checks, nothing found)
        >>> teacher.model.train()
        BertForSequenceClassification(...
        >>> [finding.check for finding in dh.preflight(teacher, student, texts).findings]
        ['dropout', 'teacher against itself']
    """
    findings = check_pair(teacher, student)
    batches = _batches(teacher, student, batch)
    for name, pair, own in zip(("teacher", "student"), (teacher, student), batches, strict=True):
        findings += [*check_padding(name, pair), *check_lengths(name, pair, own)]
    findings += (wrong := list(check_labels(batches[1], student)))
    if any(finding.severity == "error" for finding in wrong):  # the loss would refuse these labels
        for own in batches:
            own.pop("labels", None)
    # With one of these, the forward pass would end in an error of torch, or nobody knows the loss.
    fatal = ("embedding rows", "padding token", "positions", "problem type")
    if not any(finding.severity == "error" and finding.check in fatal for finding in findings):
        causal = isinstance(student, LanguageModel)
        if config is None:
            task = "single_label" if causal else str(prediction_task(student.model))
            config = DistillationConfig(alpha=1.0, temperature=1.0, task=task)
        findings += check_forward(teacher, student, batches, _response_alone(config, causal))
    return PreflightReport(tuple(findings), (*PAIR_CHECKS, *BATCH_CHECKS))


def _batches(
    teacher: Pair, student: Pair, batch: Mapping[str, Any] | Sequence[Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What each model reads. Texts are tokenised by each model's own tokenizer."""
    if not isinstance(batch, Mapping):
        if not isinstance(student, LanguageModel) and prediction_task(student.model) == "token_classification":
            return _words_of(teacher, batch), _words_of(student, batch)
        own = [pad_batch(encode_texts(pair.tokenizer, batch), _padding(pair)) for pair in (teacher, student)]
        if isinstance(student, LanguageModel):
            ids, mask = own[1]["input_ids"], own[1]["attention_mask"]
            own[1]["labels"] = ids.masked_fill(mask == 0, IGNORE_INDEX)
        return own[0], own[1]
    if "input_ids" not in batch or not len(batch["input_ids"]):
        raise ValueError(f"the batch must have input_ids with a row or more, it has {sorted(batch)}")
    both = {name: value for name, value in batch.items() if isinstance(value, Tensor)}
    both.setdefault("attention_mask", torch.ones_like(both["input_ids"]))
    return both, dict(both)


def _words_of(pair: Pair, texts: Sequence[Sequence[str]]) -> dict[str, Tensor]:
    """Texts of words as the model's own tokens, without labels, and which token stands for a word."""
    encoded = encode_words(pair.tokenizer, texts)
    batch = pad_batch(encoded.token_ids, pair.tokenizer, side="right")
    batch["counts"] = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    for row, places in enumerate(encoded.first_pieces):
        batch["counts"][row, places] = True
    return batch


def _padding(pair: Pair) -> PreTrainedTokenizerBase:
    """A tokenizer that can pad. Language models do not read which token pads: the mask hides it."""
    if not isinstance(pair, LanguageModel) or pair.tokenizer.pad_token_id is not None:
        return pair.tokenizer
    tokenizer = copy.deepcopy(pair.tokenizer)
    tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def _response_alone(config: DistillationConfig, causal: bool) -> DistillationConfig:
    """The objective without its feature terms, which the trainers check when they make them."""
    return DistillationConfig(
        temperature=config.temperature,
        alpha=config.alpha,
        divergence=config.divergence,
        divergence_options=config.divergence_options,
        task=config.task,
        causal=causal,
    )
