"""What a teacher says of each token: the methods that all kinds of targets have, and a student's divergence from them.

The losses, the trainer and the store on disk never ask which kind of targets they have: they call the methods of
`TokenTargets`. A new kind is therefore one class. The kinds themselves are in `dense_targets` and `target_kinds`. The
rows of targets are tokens, in the order of the positions that count.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from distill_helpers.llm.output_heads import OutputHead, logits_of
from distill_helpers.losses.divergence_gradients import divergence_and_gradient
from distill_helpers.losses.soft_targets import soft_target_divergence

__all__ = [
    "TargetSettings",
    "TokenTargets",
    "target_divergence",
    "target_divergence_and_gradient",
]


@dataclass(frozen=True)
class TargetSettings:
    """How a teacher's targets are to be made.

    Args:
        temperature: of the student's training.
        storage_dtype: the precision in which hidden states, logits and log-probabilities are kept.
        vocab_size: rows of the teacher's head that are tokens; None for all.
        options: of the kind; see `TokenTargets.options`.
        generator: for kinds that draw tokens.
        written: (tokens,), the token that stands at each position, for kinds that look at it alone.
    """

    temperature: float = 1.0
    storage_dtype: torch.dtype = torch.float16
    vocab_size: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    generator: torch.Generator | None = None
    written: Tensor | None = None

    def logits(self, hidden: Tensor, head: OutputHead | nn.Module) -> Tensor:
        """The teacher's logits (tokens, vocabulary) of hidden states (tokens, width), without padded rows."""
        return logits_of(head, hidden)[:, : self.vocab_size]


class TargetChunks(Protocol):
    """Targets of some consecutive rows at a time; `TokenTargets` themselves are an example."""

    def __getitem__(self, rows: slice, /) -> TokenTargets: ...


@dataclass(frozen=True, repr=False)
class TokenTargets(ABC):
    """What a teacher says of some tokens: tensors with one row for each token.

    A kind of targets is a frozen dataclass that inherits from this class and has its tensors as fields. It has to
    implement `compute`, `divergence` and `divergence_and_gradient`, and overrides other methods where it differs. An
    entry in `target_kinds.KINDS` gives the kind its name.

    Example:
        >>> targets = dh.TopKTargets.of(torch.randn(5, 100), k=8)
        >>> isinstance(targets, dh.TokenTargets), len(targets), targets.bytes_per_token
        (True, 5, 52)
        >>> targets[1:3]
        TopKTargets(2 tokens, 52 bytes each, temperature=1)
    """

    #: The options of `compute` with their defaults. `precompute_token_targets` takes them as keyword arguments.
    options: ClassVar[Mapping[str, Any]] = {}
    #: How many student logits are compared at a time on a CPU, so that the temporaries stay in its caches.
    block_size: ClassVar[int] = 2**20

    def __post_init__(self) -> None:
        lengths = {name: len(tensor) for name, tensor in self.tensors.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"targets must have a row for each token, got {lengths} rows")

    @classmethod
    @abstractmethod
    def compute(cls, hidden: Tensor, head: OutputHead | nn.Module, settings: TargetSettings) -> Self:
        """Make targets of a teacher's last hidden states (tokens, width) and its head."""

    @abstractmethod
    def divergence(self, student_logits: Tensor, **settings: Any) -> Tensor:
        """The divergence of each token, fp32, (tokens,), times T².

        Args:
            student_logits: (tokens, vocabulary).
            **settings: `divergence`, `temperature` and options of `soft_target_divergence`. The caller has had them
                checked by `check`.
        """

    @abstractmethod
    def divergence_and_gradient(
        self, student_logits: Tensor, *, compiled: bool = False, **settings: Any
    ) -> tuple[Tensor, Tensor]:
        """`divergence`, and its gradient with respect to the student's logits, fp32, without autograd.

        Args:
            student_logits, **settings: as in `divergence`.
            compiled: let `torch.compile` fuse the computation. A kind that gains nothing from it does without.
        """

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by their names, each (tokens, …)."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    @property
    def bytes_per_token(self) -> int:
        """The bytes of one row, in memory and on disk."""
        return sum(tensor.element_size() * tensor.shape[1:].numel() for tensor in self.tensors.values())

    @property
    def vocab_size(self) -> int | None:
        """The number of rows of the teacher's vocabulary; None if these targets do not tell."""
        return None

    @property
    def needs_head(self) -> bool:
        """Whether a divergence needs the teacher's head; see `with_head`."""
        return False

    @property
    def fusable(self) -> bool:
        """False if the teacher's head has to be called as a module, which the fused pass cannot do."""
        return True

    def with_head(self, head: Tensor | OutputHead | nn.Module) -> Self:
        """The same targets together with the teacher's head.

        Raises:
            ValueError: these targets do without one.
        """
        raise ValueError(f"{type(self).__name__} are complete without the teacher's head; leave teacher_head out")

    @classmethod  # noqa: B027 - most kinds serve every divergence
    def check_divergence(cls, divergence: str) -> None:
        """Raise ValueError if these targets cannot serve a divergence."""

    def check(self, n_tokens: int, *, divergence: str, temperature: float) -> None:
        """Refuse a loss that these targets cannot serve, before any work is done.

        Args:
            n_tokens: the student's tokens that count.
            divergence, temperature: of the loss.

        Raises:
            ValueError: another number of tokens, or, for some kinds, another temperature, another divergence, or no
                head.
        """
        if len(self) != n_tokens:
            raise ValueError(
                f"there are {len(self)} rows of targets, but {n_tokens} tokens count; make the targets of the same"
                " tokens"
            )
        self.check_divergence(divergence)

    def check_vocabulary(self, vocab_size: int) -> None:  # noqa: B027 - a kind that names no token has nothing to check
        """Raise ValueError if these targets name a token that is not among the first `vocab_size`."""

    def within_vocabulary(self, vocab_size: int) -> TokenTargets:
        """The same targets without the padded rows of the vocabulary, those after the first `vocab_size`."""
        return self

    def ready(self) -> TokenTargets:
        """The same targets, without any work left to the teacher's head."""
        return self

    def for_chunks(self, vocab_size: int, n_rows: int) -> TargetChunks:
        """The targets as the fused loss walks over them: at most `n_rows` at a time, for `vocab_size` tokens."""
        return self.within_vocabulary(vocab_size)

    def to(self, device: str | torch.device) -> Self:
        """The same targets on another device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self.tensors.items()})

    def followed_by(self, others: Sequence[Self]) -> Self:
        """These rows, and after them the rows of other targets of the same kind."""
        parts = [self.tensors, *(other.tensors for other in others)]
        return replace(self, **{name: torch.cat([part[name] for part in parts]) for name in self.tensors})

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: slice | Tensor) -> Self:
        return replace(self, **{name: tensor[rows] for name, tensor in self.tensors.items()})

    def __repr__(self) -> str:
        numbers = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        shown = "".join(f", {name}={value:g}" for name, value in numbers.items() if isinstance(value, int | float))
        return f"{type(self).__name__}({len(self):,} tokens, {self.bytes_per_token:,} bytes each{shown})"


def target_divergence(
    student_logits: Tensor,
    targets: Tensor | TokenTargets,
    *,
    divergence: str = "forward_kl",
    temperature: float = 1.0,
    **options: Any,
) -> Tensor:
    """`soft_target_divergence` from teacher logits, or from targets that stand for them.

    Args:
        student_logits: (tokens, vocabulary).
        targets: teacher logits of the same shape, or targets with as many rows.
        divergence, temperature, **options: as in `soft_target_divergence`. Top-k and sampled targets need the
            temperature at which they were made; sampled targets also need the forward KL.

    Returns:
        fp32, (tokens,), times T². For sampled targets it is an estimate, which can be negative.

    Raises:
        ValueError: the targets have another temperature or another number of rows, allow only another divergence, lack
            the teacher's head, or name a token outside the vocabulary.

    Example:
        >>> teacher, student = torch.tensor([[2.0, 1.0, 0.0, -9.0]]), torch.zeros(1, 4)
        >>> dh.target_divergence(student, teacher)
        tensor([0.5538])
        >>> dh.target_divergence(student, dh.TopKTargets.of(teacher, k=1))  # never above that of all logits
        tensor([0.3810])
    """
    settings: dict[str, Any] = {"divergence": divergence, "temperature": temperature, **options}
    if isinstance(targets, Tensor):
        return soft_target_divergence(student_logits, targets, **settings)
    _check(targets, student_logits, divergence, temperature)
    return targets.divergence(student_logits, **settings)


def target_divergence_and_gradient(
    student_logits: Tensor,
    targets: Tensor | TokenTargets,
    *,
    divergence: str = "forward_kl",
    temperature: float = 1.0,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """`target_divergence`, and its gradient with respect to the student's logits, without autograd.

    Returns:
        fp32, (tokens,), and fp32, (tokens, vocabulary).

    Raises:
        ValueError: as `target_divergence`.
    """
    settings: dict[str, Any] = {"divergence": divergence, "temperature": temperature, **options}
    if isinstance(targets, Tensor):
        return divergence_and_gradient(student_logits, targets, **settings)
    _check(targets, student_logits, divergence, temperature)
    return targets.divergence_and_gradient(student_logits, **settings)


def _check(targets: TokenTargets, student_logits: Tensor, divergence: str, temperature: float) -> None:
    targets.check(len(student_logits), divergence=divergence, temperature=temperature)
    targets.check_vocabulary(student_logits.shape[-1])
