"""The soft targets of the objective: a divergence of two models' logits, and its mean over the positions that count.

`soft_target_divergence` (one number for each position) and `mean_divergence` (a scalar) take *logits*. They apply the
temperature, T² and the mask. The divergences themselves are in `divergences`.

T² is defined once, in `t_squared_factor`. Four functions multiply by it: `soft_target_divergence`,
`binary_divergences.binary_divergence`, `divergence_gradients.divergence_and_gradient`, and the estimate of
`llm.target_kinds.SampledTargets`. Every other loss reaches T² through one of the four.

The mask is applied in several places, each time before the softmax, so that padding reaches neither value nor gradient.
`mean_over_positions` and `llm.cross_tokenizer` select the positions that count from both models' logits,
`hard_labels` from the logits of the task loss, and `llm.fused_loss` and `llm.token_level` from the hidden states,
before there are logits. All of them divide in `masked_mean`. `feature_losses` sets padding to 0 instead, and divides in
`mean_per_item`.

Every divergence is computed in fp32, whatever dtype comes in. In bf16 the KL of two nearly equal distributions comes
out negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from distill_helpers.losses.divergences import named_divergence

__all__ = ["masked_mean", "mean_divergence", "mean_per_item", "soft_target_divergence", "t_squared_factor"]


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

    With p and q for the teacher's and the student's softmax at T, the gradient of the forward KL with respect to a
    student logit is exactly T·(q − p). Without T² it would be (q − p)/T, and q − p shrinks like another 1/T, but only
    when T is far above the spread of the logits. T² therefore makes the *high-temperature* gradient independent of T
    (Hinton et al., arXiv 1503.02531, equations 2–4). It does not equalise gradients at small T.

    Args:
        student_logits: (..., classes), any floating dtype.
        teacher_logits: same shape; never receives a gradient.
        divergence: a key of `DIVERGENCES`.
        temperature: T > 0, applied to both.
        t_squared: multiply by T². Switch it off to see what T² does, never to train.
        **options: further arguments of the divergence (`beta`, `normalized`, `skew`).

    Returns:
        fp32, shape (...).

    Raises:
        ValueError: shapes that differ, an unknown divergence, or a temperature that is not positive and finite.
        TypeError: logits that are not floating point, or an option that the divergence does not take.

    Example:
        Far above the spread of the logits, the value no longer depends on the temperature:

        >>> student, teacher = torch.tensor([0.0, 0.0]), torch.tensor([2.0, 0.0])
        >>> for temperature in (1.0, 10.0, 100.0):
        ...     print(f"{dh.soft_target_divergence(student, teacher, temperature=temperature):.2f}")
        0.33
        0.50
        0.50
    """
    log_softmax = partial(torch.log_softmax, dim=-1)
    return divergence_at_temperature(
        log_softmax, student_logits, teacher_logits, divergence, temperature, t_squared=t_squared, **options
    )


def divergence_at_temperature(
    log_probabilities: Callable[[Tensor], Tensor],
    student_logits: Tensor,
    teacher_logits: Tensor,
    divergence: str,
    temperature: float,
    *,
    t_squared: bool,
    **options: Any,
) -> Tensor:
    """What the divergences of a softmax and of yes-or-no labels share: T on both, fp32, no gradient to the teacher, T².

    Args:
        log_probabilities: from logits at temperature 1 to log-probabilities, with the outcomes last.
        student_logits, teacher_logits, divergence, temperature, t_squared, **options: of `soft_target_divergence`,
            which says what is raised.
    """
    check_logits(student_logits, teacher_logits)
    check_temperature(temperature)
    log_p_student = log_probabilities(student_logits.float() / temperature)
    log_p_teacher = log_probabilities(teacher_logits.detach().float() / temperature)
    value = named_divergence(divergence, **options)(log_p_student, log_p_teacher)
    return value * t_squared_factor(temperature) if t_squared else value


def t_squared_factor(temperature: float) -> float:
    """The factor of every divergence at a temperature; `soft_target_divergence` says why it is T²."""
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
        mask: bool, the shape of the logits without the last dimension; True counts. Default: every position counts.
        num_items: divide by this number instead of by the positions that count. Under gradient accumulation pass the
            count over all micro-batches: the accumulated gradient then does not depend on how the batch was split.
        chunk_size: the number of positions whose fp32 softmax is held at a time. The backward pass computes each
            chunk again, and the value stays the same. Default: all positions at once.
        divergence, temperature, **options: as in `soft_target_divergence`.

    Returns:
        An fp32 scalar; 0, with zero gradients, when nothing counts.

    Raises:
        ValueError, TypeError: as `soft_target_divergence`; a mask of another shape or dtype; a chunk size below 1.

    Example:
        Whatever stands at a padding position, the mean is that of the others:

        >>> student = torch.tensor([[[0.0, 0.0], [float("nan"), 0.0]]])  # one sequence of two positions
        >>> mask = torch.tensor([[True, False]])
        >>> round(float(dh.mean_divergence(student, torch.tensor([[[2.0, 0.0], [2.0, 0.0]]]), mask=mask)), 3)
        0.328
    """
    return mean_over_positions(
        partial(soft_target_divergence, divergence=divergence, temperature=temperature, **options),
        student_logits,
        teacher_logits,
        mask=mask,
        num_items=num_items,
        chunk_size=chunk_size,
    )


def mean_over_positions(
    per_position: Callable[[Tensor, Tensor], Tensor],
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    mask: Tensor | None,
    num_items: Tensor | int | None,
    chunk_size: int | None,
) -> Tensor:
    """The mean of a comparison, (positions, classes) of both models → (positions,), over the positions that count.

    Shapes, mask, number of items and chunks are those of `mean_divergence`, and so are the errors.
    """
    check_logits(student_logits, teacher_logits)
    check_chunk_size(chunk_size)
    if mask is not None:
        check_mask(mask, student_logits.shape[:-1])
        student_logits, teacher_logits = student_logits[mask], teacher_logits[mask]
    student = student_logits.reshape(-1, student_logits.shape[-1])
    teacher = teacher_logits.reshape(-1, teacher_logits.shape[-1])
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
    """Sum of the values where `mask` is True, divided by `num_items` (default: the number of these values).

    Returns:
        A scalar; 0, still attached to the graph, when nothing counts.

    Raises:
        ValueError: a mask of another shape, or `num_items` below 1.

    Example:
        >>> values, mask = torch.tensor([1.0, 3.0, 100.0]), torch.tensor([True, True, False])
        >>> dh.masked_mean(values, mask), dh.masked_mean(values, mask, num_items=8)
        (tensor(2.), tensor(0.5000))
    """
    if mask is not None:
        check_mask(mask, values.shape)
        values = values[mask]
    if num_items is None:
        num_items = max(values.numel(), 1)
    elif isinstance(num_items, int) and num_items < 1:
        raise ValueError(f"num_items must be at least 1, got {num_items}")
    elif isinstance(num_items, Tensor):  # reading its value would make a GPU wait; the mean of 0 items is 0, not NaN
        num_items = num_items.clamp(min=1)
    return values.sum() / num_items


def mean_per_item(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of each item's values where `mask` is True, (batch, …) → (batch,); 0 for an item without such values."""
    kept = values.masked_fill(~mask, 0.0).flatten(start_dim=1)
    return kept.sum(dim=1) / mask.flatten(start_dim=1).sum(dim=1).clamp(min=1)


def check_logits(student_logits: Tensor, teacher_logits: Tensor) -> None:
    """Raise TypeError or ValueError unless both are floating-point tensors of one shape with at least one class."""
    for who, logits in (("student", student_logits), ("teacher", teacher_logits)):
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            got = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
            raise TypeError(f"{who}_logits must be a floating-point tensor, got {got}; pass logits, not class indices")
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student logits {tuple(student_logits.shape)} and teacher logits {tuple(teacher_logits.shape)} differ in"
            " shape; both models need the same classes, and the same tokenizer where they predict tokens"
        )
    if student_logits.dim() < 1 or student_logits.shape[-1] < 1:
        raise ValueError(f"logits need at least one class in the last dimension, got {tuple(student_logits.shape)}")


def check_mask(mask: Tensor, shape: torch.Size) -> None:
    """Raise ValueError unless `mask` is a boolean tensor of `shape`."""
    if mask.dtype != torch.bool:
        raise ValueError(f"the mask must be bool, got {mask.dtype}; write `attention_mask.bool()`")
    if mask.shape != shape:
        raise ValueError(f"the mask has shape {tuple(mask.shape)}, the positions have {tuple(shape)}")


def check_temperature(temperature: float) -> None:
    """Raise ValueError unless the temperature is positive and finite."""
    if not (isinstance(temperature, int | float) and 0 < temperature < math.inf):
        raise ValueError(f"temperature must be a positive, finite number, got {temperature!r}; 1 is the plain softmax")


def check_chunk_size(chunk_size: int | None) -> None:
    """Raise ValueError unless the chunk size is a whole number of at least 1, or None for all positions at once."""
    if chunk_size is not None and (not isinstance(chunk_size, int) or chunk_size < 1):
        raise ValueError(f"chunk_size must be a whole number of at least 1, or None for no chunks, got {chunk_size!r}")
