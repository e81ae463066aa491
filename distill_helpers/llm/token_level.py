"""The token-level loss of a causal language model: soft targets and hard labels at the positions that count."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.llm.fused_loss import fused_distillation_loss
from distill_helpers.llm.output_heads import OutputHead
from distill_helpers.llm.target_kinds import TopKTargets
from distill_helpers.llm.token_targets import TokenTargets
from distill_helpers.losses.causal_alignment import causal_shift
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.distillation_loss import DistillationLoss

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
    """alpha · T² · D(teacher, student) + (1 − alpha) · cross-entropy, of logits that you have already.

    If you do not need the logits, `LLMDistillationTrainer` computes the same loss without them (`fused_loss`).

    Args:
        student_logits: (batch, sequence, vocabulary), as the model returns them. The shift happens here.
        teacher_logits: same shape; None with alpha = 0.
        labels: (batch, sequence): the token itself where it is to be learnt, −100 at the prompt and at padding. The
            tokens come from the data, or the teacher wrote them. The teacher's likeliest token at each position of a
            text that it did not write is no label.
        temperature: 1 is right for most language models, whose distributions are broad as they are.
        alpha: the weight of the soft targets.
        divergence, **options: as in `soft_target_divergence`.
        chunk_size: the number of positions whose fp32 softmax is held at a time; None for all.
        num_items: divide by this number instead of by the positions that count, as under gradient accumulation.

    Returns:
        `total_loss` (with gradient), `soft_target_loss` and `task_loss`. Each is a mean over the positions that count.

    Raises:
        ValueError, TypeError: as `DistillationConfig` and `DistillationLoss`.

    Example:
        >>> from distill_helpers.llm import compute_token_level_distillation_loss
        >>> labels = torch.tensor([[-100, -100, 7, 8]])  # a prompt of two tokens, a completion of two
        >>> logits = torch.zeros(1, 4, 50)
        >>> compute_token_level_distillation_loss(logits, logits, labels, alpha=0.5)["task_loss"]  # log 50
        tensor(3.9120)
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
    vocab_size: int | None = None,
) -> dict[str, Tensor]:
    """The terms of `compute_token_level_distillation_loss`, without logits.

    Args:
        student_hidden: (positions that count, width), from `completion_hidden_states`.
        student_head: from `output_head`.
        labels: (positions that count,), the tokens, from `completion_labels`.
        config: alpha, temperature and divergence. Its feature terms are not used.
        targets: the teacher's, with a row for each position; None with alpha = 0.
        teacher_head: of the teacher. Only `HiddenTargets` use it, and they need it.
        num_items: see `compute_token_level_distillation_loss`.
        vocab_size: see `fused_distillation_loss`.

    Raises:
        ValueError: alpha is above 0 and there are no targets; and as `fused_distillation_loss`.
    """
    options: dict[str, Any] = {
        "num_items": num_items,
        "vocab_size": vocab_size,
        "chunk_size": config.chunk_size,
    }
    terms: dict[str, Tensor] = {}
    total = student_hidden.new_zeros((), dtype=torch.float32)
    if config.alpha > 0:
        if targets is None:
            raise ValueError(f"alpha is {config.alpha}, which needs a teacher or teacher_targets; or set alpha=0")
        divergence: dict[str, Any] = {"divergence": config.divergence, **config.divergence_options}
        soft = fused_distillation_loss(
            student_hidden,
            student_head,
            targets,
            teacher_head if targets.needs_head else None,
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
        hidden: (batch, sequence, width), from `last_hidden_states`.
        labels: (batch, sequence), `IGNORE_INDEX` at positions that do not count.
    """
    return causal_shift(logits=hidden)[causal_shift(targets=labels) != IGNORE_INDEX]


def completion_labels(labels: Tensor) -> Tensor:
    """The labels of the positions that count, (positions,), in the order of `completion_hidden_states`."""
    shifted = causal_shift(targets=labels)
    return shifted[shifted != IGNORE_INDEX]
