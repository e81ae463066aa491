"""What a student learns from: `DistillationConfig` holds and checks the choices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from distill_helpers.losses.divergences import named_divergence
from distill_helpers.losses.hard_labels import check_task
from distill_helpers.losses.layer_maps import check_layer_mapping
from distill_helpers.losses.soft_targets import check_chunk_size, check_temperature

__all__ = ["ATTENTION_TARGETS", "RELATIONS", "DistillationConfig", "repr_of_changes"]

#: What `attention_target` may be.
ATTENTION_TARGETS = ("scores", "distributions")
#: What `relations` may hold.
RELATIONS = ("queries", "keys", "values")


def repr_of_changes(settings: Any) -> str:
    """The `repr` of a dataclass whose fields all have defaults: on one line, and without the fields left at them."""
    defaults = vars(type(settings)())
    changed = (f"{name}={value!r}" for name, value in vars(settings).items() if value != defaults[name])
    return f"{type(settings).__name__}({', '.join(changed)})"


@dataclass(frozen=True)
class DistillationConfig:
    """What the student learns from.

    The loss is a weighted sum:

        response_loss_weight · (alpha · soft targets + (1 − alpha) · hard labels)
        + hidden_loss_weight · hidden states + attention_loss_weight · attention + relation_loss_weight · relations
        + embedding_loss_weight · embeddings + cosine_loss_weight · cosine of the last hidden states

    By default the response alone is on. A term that is off costs nothing.

    The response, which is on unless `response_loss_weight` is 0:
        temperature: T of the soft targets, > 0. At T = 1 the targets are the teacher's own probabilities. No value is
            best everywhere: Hinton et al. found 2.5–4 best for a tiny student, and found no difference between
            temperatures above 8 for a larger one (arXiv 1503.02531, section 3). DistilBERT uses 2, TinyBERT 1.
        alpha: weight of the soft targets, in [0, 1]; the hard labels get 1 − alpha. 0 trains on hard labels alone, 1 on
            the teacher alone.
        divergence: the divergence between teacher and student, a key of `losses.divergences.DIVERGENCES`.
        divergence_options: further arguments of the divergence, such as `{"beta": 0.5}`.
        response_loss_weight: weight of soft targets and hard labels together, ≥ 0. 0 trains on features alone, as
            TinyBERT's first stage does.
        task: what the models predict, one of `losses.hard_labels.TASKS` or a `PredictionTask`. It decides what soft
            targets and hard labels are (`DistillationLoss`):
            "single_label": one class of several, for each text or, with `causal`, for each next token;
            "multi_label": yes or no for each label. The divergences are those of `binary_divergence`;
            "regression": scores, as of rerankers. Both terms are squared errors, and T must be 1;
            "token_classification": one class for each token, without a shift.
        causal: the models are causal language models, in which position t predicts token t + 1. The loss then shifts
            logits and labels against each other.
        chunk_size: the number of positions whose fp32 softmax is held in memory at a time; None for all.

    The layers that hidden states, attention and relations compare:
        layer_mapping: which teacher layer each student layer learns from, see `losses.layer_maps.layer_map`.

    Hidden states, turned on by `intermediate_layers=True`:
        intermediate_layers: match the hidden states of the mapped layers (`losses.feature_losses.hidden_state_loss`).
        hidden_loss_weight: weight of this term, a mean over the mapped layers; 0 turns the term off again.

    Attention, turned on by `attention_matching=True`:
        attention_matching: match the attention of the mapped layers.
        attention_target: "scores" before the softmax (TinyBERT), or "distributions" after it (MiniLM).
        attention_loss_weight: weight of this term, a mean over the mapped layers; 0 turns the term off again.

    Relations, turned on by naming them in `relations`:
        relations: which self-relations of the mapped layers to match: `("values",)` in MiniLM,
            `("queries", "keys", "values")` in MiniLMv2. Empty is off.
        relation_heads: the number of heads into which the relations split the width. None takes the attention heads,
            whose number must then be equal in both models.
        relation_loss_weight: weight of this term, a mean over relations and mapped layers; 0 turns the term off again.

    Embeddings and last hidden states, each turned on by a weight above 0:
        embedding_loss_weight: weight of the squared error of the embeddings' output (TinyBERT).
        cosine_loss_weight: weight of 1 − cosine between the *last* hidden states (DistilBERT).

    Raises:
        ValueError: a value outside its range, an unknown name, or nothing to learn from.
        TypeError: an option that the divergence does not take.

    Example:
        >>> config = dh.DistillationConfig(temperature=4.0, intermediate_layers=True, cosine_loss_weight=0.5)
        >>> config
        DistillationConfig(temperature=4.0, intermediate_layers=True, cosine_loss_weight=0.5)
        >>> [name for name, weight in config.feature_weights.items() if weight > 0]
        ['hidden_loss', 'cosine_loss']
    """

    temperature: float = 2.0
    alpha: float = 0.9
    divergence: str = "forward_kl"
    divergence_options: dict[str, float] = field(default_factory=dict)
    response_loss_weight: float = 1.0
    causal: bool = False
    chunk_size: int | None = None
    task: str = "single_label"

    layer_mapping: str | tuple[tuple[int, int], ...] = "uniform"

    intermediate_layers: bool = False
    hidden_loss_weight: float = 1.0

    attention_matching: bool = False
    attention_target: str = "scores"
    attention_loss_weight: float = 1.0

    relations: tuple[str, ...] = ()
    relation_heads: int | None = None
    relation_loss_weight: float = 1.0

    embedding_loss_weight: float = 0.0
    cosine_loss_weight: float = 0.0

    __repr__ = repr_of_changes

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
        self._check_task()
        check_layer_mapping(self.layer_mapping)
        if self.attention_target not in ATTENTION_TARGETS:
            raise ValueError(f"attention_target must be one of {ATTENTION_TARGETS}, got {self.attention_target!r}")
        # A configuration that was read from JSON has lists in the place of tuples.
        if not isinstance(self.layer_mapping, str):
            object.__setattr__(self, "layer_mapping", tuple((s, t) for s, t in self.layer_mapping))
        if not isinstance(self.relations, str):
            object.__setattr__(self, "relations", tuple(self.relations))
        if isinstance(self.relations, str) or set(self.relations) - set(RELATIONS):
            raise ValueError(f"relations must be a tuple of names from {RELATIONS}, got {self.relations!r}")
        if self.relation_heads is not None and self.relation_heads < 1:
            raise ValueError(f"relation_heads must be at least 1 or None, got {self.relation_heads!r}")
        if self.response_loss_weight == 0 and not self.uses_features:
            raise ValueError(
                "response_loss_weight is 0 and no feature term is on, so there is nothing to learn from; give one of"
                " them a weight"
            )

    def _check_task(self) -> None:
        check_task(self.task)
        object.__setattr__(self, "task", str(self.task))  # a `PredictionTask` reads and saves as the text that it is
        if self.causal and self.task != "single_label":
            raise ValueError(
                f"causal=True shifts logits against labels, and with task={self.task!r} a label belongs to its own row"
                " or token; leave causal=False"
            )
        if self.task == "regression" and self.temperature != 1:
            raise ValueError(
                f"scores have no softmax that a temperature could soften, got temperature={self.temperature!r}; write"
                " DistillationConfig(task='regression', temperature=1.0)"
            )
        if self.task == "regression" and (self.divergence != "forward_kl" or self.divergence_options):
            raise ValueError(
                f"scores are compared by their squared error, not by divergence={self.divergence!r} with options"
                f" {self.divergence_options}; leave both at their defaults"
            )

    @property
    def uses_teacher_logits(self) -> bool:
        """Whether soft targets are on."""
        return self.alpha > 0 and self.response_loss_weight > 0

    @property
    def uses_features(self) -> bool:
        """Whether any feature term is on."""
        return any(self.feature_weights.values())

    @property
    def feature_weights(self) -> dict[str, float]:
        """The weight of each feature term, 0 where the term is off."""
        return {
            "hidden_loss": self.hidden_loss_weight * self.intermediate_layers,
            "attention_loss": self.attention_loss_weight * self.attention_matching,
            "embedding_loss": self.embedding_loss_weight,
            "cosine_loss": self.cosine_loss_weight,
            "relation_loss": self.relation_loss_weight * bool(self.relations),
        }
