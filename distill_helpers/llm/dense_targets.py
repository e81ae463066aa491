"""Targets for every temperature: all of a teacher's logits, or the hidden states that its head turns into them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from distill_helpers.llm.output_heads import OutputHead, as_head, in_computing_dtype, logits_buffer, logits_of
from distill_helpers.llm.token_targets import TargetChunks, TargetSettings, TokenTargets
from distill_helpers.losses.divergence_gradients import divergence_and_gradient
from distill_helpers.losses.soft_targets import soft_target_divergence

__all__ = ["DenseTargets", "HiddenTargets"]


@dataclass(frozen=True, repr=False)
class DenseTargets(TokenTargets):
    """All of a teacher's logits. They are good for every temperature.

    Args:
        logits: (tokens, vocabulary), without padded rows of the vocabulary.

    Example:
        >>> dh.DenseTargets.of(torch.tensor([[1000.0, 1001.0, 1003.0]])).logits
        tensor([[-3., -2.,  0.]], dtype=torch.float16)
    """

    logits: Tensor

    # A divergence from logits makes a dozen temporaries of their shape, other kinds make a few.
    block_size: ClassVar[int] = 2**18

    @classmethod
    def of(cls, logits: Tensor, *, storage_dtype: torch.dtype = torch.float16) -> Self:
        """Keep logits (tokens, vocabulary). Each row is shifted so that its largest logit is 0.

        Half precision rounds small numbers least, and the softmax does not change.
        """
        return cls((logits.float() - logits.float().amax(dim=-1, keepdim=True)).to(storage_dtype))

    @classmethod
    def compute(cls, hidden: Tensor, head: OutputHead | nn.Module, settings: TargetSettings) -> Self:
        return cls.of(settings.logits(hidden, head), storage_dtype=settings.storage_dtype)

    @property
    def vocab_size(self) -> int:
        return self.logits.shape[-1]

    def within_vocabulary(self, vocab_size: int) -> DenseTargets:
        return DenseTargets(self.logits[:, :vocab_size])

    def divergence(self, student_logits: Tensor, **settings: Any) -> Tensor:
        return soft_target_divergence(student_logits, self.logits, **settings)

    def divergence_and_gradient(
        self, student_logits: Tensor, *, compiled: bool = False, **settings: Any
    ) -> tuple[Tensor, Tensor]:
        compute = _compiled() if compiled else divergence_and_gradient
        return compute(student_logits, self.logits, **settings)


@dataclass(frozen=True, repr=False)
class HiddenTargets(TokenTargets):
    """The last hidden states of the teacher, from which its head computes all of the logits again.

    They are exact, good for every temperature, and often smaller than the top k: as many numbers as the teacher is
    wide, instead of one for each token of the vocabulary. Training needs the teacher's head, and nothing else of the
    teacher.

    Args:
        hidden: (tokens, width), from `output_heads.last_hidden_states`.
        head: the teacher's. None while the targets are only kept; see `with_head`.

    Example:
        >>> targets = dh.HiddenTargets(torch.ones(2, 4))
        >>> head = dh.OutputHead(torch.eye(9, 4))
        >>> dh.target_divergence(torch.zeros(2, 9), targets.with_head(head))
        tensor([0.1176, 0.1176])
    """

    hidden: Tensor
    head: OutputHead | nn.Module | None = None

    block_size: ClassVar[int] = DenseTargets.block_size

    @classmethod
    def compute(cls, hidden: Tensor, head: OutputHead | nn.Module, settings: TargetSettings) -> Self:
        return cls(hidden.to(settings.storage_dtype))

    @property
    def vocab_size(self) -> int | None:
        return len(self.head.weight) if isinstance(self.head, OutputHead) else None

    @property
    def needs_head(self) -> bool:
        return self.head is None

    @property
    def fusable(self) -> bool:
        return isinstance(self.head, OutputHead)

    def with_head(self, head: Tensor | OutputHead | nn.Module) -> Self:
        """The same hidden states, in the dtype of the teacher's head, together with this head."""
        head = as_head(head)
        weights = [head.weight] if isinstance(head, OutputHead) else head.parameters()
        dtype = next((weight.dtype for weight in weights if weight.is_floating_point()), self.hidden.dtype)
        return replace(self, hidden=self.hidden.to(dtype), head=head)

    def check(self, n_tokens: int, *, divergence: str, temperature: float) -> None:
        super().check(n_tokens, divergence=divergence, temperature=temperature)
        self._the_head()

    def ready(self) -> DenseTargets:
        return DenseTargets(logits_of(self._the_head(), self.hidden))

    def within_vocabulary(self, vocab_size: int) -> DenseTargets:
        return self.ready().within_vocabulary(vocab_size)

    def for_chunks(self, vocab_size: int, n_rows: int) -> TargetChunks:
        assert isinstance(self.head, OutputHead)  # else they are not fusable
        return _LogitsInChunks(self.hidden, self.head, vocab_size, n_rows)

    def divergence(self, student_logits: Tensor, **settings: Any) -> Tensor:
        return self.ready().divergence(student_logits, **settings)

    def divergence_and_gradient(
        self, student_logits: Tensor, *, compiled: bool = False, **settings: Any
    ) -> tuple[Tensor, Tensor]:
        return self.ready().divergence_and_gradient(student_logits, compiled=compiled, **settings)

    def _the_head(self) -> OutputHead | nn.Module:
        if self.head is None:
            raise ValueError(
                "hidden states become logits through the teacher's head; pass teacher_head=output_head(teacher), or"
                " targets.with_head(output_head(teacher))"
            )
        return self.head


class _LogitsInChunks:
    """The logits of a few rows of hidden states at a time. All chunks share one buffer."""

    def __init__(self, hidden: Tensor, head: OutputHead, vocab_size: int, n_rows: int) -> None:
        self._hidden, self._head = in_computing_dtype("teacher", hidden, head, vocab_size)
        self._buffer = logits_buffer(self._hidden, n_rows, vocab_size)

    def __getitem__(self, rows: slice) -> DenseTargets:
        hidden = self._hidden[rows]
        return DenseTargets(self._head.logits(hidden, self._buffer[: len(hidden)]))


@cache
def _compiled() -> Callable[..., tuple[Tensor, Tensor]]:
    return torch.compile(divergence_and_gradient)
