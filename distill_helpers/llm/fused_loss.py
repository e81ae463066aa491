"""Output head and divergence in one: the distillation loss of a language model without the logits of a batch.

The logits of a batch, (tokens, vocabulary), are the largest tensors of a training step: once for the student, once for
the teacher, and again for each softmax and each gradient. Here they exist for a few tokens at a time. Their gradient is
computed in the same pass, so that no logit is kept and none is computed twice. Four matrix products are left: two for
the logits, and two for the gradients of hidden states and head. With a frozen head there are three.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from distill_helpers.llm.dense_targets import HiddenTargets
from distill_helpers.llm.logit_chunks import LogitChunks, common_vocabulary
from distill_helpers.llm.output_heads import OutputHead, as_head, logits_of
from distill_helpers.llm.token_targets import TokenTargets, target_divergence
from distill_helpers.losses.divergences import named_divergence
from distill_helpers.losses.soft_targets import check_chunk_size, check_mask, check_temperature, masked_mean

__all__ = ["fused_distillation_loss"]

#: How many rows of a half-precision head's gradient are computed at a time and added in fp32.
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
    vocab_size: int | None = None,
    chunk_size: int | None = None,
    compiled: bool = False,
    **options: Any,
) -> Tensor:
    """`mean_divergence` of the logits that two heads make of hidden states, without ever holding all logits.

    The gradient is computed together with the value. It can be used for one backward pass, and has no derivative of
    its own. Call the loss under `torch.no_grad` if you need the value alone, which is cheaper.

    A head that is neither a tensor nor an `nn.Linear` nor an `OutputHead` (LoRA wraps one, quantisation makes another)
    is called for one chunk of rows at a time, and once more in the backward pass. This is as lean, but slower.

    Args:
        student_hidden: the last hidden states, (..., width), aligned with the teacher's. For a causal model, leave out
            the last position if the mask has been shifted (`losses.causal_shift`).
        student_head: (vocabulary, width), or the result of `output_head`.
        teacher_hidden: (..., the teacher's width); it receives no gradient. Or `TokenTargets`, with a row for each
            position that counts.
        teacher_head: like the student's, of the teacher's width; it receives no gradient. Needed with hidden states and
            `HiddenTargets`, None with all other targets.
        mask: bool, (...); True counts. The rows outside the mask are never computed. Default: all rows count.
        temperature, divergence, **options: as in `soft_target_divergence`.
        num_items: divide by this number instead of by the rows that count, as under gradient accumulation.
        vocab_size: the number of rows of both heads that are tokens. The rows after them are padding, and are left out
            of both softmaxes. Needed if the heads have different numbers of rows.
        chunk_size: the largest number of rows of logits that are held at a time; all chunks have nearly one size. The
            default is half the student's width, which makes the two buffers together as large as its head, or the
            power of two whose buffer has up to 128 MB in fp32, whichever is more. For a head that is called as a
            module, the default is 64.
        compiled: let `torch.compile` fuse the computation between the products. It applies to plain heads with teacher
            hidden states or dense targets, and changes nothing elsewhere. It needs a C++ compiler on a CPU or Triton on
            a GPU, and takes some seconds at the first call.

    Returns:
        A scalar, fp32; 0, with zero gradients, if nothing counts.

    Raises:
        ValueError: shapes that do not fit, heads of different vocabularies, another dtype than the head's, a teacher's
            head that is missing or not needed, and what `mean_divergence` and, with targets, `target_divergence` raise.
        TypeError: hidden states that are not floating point, or an option that the divergence does not take.
        RuntimeError: in a second backward pass, or in one that is itself to be differentiated.

    Example:
        >>> student, head = torch.randn(2, 5, 8), torch.randn(100, 8, requires_grad=True)
        >>> teacher, teacher_head = torch.randn(2, 5, 16), torch.randn(100, 16)
        >>> loss = dh.fused_distillation_loss(student, head, teacher, teacher_head)
        >>> loss.backward()
        >>> torch.allclose(loss, dh.mean_divergence(student @ head.T, teacher @ teacher_head.T), rtol=1e-3)
        True
    """
    check_chunk_size(chunk_size)
    check_temperature(temperature)
    named_divergence(divergence, **options)(*torch.full((2, 1, 2), 0.5).log())  # a wrong option fails here
    student = _packed(student_hidden, mask)
    head = as_head(student_head)
    if isinstance(teacher_hidden, TokenTargets):
        targets = teacher_hidden if teacher_head is None else teacher_hidden.with_head(teacher_head)
    else:
        if student_hidden.shape[:-1] != teacher_hidden.shape[:-1]:
            raise ValueError(
                f"student hidden states {tuple(student_hidden.shape)} and teacher hidden states"
                f" {tuple(teacher_hidden.shape)} must be of the same positions"
            )
        teacher = _packed(teacher_hidden.detach(), mask)
        targets = HiddenTargets(teacher, None if teacher_head is None else as_head(teacher_head))
    targets.check(len(student), divergence=divergence, temperature=temperature)
    settings = {"divergence": divergence, "temperature": temperature, **options}
    if isinstance(head, OutputHead) and targets.fusable:
        chunks = LogitChunks(student, head, targets, vocab_size, chunk_size, settings, compiled=compiled)
        return masked_mean(
            _fused_total(chunks, head)[None], num_items=max(len(student), 1) if num_items is None else num_items
        )
    values = _by_autograd(student, head, targets, vocab_size, chunk_size or 64, settings)
    return masked_mean(values, num_items=num_items)


@torch.compiler.disable  # a compiled training step would trace the loop over chunks, which then runs slower
def _fused_total(chunks: LogitChunks, head: OutputHead) -> Tensor:
    return _FusedDivergence.apply(chunks.student, head.weight, head.bias, chunks)


class _FusedDivergence(torch.autograd.Function):
    """The sum of the rows' divergences. The gradients are computed in the forward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, chunks: LogitChunks) -> Tensor:
        needs = ctx.needs_input_grad
        # The head's gradients are sums over many rows; in half precision the last rows would be rounded away.
        hidden_gradient = torch.empty_like(hidden) if needs[0] else None
        weight_gradient = torch.zeros_like(weight, dtype=_sums_dtype(weight)) if needs[1] else None
        bias_gradient = torch.zeros_like(bias, dtype=_sums_dtype(bias)) if needs[2] and bias is not None else None
        loss = hidden.new_zeros((), dtype=torch.float32)
        with torch.autocast(hidden.device.type, enabled=False):
            for rows, values, logit_gradient in chunks.chunks(hidden, with_gradient=any(needs)):
                loss += values.sum()
                if hidden_gradient is not None:
                    torch.mm(logit_gradient, chunks.student_head.weight, out=hidden_gradient[rows])
                if weight_gradient is not None:
                    _add_product(weight_gradient[: chunks.vocab_size], logit_gradient, hidden[rows])
                if bias_gradient is not None:
                    bias_gradient[: chunks.vocab_size] += logit_gradient.sum(dim=0)
        # The bias has the dtype of the weight, as in every layer.
        sums = (weight_gradient, bias_gradient)
        ctx.gradients = [hidden_gradient, *(None if total is None else total.to(weight.dtype) for total in sums)]
        return loss

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("the fused loss has no second derivative; differentiate mean_divergence instead")
        if ctx.gradients is None:
            raise RuntimeError("the fused loss can be differentiated once; compute it again for another backward pass")
        gradients, ctx.gradients = ctx.gradients, None  # autograd copies a tensor that is still held elsewhere
        return *(None if gradient is None else gradient.mul_(grad_outputs[0]) for gradient in gradients), None


def _by_autograd(
    student: Tensor,
    head: OutputHead | nn.Module,
    targets: TokenTargets,
    vocab_size: int | None,
    chunk_size: int,
    settings: dict[str, Any],
) -> Tensor:
    """The divergence of each row if a head has to be called as a module. The backward pass repeats each chunk."""

    def divergences(rows: slice, student: Tensor) -> Tensor:
        logits = logits_of(head, student)
        with torch.no_grad():
            chunk = targets[rows].ready()
        common = common_vocabulary(logits.shape[-1], chunk.vocab_size, vocab_size)
        return target_divergence(logits[:, :common], chunk.within_vocabulary(common), **settings)

    parts = [slice(start, start + chunk_size) for start in range(0, len(student), chunk_size)]
    values = [checkpoint(divergences, rows, student[rows], use_reentrant=False) for rows in parts]
    return torch.cat(values) if values else student.sum(dim=-1).float()


def _packed(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """The rows that count, (rows, width)."""
    if not hidden.is_floating_point() or hidden.dim() < 2:
        raise TypeError(
            f"hidden states must be floating point, (..., width), got {hidden.dtype}, {tuple(hidden.shape)}; pass"
            " output_heads.last_hidden_states"
        )
    if mask is None:
        return hidden.reshape(-1, hidden.shape[-1])
    check_mask(mask, hidden.shape[:-1])
    return hidden[mask]


def _sums_dtype(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _add_product(total: Tensor, gradient: Tensor, hidden: Tensor) -> None:
    """Add gradient.T @ hidden to the total, without another tensor as large as the head."""
    if total.dtype == gradient.dtype:
        total.addmm_(gradient.t(), hidden)
        return
    for part, columns in zip(total.split(_HALF_ROWS), gradient.split(_HALF_ROWS, dim=1), strict=True):
        part.add_(columns.t() @ hidden)
