"""What can be wrong with a batch on its way through teacher and student: the part of `preflight` that runs both."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.distillation_loss import DistillationLoss
from distill_helpers.models.batching import evaluation_mode, inputs_for, position_limit, to_device
from distill_helpers.models.prediction_tasks import PredictionTask, prediction_task
from distill_helpers.models.text_models import LanguageModel, TextClassifier
from distill_helpers.training.findings import Finding, Pair
from distill_helpers.training.token_checks import ADD_PAD_TOKEN

__all__ = ["BATCH_CHECKS", "check_forward", "check_labels", "check_lengths", "check_padding"]

#: The checks by name, in the order in which they run.
BATCH_CHECKS = (
    "positions",
    "mask",
    "labels",
    "finite logits",
    "teacher against itself",
    "batch independence",
    "cached logits",
    "gradient",
)
# The entries of a batch that the models read.
_READ = ("input_ids", "attention_mask", "token_type_ids")
# Of the largest logit: between passes that should agree, fp32 differs by about 1e-6, and bf16 by 1e-2.
_SAME = 1e-3
_SAME_IN_HALF = 5e-2


def check_labels(batch: dict[str, Tensor], student: Pair) -> Iterator[Finding]:
    """Labels that cannot be meant, if the batch has labels."""
    if "labels" in batch:
        check = _mask if isinstance(student, LanguageModel) else _class_labels
        yield from check(batch, student)  # type: ignore[arg-type]


def check_lengths(name: str, pair: Pair, batch: dict[str, Tensor]) -> Iterator[Finding]:
    """A row that is longer than the model has learned positions, or than it was trained for."""
    lengths = batch["attention_mask"].sum(dim=1)
    row, length = int(lengths.argmax()), int(lengths.max())
    learned = position_limit(pair.model)
    trained = getattr(pair.model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
    limit = min(learned, trained)
    if length > limit:
        yield Finding(
            "positions",
            "error" if length > learned else "warning",
            f"row {row} has {length:,} tokens, and the {name} has {limit:,} positions",
            f"cut the texts, max_length={limit}",
        )


def check_padding(name: str, pair: Pair) -> Iterator[Finding]:
    """A language model's tokenizer that does not pad. The functions of `llm` need no padding token, others do."""
    if isinstance(pair, LanguageModel) and pair.tokenizer.pad_token_id is None:
        reason = f"the {name}'s tokenizer has no padding token, which collators outside of this package need"
        yield Finding("padding token", "warning", reason, ADD_PAD_TOKEN)


def _mask(batch: dict[str, Tensor], student: LanguageModel) -> Iterator[Finding]:
    """Labels of a language model: the token itself where it counts, on the completion and nothing else."""
    ids, labels, real = batch["input_ids"], batch["labels"], batch["attention_mask"].bool()
    counted = labels != IGNORE_INDEX
    if not counted.any():
        yield Finding("mask", "error", "no token counts: every label is -100", "mask the prompt only")
        return
    if bool((counted & ~real).any()):
        row = int((counted & ~real).any(dim=1).nonzero()[0])
        yield Finding(
            "mask",
            "error",
            f"row {row}: {int((counted & ~real)[row].sum())} padding tokens count",
            "give padding the label -100, by the attention mask and not by the token: where pad is the end-of-text"
            " token, a mask by token hides the end too",
        )
    if not torch.equal(labels[counted], ids[counted]):
        ahead = counted[:, :-1] & (ids[:, 1:] == labels[:, :-1])
        shifted = bool(ahead.sum() >= 0.9 * counted[:, :-1].sum()) and bool(ahead.any())
        yield Finding(
            "mask",
            "error",
            "the labels are the tokens after theirs: they were shifted already"
            if shifted
            else f"{int((labels[counted] != ids[counted]).sum())} of {int(counted.sum())} labels are other tokens than"
            " those of their positions",
            "give each position its own token as label; the loss does the shift",
        )
    before = real & ~counted
    whole = [row for row in range(len(ids)) if int(before[row].sum()) <= 1 and int(counted[row].sum()) > 1]
    if whole and len(whole) == len(ids):
        yield Finding(
            "mask",
            "warning",
            "every token counts, prompts included",
            "where rows have prompts, give the prompts' tokens the label -100 (`CompletionDataset.from_pairs`)",
        )
    end = student.tokenizer.eos_token_id
    last = [int(ids[row][counted[row]][-1]) for row in range(len(ids)) if counted[row].any()]
    if end is not None and end not in last:
        yield Finding(
            "mask",
            "warning",
            f"no row ends with a counted {student.tokenizer.eos_token!r}: the student does not learn to stop",
            "append the end-of-text token to completions that are whole (`end=True`)",
        )


def _class_labels(batch: dict[str, Tensor], student: TextClassifier) -> Iterator[Finding]:
    labels = batch["labels"]
    if labels.is_floating_point() or labels.dim() != (2 if _classifies_tokens(student) else 1):
        return  # other tasks have labels of other kinds
    outside = ((labels != IGNORE_INDEX) & ((labels < 0) | (labels >= len(student.label_names)))).nonzero()
    if len(outside):
        row, place = int(outside[0, 0]), tuple(outside[0].tolist())
        yield Finding(
            "labels",
            "error",
            f"row {row} has the label {int(labels[place])}, and the student {len(student.label_names)} classes",
            "number the classes from 0 in the order of `label_names`; -100 marks a row without a label",
        )


def check_forward(
    teacher: Pair, student: Pair, batches: tuple[dict[str, Tensor], dict[str, Tensor]], config: DistillationConfig
) -> Iterator[Finding]:
    """Everything that needs a forward pass.

    Args:
        teacher, student: the models.
        batches: what each of the two reads.
        config: an objective without feature terms.
    """
    for_teacher, for_student = batches
    with torch.no_grad():
        first, second = _logits(teacher, for_teacher), _logits(teacher, for_teacher)
    with evaluation_mode(student.model):
        own = _logits(student, for_student)
    bad = [name for name, logits in (("teacher", first), ("student", own)) if not logits.isfinite().all()]
    for name in bad:
        yield Finding("finite logits", "error", f"the {name}'s logits are not finite", "load the model in fp32 or bf16")
    if bad:
        return
    unit = "row"
    if _classifies_tokens(student):  # both models have the same words, whatever their tokens
        unit, config = "word", replace(config, task="single_label")
        _, first, second = _words(for_teacher, first, second)
        for_student, own = _words(for_student, own)
    labels = for_student.get("labels")
    if labels is None:
        config = replace(config, alpha=1.0)
    # Without labels, the mask says which tokens of a sequence count.
    mask = for_student["attention_mask"].bool() if labels is None and first.dim() == 3 else None
    loss = partial(DistillationLoss(config), hard_labels=labels, mask=mask)
    to_itself = loss(first, second)["soft_target_loss"] if config.alpha else first.new_zeros(())
    if abs(float(to_itself)) > 1e-5:
        yield Finding(
            "teacher against itself",
            "error",
            f"two passes of the teacher over the same batch diverge by {float(to_itself):.2g}, not 0",
            "call `teacher.model.eval()`, and look for what is random in its forward pass",
        )
    for name, pair, batch in zip(("teacher", "student"), (teacher, student), batches, strict=True):
        yield from _batch_independence(name, pair, batch)
    if isinstance(teacher, TextClassifier):
        yield from _teacher_knows(first, for_student, unit)
    if config.alpha and first.shape[-1] == own.shape[-1] and first.shape[:-1] == own.shape[:-1]:
        yield from _gradient(teacher, student, loss(own, first))


def _classifies_tokens(pair: Pair) -> bool:
    return isinstance(pair, TextClassifier) and prediction_task(pair.model) == PredictionTask.TOKEN_CLASSIFICATION


def _words(batch: dict[str, Tensor], *logits: Tensor) -> tuple[Any, ...]:
    """The batch's labels and cached logits, and the given logits, at the tokens that stand for words."""
    counted = batch["labels"] != IGNORE_INDEX if "labels" in batch else batch["attention_mask"].bool()
    counted = batch["counts"].bool() if "counts" in batch else counted
    words = {name: batch[name][counted] for name in ("labels", "teacher_logits") if name in batch}
    return words, *(of_tokens[counted.cpu()] for of_tokens in logits)


def _batch_independence(name: str, pair: Pair, batch: dict[str, Tensor]) -> Iterator[Finding]:
    """The shortest row has the most padding. Alone it has none, and must give the same logits."""
    lengths = batch["attention_mask"].sum(dim=1)
    row = int(lengths.argmin())
    if int(lengths[row]) == batch["input_ids"].shape[1]:
        return
    real = batch["attention_mask"][row].bool()
    alone = {key: batch[key][row][real][None] for key in _READ if key in batch}
    with evaluation_mode(pair.model), torch.no_grad():
        together, by_itself = _logits(pair, batch)[row], _logits(pair, alone)[0]
    if isinstance(pair, LanguageModel) or _classifies_tokens(pair):
        together = together[real.to(together.device)]
    scale = max(1.0, float(by_itself.abs().max()))
    difference = float((together - by_itself).abs().max()) / scale
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in pair.model.parameters())
    if not difference < (_SAME_IN_HALF if half else _SAME):
        yield Finding(
            "batch independence",
            "error",
            f"padding is read: the {name}'s logits of row {row} differ by {difference:.2g} of the largest logit between"
            " the batch and the row alone",
            "pad on the right (`tokenizer.padding_side = 'right'`), and check `attention_mask` and the padding token",
        )


def _teacher_knows(logits: Tensor, batch: dict[str, Tensor], unit: str) -> Iterator[Finding]:
    """Cached logits are the live teacher's, and its answers are better than chance where there are labels."""
    cached, labels = batch.get("teacher_logits"), batch.get("labels")
    if cached is not None and cached.shape == logits.shape:
        cached = cached.to(logits.device).float()
        off = ((cached - logits).abs().amax(dim=1) > 0.05 * max(1.0, float(logits.abs().max()))).nonzero().flatten()
        if len(off):
            yield Finding(
                "cached logits",
                "error",
                f"{unit} {int(off[0])}: the cached logits differ from the teacher's by"
                f" {float((cached - logits)[off[0]].abs().max()):.2g} ({len(off)} of {len(logits)} {unit}s do)",
                "compute them for these texts, in this order, with this teacher and max_length",
            )
    if labels is None or labels.dim() != 1 or labels.is_floating_point():
        return
    labelled = labels != IGNORE_INDEX
    n, classes = int(labelled.sum()), logits.shape[-1]
    right = int((logits.argmax(dim=-1).cpu()[labelled] == labels.cpu()[labelled]).sum())
    chance = 1 / classes
    # Two standard errors below chance: a useless teacher is at chance, and permuted labels lie below it.
    if n >= 16 and right / n < chance - 2 * math.sqrt(chance * (1 - chance) / n):
        yield Finding(
            "labels",
            "warning",
            f"the teacher agrees with {right} of {n} labels, fewer than by chance ({chance:.0%})",
            "check that label k is `label_names[k]` in the data as in the teacher",
        )


def _gradient(teacher: Pair, student: Pair, values: dict[str, Tensor]) -> Iterator[Finding]:
    total = values["total_loss"]
    trainable = {name: p for name, p in student.model.named_parameters() if p.requires_grad}
    if not trainable or not total.requires_grad:
        if trainable:
            yield Finding(
                "gradient", "error", "the loss has no graph to the student", "train outside of `torch.no_grad()`"
            )
        return
    of_teacher = [p for p in teacher.model.parameters() if p.requires_grad]
    reached = torch.autograd.grad(total, of_teacher, retain_graph=True, allow_unused=True) if of_teacher else ()
    if any(gradient is not None for gradient in reached):
        yield Finding(
            "gradient",
            "error",
            f"the gradient reaches {sum(g is not None for g in reached)} weights of the teacher",
            "give the student weights of its own, `copy.deepcopy`, and run the teacher under `torch.no_grad()`",
        )
    gradients = torch.autograd.grad(total, list(trainable.values()), allow_unused=True)
    if "task_loss" not in values and float(values["soft_target_loss"]) < 1e-6:
        yield Finding(
            "gradient",
            "warning",
            "the student gives its teacher's probabilities already: there is nothing left to learn",
            "check that the two are not one model; a student that starts as a copy has to be cut first",
        )
    elif not any(gradient is not None and bool((gradient != 0).any()) for gradient in gradients):
        yield Finding(
            "gradient",
            "error",
            "no weight of the student has a gradient",
            "check what is frozen or detached, and that some row or token counts",
        )


def _logits(pair: Pair, batch: dict[str, Tensor]) -> Tensor:
    inputs = to_device({name: batch[name] for name in _READ if name in batch}, pair.model.device)
    return pair.model(**inputs_for(pair.model, inputs)).logits.float().cpu()
