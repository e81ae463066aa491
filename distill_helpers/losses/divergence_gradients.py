"""The divergences' gradients with respect to the student's logits, in closed form.

Let x be the student's logits over T, q = softmax(x), and D(q) a divergence from the teacher's p. With r = ∂D/∂q, the
chain rule through the softmax gives ∂D/∂x = q ∘ (r − Σ q r). Autograd reaches the same numbers through half a dozen
tensors of the logits' shape and a second pass. The functions of this module compute value and gradient in one pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from distill_helpers.losses.divergences import log_mixture, named_divergence, needs_double
from distill_helpers.losses.soft_targets import check_logits, check_temperature, t_squared_factor

__all__ = ["GRADIENTS", "divergence_and_gradient"]


def _forward_kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    return log_q.exp() - log_p.exp()


def _reverse_kl(log_q: Tensor, log_p: Tensor) -> Tensor:
    return _through_softmax(log_q.exp(), log_q - log_p)


def _generalized_jsd(log_q: Tensor, log_p: Tensor, beta: float = 0.5, normalized: bool = True) -> Tensor:
    if beta in (0.0, 1.0):
        gradient = (_forward_kl if beta == 0.0 else _reverse_kl)(log_q, log_p)
        return gradient if normalized else torch.zeros_like(gradient)
    if needs_double(beta):
        log_q, log_p = log_q.double(), log_p.double()
    # On the paper's scale r is (1 − β)·log(q/m); `normalized` divides by β(1 − β).
    gradient = _through_softmax(log_q.exp(), log_q - log_mixture(log_p, log_q, beta))
    return gradient.mul_(1 / beta if normalized else 1 - beta).float()


def _skew_kl(log_q: Tensor, log_p: Tensor, skew: float = 0.1) -> Tensor:
    if skew == 0.0:
        return _forward_kl(log_q, log_p)
    ratio = (log_p - log_mixture(log_p, log_q, skew)).exp_()
    return _through_softmax(log_q.exp(), ratio.mul_(skew - 1))


def _skew_reverse_kl(log_q: Tensor, log_p: Tensor, skew: float = 0.1) -> Tensor:
    if skew == 0.0:
        return _reverse_kl(log_q, log_p)
    log_ratio = log_q - log_mixture(log_q, log_p, skew)
    return _through_softmax(log_q.exp(), log_ratio - skew * log_ratio.exp())


def _through_softmax(q: Tensor, r: Tensor) -> Tensor:
    """q ∘ (r − Σ q r). Where q is 0, the gradient is 0, even if r is infinite."""
    weighted = torch.where(q == 0, 0.0, q * r)
    return weighted.sub_(q.mul_(weighted.sum(dim=-1, keepdim=True)))


#: ∂D/∂x for each name in `divergences.DIVERGENCES`; each function takes and returns (..., classes).
GRADIENTS: dict[str, Callable[..., Tensor]] = {
    "forward_kl": _forward_kl,
    "reverse_kl": _reverse_kl,
    "generalized_jsd": _generalized_jsd,
    "skew_kl": _skew_kl,
    "skew_reverse_kl": _skew_reverse_kl,
}


def divergence_and_gradient(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    divergence: str = "forward_kl",
    temperature: float = 1.0,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """`soft_target_divergence` and its gradient with respect to the student's logits, without autograd.

    Args:
        student_logits: (..., classes).
        teacher_logits: same shape.
        divergence, temperature, **options: as in `soft_target_divergence`.

    Returns:
        The divergence times T², fp32, (...), and the gradient of this product, fp32, (..., classes).

    Raises:
        ValueError, TypeError: as `soft_target_divergence`.
    """
    check_logits(student_logits, teacher_logits)
    check_temperature(temperature)
    value_of = named_divergence(divergence, **options)
    log_q = torch.log_softmax(student_logits.float() / temperature, dim=-1)
    log_p = torch.log_softmax(teacher_logits.float() / temperature, dim=-1)
    value, gradient = value_of(log_q, log_p), GRADIENTS[divergence](log_q, log_p, **options)
    factor = t_squared_factor(temperature)
    return value * factor, gradient.mul_(factor / temperature)
