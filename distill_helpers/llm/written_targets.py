"""The reverse KL, estimated from the tokens that the student wrote: one number of the teacher's for each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from distill_helpers.llm.output_heads import OutputHead
from distill_helpers.llm.target_kinds import SparseTargets
from distill_helpers.llm.token_targets import TargetSettings
from distill_helpers.losses.soft_targets import check_temperature, t_squared_factor

__all__ = ["WrittenTargets"]


@dataclass(frozen=True, repr=False)
class WrittenTargets(SparseTargets):
    """The tokens that the student drew, and how probable the teacher finds them: an estimate of the reverse KL.

    The reverse KL is the mean of log q(x) − log p(x) over tokens x that are drawn from the student's distribution q. So
    a single drawn token gives an unbiased estimate of it, and (log q(x) − log p(x)) · ∇ log q(x) an unbiased estimate
    of its gradient: the student is rewarded for tokens that the teacher finds likelier than the student does. This is
    the policy gradient of a reward log p(x) − log q(x) for each token, without regard to what follows the token. Lu and
    Thinking Machines Lab ("On-Policy Distillation", 2025) train with it.

    Any server that returns the log-probabilities of a text it is given can be such a teacher. The price is variance:
    with all of the teacher's logits, the same gradient is computed exactly.

    Args:
        token_ids: (tokens,), integers, drawn from the student's softmax at `temperature`.
        log_probs: (tokens,), of these tokens by the teacher, at `temperature`.
        temperature: at which the student drew, and the teacher was asked.

    Example:
        >>> student, teacher = torch.zeros(3, 3), torch.tensor([[2.0, 1.0, 0.0]]).expand(3, 3)
        >>> each_token = dh.WrittenTargets.of(teacher, torch.arange(3))
        >>> estimates = dh.target_divergence(student, each_token, divergence="reverse_kl")
        >>> estimates
        tensor([-0.6910,  0.3090,  1.3090])
        >>> estimates.mean()  # this student draws each of the three tokens as often
        tensor(0.3090)
        >>> dh.target_divergence(student[:1], teacher[:1], divergence="reverse_kl")
        tensor([0.3090])
    """

    token_ids: Tensor
    log_probs: Tensor
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.token_ids.dim() != 1 or self.token_ids.shape != self.log_probs.shape:
            raise ValueError(
                f"token_ids and log_probs must be (tokens,), got {tuple(self.token_ids.shape)} and"
                f" {tuple(self.log_probs.shape)}"
            )

    @classmethod
    def of(cls, logits: Tensor, token_ids: Tensor, temperature: float = 1.0) -> Self:
        """Take the log-probabilities of tokens out of a teacher's logits (tokens, vocabulary).

        Raises:
            ValueError: the temperature is out of range, or the rows are not as many as the tokens.
        """
        check_temperature(temperature)
        if len(logits) != len(token_ids):
            raise ValueError(f"there are logits of {len(logits)} positions, but {len(token_ids)} tokens")
        log_p = torch.log_softmax(logits.float() / temperature, dim=-1)
        return cls(token_ids, log_p.gather(1, token_ids[:, None].long()).squeeze(1), float(temperature))

    @classmethod
    def compute(cls, hidden: Tensor, head: OutputHead | nn.Module, settings: TargetSettings) -> Self:
        if settings.written is None:
            raise ValueError("written targets are made of what the student writes while it trains, not beforehand")
        return cls.of(settings.logits(hidden, head), settings.written, settings.temperature)

    @classmethod
    def check_divergence(cls, divergence: str) -> None:
        if divergence != "reverse_kl":
            raise ValueError(f"written targets estimate the reverse KL alone, got {divergence!r}")

    def divergence(self, student_logits: Tensor, **settings: Any) -> Tensor:
        log_q = self._of_the_written(torch.log_softmax(student_logits.float() / self.temperature, dim=-1))
        ratio = (log_q - self.log_probs).detach()
        # Its value is the ratio, its derivative the ratio times that of log q.
        return ratio * (1 + log_q - log_q.detach()) * t_squared_factor(self.temperature)

    def divergence_and_gradient(
        self, student_logits: Tensor, *, compiled: bool = False, **settings: Any
    ) -> tuple[Tensor, Tensor]:
        log_q = torch.log_softmax(student_logits.float() / self.temperature, dim=-1)
        ratio = self._of_the_written(log_q) - self.log_probs
        factor = t_squared_factor(self.temperature)
        # ∇ log q(x) is (the unit vector of x − q) / T.
        gradient = log_q.exp_().neg_().scatter_add_(1, self.token_ids[:, None].long(), torch.ones_like(ratio)[:, None])
        return ratio * factor, gradient.mul_((ratio * factor / self.temperature)[:, None])

    def _of_the_written(self, log_q: Tensor) -> Tensor:
        return log_q.gather(1, self.token_ids[:, None].long()).squeeze(1)
