"""Output head and divergence in one: the loss of a language model's distillation without its logits.

The logits of a batch, (tokens, vocabulary), are the largest tensors of the whole training step, once for the student,
once for the teacher, and again for each softmax and each gradient. Here they exist for a few tokens at a time, and the
gradient is computed in the same pass, so that no logit is kept or computed twice. Four matrix products are left: two
for the logits, two for the gradients of hidden states and head; three where the head is frozen.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from distill_helpers.llm.logit_chunks import LogitChunks, TeacherLogits, common_vocabulary, of_vocabulary, vocabulary_of
from distill_helpers.llm.output_heads import OutputHead, logits_of
from distill_helpers.llm.token_targets import TokenTargets, target_divergence
from distill_helpers.losses.divergences import (
    check_chunk_size,
    check_mask,
    check_temperature,
    masked_mean,
    named_divergence,
)

__all__ = ["fused_distillation_loss"]

#: Rows of a half-precision head whose gradient is computed at a time and added in fp32.
_HALF_ROWS = 2**14


def fused_distillation_loss(
    student_hidden: Tensor,
    student_head: Tensor | OutputHead | nn.Module,
    teacher_hidden: Tensor | TokenTargets,
    teacher_head: Tensor | OutputHead | nn.Module | None = None,
    mask: Tensor | None = None,
    *,
    temperature: float = 1.0,
    divergence: str = "forward_kl",
    num_items: Tensor | int | None = None,
    vocabulary_size: int | None = None,
    chunk_size: int | None = None,
    compiled: bool = False,
    **options: Any,
) -> Tensor:
    """`divergences.mean_divergence` of the logits that two heads make of hidden states, never holding all logits.

    The gradient is computed with the value, so calling it under `torch.no_grad` is cheaper than throwing the gradient
    away. It can be taken once, and has no derivative of its own.

    A head that is neither a tensor nor an `nn.Linear` nor an `OutputHead` (one wrapped by LoRA, a quantised one) is
    called on a chunk of rows at a time, and again in the backward pass: as lean, but slower.

    Args:
        student_hidden: the last hidden states, (..., width), aligned with the teacher's; for a causal model without
            the last position if the mask has been shifted (`losses.causal_shift`).
        student_head: (vocabulary, width), or what `output_heads.output_head` returns.
        teacher_hidden: (..., its own width); receives no gradient. Or targets that were made before
            (`token_targets`), a row for each position that counts.
        teacher_head: as the student's, of the teacher's width; receives no gradient. None with targets.
        mask: bool, (...); True counts. Rows outside it are never computed. Default: all count.
        temperature, divergence, **options: as in `divergences.soft_target_divergence`.
        num_items: divide by it instead of by the rows that count, as under gradient accumulation.
        vocabulary_size: rows of both heads that are tokens; those behind it are padding and left out of both softmaxes.
            Needed where the heads differ in their rows.
        chunk_size: rows of logits held at a time, at most; the chunks are of one size. Default: half the student's
            width, so that the two buffers are as large as its head, or the power of two that fills up to 128 MB in
            fp32 of a buffer, whichever is more; 64 where a head is called as a module.
        compiled: let `torch.compile` fuse what happens between the products: of plain heads, with teacher logits or
            dense targets; elsewhere it changes nothing. Needs a C++ compiler on a CPU, Triton on a GPU, and seconds at
            the first call.

    Returns:
        A scalar, fp32; 0, with zero gradients, when nothing counts.

    Raises:
        ValueError: shapes that do not fit, heads of different vocabularies, another dtype than the head's, and what
            `mean_divergence` and, with targets, `token_targets.target_divergence` raise.
        TypeError: hidden states that are not floating point, an option that the divergence does not take.
        RuntimeError: in the backward pass: a second one, or one that is to be differentiated.
    """
    check_chunk_size(chunk_size)
    check_temperature(temperature)
    named_divergence(divergence, **options)(*torch.full((2, 1, 2), 0.5).log())  # a wrong option fails here
    if isinstance(teacher_hidden, TokenTargets) != (teacher_head is None):
        raise ValueError("pass a teacher_head with hidden states, and none with targets")
    student = _packed(student_hidden, mask)
    head = _as_head(student_head)
    teacher: TeacherLogits | TokenTargets
    if isinstance(teacher_hidden, TokenTargets):
        if len(teacher_hidden) != len(student):
            raise ValueError(f"{len(teacher_hidden)} rows of targets, but {len(student)} positions count")
        teacher = teacher_hidden
    else:
        if student_hidden.shape[:-1] != teacher_hidden.shape[:-1]:
            raise ValueError(
                f"student hidden states {tuple(student_hidden.shape)} and teacher hidden states"
                f" {tuple(teacher_hidden.shape)} must be of the same positions"
            )
        assert teacher_head is not None
        teacher = TeacherLogits(_packed(teacher_hidden.detach(), mask), _as_head(teacher_head))
    settings = {"divergence": divergence, "temperature": temperature, **options}
    if isinstance(head, OutputHead) and not (isinstance(teacher, TeacherLogits) and not teacher.fused):
        job = LogitChunks(student, head, teacher, vocabulary_size, chunk_size, settings, compiled=compiled)
        return masked_mean(
            _fused_total(job, head)[None], num_items=max(len(student), 1) if num_items is None else num_items
        )
    values = _by_autograd(student, head, teacher, vocabulary_size, chunk_size or 64, settings)
    return masked_mean(values, num_items=num_items)


@torch.compiler.disable  # a loop over chunks that somebody's compiled training step would trace: slower than as it is
def _fused_total(job: LogitChunks, head: OutputHead) -> Tensor:
    return _FusedDivergence.apply(job.student, head.weight, head.bias, job)


class _FusedDivergence(torch.autograd.Function):
    """The sum of the rows' divergences. The gradients are computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, job: LogitChunks) -> Tensor:
        needs = ctx.needs_input_grad
        # Sums over many rows: in half precision the last ones would be rounded away.
        of_hidden = torch.empty_like(hidden) if needs[0] else None
        of_weight = torch.zeros_like(weight, dtype=_sums_dtype(weight)) if needs[1] else None
        of_bias = torch.zeros_like(bias, dtype=_sums_dtype(bias)) if needs[2] and bias is not None else None
        total = hidden.new_zeros((), dtype=torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            for rows, values, gradient in job.chunks(hidden, with_gradient=any(needs)):
                total += values.sum()
                if of_hidden is not None:
                    torch.mm(gradient, job.student_head.weight, out=of_hidden[rows])
                if of_weight is not None:
                    _add_product(of_weight[: job.size], gradient, hidden[rows])
                if of_bias is not None:
                    of_bias[: job.size] += gradient.sum(dim=0)
        # The bias is of the weight's dtype, as in every layer.
        sums = [None if gradient is None else gradient.to(weight.dtype) for gradient in (of_weight, of_bias)]
        ctx.gradients = [of_hidden, *sums]
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("the fused loss has no second derivative; take it of mean_divergence instead")
        if ctx.gradients is None:
            raise RuntimeError("a fused loss can be differentiated once; compute it again for another backward pass")
        gradients, ctx.gradients = ctx.gradients, None  # autograd copies what somebody else still holds
        return *(None if gradient is None else gradient.mul_(grad_outputs[0]) for gradient in gradients), None


def _by_autograd(
    student: Tensor,
    head: OutputHead | nn.Module,
    teacher: TeacherLogits | TokenTargets,
    vocabulary_size: int | None,
    chunk_size: int,
    settings: dict[str, Any],
) -> Tensor:
    """The rows' divergences where a head is a module of its own kind: chunks that the backward pass computes again."""

    def divergences(rows: slice, student: Tensor) -> Tensor:
        logits = logits_of(head, student)
        with torch.no_grad():
            targets = teacher[rows]
        n_targets = targets.shape[1] if isinstance(targets, Tensor) else vocabulary_of(targets)
        size = common_vocabulary(logits.shape[-1], n_targets, vocabulary_size)
        return target_divergence(logits[:, :size], of_vocabulary(targets, size), **settings)

    parts = [slice(start, start + chunk_size) for start in range(0, len(student), chunk_size)]
    values = [checkpoint(divergences, rows, student[rows], use_reentrant=False) for rows in parts]
    return torch.cat(values) if values else student.sum(dim=-1).float()


def _as_head(head: Tensor | OutputHead | nn.Module) -> OutputHead | nn.Module:
    if isinstance(head, Tensor):
        return OutputHead(head)
    return OutputHead(head.weight, head.bias) if type(head) is nn.Linear else head


def _packed(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """The rows that count, (rows, width)."""
    if not hidden.is_floating_point() or hidden.dim() < 2:
        raise TypeError(f"hidden states must be floating point, (..., width), got {hidden.dtype} {tuple(hidden.shape)}")
    if mask is None:
        return hidden.reshape(-1, hidden.shape[-1])
    check_mask(mask, hidden.shape[:-1])
    return hidden[mask]


def _sums_dtype(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _add_product(total: Tensor, gradient: Tensor, hidden: Tensor) -> None:
    """total += gradient.T @ hidden, without another tensor of the head's size."""
    if total.dtype == gradient.dtype:
        total.addmm_(gradient.t(), hidden)
        return
    for part, columns in zip(total.split(_HALF_ROWS), gradient.split(_HALF_ROWS, dim=1), strict=True):
        part.add_(columns.t() @ hidden)
