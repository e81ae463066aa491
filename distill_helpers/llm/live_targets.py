"""Targets of a teacher that runs beside the student: all of its distributions, or what a kind of targets keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from distill_helpers.llm.dense_targets import HiddenTargets
from distill_helpers.llm.output_heads import OutputHead
from distill_helpers.llm.target_kinds import KINDS, check_kind
from distill_helpers.llm.token_targets import TargetSettings, TokenTargets
from distill_helpers.llm.written_targets import WrittenTargets
from distill_helpers.losses.distillation_config import DistillationConfig

__all__ = ["LIVE_KINDS", "LiveTargets", "check_live_targets"]

#: The kinds that a live teacher can be asked for.
LIVE_KINDS: dict[str, type[TokenTargets]] = {**KINDS, "written": WrittenTargets}
#: The number of positions whose logits exist at a time.
_CHUNK = 256


@dataclass(frozen=True)
class LiveTargets:
    """Makes targets of the teacher's hidden states, batch by batch.

    Args:
        kind: a key of `LIVE_KINDS`, or a class of your own.
        options: of the kind; what is missing has its default.
        temperature: of the loss.
        vocab_size: rows of the teacher's head that are tokens; None for all.

    Raises:
        ValueError, TypeError: no kind or no option has this name.
    """

    kind: str | type[TokenTargets]
    options: Mapping[str, Any]
    temperature: float
    vocab_size: int | None = None

    def __post_init__(self) -> None:
        _ = self.chosen

    @cached_property
    def chosen(self) -> tuple[type[TokenTargets], dict[str, Any]]:
        """The kind's class, and its options with their defaults."""
        if isinstance(self.kind, str):
            return check_kind(self.kind, self.options, LIVE_KINDS)
        return check_kind(self.kind.__name__, self.options, {self.kind.__name__: self.kind})

    @torch.no_grad()
    def of(self, hidden: Tensor, head: OutputHead | nn.Module, written: Tensor, seed: int) -> TokenTargets:
        """Make the targets of some positions.

        Args:
            hidden: the teacher's last hidden states, (positions, width).
            head: the teacher's.
            written: the tokens that stand there, (positions,).
            seed: of kinds that draw tokens.
        """
        found, options = self.chosen
        if found is HiddenTargets or not len(hidden):
            return HiddenTargets(hidden)
        generator = torch.Generator(hidden.device).manual_seed(seed)

        def targets_of(states: Tensor, tokens: Tensor) -> TokenTargets:
            settings = TargetSettings(self.temperature, torch.float32, self.vocab_size, options, generator, tokens)
            return found.compute(states, head, settings)

        parts = [targets_of(*part) for part in zip(hidden.split(_CHUNK), written.split(_CHUNK), strict=True)]
        return parts[0].followed_by(parts[1:])


def check_live_targets(
    targets: LiveTargets,
    config: DistillationConfig,
    on_policy_fraction: float,
    on_policy_temperature: float,
    *,
    stored: bool,
) -> None:
    """Refuse a training in which the kind of targets would not be used, or gives no estimate of its loss.

    Args:
        stored: the data set carries targets, so that a live teacher is asked about the student's own text alone.

    Raises:
        ValueError: targets of another kind than "hidden" where no live teacher is asked; written targets without
            on-policy batches alone, with another divergence than the reverse KL, or with tokens drawn at another
            temperature than the loss's; sampled targets with another divergence than the forward KL.
    """
    kind, _ = targets.chosen
    if kind is not HiddenTargets and (config.alpha == 0 or (stored and on_policy_fraction == 0)):
        reason = "alpha is 0" if config.alpha == 0 else "the data set carries targets from the disk"
        raise ValueError(
            f"target_kind says what is kept of a live teacher's distributions, but {reason}; leave target_kind out"
        )
    kind.check_divergence(config.divergence)
    if kind is not WrittenTargets:
        return
    if on_policy_fraction < 1:
        raise ValueError(
            "written targets estimate the reverse KL only from tokens that the student wrote; set"
            f" on_policy_fraction=1, got {on_policy_fraction:g}"
        )
    if on_policy_temperature != config.temperature:
        raise ValueError(
            f"the student would write at temperature {on_policy_temperature:g}, but the loss has"
            f" {config.temperature:g}; written targets need the same, set on_policy_temperature={config.temperature:g}"
        )
