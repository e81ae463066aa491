"""The logits of student and teacher, a few tokens at a time, and in their place the gradient of a divergence.

What `fused_loss` walks over. Buffers, sizes of chunks and of the blocks in them are decided here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from distill_helpers.llm.output_heads import OutputHead, logits_of
from distill_helpers.llm.token_targets import (
    DenseTargets,
    TokenTargets,
    target_divergence,
    target_divergence_and_gradient,
)
from distill_helpers.losses.divergence_gradients import divergence_and_gradient

__all__ = ["LogitChunks", "TeacherLogits", "common_vocabulary", "of_vocabulary", "vocabulary_of"]

#: Logits whose softmax and gradient are computed at a time on a CPU: their temporaries then stay in its caches. Sparse
#: targets make a few of the logits' shape, teacher logits a dozen.
_CPU_BLOCK, _CPU_BLOCK_SPARSE = 2**18, 2**20
#: Logits of one buffer, at most, where the head is not larger: 128 MB in fp32.
_BUFFER = 2**25
#: Numbers to which a row of logits is filled up: products with rows that begin anywhere take up to a third longer.
_ALIGNMENT = 64


class TeacherLogits:
    """A teacher's logits, made a few rows at a time."""

    def __init__(self, hidden: Tensor, head: OutputHead | nn.Module) -> None:
        self.hidden, self.head = hidden, head
        self._buffer: Tensor | None = None

    @property
    def fused(self) -> bool:
        """Whether the head is a plain product."""
        return isinstance(self.head, OutputHead)

    def prepare(self, size: int, n_rows: int) -> None:
        """Cast to the dtype of the computation, and make room for the logits of so many rows."""
        assert isinstance(self.head, OutputHead)
        self.hidden, self.head = _cast("teacher", self.hidden, self.head, size)
        self._buffer = _logits_buffer(self.hidden, n_rows, size)

    def __getitem__(self, rows: slice) -> Tensor:
        hidden = self.hidden[rows]
        return logits_of(self.head, hidden, None if self._buffer is None else self._buffer[: len(hidden)])


class LogitChunks:
    """A fused pass: its inputs in the dtype of the computation, and the walk over its chunks.

    Args:
        student: the hidden states that count, (rows, width).
        head: the student's.
        teacher: its hidden states and head, or targets, a row for each of the student's.
        vocabulary_size, chunk_size, compiled: as in `fused_loss.fused_distillation_loss`.
        settings: divergence, temperature and options.
    """

    def __init__(
        self,
        student: Tensor,
        head: OutputHead,
        teacher: TeacherLogits | TokenTargets,
        vocabulary_size: int | None,
        chunk_size: int | None,
        settings: dict[str, Any],
        *,
        compiled: bool = False,
    ) -> None:
        self.size = common_vocabulary(len(head.weight), vocabulary_of(teacher), vocabulary_size)
        self.student, self.student_head = _cast("student", student, head, self.size)
        most = chunk_size or max(student.shape[-1] // 2, _power_of_two(_BUFFER // self.size))
        n_chunks = max(1, math.ceil(len(student) / most))
        self.chunk_size = max(1, math.ceil(len(student) / n_chunks))
        if isinstance(teacher, TeacherLogits):
            teacher.prepare(self.size, self.chunk_size)
        self.teacher = teacher
        self.settings = settings
        self._of_logits = _compiled() if compiled else target_divergence_and_gradient

    def chunks(self, student: Tensor, *, with_gradient: bool) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Rows, their divergences, and the gradient of the sum of these with respect to what the head multiplies."""
        n = len(student)
        buffer = _logits_buffer(student, self.chunk_size, self.size)
        for start in range(0, n, self.chunk_size):
            rows = slice(start, min(start + self.chunk_size, n))
            logits = buffer[: rows.stop - start]
            self.student_head.logits(student[rows], out=logits)
            yield rows, self._in_place(logits, of_vocabulary(self.teacher[rows], self.size), with_gradient), logits

    def _in_place(self, logits: Tensor, targets: Tensor | TokenTargets, with_gradient: bool) -> Tensor:
        # One tensor for all: small ones, made between the blocks' large ones, would leave the heap in holes.
        values = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
        of_block, block_size = self._of_logits, _CPU_BLOCK
        if not isinstance(targets, Tensor):
            of_block, block_size = target_divergence_and_gradient, _CPU_BLOCK_SPARSE
        n_rows = max(1, block_size // self.size) if logits.device.type == "cpu" else len(logits)
        for start in range(0, len(logits), n_rows):
            block = slice(start, start + n_rows)
            x = logits[block]
            if with_gradient:
                values[block], gradient = of_block(x, targets[block], **self.settings)
                x.copy_(self.student_head.gradient_before(gradient, x))
            else:
                values[block] = target_divergence(x, targets[block], **self.settings)
        return values


@cache
def _compiled() -> Callable[..., tuple[Tensor, Tensor]]:
    return torch.compile(divergence_and_gradient)


def vocabulary_of(teacher: TeacherLogits | TokenTargets) -> int | None:
    """How many tokens the teacher's vocabulary has; None where that is not known, or not before it has spoken."""
    if isinstance(teacher, DenseTargets):
        return teacher.logits.shape[1]
    head = teacher.head if isinstance(teacher, TeacherLogits) else None
    return len(head.weight) if isinstance(head, OutputHead) else None


def of_vocabulary(targets: Tensor | TokenTargets, size: int) -> Tensor | TokenTargets:
    """Without the padded rows of the vocabulary."""
    if isinstance(targets, DenseTargets):
        return targets.logits[:, :size]
    return targets[:, :size] if isinstance(targets, Tensor) else targets


def _logits_buffer(hidden: Tensor, n_rows: int, size: int) -> Tensor:
    return hidden.new_empty(n_rows, math.ceil(size / _ALIGNMENT) * _ALIGNMENT)[:, :size]


def _power_of_two(number: int) -> int:
    """The largest that is not above it; 0 of 0."""
    return 1 << number.bit_length() >> 1


def common_vocabulary(student_rows: int, teacher_rows: int | None, vocabulary_size: int | None) -> int:
    """How many tokens both vocabularies have, their padding left out.

    Raises:
        ValueError: heads of different rows without `vocabulary_size`, or one that does not fit them.
    """
    teacher_rows = student_rows if teacher_rows is None else teacher_rows
    if vocabulary_size is None:
        if student_rows != teacher_rows:
            raise ValueError(
                f"the student's head has {student_rows} rows, the teacher's {teacher_rows}; if the tokenizers are the"
                " same and the rest is padding, pass vocabulary_size=len(tokenizer)"
            )
        return student_rows
    if not 1 <= vocabulary_size <= min(student_rows, teacher_rows):
        raise ValueError(
            f"vocabulary_size must lie in 1 to {min(student_rows, teacher_rows)}, the smaller head's rows, got"
            f" {vocabulary_size}"
        )
    return vocabulary_size


def _cast(who: str, hidden: Tensor, head: OutputHead, size: int) -> tuple[Tensor, OutputHead]:
    """Hidden states and the head's first rows in the dtype of the computation: autocast's, else the one they share."""
    if hidden.shape[-1] != head.weight.shape[1]:
        raise ValueError(f"the {who}'s hidden states are {hidden.shape[-1]} wide, its head {head.weight.shape[1]}")
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head.weight.dtype
    if hidden.dtype != dtype and not torch.is_autocast_enabled(device):
        raise ValueError(f"the {who}'s hidden states are {hidden.dtype}, its head is {dtype}")
    bias = None if head.bias is None else head.bias.detach()[:size].to(dtype)
    return hidden.to(dtype), replace(head, weight=head.weight.detach()[:size].to(dtype), bias=bias)
