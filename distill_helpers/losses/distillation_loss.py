"""The distillation loss: alpha · soft targets + (1 − alpha) · hard labels + features.

`DistillationLoss` computes the terms that a `DistillationConfig` turns on. The divergence, T² and the mean come from
`soft_targets`, the feature terms from `feature_terms`, the causal shift from `causal_alignment`. This module applies
the mask to the logits of the task loss; `mean_divergence` applies it to those of the soft targets.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.causal_alignment import causal_shift
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.feature_terms import FeatureTerms
from distill_helpers.losses.soft_targets import check_logits, check_mask, masked_mean, mean_divergence
from distill_helpers.models.features import Features

__all__ = ["DistillationLoss", "count_items"]


class DistillationLoss(nn.Module):
    """w · (alpha · T² · D(teacher, student) + (1 − alpha) · cross-entropy(student, hard labels)) + feature terms.

    Args:
        config: the weights, the temperature and the divergence.
        feature_terms: `FeatureTerms` for the two models, made with the same configuration. They are needed where the
            configuration turns a feature term on.

    Raises:
        TypeError: anything but a `DistillationConfig`.
        ValueError: feature terms that are missing, or of another configuration.

    Example:
        Two messages, two classes; the second message has no hard label and learns from the teacher alone:

        >>> loss = dh.DistillationLoss(dh.DistillationConfig(temperature=2.0, alpha=0.7))
        >>> student, teacher = torch.zeros(2, 2), torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> terms = loss(student, teacher, torch.tensor([0, dh.IGNORE_INDEX]))
        >>> {name: round(float(value), 3) for name, value in terms.items()}
        {'total_loss': 0.415, 'soft_target_loss': 0.444, 'task_loss': 0.347}
    """

    def __init__(self, config: DistillationConfig, feature_terms: FeatureTerms | None = None) -> None:
        super().__init__()
        if not isinstance(config, DistillationConfig):
            raise TypeError(f"config must be a DistillationConfig, got {type(config).__name__}")
        if config.uses_features and (feature_terms is None or feature_terms.config != config):
            raise ValueError(
                "the configuration turns feature terms on; pass FeatureTerms(config, ModelShape.of(student),"
                " ModelShape.of(teacher)) of the same configuration"
            )
        self.config = config
        self.feature_terms = feature_terms if config.uses_features else None

    def __repr__(self) -> str:
        terms = "" if self.feature_terms is None else f", {self.feature_terms!r}"
        return f"DistillationLoss({self.config!r}{terms})"

    def forward(  # noqa: PLR0912 - one branch for each input that may be missing
        self,
        student_logits: Tensor,
        teacher_logits: Tensor | None,
        hard_labels: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        num_items: Tensor | int | None = None,
        student_features: Features | None = None,
        teacher_features: Features | None = None,
        attention_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The terms and their weighted sum, each a mean over the items that count.

        An *item* is a row of (batch, classes), or a position of (batch, sequence, vocabulary) whose label is not
        `IGNORE_INDEX`. A row of (batch, classes) with the label `IGNORE_INDEX` is an unlabelled message: the message
        counts as an item, learns from the teacher and adds nothing to the task term.

        Args:
            student_logits: (batch, classes) or (batch, sequence, vocabulary).
            teacher_logits: same shape; may be None when alpha is 0.
            hard_labels: (batch,) or (batch, sequence), class indices or `IGNORE_INDEX`. They may be None when alpha is
                1, except for sequences, where either the labels or `mask` must say which positions count.
            mask: bool, shape of the labels; overrides which items count.
            num_items: the number of items to divide by, see `mean_divergence`.
            student_features, teacher_features, attention_mask: what the feature terms compare; needed where one of the
                terms is on. The features of a message count as often as the message has items.

        Returns:
            `total_loss` (with gradient), and, detached and unweighted, `soft_target_loss`, `task_loss` and the feature
            terms, as far as they are on.

        Raises:
            ValueError: shapes that do not fit, labels outside the classes, or a missing input.
            TypeError: logits that are not floating point.
        """
        alpha = self.config.alpha
        soft_weight = self.config.response_loss_weight * alpha
        task_weight = self.config.response_loss_weight * (1 - alpha)
        if teacher_logits is None and soft_weight > 0:
            raise ValueError(f"alpha is {alpha}, so teacher_logits are needed; pass them or set alpha=0")
        if hard_labels is None and task_weight > 0:
            raise ValueError(f"alpha is {alpha}, so hard_labels are needed; pass them or set alpha=1")
        check_logits(student_logits, student_logits if teacher_logits is None else teacher_logits)
        if student_logits.dim() not in (2, 3):
            raise ValueError(
                f"logits must be (batch, classes) or (batch, sequence, vocabulary), got {tuple(student_logits.shape)}"
            )
        if hard_labels is not None:
            _check_labels(hard_labels, student_logits)
        if mask is not None:
            check_mask(mask, student_logits.shape[:-1])
        if self.config.causal:
            student_logits = causal_shift(logits=student_logits)
            teacher_logits = None if teacher_logits is None else causal_shift(logits=teacher_logits)
            hard_labels = None if hard_labels is None else causal_shift(targets=hard_labels)
            mask = None if mask is None else causal_shift(targets=mask)
        if mask is None and student_logits.dim() == 3:
            if hard_labels is None:
                raise ValueError("sequences need hard_labels or a mask, which say which positions are padding")
            mask = hard_labels != IGNORE_INDEX

        terms: dict[str, Tensor] = {}
        total = student_logits.new_zeros((), dtype=torch.float32)
        if teacher_logits is not None and soft_weight > 0:
            soft = mean_divergence(
                student_logits,
                teacher_logits,
                mask=mask,
                num_items=num_items,
                chunk_size=self.config.chunk_size,
                divergence=self.config.divergence,
                temperature=self.config.temperature,
                **self.config.divergence_options,
            )
            terms["soft_target_loss"] = soft.detach()
            total = total + soft_weight * soft
        if hard_labels is not None and task_weight > 0:
            task = _task_loss(student_logits, hard_labels, mask, num_items)
            terms["task_loss"] = task.detach()
            total = total + task_weight * task
        if self.feature_terms is not None:
            if student_features is None or teacher_features is None or attention_mask is None:
                raise ValueError("feature terms are on: pass student_features, teacher_features and attention_mask")
            values = self.feature_terms(student_features, teacher_features, attention_mask)
            for name, value in _mean_over_items(values, mask, num_items).items():
                terms[name] = value.detach()
                total = total + self.config.feature_weights[name] * value
        return {"total_loss": total, **terms}


def count_items(labels: Tensor, causal: bool = False) -> Tensor:
    """The number of items in a batch of hard labels, as `DistillationLoss` counts them.

    Args:
        labels: (batch,), where every row is an item, labelled or not; or (batch, sequence), where the positions that
            are not `IGNORE_INDEX` are items.
        causal: shift the labels first, as the loss does.
    """
    if labels.dim() == 1:
        return torch.tensor(len(labels), device=labels.device)
    return ((causal_shift(targets=labels) if causal else labels) != IGNORE_INDEX).sum()


def _mean_over_items(
    per_message: dict[str, Tensor], mask: Tensor | None, num_items: Tensor | int | None
) -> dict[str, Tensor]:
    """The mean of terms that are given for each message. A message counts once, or once for each of its positions."""
    if mask is None:
        return {name: masked_mean(values, num_items=num_items) for name, values in per_message.items()}
    items = mask.reshape(len(mask), -1).sum(dim=1)
    total = items.sum() if num_items is None else num_items
    return {name: masked_mean(values * items, num_items=total) for name, values in per_message.items()}


def _task_loss(logits: Tensor, labels: Tensor, mask: Tensor | None, num_items: Tensor | int | None) -> Tensor:
    if mask is not None:
        logits, labels = logits[mask], labels[mask]
    # Unlabelled rows have a cross-entropy of 0 here and still count as items.
    values = F.cross_entropy(
        logits.reshape(-1, logits.shape[-1]).float(), labels.reshape(-1), ignore_index=IGNORE_INDEX, reduction="none"
    )
    return masked_mean(values, num_items=num_items)


def _check_labels(labels: Tensor, logits: Tensor) -> None:
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f"hard_labels have shape {tuple(labels.shape)}; the logits need {tuple(logits.shape[:-1])}")
    if labels.is_floating_point():
        raise TypeError(f"hard_labels must be class indices (an integer dtype), got {labels.dtype}")
    # Reading the values would make a GPU wait for every batch; cross_entropy has an assertion of its own there.
    if labels.device.type == "cpu":
        n_classes = logits.shape[-1]
        wrong = labels[(labels != IGNORE_INDEX) & ((labels < 0) | (labels >= n_classes))]
        if len(wrong):
            raise ValueError(
                f"hard label {int(wrong[0])} is neither one of the {n_classes} classes nor {IGNORE_INDEX}, which marks"
                " a message without a label"
            )
