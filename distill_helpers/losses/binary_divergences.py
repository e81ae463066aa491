"""Divergences of yes-or-no labels: what the soft targets of a multi-label model are.

A multi-label model gives each label a probability of its own, σ(z). It corresponds to a softmax over the two logits
(z, 0), so every divergence of `divergences` applies to the pair. The softmax over all labels is another thing: it does
not notice a constant that is added to all logits, and the constant decides how many labels are given.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_helpers.losses.soft_targets import divergence_at_temperature, mean_over_positions

__all__ = ["binary_divergence", "mean_binary_divergence"]


def binary_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    divergence: str = "forward_kl",
    temperature: float = 1.0,
    t_squared: bool = True,
    **options: Any,
) -> Tensor:
    """Divergence of the two Bernoulli distributions of each label at `temperature`, times T².

    Label by label, the teacher says yes with probability σ(v/T) and the student with σ(z/T). The gradient of the
    forward KL with respect to z is (σ(z/T) − σ(v/T))/T. For T far above the logits, σ(x/T) ≈ 1/2 + x/(4T), and the
    gradient tends to (z − v)/(4T²). T² therefore makes the high-temperature gradient (z − v)/4, independent of T, as
    `soft_target_divergence` does for the softmax. Unlike there, the logits need not be centred: a shift of all logits
    changes every probability, and the student learns the shift too.

    Args:
        student_logits: (..., labels), any floating dtype.
        teacher_logits: same shape; never receives a gradient.
        divergence: a key of `DIVERGENCES`.
        temperature: T > 0, applied to both.
        t_squared: multiply by T². Switch it off to see what T² does, never to train.
        **options: further arguments of the divergence (`beta`, `normalized`, `skew`).

    Returns:
        fp32, (..., labels): one number for each label.

    Raises:
        ValueError: shapes that differ, an unknown divergence, or a temperature that is not positive and finite.
        TypeError: logits that are not floating point, or an option that the divergence does not take.

    Example:
        The student's logits are the teacher's minus 8. A softmax over the labels would see no difference:

        >>> teacher = torch.tensor([3.0, 1.0, -2.0])
        >>> dh.binary_divergence(teacher - 8, teacher)
        tensor([4.5787, 4.5361, 0.8267])
        >>> round(float(dh.soft_target_divergence(teacher - 8, teacher)), 4)
        0.0
    """
    return divergence_at_temperature(
        _log_bernoulli, student_logits, teacher_logits, divergence, temperature, t_squared=t_squared, **options
    )


def _log_bernoulli(logits: Tensor) -> Tensor:
    """(…) → (…, 2): log σ(z) and log(1 − σ(z)), each exact where its probability is near 1."""
    return torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)], dim=-1)


def mean_binary_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    mask: Tensor | None = None,
    num_items: Tensor | int | None = None,
    chunk_size: int | None = None,
    divergence: str = "forward_kl",
    temperature: float = 1.0,
    **options: Any,
) -> Tensor:
    """Mean of `binary_divergence` over the labels, and over the rows that count.

    The binary cross-entropy of transformers is a mean over the labels too. So alpha weighs two numbers of the same
    size, and a learning rate keeps its meaning when labels are added.

    Args:
        student_logits: (batch, labels).
        teacher_logits: same shape.
        mask: bool, (batch,); True counts. Rows outside the mask reach neither value nor gradient, NaN included.
            Default: every row counts.
        num_items, chunk_size: as in `mean_divergence`, counted in rows.
        divergence, temperature, **options: as in `binary_divergence`.

    Returns:
        An fp32 scalar; 0, with zero gradients, when nothing counts.

    Raises:
        ValueError, TypeError: as `binary_divergence`; a mask of another shape or dtype; a chunk size below 1.

    Example:
        >>> student, teacher = torch.zeros(2, 3), torch.tensor([[2.0, -2.0, 0.0], [9.0, 9.0, 9.0]])
        >>> round(float(dh.mean_binary_divergence(student, teacher, mask=torch.tensor([True, False]))), 3)
        0.219
    """

    def per_row(student: Tensor, teacher: Tensor) -> Tensor:
        values = binary_divergence(student, teacher, divergence=divergence, temperature=temperature, **options)
        return values.mean(dim=-1)

    return mean_over_positions(
        per_row,
        student_logits,
        teacher_logits,
        mask=mask,
        num_items=num_items,
        chunk_size=chunk_size,
    )
