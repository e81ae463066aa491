"""The token-level loss of a causal language model: soft targets and hard labels at the positions that count."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.llm.fused_loss import fused_distillation_loss
from distill_helpers.llm.output_heads import OutputHead
from distill_helpers.llm.token_targets import HiddenTargets, TokenTargets, TopKTargets
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.distillation_loss import DistillationLoss, causal_shift

__all__ = [
    "completion_hidden_states",
    "completion_labels",
    "compute_token_level_distillation_loss",
    "token_level_terms",
]


def compute_token_level_distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor | None,
    labels: Tensor,
    *,
    temperature: float = 1.0,
    alpha: float = 1.0,
    divergence: str = "forward_kl",
    chunk_size: int | None = 256,
    num_items: Tensor | int | None = None,
    **options: Any,
) -> dict[str, Tensor]:
    """alpha · T² · D(teacher, student) + (1 − alpha) · cross-entropy, from logits that are already there.

    Where they are not, `LLMDistillationTrainer` computes the same without them (`fused_loss`).

    Args:
        student_logits: (batch, sequence, vocabulary), as the model returns them: the shift is made here.
        teacher_logits: same shape; None with alpha = 0.
        labels: (batch, sequence), the tokens themselves where they are to be learnt, −100 at prompt and padding. They
            are the data's, or what the teacher wrote; the teacher's likeliest token at each position of somebody else's
            text would be neither.
        temperature: 1 is right for most language models, whose targets are broad as they are.
        alpha: weight of the soft targets.
        divergence, **options: as in `divergences.soft_target_divergence`.
        chunk_size: positions whose fp32 softmax is held at a time; None for all.
        num_items: divide by it instead of by the positions that count, as under gradient accumulation.

    Returns:
        `total_loss` (with gradient), `soft_target_loss` and `task_loss`, each a mean over the positions that count.

    Raises:
        ValueError, TypeError: as `DistillationConfig` and `DistillationLoss`.
    """
    config = DistillationConfig(
        temperature=temperature,
        alpha=alpha,
        divergence=divergence,
        divergence_options=options,
        causal=True,
        chunk_size=chunk_size,
    )
    return DistillationLoss(config)(student_logits, teacher_logits, labels, num_items=num_items)


def token_level_terms(
    student_hidden: Tensor,
    student_head: OutputHead | nn.Module,
    labels: Tensor,
    config: DistillationConfig,
    *,
    targets: TokenTargets | None,
    teacher_head: OutputHead | nn.Module | None = None,
    num_items: Tensor | int | None = None,
    vocabulary_size: int | None = None,
) -> dict[str, Tensor]:
    """`compute_token_level_distillation_loss` without logits.

    Args:
        student_hidden: (positions that count, width), from `completion_hidden_states`.
        student_head: from `output_heads.output_head`.
        labels: (positions that count,), the tokens, from `completion_labels`.
        config: alpha, temperature and divergence; its feature terms are not used.
        targets: a row for each position; None with alpha = 0.
        teacher_head: needed with `HiddenTargets`.
        num_items: see `compute_token_level_distillation_loss`.
        vocabulary_size: see `fused_distillation_loss`.
    """
    options: dict[str, Any] = {
        "num_items": num_items,
        "vocabulary_size": vocabulary_size,
        "chunk_size": config.chunk_size,
    }
    terms: dict[str, Tensor] = {}
    total = student_hidden.new_zeros((), dtype=torch.float32)
    if config.alpha > 0:
        if targets is None:
            raise ValueError(f"alpha is {config.alpha}, so a teacher or teacher_targets are needed; or set alpha=0")
        own_head = None
        teacher: Tensor | TokenTargets = targets
        if isinstance(targets, HiddenTargets):
            teacher, own_head = targets.hidden.to(student_hidden.dtype), teacher_head
        divergence: dict[str, Any] = {"divergence": config.divergence, **config.divergence_options}
        soft = fused_distillation_loss(
            student_hidden,
            student_head,
            teacher,
            own_head,
            temperature=config.temperature,
            **options,
            **divergence,
        )
        terms["soft_target_loss"] = soft.detach()
        total = total + config.alpha * soft
    if config.alpha < 1:
        task = fused_distillation_loss(student_hidden, student_head, TopKTargets.one_hot(labels), **options)
        terms["task_loss"] = task.detach()
        total = total + (1 - config.alpha) * task
    return {"total_loss": total, **terms}


def completion_hidden_states(hidden: Tensor, labels: Tensor) -> Tensor:
    """The hidden states that predict the labels, (positions that count, width).

    Args:
        hidden: (batch, sequence, width), from `output_heads.last_hidden_states`.
        labels: (batch, sequence), `IGNORE_INDEX` where nothing counts.
    """
    return causal_shift(logits=hidden)[causal_shift(targets=labels) != IGNORE_INDEX]


def completion_labels(labels: Tensor) -> Tensor:
    """The labels of the positions that count, (positions,), in the order of `completion_hidden_states`."""
    shifted = causal_shift(targets=labels)
    return shifted[shifted != IGNORE_INDEX]
