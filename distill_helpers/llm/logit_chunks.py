"""The student's logits for a few tokens at a time, and in their place the gradient of a divergence.

`fused_loss` walks over these chunks. The buffers, the size of a chunk and the size of the blocks within it are decided
here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from distill_helpers.llm.output_heads import OutputHead, in_computing_dtype, logits_buffer
from distill_helpers.llm.token_targets import TokenTargets

__all__ = ["LogitChunks", "common_vocabulary"]

#: The largest number of logits in a buffer, unless the head is larger: 128 MB in fp32.
_BUFFER = 2**25


class LogitChunks:
    """One pass of the fused loss: its inputs in the dtype of the computation, and the walk over its chunks.

    Args:
        student: the hidden states that count, (rows, width).
        head: the student's.
        targets: the teacher's, with a row for each of the student's.
        vocab_size, chunk_size, compiled: as in `fused_distillation_loss`.
        settings: divergence, temperature and options.

    Raises:
        ValueError: the vocabularies, widths or dtypes do not fit.
    """

    def __init__(
        self,
        student: Tensor,
        head: OutputHead,
        targets: TokenTargets,
        vocab_size: int | None,
        chunk_size: int | None,
        settings: dict[str, Any],
        *,
        compiled: bool = False,
    ) -> None:
        self.vocab_size = common_vocabulary(len(head.weight), targets.vocab_size, vocab_size)
        targets.check_vocabulary(self.vocab_size)
        self.student, self.student_head = in_computing_dtype("student", student, head, self.vocab_size)
        most = chunk_size or max(student.shape[-1] // 2, _power_of_two_up_to(_BUFFER // self.vocab_size))
        n_chunks = max(1, math.ceil(len(student) / most))
        self.chunk_size = max(1, math.ceil(len(student) / n_chunks))
        self._targets = targets.for_chunks(self.vocab_size, self.chunk_size)
        self._block_rows = max(1, targets.block_size // self.vocab_size)
        self._settings, self._compiled = settings, compiled

    def chunks(self, student: Tensor, *, with_gradient: bool) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Rows, their divergences, and the gradient of the sum of these divergences before the head's scale and cap."""
        n = len(student)
        buffer = logits_buffer(student, self.chunk_size, self.vocab_size)
        for start in range(0, n, self.chunk_size):
            rows = slice(start, min(start + self.chunk_size, n))
            logits = buffer[: rows.stop - start]
            self.student_head.logits(student[rows], out=logits)
            yield rows, self._in_place(logits, self._targets[rows], with_gradient), logits

    def _in_place(self, logits: Tensor, targets: TokenTargets, with_gradient: bool) -> Tensor:
        """The divergence of each row; the logits are overwritten with its gradient."""
        # One tensor for all blocks: small ones, allocated between the large ones, would leave holes in the heap.
        values = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
        n_rows = self._block_rows if logits.device.type == "cpu" else len(logits)
        for start in range(0, len(logits), n_rows):
            block = slice(start, start + n_rows)
            x = logits[block]
            if with_gradient:
                values[block], gradient = targets[block].divergence_and_gradient(
                    x, compiled=self._compiled, **self._settings
                )
                x.copy_(self.student_head.gradient_before(gradient, x))
            else:
                values[block] = targets[block].divergence(x, **self._settings)
        return values


def common_vocabulary(student_rows: int, teacher_rows: int | None, vocab_size: int | None) -> int:
    """How many tokens both vocabularies have, without their padding.

    Args:
        student_rows: of the student's head.
        teacher_rows: of the teacher's head; None if they are unknown.
        vocab_size: as the caller of the loss has it.

    Raises:
        ValueError: the heads have different numbers of rows and there is no `vocab_size`, or it does not fit them.
    """
    teacher_rows = student_rows if teacher_rows is None else teacher_rows
    if vocab_size is None:
        if student_rows != teacher_rows:
            raise ValueError(
                f"the student's head has {student_rows} rows, the teacher's {teacher_rows}; if the tokenizers are the"
                " same and the rest is padding, pass vocab_size=len(tokenizer)"
            )
        return student_rows
    if not 1 <= vocab_size <= min(student_rows, teacher_rows):
        raise ValueError(
            f"vocab_size must lie in 1 to {min(student_rows, teacher_rows)}, the smaller head's rows, got {vocab_size}"
        )
    return vocab_size


def _power_of_two_up_to(number: int) -> int:
    """The largest power of two that is not above a number; 0 for 0."""
    return 1 << number.bit_length() >> 1
