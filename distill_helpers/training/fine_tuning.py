"""Fine-tuning a teacher in one call: texts or images and their hard labels in, a teacher out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_helpers.data.labelled_texts import LabelledTexts
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.hard_labels import check_task
from distill_helpers.models.adapters import is_adapter
from distill_helpers.models.image_models import ImageClassifier
from distill_helpers.models.loading import load_text_classifier
from distill_helpers.models.prediction_tasks import PredictionTask, prediction_task
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.models.token_loading import load_token_classifier
from distill_helpers.training.dataset import DistillationDataset
from distill_helpers.training.distilled_student import DistilledStudent
from distill_helpers.training.image_dataset import ImageDistillationDataset
from distill_helpers.training.token_dataset import TokenClassificationDataset, TrainingSet
from distill_helpers.training.train_student import train_student_with_distillation

if TYPE_CHECKING:
    import torch
    from transformers import TrainerCallback

__all__ = ["fine_tune_teacher"]

Labelled = LabelledTexts | tuple[Sequence[Any], Sequence[Any]]


def fine_tune_teacher(
    model: str | Path | TextClassifier | ImageClassifier,
    train: Labelled,
    validation: Labelled,
    output_dir: str | Path,
    *,
    label_names: Sequence[str] | None = None,
    task: str | None = None,
    max_length: int | None = None,
    n_epochs: int = 3,
    learning_rate: float = 5e-5,
    batch_size: int = 16,
    warmup_ratio: float = 0.1,
    weight_decay: float = 0.01,
    gradient_accumulation_steps: int = 1,
    group_by_length: bool = False,
    seed: int = 0,
    device: str | torch.device | None = None,
    allow_download: bool = False,
    metric_for_best_model: str | None = None,
    report_to: str | list[str] = "none",
    resume: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
    progress: bool = True,
) -> DistilledStudent:
    """Fine-tune a teacher on hard labels, and return the teacher of its best epoch.

    The texts are tokenised with the teacher's own tokenizer, or its processor makes the pixel values of the images, and
    `train_student_with_distillation` does the training, with alpha = 0 and without any other teacher. The defaults are
    those of a pretrained encoder: 3 epochs with a peak learning rate of 5e-5, as BERT's paper tries them
    (arXiv 1810.04805, appendix A.3). A student from scratch needs more of both.

    Args:
        model: a folder or Hub name of a pretrained text model, which gets a new, untrained head, even if it is a
            classifier already; or a `TextClassifier` or an `ImageClassifier`, whose own head goes on learning (the
            function trains a copy).
        train, validation: a `LabelledTexts`, or a tuple of inputs and labels. What both hold depends on the task:
            "single_label": texts or pairs of texts, and class indices;
            "multi_label": texts or pairs, and for each a row of 0 and 1;
            "regression": texts or pairs, and for each a score or a row of scores;
            "token_classification": the words of each text, and for each word a class index.
            An `ImageClassifier` takes images in the place of texts (`predict_image_logits` says in which form).
            `DistillationDataset` and `TokenClassificationDataset` say how a missing label is written.
        output_dir: the folder for the teacher, and for checkpoints while the training lasts.
        label_names: the classes, labels or scores of a new head, in the order of the labels. A `LabelledTexts` brings
            its own.
        task: what the teacher predicts, one of the four above. By default a classifier says it, by
            `prediction_task`, and a new head chooses one of several classes.
        max_length: longer texts are cut to so many tokens; default the tokenizer's own limit. Images have none.
        n_epochs, learning_rate, batch_size, warmup_ratio, weight_decay, gradient_accumulation_steps, group_by_length,
            metric_for_best_model, report_to, resume, callbacks, progress: as in `train_student_with_distillation`.
        seed: of the new head, of the order of the texts and of dropout.
        device: "cpu", "cuda", or None for the best there is.
        allow_download: let a Hub name be fetched. False uses only what is on this machine.

    Returns:
        The teacher, its history, and the folder in which it was saved. `result.classifier` is what
        `precompute_teacher_logits` and `create_student` take.

    Raises:
        ValueError: no names for a new head, names for a head that is there, names or a task that contradict the data or
            the model, labels that the task does not have (with their row), or whatever
            `train_student_with_distillation` refuses.
        OSError: as `load_text_classifier`.
        TypeError: data of another form.
        RuntimeError: another training writes into `output_dir` at this moment.

    Example:
        A classifier goes on learning. `base_encoder_path()` in the place of `start` would give the encoder a new head:

        >>> few = dh.load_help_desk().train.subset(range(0, 2500, 100))
        >>> start = dh.load_course_model("help-desk-student", device="cpu")
        >>> result = dh.fine_tune_teacher(
        ...     start, few, few, "teacher", max_length=32, n_epochs=1, device="cpu", progress=False
        ... )
        >>> list(result.history.columns)
        ['epoch', 'loss', 'task_loss', 'eval_loss', 'eval_accuracy', 'eval_nll']
        >>> dh.predict_logits(result.classifier, few.texts).shape
        torch.Size([25, 5])
    """
    names = _names(train, validation, label_names)
    teacher: TextClassifier | ImageClassifier
    if isinstance(model, TextClassifier | ImageClassifier):
        _check_head(model, names, task)
        teacher, task = model, str(prediction_task(model.model))
    else:
        task = str(PredictionTask.SINGLE_LABEL if task is None else task)
        check_task(task)
        teacher = _with_new_head(model, names, task, allow_download=allow_download, seed=seed)
    train_dataset, val_dataset = (
        _data_set(name, data, teacher, task, max_length)
        for name, data in (("train", train), ("validation", validation))
    )
    config = DistillationConfig(alpha=0.0, task=task, temperature=1.0)
    return train_student_with_distillation(
        teacher,
        train_dataset,
        val_dataset,
        config,
        n_epochs,
        learning_rate,
        batch_size,
        warmup_ratio,
        device,
        output_dir,
        weight_decay=weight_decay,
        gradient_accumulation_steps=gradient_accumulation_steps,
        group_by_length=group_by_length,
        seed=seed,
        report_to=report_to,
        resume=resume,
        callbacks=callbacks,
        progress=progress,
        metric_for_best_model=metric_for_best_model,
    )


def _names(train: Labelled, validation: Labelled, given: Sequence[str] | None) -> tuple[str, ...] | None:
    """The names that the data and the caller give; None if neither does. Raises ValueError where two of them differ."""
    if isinstance(given, str):
        raise ValueError(f"label_names must be a list of names, got the string {given!r}")
    sources = {
        "label_names": None if given is None else tuple(given),
        "train": train.label_names if isinstance(train, LabelledTexts) else None,
        "validation": validation.label_names if isinstance(validation, LabelledTexts) else None,
    }
    said = {source: tuple(names) for source, names in sources.items() if names is not None}
    for source, names in said.items():
        first = next(iter(said))
        if names != said[first]:
            raise ValueError(
                f"{source} has the names {list(names)}, and {first} {list(said[first])}; give both the same names in"
                " the same order, so that a label means the same class"
            )
    return next(iter(said.values()), None)


def _check_head(model: TextClassifier | ImageClassifier, names: tuple[str, ...] | None, task: str | None) -> None:
    """Raise ValueError if a classifier is no model of this data."""
    if names is not None and names != model.label_names:
        raise ValueError(
            f"the model's head has the names {list(model.label_names)}, and the data have {list(names)}; number the"
            " labels in the model's order, or pass the folder or name of a pretrained model for a new head"
        )
    if task is not None and task != prediction_task(model.model):
        raise ValueError(
            f"the model's task is {str(prediction_task(model.model))!r}, and task={task!r} was passed; leave task out,"
            " or pass the folder or name of a pretrained model for a new head"
        )


def _with_new_head(
    source: str | Path, names: tuple[str, ...] | None, task: str, *, allow_download: bool, seed: int
) -> TextClassifier:
    if names is None:
        raise ValueError(
            f"{source} gets a new head, and nothing names its classes; pass label_names in the order of the labels, or"
            " LabelledTexts, or a TextClassifier (`load_text_classifier`) whose own head goes on learning"
        )
    if is_adapter(source):
        raise ValueError(
            f"{source} is an adapter with a head of its own; load it with `load_text_classifier` or"
            " `load_token_classifier`, and pass the classifier"
        )
    options: dict[str, Any] = {"label_names": names, "allow_download": allow_download, "device": "cpu", "seed": seed}
    if task == PredictionTask.TOKEN_CLASSIFICATION:
        return load_token_classifier(source, **options)
    return load_text_classifier(source, task=task, **options)


def _data_set(
    name: str, data: Labelled, teacher: TextClassifier | ImageClassifier, task: str, max_length: int | None
) -> TrainingSet:
    inputs: Any
    labels: Any
    if isinstance(data, LabelledTexts):
        inputs, labels = data.texts, data.labels
    elif isinstance(data, tuple) and len(data) == 2:
        inputs, labels = data
    else:
        raise TypeError(f"{name} must be a LabelledTexts or a tuple (inputs, labels), got {type(data).__name__}")
    if labels is None:
        raise ValueError(f"{name} has no labels, and a teacher is fine-tuned on nothing else")
    if isinstance(teacher, ImageClassifier) and max_length is not None:
        raise ValueError(f"images have no tokens that max_length={max_length} could cut; leave it out")
    try:
        if isinstance(teacher, ImageClassifier):
            return ImageDistillationDataset(inputs, labels, None, teacher)
        if task == PredictionTask.TOKEN_CLASSIFICATION:
            return TokenClassificationDataset(inputs, labels, None, teacher.tokenizer, max_length)
        return DistillationDataset(inputs, labels, None, teacher.tokenizer, max_length, task=task)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
