"""What is refused before a training starts, with the reason and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.architectures import embedding_weight
from distill_helpers.models.batching import check_positions, padding_side
from distill_helpers.models.image_models import ImageClassifier
from distill_helpers.models.prediction_tasks import prediction_task
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.training.image_dataset import ImageDistillationDataset, check_image_set
from distill_helpers.training.task_labels import TASKS_OF_TEXTS, rows_with_labels
from distill_helpers.training.task_validation import TASK_VALIDATION
from distill_helpers.training.token_dataset import TrainingSet
from distill_helpers.training.trainable_weights import half_precision

__all__ = [
    "check_dataset_task",
    "check_datasets",
    "check_lengths",
    "check_padding_side",
    "check_settings",
    "check_task",
    "choose_metric",
]

# What a model of each task does, by `models.prediction_tasks`.
_PROBLEMS = {
    "single_label": "chooses one of several classes",
    "multi_label": "is a multi-label classifier, whose labels are not exclusive",
    "regression": "returns a score and no classes",
    "token_classification": "classifies tokens, not texts",
}


def check_padding_side(collator: Any, model: Any) -> None:
    """Raise ValueError if a `DistillationCollator` pads on another side than the model reads (`padding_side`)."""
    side = getattr(collator, "side", None)
    if side is not None and side != padding_side(model):
        raise ValueError(
            f"the collator pads on the {side}, where this {type(model).__name__} would read padding for text; write"
            f" DistillationCollator(tokenizer, side={padding_side(model)!r})"
        )


def check_settings(
    n_epochs: int,
    learning_rate: float,
    batch_size: int,
    warmup_ratio: float = 0.1,
    gradient_accumulation_steps: int = 1,
) -> None:
    """Raise ValueError for a setting that is out of range."""
    counts = {
        "n_epochs": n_epochs,
        "batch_size": batch_size,
        "gradient_accumulation_steps": gradient_accumulation_steps,
    }
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    if not 0 < learning_rate < float("inf"):
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate!r}")
    if not 0 <= warmup_ratio < 1:
        raise ValueError(f"warmup_ratio must lie in [0, 1), got {warmup_ratio!r}; it is a share of the steps")


def check_task(who: str, model: nn.Module, objective: DistillationConfig) -> None:
    """Raise ValueError if the model solves another problem than the objective, by its class and `problem_type`.

    A softmax over one column is always 1, so that a regression or a cross-encoder would seem to be right at once; and
    a multi-label model's probabilities come from a sigmoid for each label, which a softmax does not see. Language
    models and features alone have no classes to compare, and nothing is known of a module without a configuration.
    """
    if objective.causal or objective.response_loss_weight == 0 or not hasattr(model, "config"):
        return
    task = prediction_task(model)
    if task != objective.task:
        raise ValueError(
            f"the {who} {_PROBLEMS[task]}, and the DistillationConfig says task={objective.task!r}; the loss would"
            f" teach another function. Set task={str(task)!r} in the DistillationConfig and in the data sets, or use a"
            " model of the other problem; if `model.config.problem_type` is wrong, correct it"
        )


def check_dataset_task(name: str, data: Any, objective: DistillationConfig) -> None:
    """Raise ValueError if a data set that says its task, or one of a mapping of them, holds those of another task."""
    if isinstance(data, dict):
        for key, part in data.items():
            check_dataset_task(f"{name}[{key!r}]", part, objective)
        return
    of_data = getattr(data, "task", objective.task)
    if of_data != objective.task:
        raise ValueError(
            f"{name} has the labels of task={of_data!r}, and the DistillationConfig says task={objective.task!r}; pass"
            " the same task to both"
        )


def check_lengths(datasets: Mapping[str, Any], student: nn.Module, teacher: Any) -> None:
    """Raise ValueError, with data set and row, for a text of more tokens than a model that reads it has positions.

    Args:
        datasets: by the names of the arguments. What has no `token_ids` is not checked.
        student: reads all of them.
        teacher: a model with its tokenizer, which reads all of them too; None if no teacher runs beside the student.
    """
    readers = {"the student": student} | ({} if teacher is None else {"the teacher": teacher.model})
    for name, data in datasets.items():
        token_ids = getattr(data, "token_ids", None)
        if isinstance(token_ids, Sequence):
            for who, model in readers.items():
                check_positions(model, token_ids, who, f"{name}, ")


def check_datasets(
    student: TextClassifier | ImageClassifier,
    train: TrainingSet,
    validation: TrainingSet,
    config: DistillationConfig,
    teacher: TextClassifier | ImageClassifier | None,
) -> None:
    """Raise ValueError if the student can't learn from the data sets, or not what `config` asks for."""
    if config.task not in (*TASKS_OF_TEXTS, "token_classification") or config.causal:
        raise ValueError(
            f"this function trains classifiers of texts and of tokens, and the configuration says task={config.task!r},"
            f" causal={config.causal}; use DistillationTrainer, or `llm.LLMDistillationTrainer` for language models"
        )
    outputs = {"multi_label": "labels", "regression": "scores"}.get(config.task, "classes")
    n_classes = len(student.label_names)
    half = half_precision(student.model)
    if half:
        raise ValueError(
            f"the student's weights are {', '.join(half)}, in which small steps are lost; train in fp32,"
            " `student.model.float()`"
        )
    if teacher is not None and config.uses_teacher_logits and len(teacher.label_names) != n_classes:
        raise ValueError(
            f"the teacher has {len(teacher.label_names)} {outputs}, but the student has {n_classes}; make the student"
            f" with the teacher's {outputs}"
        )
    for name, data in (("train_dataset", train), ("val_dataset", validation)):
        if len(data) == 0:
            raise ValueError(f"{name} is empty")
        check_dataset_task(name, data, config)
        if config.uses_teacher_logits and data.teacher_logits is None and teacher is None:
            raise ValueError(
                f"{name} has no teacher logits and alpha is {config.alpha}; add the logits, pass teacher=, or set"
                " alpha=0"
            )
        if config.uses_features and data.teacher_features is None and teacher is None:
            raise ValueError(
                f"{name} has no teacher features and feature terms are on; add the features or pass teacher="
            )
        if data.teacher_logits is not None and data.teacher_logits.shape[1] != n_classes:
            raise ValueError(
                f"{name}: {data.teacher_logits.shape[1]} teacher {outputs}, but the student has {n_classes}; make the"
                f" student with the teacher's {outputs}"
            )
        _check_labels(name, data.labels, n_classes, outputs)
        _check_inputs(name, data, student)
    if config.response_loss_weight > 0 and config.alpha < 1 and not _has_any_label(train.labels):
        raise ValueError(f"alpha is {config.alpha}, but no training message has a hard label; set alpha=1")


def _check_inputs(name: str, data: TrainingSet, student: TextClassifier | ImageClassifier) -> None:
    """Raise ValueError if the inputs of a data set were not made for this student."""
    if isinstance(student, ImageClassifier):
        check_image_set(name, data, student)
        return
    if isinstance(data, ImageDistillationDataset):
        raise ValueError(f"{name} holds images, and the student reads texts; make a DistillationDataset")
    n_tokens = len(embedding_weight(student.model))
    if max(map(max, data.token_ids)) >= n_tokens or data.tokenizer.get_vocab() != student.tokenizer.get_vocab():
        raise ValueError(
            f"{name} was tokenised with another tokenizer than the student's ({n_tokens} entries); make the data set"
            " with the student's tokenizer"
        )


def _check_labels(name: str, labels: list[int] | Tensor, n_outputs: int, outputs: str) -> None:
    if isinstance(labels, Tensor):
        if labels.shape[1] != n_outputs:
            raise ValueError(
                f"{name}: each text has {labels.shape[1]} {outputs}, but the student has {n_outputs}; make the student"
                f" with as many {outputs}, or choose the columns that it has"
            )
    elif max(labels) >= n_outputs:
        raise ValueError(f"{name}: label {max(labels)}, but the student has {n_outputs} {outputs}")


def choose_metric(choice: str | None, validation: TrainingSet, config: DistillationConfig, teacher: Any) -> str:
    """The key of `SELECTIONS` by which the best epoch is chosen.

    By default, features alone go by "loss", labelled validation messages by "accuracy", and messages that have only a
    teacher by "agreement". Several labels go by "micro_f1" or "agreement", scores by "mse" or "teacher_mse".

    Raises:
        ValueError: an unknown metric; one that the validation set has no labels or no teacher for, or no two different
            scores; a label of several that no validation message says anything about; or, without a choice, validation
            messages of which only a part has labels.
    """
    task = TASK_VALIDATION[config.task]
    has_teacher = validation.teacher_logits is not None or teacher is not None
    has_labels = _has_any_label(validation.labels)
    _check_columns(validation)
    if choice is not None:
        if choice not in task.choices:
            raise ValueError(f"metric_for_best_model must be one of {list(task.choices)} or None, got {choice!r}")
        if choice in task.by_labels and not has_labels:
            raise ValueError(
                f"metric_for_best_model is {choice!r}, but val_dataset has no hard labels; add labels, or choose"
                f" {' or '.join(map(repr, task.by_teacher))} with teacher logits"
            )
        if choice == "spearman" and (column := _column_without_order(validation.labels)) is not None:
            raise ValueError(
                f"metric_for_best_model is 'spearman', but the scores of val_dataset in column {column} are all the"
                " same, so there is no order to find; add texts with other scores, or choose 'mse'"
            )
        if choice in task.by_teacher and not has_teacher:
            raise ValueError(
                f"metric_for_best_model is {choice!r}, but val_dataset has no teacher logits; add the logits or pass"
                " teacher="
            )
        return choice
    if config.response_loss_weight == 0:
        return "loss"
    labelled = rows_with_labels(validation.labels)
    # Words without a class, such as punctuation, are usual among the words of a text.
    if has_labels and not all(labelled) and config.task != "token_classification":
        raise ValueError(
            f"val_dataset has unlabelled messages, such as row {labelled.index(False)}, beside labelled ones; leave"
            f" them out, or say by metric_for_best_model how to choose the best epoch: one of {list(task.choices)}"
        )
    if not has_labels and not has_teacher:
        raise ValueError(
            "val_dataset has unlabelled messages alone and no teacher logits, so that the best epoch can't be chosen;"
            " add labels or teacher logits, or pass teacher="
        )
    return task.by_labels[0] if has_labels else task.by_teacher[0]


def _has_any_label(labels: list[int] | Tensor) -> bool:
    """Whether there is a class, a known label of several, or a score."""
    values = torch.as_tensor(labels)
    return bool(((values != IGNORE_INDEX) & ~values.isnan()).any())


def _check_columns(validation: TrainingSet) -> None:
    """Raise ValueError if some of several labels can be measured, and another one cannot."""
    if validation.task != "multi_label":
        return
    known = (torch.as_tensor(validation.labels) != IGNORE_INDEX).any(dim=0)
    if known.any() and not known.all():
        raise ValueError(
            f"val_dataset: no message says whether it has label {int((~known).nonzero()[0])}, so this label cannot be"
            " measured; add messages that say so, or leave the label out"
        )


def _column_without_order(scores: list[int] | Tensor) -> int | None:
    """The first column whose scores are all the same; None if each has two different ones."""
    for index, column in enumerate(torch.as_tensor(scores).T):
        if len(column[~column.isnan()].unique()) < 2:
            return index
    return None
