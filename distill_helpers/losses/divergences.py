"""Divergences between a teacher's and a student's distributions: the mathematics.

Each function takes two tensors of *log-probabilities* over the last dimension and returns one number for each position.
`soft_targets` applies them to logits, with the temperature, T² and the mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "DIVERGENCES",
    "forward_kl",
    "generalized_jsd",
    "reverse_kl",
    "skew_kl",
    "skew_reverse_kl",
]


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p‖q) over the last dimension, with the convention 0·log 0 = 0."""
    # A class that neither may choose has -inf in both, and -inf + inf would be NaN. p is 0 there, and so is the term.
    log_ratio = torch.where(log_p == -math.inf, 0.0, log_p - log_q)
    return (log_p.exp() * log_ratio).sum(dim=-1)


def forward_kl(log_p_student: Tensor, log_p_teacher: Tensor) -> Tensor:
    """KL(teacher‖student): mode covering.

    Hinton et al. (arXiv 1503.02531, section 2) write the cross-entropy with the soft targets. The two differ by the
    teacher's entropy, which has no gradient.

    Args:
        log_p_student: log-probabilities, (..., classes).
        log_p_teacher: log-probabilities, same shape.

    Returns:
        Nats for each position, shape (...); 0 where the two distributions are equal.

    Example:
        A student that leaves out one of the teacher's two classes pays more than under `reverse_kl`:

        >>> teacher, student = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.99, 0.01]).log()
        >>> round(float(dh.forward_kl(student, teacher)), 2)
        1.61
    """
    return _kl(log_p_teacher, log_p_student)


def reverse_kl(log_p_student: Tensor, log_p_teacher: Tensor) -> Tensor:
    """KL(student‖teacher): mode seeking. Shapes as in `forward_kl`.

    MiniLLM (arXiv 2306.08543, equation 1) minimises the reverse KL over whole answers that the student samples. This
    function computes the divergence at each position of the text that is given.

    Example:
        >>> teacher, student = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.99, 0.01]).log()
        >>> round(float(dh.reverse_kl(student, teacher)), 2)
        0.64
    """
    return _kl(log_p_student, log_p_teacher)


def log_mixture(log_a: Tensor, log_b: Tensor, weight_a: float) -> Tensor:
    """log(w·a + (1 − w)·b) of two tensors of log-probabilities; −inf, or nearly, where both are −inf."""
    # logaddexp of two -inf has a NaN gradient. With the lowest finite number for one of them, the gradient is 0.
    log_a = log_a.clamp(min=torch.finfo(log_a.dtype).min)
    return torch.logaddexp(log_a + math.log(weight_a), log_b + math.log1p(-weight_a))


def generalized_jsd(log_p_student: Tensor, log_p_teacher: Tensor, beta: float = 0.5, normalized: bool = True) -> Tensor:
    """Generalised Jensen–Shannon divergence of GKD (arXiv 2306.13649, equation 1).

    With M = β·teacher + (1 − β)·student, the paper's divergence is β·KL(teacher‖M) + (1 − β)·KL(student‖M). This
    vanishes as β approaches 0 or 1, so code that returns a pure KL at the endpoints jumps there. `normalized` divides
    by β(1 − β), which makes the function continuous on [0, 1]: the forward KL at 0, the reverse KL at 1, four times the
    Jensen–Shannon divergence at 0.5.

    Args:
        log_p_student: log-probabilities, (..., classes).
        log_p_teacher: log-probabilities, same shape.
        beta: in [0, 1]; 0 is the forward KL, 1 the reverse.
        normalized: divide by β(1 − β). False keeps the paper's own scale, which is 0 at both endpoints.

    Returns:
        Nats for each position, shape (...).

    Raises:
        ValueError: `beta` outside [0, 1].

    Example:
        >>> teacher, student = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.99, 0.01]).log()
        >>> [round(float(dh.generalized_jsd(student, teacher, beta=beta)), 2) for beta in (0.0, 0.5, 1.0)]
        [1.61, 0.77, 0.64]
    """
    _check_fraction("beta", beta)
    if beta in (0.0, 1.0):
        if not normalized:  # 0 times an infinite KL would be NaN
            return 0.0 * log_p_student.exp().sum(dim=-1)
        return (forward_kl if beta == 0.0 else reverse_kl)(log_p_student, log_p_teacher)
    if needs_double(beta):
        log_p_student, log_p_teacher = log_p_student.double(), log_p_teacher.double()
    log_m = log_mixture(log_p_teacher, log_p_student, beta)
    jsd = beta * _kl(log_p_teacher, log_m) + (1 - beta) * _kl(log_p_student, log_m)
    return (jsd / (beta * (1 - beta)) if normalized else jsd).float()


def needs_double(beta: float) -> bool:
    """Whether β is so near an endpoint that the JSD's division by β(1 − β) magnifies fp32 rounding beyond 1e-4."""
    return min(beta, 1 - beta) < 0.05


def skew_kl(log_p_student: Tensor, log_p_teacher: Tensor, skew: float = 0.1) -> Tensor:
    """KL(teacher ‖ skew·teacher + (1 − skew)·student), DistiLLM's skew KL (arXiv 2402.03898, section 3.1).

    It is at most −log(skew), whatever the student does. At skew 0 it is the forward KL. Shapes as in `forward_kl`.

    Raises:
        ValueError: `skew` outside [0, 1).

    Example:
        Where the student rules out a class of the teacher, the forward KL is infinite and the skew KL is not:

        >>> teacher, student = torch.tensor([0.5, 0.5]).log(), torch.tensor([1.0, 0.0]).log()
        >>> float(dh.forward_kl(student, teacher)), round(float(dh.skew_kl(student, teacher, skew=0.1)), 2)
        (inf, 0.83)
    """
    _check_fraction("skew", skew, open_end=True)
    if skew == 0.0:
        return forward_kl(log_p_student, log_p_teacher)
    return _kl(log_p_teacher, log_mixture(log_p_teacher, log_p_student, skew))


def skew_reverse_kl(log_p_student: Tensor, log_p_teacher: Tensor, skew: float = 0.1) -> Tensor:
    """KL(student ‖ skew·student + (1 − skew)·teacher), DistiLLM's skew reverse KL. See `skew_kl`.

    Example:
        >>> teacher, student = torch.tensor([1.0, 0.0]).log(), torch.tensor([0.5, 0.5]).log()
        >>> float(dh.reverse_kl(student, teacher)), round(float(dh.skew_reverse_kl(student, teacher, skew=0.1)), 2)
        (inf, 0.83)
    """
    return skew_kl(log_p_teacher, log_p_student, skew)


#: The divergences by the name that `DistillationConfig` and `mean_divergence` take.
DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "generalized_jsd": generalized_jsd,
    "skew_kl": skew_kl,
    "skew_reverse_kl": skew_reverse_kl,
}


def named_divergence(name: str, **options: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """The divergence called `name`, with its options bound. Raises ValueError for an unknown name."""
    if name not in DIVERGENCES:
        raise ValueError(f"unknown divergence {name!r}; choose one of {sorted(DIVERGENCES)}")
    return partial(DIVERGENCES[name], **options) if options else DIVERGENCES[name]


def _check_fraction(name: str, value: float, *, open_end: bool = False) -> None:
    """Raise ValueError unless the value lies in [0, 1], or in [0, 1) with `open_end`."""
    if not (0 <= value < 1 if open_end else 0 <= value <= 1):
        raise ValueError(f"{name} must lie in [0, 1{')' if open_end else ']'}, got {value!r}")
