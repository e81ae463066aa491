"""What a student learns from: `DistillationConfig` holds and checks the choices."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from distill_helpers.losses.divergences import check_chunk_size, check_temperature, named_divergence
from distill_helpers.losses.layer_maps import check_layer_mapping

__all__ = ["ATTENTION_TARGETS", "RELATIONS", "DistillationConfig"]

#: What `attention_target` may be.
ATTENTION_TARGETS = ("scores", "distributions")
#: What `relations` may hold.
RELATIONS = ("queries", "keys", "values")


@dataclass(frozen=True)
class DistillationConfig:
    """What the student learns from.

    The loss is `response_loss_weight` · (alpha · soft targets + (1 − alpha) · hard labels) plus each feature term times
    its weight. The feature terms are off by default, and a term that is off costs nothing.

    Args:
        temperature: T of the soft targets, > 0. At T = 1 the targets are the teacher's own probabilities. There is no
            universally best value: Hinton et al. found 2.5–4 best for a tiny student and anything above 8 alike for a
            larger one (arXiv 1503.02531, section 3), DistilBERT uses 2, TinyBERT 1.
        alpha: weight of the soft targets, in [0, 1]; the hard labels get 1 − alpha. 0 trains on hard labels alone, 1 on
            the teacher alone.
        divergence: a key of `distill_helpers.losses.divergences.DIVERGENCES`.
        divergence_options: its further arguments, such as `{"beta": 0.5}`.
        causal: position t predicts token t + 1 (a causal language model); logits and labels are then shifted.
        chunk_size: positions whose fp32 softmax is held in memory at a time; None for all.
        response_loss_weight: of the logits' part, ≥ 0. 0 trains on features alone, as TinyBERT's first stage does.
        intermediate_layers: match the hidden states of the mapped layers (`feature_losses.hidden_state_loss`).
        hidden_loss_weight: of that term, a mean over the mapped layers.
        attention_matching: match the attention of the mapped layers.
        attention_target: "scores" before the softmax (TinyBERT), or "distributions" after it (MiniLM).
        attention_loss_weight: of that term, a mean over the mapped layers.
        layer_mapping: which teacher layer each student layer follows, see `layer_maps.layer_map`.
        embedding_loss_weight: of the error of the embeddings' output (TinyBERT); 0 is off.
        cosine_loss_weight: of 1 − cosine between the *last* hidden states (DistilBERT); 0 is off.
        relations: which self-relations of the mapped layers to match: `("values",)` in MiniLM,
            `("queries", "keys", "values")` in MiniLMv2; empty is off.
        relation_heads: into how many heads the relations split the width; None: the attention heads, which must be
            equal then.
        relation_loss_weight: of the relations, a mean over relations and mapped layers.

    Raises:
        ValueError: a value outside its range, an unknown name, or nothing to learn from.
        TypeError: an option that the divergence does not take.
    """

    temperature: float = 2.0
    alpha: float = 0.9
    divergence: str = "forward_kl"
    divergence_options: dict[str, float] = field(default_factory=dict)
    causal: bool = False
    chunk_size: int | None = None
    response_loss_weight: float = 1.0
    intermediate_layers: bool = False
    hidden_loss_weight: float = 1.0
    attention_matching: bool = False
    attention_target: str = "scores"
    attention_loss_weight: float = 1.0
    layer_mapping: str | tuple[tuple[int, int], ...] = "uniform"
    embedding_loss_weight: float = 0.0
    cosine_loss_weight: float = 0.0
    relations: tuple[str, ...] = ()
    relation_heads: int | None = None
    relation_loss_weight: float = 1.0

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not (isinstance(self.alpha, int | float) and 0 <= self.alpha <= 1):
            raise ValueError(f"alpha must lie in [0, 1], got {self.alpha!r}; it is the weight of the soft targets")
        check_chunk_size(self.chunk_size)
        # A trial on two classes makes a bad name or option fail here, not in the middle of an epoch.
        log_half = torch.full((1, 2), 0.5).log()
        named_divergence(self.divergence, **self.divergence_options)(log_half, log_half)
        for name, weight in vars(self).items():
            if name.endswith("_weight") and not (isinstance(weight, int | float) and 0 <= weight < float("inf")):
                raise ValueError(f"{name} must be a finite number of at least 0, got {weight!r}")
        check_layer_mapping(self.layer_mapping)
        if self.attention_target not in ATTENTION_TARGETS:
            raise ValueError(f"attention_target must be one of {ATTENTION_TARGETS}, got {self.attention_target!r}")
        # A configuration that was read from JSON has lists where it had tuples.
        if not isinstance(self.layer_mapping, str):
            object.__setattr__(self, "layer_mapping", tuple((s, t) for s, t in self.layer_mapping))
        if not isinstance(self.relations, str):
            object.__setattr__(self, "relations", tuple(self.relations))
        if isinstance(self.relations, str) or set(self.relations) - set(RELATIONS):
            raise ValueError(f"relations must be a tuple of {RELATIONS}, got {self.relations!r}")
        if self.relation_heads is not None and self.relation_heads < 1:
            raise ValueError(f"relation_heads must be at least 1 or None, got {self.relation_heads!r}")
        if self.response_loss_weight == 0 and not self.uses_features:
            raise ValueError("response_loss_weight is 0 and no feature term is on; there is nothing to learn from")

    @property
    def uses_features(self) -> bool:
        """Whether any feature term is on."""
        return any(self.feature_weights.values())

    @property
    def feature_weights(self) -> dict[str, float]:
        """The weight of each feature term, 0 where it is off."""
        return {
            "hidden_loss": self.hidden_loss_weight * self.intermediate_layers,
            "attention_loss": self.attention_loss_weight * self.attention_matching,
            "embedding_loss": self.embedding_loss_weight,
            "cosine_loss": self.cosine_loss_weight,
            "relation_loss": self.relation_loss_weight * bool(self.relations),
        }
