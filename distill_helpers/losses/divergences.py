"""Divergences between a teacher's and a student's distributions, and the one way they are averaged.

Two layers, both public:

* `forward_kl`, `reverse_kl`, `generalized_jsd`, `skew_kl` and `skew_reverse_kl` are the mathematics. Each takes two
  tensors of *log-probabilities* over the last dimension and returns one number per position.
* `soft_target_divergence` (per position) and `mean_divergence` (a scalar) take *logits*. The first is the only place
  where the temperature and its T² factor are applied, the second the only place where positions are masked and
  averaged (through `masked_mean`).

Everything is computed in fp32 whatever comes in: in bf16 the KL of two nearly equal distributions comes out negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = [
    "DIVERGENCES",
    "check_logits",
    "forward_kl",
    "generalized_jsd",
    "masked_mean",
    "mean_divergence",
    "mean_per_item",
    "reverse_kl",
    "skew_kl",
    "skew_reverse_kl",
    "soft_target_divergence",
]


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p‖q) over the last dimension, with the convention 0·log 0 = 0."""
    # Both -inf (a class that neither may choose) would give -inf + inf = NaN; p is 0 there, and so is the term.
    log_ratio = torch.where(log_p == -math.inf, 0.0, log_p - log_q)
    return (log_p.exp() * log_ratio).sum(dim=-1)


def forward_kl(log_p_student: Tensor, log_p_teacher: Tensor) -> Tensor:
    """KL(teacher‖student): mode covering.

    Hinton et al. (arXiv 1503.02531, section 2) write the cross-entropy with the soft targets: the same but for the
    teacher's entropy, which has no gradient.

    Args:
        log_p_student: log-probabilities, (..., classes).
        log_p_teacher: log-probabilities, same shape.

    Returns:
        Nats per position, shape (...); 0 where the two are equal.
    """
    return _kl(log_p_teacher, log_p_student)


def reverse_kl(log_p_student: Tensor, log_p_teacher: Tensor) -> Tensor:
    """KL(student‖teacher): mode seeking. Shapes as in `forward_kl`.

    MiniLLM (arXiv 2306.08543, equation 1) minimises it over whole answers that the student samples; here it is taken at
    each position of the text that is given.
    """
    return _kl(log_p_student, log_p_teacher)


def log_mixture(log_a: Tensor, log_b: Tensor, weight_a: float) -> Tensor:
    """log(w·a + (1 − w)·b) of two tensors of log-probabilities; −inf where both are, or nearly."""
    # Where both are -inf, logaddexp has a NaN gradient; with the lowest finite number for one it is 0.
    log_a = log_a.clamp(min=torch.finfo(log_a.dtype).min)
    return torch.logaddexp(log_a + math.log(weight_a), log_b + math.log1p(-weight_a))


def generalized_jsd(log_p_student: Tensor, log_p_teacher: Tensor, beta: float = 0.5, normalized: bool = True) -> Tensor:
    """Generalised Jensen–Shannon divergence of GKD (arXiv 2306.13649, equation 1).

    With M = β·teacher + (1 − β)·student, the paper's D is β·KL(teacher‖M) + (1 − β)·KL(student‖M). It vanishes as
    β → 0 or 1, so code that returns a pure KL at the endpoints jumps there. `normalized` divides by β(1 − β), which
    makes the function continuous on [0, 1]: forward KL at 0, reverse KL at 1, four times the Jensen–Shannon
    divergence at 0.5.

    Args:
        log_p_student: log-probabilities, (..., classes).
        log_p_teacher: log-probabilities, same shape.
        beta: in [0, 1]; 0 is the forward KL, 1 the reverse.
        normalized: divide by β(1 − β). With False, the paper's own scale, which is 0 at both endpoints.

    Returns:
        Nats per position, shape (...).

    Raises:
        ValueError: `beta` outside [0, 1].
    """
    _check_fraction("beta", beta, low_open=False)
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
    """Whether β is so near an endpoint that the normaliser of the JSD magnifies fp32 rounding beyond 1e-4."""
    return min(beta, 1 - beta) < 0.05


def skew_kl(log_p_student: Tensor, log_p_teacher: Tensor, skew: float = 0.1) -> Tensor:
    """KL(teacher ‖ skew·teacher + (1 − skew)·student), DistiLLM's skew KL (arXiv 2402.03898, section 3.1).

    Bounded by −log(skew), whatever the student does; the forward KL at skew 0. Shapes as in `forward_kl`.

    Raises:
        ValueError: `skew` outside [0, 1).
    """
    _check_fraction("skew", skew, high_open=True, low_open=False)
    if skew == 0.0:
        return forward_kl(log_p_student, log_p_teacher)
    return _kl(log_p_teacher, log_mixture(log_p_teacher, log_p_student, skew))


def skew_reverse_kl(log_p_student: Tensor, log_p_teacher: Tensor, skew: float = 0.1) -> Tensor:
    """KL(student ‖ skew·student + (1 − skew)·teacher), DistiLLM's skew reverse KL. See `skew_kl`."""
    return skew_kl(log_p_teacher, log_p_student, skew)


#: The divergences by the name that `DistillationConfig` and `mean_divergence` take.
DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "generalized_jsd": generalized_jsd,
    "skew_kl": skew_kl,
    "skew_reverse_kl": skew_reverse_kl,
}


def soft_target_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    divergence: str = "forward_kl",
    temperature: float = 1.0,
    t_squared: bool = True,
    **options: Any,
) -> Tensor:
    """Divergence of the two softmaxes at `temperature`, times T², for each position.

    For the forward KL the gradient with respect to a student logit is exactly T·(q − p), p and q being the teacher's
    and the student's softmax at T: softmax(z/T) contributes 1/T at every T, and q − p shrinks like another 1/T only
    when T is far above the spread of the logits. T² therefore makes the *high-temperature* gradient independent of T
    (Hinton et al., arXiv 1503.02531, equations 2–4); it does not equalise gradients at small T.

    Args:
        student_logits: (..., classes), any floating dtype.
        teacher_logits: same shape; never receives a gradient.
        divergence: a key of `DIVERGENCES`.
        temperature: T > 0, applied to both.
        t_squared: multiply by T². Switch it off to see what it does, never to train.
        **options: further arguments of the divergence (`beta`, `normalized`, `skew`).

    Returns:
        fp32, shape (...).

    Raises:
        ValueError: shapes differ, an unknown divergence, or a temperature that is not positive and finite.
        TypeError: logits that are not floating point, or an option that the divergence does not take.
    """
    check_logits(student_logits, teacher_logits)
    check_temperature(temperature)
    log_p_student = torch.log_softmax(student_logits.float() / temperature, dim=-1)
    log_p_teacher = torch.log_softmax(teacher_logits.detach().float() / temperature, dim=-1)
    value = named_divergence(divergence, **options)(log_p_student, log_p_teacher)
    return value * t_squared_factor(temperature) if t_squared else value


def t_squared_factor(temperature: float) -> float:
    """What every divergence of tempered distributions is multiplied by; why, see `soft_target_divergence`."""
    return temperature**2


def mean_divergence(
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
    """Mean of `soft_target_divergence` over the positions that count.

    Positions outside the mask are dropped *before* the softmax, so that NaN or infinite logits at a padding position
    reach neither the value nor the gradient.

    Args:
        student_logits: (batch, classes) or (batch, sequence, vocabulary).
        teacher_logits: same shape.
        mask: bool, the shape without its last dimension; True counts. Default: everything counts.
        num_items: divide by this number instead of by the positions that count. Under gradient accumulation pass the
            count over all micro-batches: the accumulated gradient then does not depend on how the batch was split.
        chunk_size: positions whose fp32 softmax is held at a time; the rest is recomputed in the backward pass.
            The value does not depend on it. Default: all at once.
        divergence, temperature, **options: as in `soft_target_divergence`.

    Returns:
        An fp32 scalar; 0, with zero gradients, when nothing counts.

    Raises:
        ValueError, TypeError: as `soft_target_divergence`; a mask of another shape or type; a chunk size below 1.
    """
    check_logits(student_logits, teacher_logits)
    check_chunk_size(chunk_size)
    if mask is not None:
        check_mask(mask, student_logits.shape[:-1])
        student_logits, teacher_logits = student_logits[mask], teacher_logits[mask]
    student = student_logits.reshape(-1, student_logits.shape[-1])
    teacher = teacher_logits.reshape(-1, teacher_logits.shape[-1])
    per_position: Callable[[Tensor, Tensor], Tensor] = partial(
        soft_target_divergence, divergence=divergence, temperature=temperature, **options
    )
    if chunk_size is None or chunk_size >= len(student):
        values = per_position(student, teacher)
    else:
        values = torch.cat(
            [
                checkpoint(per_position, s, t, use_reentrant=False)
                for s, t in zip(student.split(chunk_size), teacher.split(chunk_size), strict=True)
            ]
        )
    return masked_mean(values, num_items=num_items)


def masked_mean(values: Tensor, mask: Tensor | None = None, num_items: Tensor | int | None = None) -> Tensor:
    """Sum of the values where `mask` is True, divided by `num_items` (default: how many are True).

    Returns:
        A scalar; 0, still attached to the graph, when nothing counts.

    Raises:
        ValueError: a mask of another shape, or `num_items` below 1.
    """
    if mask is not None:
        check_mask(mask, values.shape)
        values = values[mask]
    if num_items is None:
        num_items = max(values.numel(), 1)
    elif isinstance(num_items, int) and num_items < 1:
        raise ValueError(f"num_items must be at least 1, got {num_items}")
    elif isinstance(num_items, Tensor):  # not looked at, which would make a GPU wait; 0 items are 0, not NaN
        num_items = num_items.clamp(min=1)
    return values.sum() / num_items


def mean_per_item(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of each item's values where `mask` is True, (batch, …) → (batch,); 0 where an item has none."""
    kept = values.masked_fill(~mask, 0.0).flatten(start_dim=1)
    return kept.sum(dim=1) / mask.flatten(start_dim=1).sum(dim=1).clamp(min=1)


def named_divergence(name: str, **options: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """The divergence called `name`, with its options bound. Raises ValueError for an unknown name."""
    if name not in DIVERGENCES:
        raise ValueError(f"unknown divergence {name!r}; choose one of {sorted(DIVERGENCES)}")
    return partial(DIVERGENCES[name], **options) if options else DIVERGENCES[name]


def check_logits(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raise unless both are floating-point tensors of one shape with at least one class."""
    for who, logits in (("student", student_logits), ("teacher", teacher_logits)):
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            got = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
            raise TypeError(f"{who}_logits must be a floating-point tensor, got {got}; pass logits, not class indices")
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student logits {tuple(student_logits.shape)} and teacher logits {tuple(teacher_logits.shape)} differ in"
            " shape; both models need the same label space, and the same tokenizer where they predict tokens"
        )
    if student_logits.dim() < 1 or student_logits.shape[-1] < 1:
        raise ValueError(f"logits need at least one class in the last dimension, got {tuple(student_logits.shape)}")


def check_mask(mask: Tensor, shape: torch.Size) -> None:
    """Raise unless `mask` is a boolean tensor of `shape`."""
    if mask.dtype != torch.bool:
        raise ValueError(f"the mask must be bool, got {mask.dtype}; write `attention_mask.bool()`")
    if mask.shape != shape:
        raise ValueError(f"the mask has shape {tuple(mask.shape)}, the positions have {tuple(shape)}")


def check_temperature(temperature: float) -> None:
    """Raise unless the temperature is positive and finite."""
    if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
        raise ValueError(f"temperature must be a positive, finite number, got {temperature!r}; 1 is the plain softmax")


def check_chunk_size(chunk_size: int | None) -> None:
    """Raise unless it is a whole number of at least 1, or None for everything at once."""
    if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size < 1):
        raise ValueError(f"chunk_size must be at least 1 or None, got {chunk_size!r}")


def _check_fraction(name: str, value: float, *, low_open: bool = True, high_open: bool = False) -> None:
    above = value > 0 if low_open else value >= 0
    below = value < 1 if high_open else value <= 1
    if not (above and below):
        interval = f"{'(' if low_open else '['}0, 1{')' if high_open else ']'}"
        raise ValueError(f"{name} must lie in {interval}, got {value!r}")
