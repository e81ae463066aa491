"""Teacher and student with different tokenizers: the universal logit distance, the one honest choice beside text.

Boizard et al., arXiv 2402.12030. A token of the one vocabulary is none of the other, so nothing can be matched by
name. What can be compared is the *shape* of the two distributions, each sorted from its likeliest token down: how sure
is the teacher at this position of its own text, and is the student as sure? Which token it is sure of comes from the
hard labels alone, so it is used beside them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_helpers.losses.divergences import check_mask, masked_mean

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

    The n-th counted position of a sequence is compared with the n-th of the same sequence in the teacher's tokens, as
    in the paper; positions of the longer one that are left over are not compared. The smaller vocabulary gets
    probabilities of 0 to the length of the larger.

    Args:
        student_logits: (batch, its sequence, its vocabulary), shifted already (`losses.causal_shift`).
        teacher_logits: (batch, its sequence, its vocabulary), shifted too; receives no gradient.
        student_mask, teacher_mask: bool, (batch, sequence) of each: the completion's tokens.
        num_items: divide by it instead of by the positions that were compared.

    Returns:
        A scalar, fp32, in [0, 2]; 0 where no position has a partner.

    Raises:
        ValueError: shapes that do not fit.
    """
    if student_logits.dim() != 3 or teacher_logits.dim() != 3 or len(student_logits) != len(teacher_logits):
        raise ValueError(
            "logits must be (batch, sequence, vocabulary) of the same batch, got"
            f" {tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
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
