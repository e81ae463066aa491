"""The feature terms of the loss: which features they need, the projectors that they train, and their values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.feature_losses import (
    attention_distribution_loss,
    attention_score_loss,
    cosine_loss,
    hidden_state_loss,
    relation_loss,
)
from distill_helpers.losses.layer_maps import layer_map
from distill_helpers.models.architectures import ModelShape
from distill_helpers.models.features import EMBEDDINGS, Features

__all__ = ["FeatureTerms"]


class FeatureTerms(nn.Module):
    """The feature terms that a configuration turns on, for a student and a teacher of given shapes.

    Where the widths differ, each matched pair of hidden states gets a projector: a linear layer from the student's
    width to the teacher's. A projector is trained with the student and is not part of the student. (TinyBERT shares one
    projector between all layers, arXiv 1909.10351, equation 8.) Between equal widths there are no projectors.

    Args:
        config: which terms are on.
        student, teacher: the shapes of the two models, `ModelShape.of(model)`.
        seed: seed of the projectors' weights. Torch's own generator keeps its state.

    Attributes:
        pairs: the mapped layers, (student layer, teacher layer); empty where no term that is on needs a layer map.
        student_names, teacher_names: the names of the features that the terms need, for `capture_features`.
        projectors: the projectors, by the pair of features that they belong to.

    Raises:
        ValueError: a layer map that the shapes do not allow, or unequal numbers of heads where heads are compared one
            by one.

    Example:
        A student of 2 layers × 8 and a teacher of 4 layers × 16, matched layer by layer through projectors:

        >>> student, teacher = dh.ModelShape(2, 8, n_heads=2), dh.ModelShape(4, 16, n_heads=2)
        >>> terms = dh.FeatureTerms(dh.DistillationConfig(intermediate_layers=True), student, teacher)
        >>> terms
        FeatureTerms(hidden_loss, layers ((0, 1), (1, 3)), 2 projectors from width 8 to 16)
        >>> terms.teacher_names
        ('hidden.1', 'hidden.3')
    """

    def __init__(self, config: DistillationConfig, student: ModelShape, teacher: ModelShape, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        on = {name for name, weight in config.feature_weights.items() if weight > 0}
        mapped = on & {"hidden_loss", "attention_loss", "relation_loss"}
        self.pairs = layer_map(config.layer_mapping, student.n_layers, teacher.n_layers) if mapped else ()
        self._last = (f"hidden.{student.n_layers - 1}", f"hidden.{teacher.n_layers - 1}")
        _check_heads(config, on, student, teacher)

        matched: list[tuple[str, str]] = []  # pairs of hidden states, which may need a projector
        if "embedding_loss" in on:
            matched.append((EMBEDDINGS, EMBEDDINGS))
        self._hidden = [(f"hidden.{s}", f"hidden.{t}") for s, t in self.pairs]
        if "hidden_loss" in on:
            matched += self._hidden
        if "cosine_loss" in on and self._last not in matched:
            matched.append(self._last)
        kinds = set(config.relations) if "relation_loss" in on else set()
        kinds |= {"queries", "keys"} if "attention_loss" in on else set()
        heads = [(f"{kind}.{s}", f"{kind}.{t}") for kind in sorted(kinds) for s, t in self.pairs]
        # Each name once, in order: several student layers may learn from one teacher layer.
        self.student_names = tuple(dict.fromkeys(name for name, _ in matched + heads))
        self.teacher_names = tuple(dict.fromkeys(name for _, name in matched + heads))

        self.projectors = nn.ModuleDict()
        if student.width != teacher.width:
            with torch.random.fork_rng(devices=[]):  # a run with projectors sees the same dropout as one without them
                torch.manual_seed(seed)
                for pair in matched:
                    self.projectors[_key(pair)] = nn.Linear(student.width, teacher.width)

    def forward(self, student: Features, teacher: Features, attention_mask: Tensor) -> dict[str, Tensor]:
        """The terms that are on, unweighted, by name: fp32, (batch,), each a mean over the mapped layers.

        Args:
            student, teacher: the features of one batch, which both models read as the same tokens.
            attention_mask: (batch, sequence), 1 where there is a token.
        """
        weights = self.config.feature_weights
        terms: dict[str, Tensor] = {}
        if weights["embedding_loss"] > 0:
            terms["embedding_loss"] = hidden_state_loss(
                self._projected(student, (EMBEDDINGS, EMBEDDINGS)), teacher[EMBEDDINGS], attention_mask
            )
        if weights["hidden_loss"] > 0:
            terms["hidden_loss"] = _mean(
                hidden_state_loss(self._projected(student, pair), teacher[pair[1]], attention_mask)
                for pair in self._hidden
            )
        if weights["cosine_loss"] > 0:
            projected = self._projected(student, self._last)
            terms["cosine_loss"] = cosine_loss(projected, teacher[self._last[1]], attention_mask)
        if weights["attention_loss"] > 0:
            compare = attention_score_loss if self.config.attention_target == "scores" else attention_distribution_loss
            terms["attention_loss"] = _mean(
                compare(student.attention_scores(s), teacher.attention_scores(t), attention_mask, teacher.causal)
                for s, t in self.pairs
            )
        if weights["relation_loss"] > 0:
            terms["relation_loss"] = _mean(
                relation_loss(
                    student[f"{kind}.{s}"],
                    teacher[f"{kind}.{t}"],
                    attention_mask,
                    self.config.relation_heads,
                    teacher.causal,
                )
                for kind in self.config.relations
                for s, t in self.pairs
            )
        return terms

    def __repr__(self) -> str:
        parts = [name for name, weight in self.config.feature_weights.items() if weight > 0]
        if self.pairs:
            parts.append(f"layers {self.pairs}")
        if self.projectors:
            a_projector: Any = next(iter(self.projectors.values()))
            widths = f"width {a_projector.in_features} to {a_projector.out_features}"
            parts.append(f"{len(self.projectors)} projector{'s' * (len(self.projectors) > 1)} from {widths}")
        return f"FeatureTerms({', '.join(parts)})"

    def _projected(self, student: Features, pair: tuple[str, str]) -> Tensor:
        return self.projectors[_key(pair)](student[pair[0]]) if self.projectors else student[pair[0]]


def _key(pair: tuple[str, str]) -> str:
    return "_to_".join(pair).replace(".", "_")  # a module's name may not contain a dot


def _mean(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean(dim=0)


def _check_heads(config: DistillationConfig, on: set[str], student: ModelShape, teacher: ModelShape) -> None:
    one_by_one = "attention_loss" in on or ("relation_loss" in on and config.relation_heads is None)
    if one_by_one and student.n_heads != teacher.n_heads:
        raise ValueError(
            f"the student has {student.n_heads} attention heads, the teacher {teacher.n_heads}; attention matching"
            " needs equal numbers, while `relations` with `relation_heads` compares any two (MiniLMv2)"
        )
