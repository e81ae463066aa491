"""Teacher and student with different tokenizers: the universal logit distance (Boizard et al., arXiv 2402.12030).

A token of one vocabulary has no counterpart in the other, so the two distributions cannot be compared token by token.
Only their *shapes* can be compared, with the probabilities sorted from the likeliest token down. Is the student as sure
at this position of its text as the teacher is at that position of its own? The distance does not say which token to be
sure of. Hard labels must say that, so use the two together. The other honest way between tokenizers is to let the
teacher write text (`teacher_completions`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_helpers.losses.soft_targets import check_mask, masked_mean

__all__ = ["universal_logit_distance"]


def universal_logit_distance(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_mask: Tensor,
    teacher_mask: Tensor,
    *,
    num_items: Tensor | int | None = None,
) -> Tensor:
    """Σ |p₍ᵢ₎ − q₍ᵢ₎| over sorted probabilities, a mean over the positions that have a partner (equation 4).

    As in the paper, the n-th position that counts in the student's sequence is compared with the n-th in the teacher's.
    If one of the two sequences is longer, its remaining positions are not compared. The smaller vocabulary is padded
    with probabilities of 0.

    Args:
        student_logits: (batch, the student's sequence, its vocabulary), already shifted (`losses.causal_shift`).
        teacher_logits: (batch, the teacher's sequence, its vocabulary), shifted too. They receive no gradient.
        student_mask, teacher_mask: bool, (batch, sequence) of each; True at the tokens of the completion.
        num_items: divide by this number instead of by the positions that were compared.

    Returns:
        A scalar, fp32, in [0, 2]; 0 if no position has a partner.

    Raises:
        ValueError: the shapes do not fit.

    Example:
        >>> from distill_helpers.llm import universal_logit_distance
        >>> student, teacher = torch.zeros(1, 1, 3), torch.zeros(1, 1, 4)  # both spread their probability evenly
        >>> one = torch.ones(1, 1, dtype=torch.bool)
        >>> universal_logit_distance(student, teacher, one, one)  # 3 · (1/3 − 1/4) + 1/4
        tensor(0.5000)
    """
    if student_logits.dim() != 3 or teacher_logits.dim() != 3 or len(student_logits) != len(teacher_logits):
        raise ValueError(
            "both logits must be (batch, sequence, vocabulary) of the same batch, got"
            f" {tuple(student_logits.shape)} for the student and {tuple(teacher_logits.shape)} for the teacher"
        )
    check_mask(student_mask, student_logits.shape[:-1])
    check_mask(teacher_mask, teacher_logits.shape[:-1])
    pairs = torch.minimum(student_mask.sum(dim=1), teacher_mask.sum(dim=1))

    def first(mask: Tensor) -> Tensor:
        return mask & (mask.cumsum(dim=1) <= pairs[:, None])

    q = _sorted_probabilities(student_logits[first(student_mask)])
    p = _sorted_probabilities(teacher_logits[first(teacher_mask)].detach())
    size = max(p.shape[1], q.shape[1])
    distance = (F.pad(q, (0, size - q.shape[1])) - F.pad(p, (0, size - p.shape[1]))).abs().sum(dim=1)
    return masked_mean(distance, num_items=num_items)


def _sorted_probabilities(logits: Tensor) -> Tensor:
    return logits.float().softmax(dim=-1).sort(dim=-1, descending=True).values
