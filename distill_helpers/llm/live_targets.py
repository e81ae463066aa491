"""Targets of a teacher that runs beside the student: all of its distributions, or what a kind of targets keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
        kind: a key of `LIVE_KINDS`.
        options: of the kind; what is missing has its default.
        temperature: of the loss.
        vocab_size: rows of the teacher's head that are tokens; None for all.

    Raises:
        ValueError, TypeError: no kind or no option has this name.
    """

    kind: str
    options: Mapping[str, Any]
    temperature: float
    vocab_size: int | None = None

    def __post_init__(self) -> None:
        check_kind(self.kind, self.options, LIVE_KINDS)

    @torch.no_grad()
    def of(self, hidden: Tensor, head: OutputHead | nn.Module, written: Tensor, seed: int) -> TokenTargets:
        """Make the targets of some positions.

        Args:
            hidden: the teacher's last hidden states, (positions, width).
            head: the teacher's.
            written: the tokens that stand there, (positions,).
            seed: of kinds that draw tokens.
        """
        if self.kind == "hidden" or not len(hidden):
            return HiddenTargets(hidden)
        found, options = check_kind(self.kind, self.options, LIVE_KINDS)
        generator = torch.Generator(hidden.device).manual_seed(seed)

        def targets_of(states: Tensor, tokens: Tensor) -> TokenTargets:
            settings = TargetSettings(self.temperature, torch.float32, self.vocab_size, options, generator, tokens)
            return found.compute(states, head, settings)

        parts = [targets_of(*part) for part in zip(hidden.split(_CHUNK), written.split(_CHUNK), strict=True)]
        return parts[0].followed_by(parts[1:])


def check_live_targets(
    targets: LiveTargets, config: DistillationConfig, on_policy_fraction: float, on_policy_temperature: float
) -> None:
    """Refuse a training for which the kind of targets gives no estimate of its loss.

    Raises:
        ValueError: written targets without on-policy batches alone, with another divergence than the reverse KL, or
            with tokens drawn at another temperature than the loss's; sampled targets with another divergence than the
            forward KL.
    """
    LIVE_KINDS[targets.kind].check_divergence(config.divergence)
    if targets.kind != "written":
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
