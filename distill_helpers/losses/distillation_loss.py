"""The distillation loss: alpha · soft targets + (1 − alpha) · hard labels + features.

`DistillationLoss` computes the terms that a `DistillationConfig` turns on. The divergence, T² and the mean come from
`soft_targets` and `binary_divergences`, the loss of the hard labels from `hard_labels`, the feature terms from
`feature_terms`, the causal shift from `causal_alignment`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.binary_divergences import mean_binary_divergence
from distill_helpers.losses.causal_alignment import causal_shift
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.feature_terms import FeatureTerms
from distill_helpers.losses.hard_labels import (
    as_columns,
    check_hard_labels,
    check_task,
    check_task_logits,
    hard_label_loss,
    squared_score_error,
)
from distill_helpers.losses.soft_targets import (
    check_logits,
    check_mask,
    masked_mean,
    mean_divergence,
    mean_over_positions,
)
from distill_helpers.models.features import Features

__all__ = ["DistillationLoss", "count_items"]


class DistillationLoss(nn.Module):
    """w · (alpha · T² · D(teacher, student) + (1 − alpha) · hard-label loss(student)) + feature terms.

    The configuration's `task` says what D and the hard-label loss are:

    | task | D | hard-label loss |
    |---|---|---|
    | single_label | divergence of the softmaxes | cross-entropy |
    | multi_label | divergence of each label's Bernoulli, mean over labels | binary cross-entropy, mean over labels |
    | regression | squared error, mean over columns | squared error, mean over columns |
    | token_classification | divergence of the softmaxes of each token | cross-entropy of each token |

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
        label_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The terms and their weighted sum, each a mean over the items that count.

        An *item* is a row of (batch, classes), or a position of (batch, sequence, vocabulary) whose label is not
        `IGNORE_INDEX`. A row of (batch, classes) with the label `IGNORE_INDEX` is an unlabelled message: the message
        counts as an item, learns from the teacher and adds nothing to the task term. The same holds for a row of a
        multi-label task or a regression whose labels are missing, or some of whose labels are.

        Args:
            student_logits: (batch, classes) or (batch, sequence, vocabulary); (batch, labels) if the task is
                "multi_label", (batch,) or (batch, columns) if it is "regression", (batch, length, classes) if it is
                "token_classification".
            teacher_logits: same shape; may be None when alpha is 0.
            hard_labels: (batch,) or (batch, sequence), class indices or `IGNORE_INDEX`; (batch, labels), 0, 1 or
                `IGNORE_INDEX`, of any dtype, if the task is "multi_label"; the shape of the logits if it is
                "regression". They may be None when alpha is 1, except for sequences, where either the labels or `mask`
                must say which positions count.
            mask: bool, shape of the logits without the last dimension; overrides which items count.
            num_items: the number of items to divide by, see `mean_divergence`.
            student_features, teacher_features, attention_mask: what the feature terms compare; needed where one of the
                terms is on. The features of a message count as often as the message has items.
            label_mask: bool, shape of the labels; False where a label is missing, whatever stands there, NaN included.
                Regression needs it where scores are missing, since every number may be a score.

        Returns:
            `total_loss` (with gradient), and, detached and unweighted, `soft_target_loss`, `task_loss` and the feature
            terms, as far as they are on.

        Raises:
            ValueError: shapes that do not fit, logits of a single class, labels that the task does not have, or a
                missing input.
            TypeError: logits that are not floating point, or labels that are where the task needs class indices.
        """
        alpha = self.config.alpha
        soft_weight = self.config.response_loss_weight * alpha
        task_weight = self.config.response_loss_weight * (1 - alpha)
        if teacher_logits is None and soft_weight > 0:
            raise ValueError(f"alpha is {alpha}, so teacher_logits are needed; pass them or set alpha=0")
        if hard_labels is None and task_weight > 0:
            raise ValueError(f"alpha is {alpha}, so hard_labels are needed; pass them or set alpha=1")
        task = self.config.task
        if task == "regression":
            student_logits = as_columns(student_logits)
            teacher_logits = None if teacher_logits is None else as_columns(teacher_logits)
        check_logits(student_logits, student_logits if teacher_logits is None else teacher_logits)
        check_task_logits(student_logits, task)
        if hard_labels is not None:
            hard_labels = check_hard_labels(hard_labels, student_logits, task, label_mask)
        elif label_mask is not None:
            raise ValueError("label_mask says which hard labels are missing; pass hard_labels too")
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
            soft = self._soft_target_loss(student_logits, teacher_logits, mask, num_items)
            terms["soft_target_loss"] = soft.detach()
            total = total + soft_weight * soft
        if hard_labels is not None and task_weight > 0:
            hard = hard_label_loss(student_logits, hard_labels, task, mask, num_items)
            terms["task_loss"] = hard.detach()
            total = total + task_weight * hard
        if self.feature_terms is not None:
            if student_features is None or teacher_features is None or attention_mask is None:
                raise ValueError("feature terms are on: pass student_features, teacher_features and attention_mask")
            values = self.feature_terms(student_features, teacher_features, attention_mask)
            for name, value in _mean_over_items(values, mask, num_items).items():
                terms[name] = value.detach()
                total = total + self.config.feature_weights[name] * value
        return {"total_loss": total, **terms}

    def _soft_target_loss(
        self, student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None, num_items: Tensor | int | None
    ) -> Tensor:
        config = self.config
        counting: dict[str, Any] = {"mask": mask, "num_items": num_items, "chunk_size": config.chunk_size}
        if config.task == "regression":
            return mean_over_positions(squared_score_error, student_logits, teacher_logits, **counting)
        chosen: dict[str, Any] = {"divergence": config.divergence, "temperature": config.temperature}
        chosen |= config.divergence_options
        mean = mean_binary_divergence if config.task == "multi_label" else mean_divergence
        return mean(student_logits, teacher_logits, **chosen, **counting)


def count_items(labels: Tensor, causal: bool = False, task: str = "single_label") -> Tensor:
    """The number of items in a batch of hard labels, as `DistillationLoss` counts them.

    Args:
        labels: (batch,), where every row is an item, labelled or not; or (batch, sequence), where the positions that
            are not `IGNORE_INDEX` are items. For "multi_label" and "regression", every row is an item.
        causal: shift the labels first, as the loss does.
        task: the configuration's.

    Raises:
        ValueError: an unknown task.
        TypeError: floating-point labels for a task whose labels are class indices.
    """
    check_task(task)
    if task in ("multi_label", "regression"):
        return torch.tensor(len(labels), device=labels.device)
    if labels.is_floating_point():
        raise TypeError(f"labels of task={task!r} are class indices, got {labels.dtype}; pass the labels' own task")
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
