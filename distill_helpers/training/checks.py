"""What is refused before a training starts, with the reason and the remedy."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.architectures import embedding_weight
from distill_helpers.models.prediction_tasks import prediction_task
from distill_helpers.models.text_models import TextClassifier, label_names_of
from distill_helpers.training.dataset import DistillationDataset
from distill_helpers.training.pair_checks import half_precision, shared_weights
from distill_helpers.training.validation_metrics import SELECTIONS

__all__ = ["check_datasets", "check_models", "check_settings", "check_task", "choose_metric"]

# What a model of each task does, by `models.prediction_tasks`.
_PROBLEMS = {
    "single_label": "chooses one of several classes",
    "multi_label": "is a multi-label classifier, whose labels are not exclusive",
    "regression": "returns a score and no classes",
    "token_classification": "classifies tokens, not texts",
}


def check_settings(
    n_epochs: int, learning_rate: float, batch_size: int, warmup_ratio: float, gradient_accumulation_steps: int
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
            f" teach another function. Set task={str(task)!r} for DistillationTrainer, or use a model of the other"
            " problem; if `model.config.problem_type` is wrong, correct it"
        )


def check_models(student: nn.Module, teacher: nn.Module) -> None:
    """Raise ValueError if a live teacher would change while its student learns, or has its classes in another order."""
    for name, shared in shared_weights(student, teacher):
        raise ValueError(
            f"the student's {name} and the teacher's {shared} are the same tensor in memory, so that training the"
            " student would change the teacher; give the student a copy (`copy.deepcopy`), or freeze the parameter"
        )
    if not (hasattr(getattr(student, "config", None), "id2label") and hasattr(teacher, "config")):
        return
    own, others = label_names_of(student), label_names_of(teacher)  # type: ignore[arg-type]
    if own != others and sorted(own) == sorted(others):
        raise ValueError(
            f"the teacher has the student's classes in another order: {list(others)}, and the student {list(own)}; make"
            " the student with the teacher's label names, in their order"
        )


def check_datasets(
    student: TextClassifier,
    train: DistillationDataset,
    validation: DistillationDataset,
    config: DistillationConfig,
    teacher: TextClassifier | None,
) -> None:
    """Raise ValueError if the student can't learn from the data sets, or not what `config` asks for."""
    if config.task != "single_label" or config.causal:
        raise ValueError(
            f"this function trains classifiers of texts, and the configuration says task={config.task!r},"
            f" causal={config.causal}; use DistillationTrainer, or `llm.LLMDistillationTrainer` for language models"
        )
    n_classes, n_tokens = len(student.label_names), len(embedding_weight(student.model))
    vocabulary = student.tokenizer.get_vocab()
    half = half_precision(student.model)
    if half:
        raise ValueError(
            f"the student's weights are {', '.join(half)}, in which small steps are lost; train in fp32,"
            " `student.model.float()`"
        )
    if teacher is not None and config.uses_teacher_logits and len(teacher.label_names) != n_classes:
        raise ValueError(
            f"the teacher has {len(teacher.label_names)} classes, but the student has {n_classes}; make the student"
            " with the teacher's classes"
        )
    for name, data in (("train_dataset", train), ("val_dataset", validation)):
        if len(data) == 0:
            raise ValueError(f"{name} is empty")
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
                f"{name}: {data.teacher_logits.shape[1]} teacher classes, but the student has {n_classes}; make the"
                " student with the teacher's classes"
            )
        if max(data.labels) >= n_classes:
            raise ValueError(f"{name}: label {max(data.labels)}, but the student has {n_classes} classes")
        if max(map(max, data.token_ids)) >= n_tokens or data.tokenizer.get_vocab() != vocabulary:
            raise ValueError(
                f"{name} was tokenised with another tokenizer than the student's ({n_tokens} entries); make the data"
                " set with the student's tokenizer"
            )
    if config.response_loss_weight > 0 and config.alpha < 1 and _all_unlabelled(train.labels):
        raise ValueError(f"alpha is {config.alpha}, but no training message has a hard label; set alpha=1")


def choose_metric(
    choice: str | None, validation: DistillationDataset, config: DistillationConfig, teacher: TextClassifier | None
) -> str:
    """The key of `SELECTIONS` by which the best epoch is chosen.

    By default, features alone go by "loss", labelled validation messages by "accuracy", and messages that have only a
    teacher by "agreement".

    Raises:
        ValueError: an unknown metric; one that the validation set has no labels or no teacher for; or, without a
            choice, validation messages of which only a part has labels.
    """
    has_teacher = validation.teacher_logits is not None or teacher is not None
    has_labels = not _all_unlabelled(validation.labels)
    if choice is not None:
        if choice not in SELECTIONS:
            raise ValueError(f"metric_for_best_model must be one of {list(SELECTIONS)} or None, got {choice!r}")
        if choice in ("accuracy", "nll") and not has_labels:
            raise ValueError(
                f"metric_for_best_model is {choice!r}, but val_dataset has no hard labels; add labels, or choose"
                " 'agreement' or 'kl' with teacher logits"
            )
        if choice in ("agreement", "kl") and not has_teacher:
            raise ValueError(
                f"metric_for_best_model is {choice!r}, but val_dataset has no teacher logits; add the logits or pass"
                " teacher="
            )
        return choice
    if config.response_loss_weight == 0:
        return "loss"
    if has_labels and IGNORE_INDEX in validation.labels:
        row = validation.labels.index(IGNORE_INDEX)
        raise ValueError(
            f"val_dataset has unlabelled messages, such as row {row}, beside labelled ones; leave them out, or say by"
            f" metric_for_best_model how to choose the best epoch: one of {list(SELECTIONS)}"
        )
    if not has_labels and not has_teacher:
        raise ValueError(
            "val_dataset has unlabelled messages alone and no teacher logits, so that the best epoch can't be chosen;"
            " add labels or teacher logits, or pass teacher="
        )
    return "accuracy" if has_labels else "agreement"


def _all_unlabelled(labels: Sequence[int]) -> bool:
    return all(label == IGNORE_INDEX for label in labels)
