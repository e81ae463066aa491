"""What a teacher says of each token, in fewer bytes than its logits, and the divergence from it.

A vocabulary of 50,000 makes 100 kB of half-precision logits for every token of text. `TopKTargets` keep the likeliest
tokens and the probability of all others together; `SampledTargets` keep tokens drawn from the teacher's distribution;
`HiddenTargets` keep what the teacher's head sees; `DenseTargets` keep everything. Rows are tokens, in the order of the
positions that count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from distill_helpers.losses.divergence_gradients import divergence_and_gradient
from distill_helpers.losses.divergences import check_temperature, soft_target_divergence, t_squared_factor

__all__ = [
    "DenseTargets",
    "HiddenTargets",
    "SampledTargets",
    "TokenTargets",
    "TopKTargets",
    "target_divergence",
    "target_divergence_and_gradient",
]


@dataclass(frozen=True)
class TokenTargets:
    """What the three kinds share: rows of tensors, one row for each token."""

    def __post_init__(self) -> None:
        lengths = {name: len(tensor) for name, tensor in self.tensors.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"targets must have a row for each token, got {lengths}")

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by their names, each (tokens, …)."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Tensor)}

    @property
    def bytes_per_token(self) -> int:
        """What a row takes, in memory and on disk."""
        return sum(tensor[:1].nbytes if len(tensor) else 0 for tensor in self.tensors.values())

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: slice | Tensor) -> Self:
        return replace(self, **{name: tensor[rows] for name, tensor in self.tensors.items()})

    def to(self, device: str | torch.device) -> Self:
        """The same on another device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self.tensors.items()})

    def followed_by(self, others: Sequence[Self]) -> Self:
        """These rows and those of others of the same kind, behind one another."""
        parts = [self.tensors, *(other.tensors for other in others)]
        return replace(self, **{name: torch.cat([part[name] for part in parts]) for name in self.tensors})


@dataclass(frozen=True)
class DenseTargets(TokenTargets):
    """All of a teacher's logits; good for every temperature.

    Args:
        logits: (tokens, vocabulary), without padded rows of the vocabulary.
    """

    logits: Tensor

    @classmethod
    def of(cls, logits: Tensor, *, dtype: torch.dtype = torch.float16) -> Self:
        """From logits (tokens, vocabulary). Each row is moved to a largest logit of 0, which half precision likes."""
        return cls((logits.float() - logits.float().amax(dim=-1, keepdim=True)).to(dtype))


@dataclass(frozen=True)
class HiddenTargets(TokenTargets):
    """The last hidden states, from which the teacher's head makes all of its logits again.

    Exact, good for every temperature, and often smaller than the top k: width numbers instead of a vocabulary. What it
    needs is the head at training time, and nothing else of the teacher.

    Args:
        hidden: (tokens, width), see `output_heads.last_hidden_states`.
    """

    hidden: Tensor


@dataclass(frozen=True)
class TopKTargets(TokenTargets):
    """The k likeliest tokens and a bucket for all others: k + 1 outcomes that make a whole distribution.

    A divergence between the teacher's and the student's k + 1 outcomes is never above the one over the vocabulary (the
    data-processing inequality) and 0 where that is 0. How the student spreads the bucket's probability is its own
    affair: truncation is a bias, and the bucket bounds it, where dropping or renormalising the rest (the usual way)
    would teach a student that tokens outside the k are impossible.

    Args:
        token_ids: (tokens, k), integers, different ones in each row.
        log_probs: (tokens, k), of these tokens at `temperature`.
        log_tail: (tokens,), of all others together; −inf where nothing is left.
        temperature: at which the probabilities were taken. The bucket is of this one alone: it can't be changed later.
    """

    token_ids: Tensor
    log_probs: Tensor
    log_tail: Tensor
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_temperature(self.temperature)
        if self.token_ids.dim() != 2 or self.token_ids.shape != self.log_probs.shape:
            raise ValueError(
                f"token_ids and log_probs must be (tokens, k), got {tuple(self.token_ids.shape)} and"
                f" {tuple(self.log_probs.shape)}"
            )

    @classmethod
    def of(cls, logits: Tensor, k: int = 64, temperature: float = 1.0, *, dtype: torch.dtype = torch.float16) -> Self:
        """From logits (tokens, vocabulary).

        Args:
            k: tokens to keep, below the size of the vocabulary.
            temperature: of the student's training.
            dtype: of `log_probs`. In fp16 a probability above 1.2e-7 is off by half a percent at most.

        Raises:
            ValueError: k or temperature out of range.
        """
        check_temperature(temperature)
        if not 1 <= k < logits.shape[-1]:
            raise ValueError(f"k must lie in 1 to {logits.shape[-1] - 1} (all tokens: DenseTargets), got {k}")
        log_p = torch.log_softmax(logits.float() / temperature, dim=-1)
        log_probs, ids = log_p.topk(k, dim=-1)
        # Not 1 − Σp, which rounding leaves at nothing, or below, where the teacher is sure.
        log_tail = log_p.scatter_(-1, ids, -math.inf).logsumexp(dim=-1)
        return cls(ids.int(), log_probs.to(dtype), log_tail, float(temperature))

    @classmethod
    def one_hot(cls, labels: Tensor) -> Self:
        """Hard labels (tokens,): the divergence from them, at T = 1, is the cross-entropy."""
        zeros = torch.zeros(len(labels), 1, device=labels.device)
        return cls(labels[:, None], zeros, torch.full_like(zeros[:, 0], -math.inf))


@dataclass(frozen=True)
class SampledTargets(TokenTargets):
    """Tokens drawn from the teacher's distribution: an unbiased estimate of the forward KL and of its gradient.

    Random sampling of logits (Anshumann et al., arXiv 2503.16870), with the teacher's own probabilities as proposal.
    Unbiased for the forward KL alone, whose gradient q − p is linear in what is estimated.

    Args:
        token_ids: (tokens, draws), integers; one that was drawn twice stands there twice.
        entropy: (tokens,), of the teacher at `temperature`, in nats.
        temperature: at which tokens were drawn.
    """

    token_ids: Tensor
    entropy: Tensor
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_temperature(self.temperature)

    @classmethod
    def of(
        cls,
        logits: Tensor,
        draws: int = 50,
        temperature: float = 1.0,
        *,
        generator: torch.Generator | None = None,
    ) -> Self:
        """From logits (tokens, vocabulary); `draws` with replacement.

        Raises:
            ValueError: draws or temperature out of range.
        """
        check_temperature(temperature)
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        log_p = torch.log_softmax(logits.float() / temperature, dim=-1)
        p = log_p.exp()
        entropy = -torch.where(p == 0, 0.0, p * log_p).sum(dim=-1)
        ids = torch.multinomial(p, draws, replacement=True, generator=generator)
        return cls(ids.int(), entropy, float(temperature))


def target_divergence(
    student_logits: Tensor,
    targets: Tensor | TokenTargets,
    *,
    divergence: str = "forward_kl",
    temperature: float = 1.0,
    **options: Any,
) -> Tensor:
    """`divergences.soft_target_divergence` from teacher logits or from targets that stand for them.

    Args:
        student_logits: (tokens, vocabulary).
        targets: teacher logits of the same shape, or targets of as many rows.
        divergence, temperature, **options: as in `soft_target_divergence`; the temperature must be that of the targets,
            the divergence the forward KL where they are sampled.

    Returns:
        fp32, (tokens,), times T². Of sampled targets an estimate, which can be negative.

    Raises:
        ValueError: another temperature, divergence or number of rows, a token outside the vocabulary.
    """
    settings: dict[str, Any] = {"divergence": divergence, "temperature": temperature, **options}
    _check(student_logits, targets, divergence, temperature)
    if isinstance(targets, TopKTargets):
        outcomes, _ = _student_outcomes(student_logits.float(), targets)
        return soft_target_divergence(outcomes, _teacher_outcomes(targets), **settings)
    if isinstance(targets, SampledTargets):
        log_q = torch.log_softmax(student_logits.float() / temperature, dim=-1)
        return _estimate(log_q, targets)
    return soft_target_divergence(student_logits, _logits_of(targets), **settings)


def target_divergence_and_gradient(
    student_logits: Tensor,
    targets: Tensor | TokenTargets,
    *,
    divergence: str = "forward_kl",
    temperature: float = 1.0,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """`target_divergence` and its gradient with respect to the student's logits, without autograd.

    Returns:
        fp32, (tokens,), and fp32, (tokens, vocabulary).

    Raises:
        ValueError: as `target_divergence`.
    """
    settings: dict[str, Any] = {"divergence": divergence, "temperature": temperature, **options}
    _check(student_logits, targets, divergence, temperature)
    if isinstance(targets, TopKTargets):
        outcomes, shares = _student_outcomes(student_logits.float(), targets)
        value, gradient = divergence_and_gradient(outcomes, _teacher_outcomes(targets), **settings)
        # The bucket's logit is T · logsumexp(others / T), whose derivative is their softmax.
        return value, shares.mul_(gradient[:, -1:]).scatter_(1, targets.token_ids.long(), gradient[:, :-1])
    if isinstance(targets, SampledTargets):
        log_q = torch.log_softmax(student_logits.float() / temperature, dim=-1)
        value = _estimate(log_q, targets)
        ids = targets.token_ids.long()
        share = torch.full_like(ids, -1 / ids.shape[1], dtype=log_q.dtype)
        gradient = log_q.exp_().scatter_add_(1, ids, share)
        return value, gradient.mul_(t_squared_factor(temperature) / temperature)
    return divergence_and_gradient(student_logits, _logits_of(targets), **settings)


def _student_outcomes(logits: Tensor, targets: TopKTargets) -> tuple[Tensor, Tensor]:
    """The student's logits of the k tokens and of the bucket, (tokens, k + 1).

    Beside them the softmax of the tokens in the bucket, (tokens, vocabulary), 0 for the k tokens.
    """
    ids, temperature = targets.token_ids.long(), targets.temperature
    others = logits.scatter(1, ids, -math.inf)
    if temperature != 1:
        others = others / temperature
    shares = others.softmax(dim=1)
    # logsumexp without another pass of exponentials: the largest share is e^(highest − logsumexp).
    bucket = temperature * (others.amax(dim=1, keepdim=True) - shares.amax(dim=1, keepdim=True).log())
    return torch.cat([logits.gather(1, ids), bucket], dim=1), shares


def _teacher_outcomes(targets: TopKTargets) -> Tensor:
    """The teacher's logits of the same k + 1 outcomes."""
    return targets.temperature * torch.cat([targets.log_probs.float(), targets.log_tail.float()[:, None]], dim=1)


def _estimate(log_q: Tensor, targets: SampledTargets) -> Tensor:
    cross_entropy = -log_q.gather(1, targets.token_ids.long()).mean(dim=1)
    return (cross_entropy - targets.entropy) * t_squared_factor(targets.temperature)


def _logits_of(targets: Tensor | TokenTargets) -> Tensor:
    return targets.logits if isinstance(targets, DenseTargets) else targets  # type: ignore[return-value]


def _check(student_logits: Tensor, targets: Tensor | TokenTargets, divergence: str, temperature: float) -> None:
    if isinstance(targets, Tensor | DenseTargets):
        return
    if len(targets) != len(student_logits):
        raise ValueError(f"{len(targets)} rows of targets do not fit logits of {len(student_logits)} tokens")
    if targets.temperature != temperature:  # type: ignore[attr-defined]
        raise ValueError(
            f"the targets are of temperature {targets.temperature:g},"  # type: ignore[attr-defined]
            f" the loss of {temperature:g}; make them again, or train at theirs"
        )
    if isinstance(targets, SampledTargets) and divergence != "forward_kl":
        raise ValueError(f"sampled targets estimate the forward KL alone, got {divergence!r}; keep top-k or dense ones")
    ids: Tensor = targets.token_ids  # type: ignore[attr-defined]
    # A look at the values would make a GPU wait; there, the gather's own assertion has to do.
    if ids.device.type == "cpu" and len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < student_logits.shape[1]:
        raise ValueError(f"token {int(ids.max())} is not among the student's {student_logits.shape[1]}")
