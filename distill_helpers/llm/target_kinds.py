"""Targets that keep some of the tokens, for one temperature; and the names of all kinds of targets.

The logits of one token take 100 kB in half precision if the vocabulary has 50,000 tokens. `TopKTargets` keep the
likeliest tokens and the probability of all others together; `SampledTargets` keep tokens drawn from the teacher's
distribution. To add a kind, write its class here and enter it in `KINDS`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from distill_helpers.llm.dense_targets import DenseTargets, HiddenTargets
from distill_helpers.llm.output_heads import OutputHead
from distill_helpers.llm.token_targets import TargetSettings, TokenTargets
from distill_helpers.losses.divergence_gradients import divergence_and_gradient
from distill_helpers.losses.soft_targets import check_temperature, soft_target_divergence, t_squared_factor

__all__ = ["KINDS", "SampledTargets", "SparseTargets", "TopKTargets", "check_kind"]


class SparseTargets(TokenTargets):
    """What kinds share that keep some tokens of the vocabulary, with figures of one temperature."""

    token_ids: Tensor
    temperature: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_temperature(self.temperature)

    def check(self, n_tokens: int, *, divergence: str, temperature: float) -> None:
        super().check(n_tokens, divergence=divergence, temperature=temperature)
        if self.temperature != temperature:
            raise ValueError(
                f"the targets were made at temperature {self.temperature:g}, but the loss has {temperature:g}; make"
                " them again, or train at theirs"
            )

    def check_vocabulary(self, vocab_size: int) -> None:
        ids = self.token_ids
        # A look at the values would make a GPU wait; there, the gather's own assertion has to do.
        if ids.device.type == "cpu" and len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
            outside = ids[(ids < 0) | (ids >= vocab_size)]
            raise ValueError(
                f"token {int(outside[0])} is not among the student's {vocab_size}; make the targets with the same"
                " tokenizer and vocab_size"
            )


@dataclass(frozen=True, repr=False)
class TopKTargets(SparseTargets):
    """The k likeliest tokens, and one bucket for all others: k + 1 outcomes that form a whole distribution.

    The divergence between the teacher's and the student's k + 1 outcomes is never larger than the divergence over the
    whole vocabulary (the data-processing inequality), and it is 0 where that one is 0. Truncation is a bias: nothing
    tells the student how to spread the bucket's probability over its tokens. The bucket bounds this bias. Dropping the
    other tokens, or renormalising without them, is more usual, but teaches a student that they are impossible.

    Args:
        token_ids: (tokens, k), integers, all different within a row.
        log_probs: (tokens, k), of these tokens at `temperature`.
        log_tail: (tokens,), of all other tokens together; −inf where nothing is left.
        temperature: at which the probabilities were taken. It cannot be changed later, since the bucket belongs to it.

    Example:
        >>> targets = dh.TopKTargets.of(torch.tensor([[2.0, 1.0, 0.0, -9.0]]), k=2)
        >>> targets.token_ids.tolist()
        [[0, 1]]
        >>> torch.cat([targets.log_probs[0], targets.log_tail]).exp().round(decimals=2)  # two tokens, all others
        tensor([0.6700, 0.2400, 0.0900])
    """

    token_ids: Tensor
    log_probs: Tensor
    log_tail: Tensor
    temperature: float = 1.0

    options: ClassVar[Mapping[str, Any]] = {"k": 64}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.token_ids.dim() != 2 or self.token_ids.shape != self.log_probs.shape:
            raise ValueError(
                f"token_ids and log_probs must be (tokens, k), got {tuple(self.token_ids.shape)} and"
                f" {tuple(self.log_probs.shape)}"
            )

    @classmethod
    def of(
        cls,
        logits: Tensor,
        k: int = options["k"],
        temperature: float = 1.0,
        *,
        storage_dtype: torch.dtype = torch.float16,
    ) -> Self:
        """Keep the top k of logits (tokens, vocabulary).

        Args:
            k: the number of tokens to keep, fewer than the vocabulary has.
            temperature: of the student's training.
            storage_dtype: of `log_probs`. In fp16 a probability above 1.2e-7 is off by at most half a percent.

        Raises:
            ValueError: `k` or the temperature is out of range.
        """
        check_temperature(temperature)
        if not 1 <= k < logits.shape[-1]:
            raise ValueError(f"k must lie in 1 to {logits.shape[-1] - 1}, got {k}; DenseTargets keep all tokens")
        log_p = torch.log_softmax(logits.float() / temperature, dim=-1)
        log_probs, ids = log_p.topk(k, dim=-1)
        # Not 1 − Σp: where the teacher is sure, rounding makes that 0 or negative.
        log_tail = log_p.scatter_(-1, ids, -math.inf).logsumexp(dim=-1)
        return cls(ids.int(), log_probs.to(storage_dtype), log_tail, float(temperature))

    @classmethod
    def compute(cls, hidden: Tensor, head: OutputHead | nn.Module, settings: TargetSettings) -> Self:
        logits = settings.logits(hidden, head)
        return cls.of(
            logits, temperature=settings.temperature, storage_dtype=settings.storage_dtype, **settings.options
        )

    @classmethod
    def one_hot(cls, labels: Tensor) -> Self:
        """Hard labels (tokens,). At T = 1 the divergence from them is the cross-entropy."""
        zeros = torch.zeros(len(labels), 1, device=labels.device)
        return cls(labels[:, None], zeros, torch.full_like(zeros[:, 0], -math.inf))

    def divergence(self, student_logits: Tensor, **settings: Any) -> Tensor:
        outcomes, _ = self._student_outcomes(student_logits.float())
        return soft_target_divergence(outcomes, self._teacher_outcomes(), **settings)

    def divergence_and_gradient(
        self, student_logits: Tensor, *, compiled: bool = False, **settings: Any
    ) -> tuple[Tensor, Tensor]:
        outcomes, shares = self._student_outcomes(student_logits.float())
        value, gradient = divergence_and_gradient(outcomes, self._teacher_outcomes(), **settings)
        # The bucket's logit is T · logsumexp(others / T), and the derivative of that is the softmax of the others.
        return value, shares.mul_(gradient[:, -1:]).scatter_(1, self.token_ids.long(), gradient[:, :-1])

    def _student_outcomes(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The student's logits of the k tokens and of the bucket, (tokens, k + 1).

        The second tensor, (tokens, vocabulary), is the softmax of the tokens in the bucket; it is 0 for the k tokens.
        """
        ids, temperature = self.token_ids.long(), self.temperature
        others = logits.scatter(1, ids, -math.inf)
        if temperature != 1:
            others = others / temperature
        shares = others.softmax(dim=1)
        # logsumexp without another pass of exponentials: the largest share is e^(highest − logsumexp).
        bucket = temperature * (others.amax(dim=1, keepdim=True) - shares.amax(dim=1, keepdim=True).log())
        return torch.cat([logits.gather(1, ids), bucket], dim=1), shares

    def _teacher_outcomes(self) -> Tensor:
        """The teacher's logits of the same k + 1 outcomes."""
        return self.temperature * torch.cat([self.log_probs.float(), self.log_tail.float()[:, None]], dim=1)


@dataclass(frozen=True, repr=False)
class SampledTargets(SparseTargets):
    """Tokens drawn from the teacher's distribution: an unbiased estimate of the forward KL and of its gradient.

    This is the random sampling of logits of Anshumann et al. (arXiv 2503.16870), with the teacher's own probabilities
    as the proposal. The estimate is unbiased for the forward KL alone, because the gradient of the forward KL, q − p,
    is linear in the estimated p.

    Args:
        token_ids: (tokens, draws), integers. A token that was drawn twice appears twice.
        entropy: (tokens,), of the teacher at `temperature`, in nats.
        temperature: at which the tokens were drawn.

    Example:
        >>> teacher, student = torch.tensor([[2.0, 1.0, 0.0]]).expand(1000, 3), torch.zeros(1000, 3)
        >>> generator = torch.Generator().manual_seed(0)
        >>> estimates = dh.target_divergence(student, dh.SampledTargets.of(teacher, draws=5, generator=generator))
        >>> exact = dh.target_divergence(student, teacher)
        >>> bool((estimates.mean() - exact.mean()).abs() < 0.01)
        True
    """

    token_ids: Tensor
    entropy: Tensor
    temperature: float = 1.0

    options: ClassVar[Mapping[str, Any]] = {"draws": 50}

    @classmethod
    def of(
        cls,
        logits: Tensor,
        draws: int = options["draws"],
        temperature: float = 1.0,
        *,
        generator: torch.Generator | None = None,
    ) -> Self:
        """Draw tokens, with replacement, from the softmax of logits (tokens, vocabulary) at a temperature.

        Raises:
            ValueError: `draws` or the temperature is out of range.
        """
        check_temperature(temperature)
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        log_p = torch.log_softmax(logits.float() / temperature, dim=-1)
        p = log_p.exp()
        entropy = -torch.where(p == 0, 0.0, p * log_p).sum(dim=-1)
        ids = torch.multinomial(p, draws, replacement=True, generator=generator)
        return cls(ids.int(), entropy, float(temperature))

    @classmethod
    def compute(cls, hidden: Tensor, head: OutputHead | nn.Module, settings: TargetSettings) -> Self:
        logits = settings.logits(hidden, head)
        return cls.of(logits, temperature=settings.temperature, generator=settings.generator, **settings.options)

    @classmethod
    def check_divergence(cls, divergence: str) -> None:
        if divergence != "forward_kl":
            raise ValueError(
                f"sampled targets estimate the forward KL alone, got {divergence!r}; keep top-k or dense targets"
            )

    def divergence(self, student_logits: Tensor, **settings: Any) -> Tensor:
        return self._estimate(torch.log_softmax(student_logits.float() / self.temperature, dim=-1))

    def divergence_and_gradient(
        self, student_logits: Tensor, *, compiled: bool = False, **settings: Any
    ) -> tuple[Tensor, Tensor]:
        log_q = torch.log_softmax(student_logits.float() / self.temperature, dim=-1)
        value = self._estimate(log_q)
        ids = self.token_ids.long()
        share = torch.full_like(ids, -1 / ids.shape[1], dtype=log_q.dtype)
        gradient = log_q.exp_().scatter_add_(1, ids, share)
        return value, gradient.mul_(t_squared_factor(self.temperature) / self.temperature)

    def _estimate(self, log_q: Tensor) -> Tensor:
        cross_entropy = -log_q.gather(1, self.token_ids.long()).mean(dim=1)
        return (cross_entropy - self.entropy) * t_squared_factor(self.temperature)


#: The kinds by the name that `precompute_token_targets` takes.
KINDS: dict[str, type[TokenTargets]] = {
    "hidden": HiddenTargets,
    "top_k": TopKTargets,
    "sampled": SampledTargets,
    "dense": DenseTargets,
}


def check_kind(
    kind: str, options: Mapping[str, Any], kinds: Mapping[str, type[TokenTargets]] = KINDS
) -> tuple[type[TokenTargets], dict[str, Any]]:
    """Find a kind of targets by its name, and complete its options by their defaults.

    Raises:
        ValueError: no kind has this name.
        TypeError: the kind has no such option.
    """
    if kind not in kinds:
        raise ValueError(f"unknown kind {kind!r}; choose one of {list(kinds)}")
    found = kinds[kind]
    if unknown := set(options) - set(found.options):
        known = ", ".join(found.options) or "none"
        raise TypeError(f"targets of the kind {kind!r} have no option {min(unknown)!r}; their options: {known}")
    return found, {**found.options, **options}
