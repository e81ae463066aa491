"""How the course's models are made: for each task its data, teacher, transfer set and smallest student.

    python -m distill_helpers.course.recipes help-desk

trains the help desk's teacher, then its student, and writes both with their manifests into `data/models`. The module
`results` uses the same recipes for its tables.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import TrainerCallback

from distill_helpers.course.low_rank import LINEAR_LAYERS, low_rank_adapter
from distill_helpers.course.tasks import SMALLEST, WORK, Recipe, Task, Variant, get_task
from distill_helpers.evaluation.model_rows import evaluate
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.loading import COURSE_MODELS, base_encoder_path, load_text_classifier
from distill_helpers.models.manifest import write_manifest
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.students.creation import create_student
from distill_helpers.training.dataset import DistillationDataset
from distill_helpers.training.distilled_student import DistilledStudent
from distill_helpers.training.train_student import train_student_with_distillation

__all__ = [
    "fit_student",
    "fit_teacher",
    "make_student",
    "make_teacher",
    "train_student",
]


def fit_teacher(
    task: Task,
    recipe: Recipe,
    seed: int,
    output_dir: str | Path,
    *,
    lora_rank: int | None,
    with_transfer: bool,
) -> DistilledStudent:
    """Fine-tune the base encoder on hard labels. An interrupted training continues from `output_dir`.

    Args:
        task: gives the messages, and the transfer texts with the labels that they inherit.
        recipe: epochs, learning rate and batch size.
        seed: of the new head, order and dropout.
        output_dir: for the result, and for checkpoints while the training lasts.
        lora_rank: trains an adapter of this rank, and the head; None trains every weight.
        with_transfer: learn from the transfer texts as well.
    """
    data = task.data
    start = load_text_classifier(base_encoder_path(), label_names=data.label_names, seed=seed)
    model: Any = start.model
    if lora_rank is not None:
        torch.manual_seed(seed)
        adapter = LoraConfig(
            task_type="SEQ_CLS",
            r=lora_rank,
            lora_alpha=2 * lora_rank,
            lora_dropout=0.1,
            target_modules=list(LINEAR_LAYERS),
        )
        model = get_peft_model(model, adapter)
    train, validation = (
        DistillationDataset(part.texts, part.labels, None, start.tokenizer, task.max_length)
        for part in (task.labelled_texts(with_transfer=with_transfer), data.validation)
    )
    return train_student_with_distillation(
        TextClassifier(model, start.tokenizer),
        train,
        validation,
        DistillationConfig(alpha=0.0),
        n_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        batch_size=recipe.batch_size,
        group_by_length=recipe.group_by_length,
        output_dir=output_dir,
        seed=seed,
        progress=False,
    )


def make_teacher(task: Task, seed: int = 0) -> Path:
    """Fine-tune the task's teacher, save it with its manifest, and return the folder."""
    with tempfile.TemporaryDirectory() as scratch:
        result = fit_teacher(
            task, task.teacher, seed, scratch, lora_rank=task.lora_rank, with_transfer=task.teacher_reads_transfer
        )
        model: Any = result.model
        if task.cut_to_rank is not None:
            base = load_text_classifier(base_encoder_path(), label_names=task.data.label_names, seed=seed, device="cpu")
            model = low_rank_adapter(model.cpu(), base.model, task.cut_to_rank)
        if hasattr(model, "peft_config"):
            # PEFT has put the path of the base encoder here, which means nothing on another machine.
            model.peft_config["default"].base_model_name_or_path = "sentence-transformers/all-MiniLM-L6-v2"
        else:
            result.classifier.tokenizer.save_pretrained(task.teacher_folder)
        model.save_pretrained(task.teacher_folder)
        if hasattr(model, "peft_config"):
            (task.teacher_folder / "README.md").unlink()  # PEFT's form for a model card, not filled in
    _write_manifest(task, task.teacher_folder, seed)
    return task.teacher_folder


def train_student(
    task: Task,
    variant: Variant,
    seed: int,
    output_dir: str | Path,
    *,
    recipe: Recipe | None = None,
    config: DistillationConfig | None = None,
    seen: Callable[[torch.Tensor], torch.Tensor] | None = None,
    progress: bool = False,
    labelling_progress: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
) -> DistilledStudent:
    """Train one student of a task. An interrupted training continues from the checkpoints in `output_dir`.

    Args:
        task, variant: what the student learns, and from which labels and texts.
        seed: of the sample of messages, the student's weights, order and dropout.
        output_dir: for the student, and for checkpoints while it trains.
        recipe: epochs, learning rate, batch size and dropout. None takes the task's, with up to four times the epochs
            for a part of the messages: otherwise the comparison would be of unfinished students.
        config: the objective. None takes the variant's labels alone, soft ones at the task's temperature.
        seen: makes of the teacher's logits, (texts, classes), those that the student is shown; None shows all of them.
        progress: show the Trainer's progress bar and log.
        labelling_progress: show a bar while the teacher labels the messages.
        callbacks: further callbacks for the Trainer.
    """
    data = task.data
    train = data.train.sample(variant.share, seed)
    texts, labels = train.texts, train.labels
    if variant.transfer:
        further_texts, inherited = task.transfer_texts(unlabelled=variant.unlabelled)
        texts, labels = texts + further_texts, labels + inherited
    logits: torch.Tensor | None = None
    validation_logits: torch.Tensor | None = None
    if variant.labels != "hard":
        logits, validation_logits = (
            task.teacher_logits(part, progress=labelling_progress) for part in (texts, data.validation.texts)
        )
        if seen is not None:
            logits, validation_logits = seen(logits), seen(validation_logits)
        if variant.labels == "teacher's choice":
            labels = logits.argmax(dim=1).tolist()
    if recipe is None:
        recipe = task.with_transfer if variant.transfer else task.same_messages
        recipe = replace(recipe, epochs=round(recipe.epochs * min(4.0, 1 / variant.share)))
    return fit_student(
        task,
        (texts, labels, logits),
        validation_logits,
        config or DistillationConfig(temperature=task.temperature, alpha=1.0 if variant.labels == "soft" else 0.0),
        recipe,
        seed,
        output_dir,
        teacher_embeddings=variant.teacher_embeddings,
        progress=progress,
        callbacks=callbacks,
    )


def fit_student(
    task: Task,
    train: tuple[Sequence[str], Sequence[int], torch.Tensor | None],
    validation_logits: torch.Tensor | None,
    config: DistillationConfig,
    recipe: Recipe,
    seed: int,
    output_dir: str | Path,
    *,
    teacher_embeddings: bool = True,
    progress: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> DistilledStudent:
    """Make a task's student and train it on any texts, hard labels and logits. See `train_student` for interruptions.

    Args:
        task: gives the student's shape, the teacher and the validation messages.
        train: texts, hard labels (`IGNORE_INDEX` for a text without one), and the teacher's logits (texts, classes) or
            None.
        validation_logits: (validation messages, classes), or None.
        config: the objective.
        recipe: epochs, learning rate, batch size and dropout.
        seed: of the student's weights, order and dropout.
        output_dir: for the student, and for checkpoints while it trains.
        teacher_embeddings, progress, callbacks: as in `Variant` and `train_student`.
    """
    data = task.data
    student = create_student(
        task.teacher_model,
        data.train.texts + list(data.transfer),
        vocab_size=task.vocab_size,
        hidden_size=task.hidden_size,
        n_heads=task.n_heads,
        max_length=task.max_length,
        dropout=recipe.dropout,
        teacher_embeddings=teacher_embeddings,
        seed=seed,
    )
    return train_student_with_distillation(
        student,
        DistillationDataset(*train, student.tokenizer),
        DistillationDataset(data.validation.texts, data.validation.labels, validation_logits, student.tokenizer),
        config,
        n_epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
        batch_size=recipe.batch_size,
        group_by_length=recipe.group_by_length,
        output_dir=output_dir,
        seed=seed,
        callbacks=callbacks,
        progress=progress,
    )


def make_student(task: Task, seed: int = 0) -> Path:
    """Train the smallest student, save it with its manifest in `data/models`, and return the folder."""
    folder = COURSE_MODELS / f"{task.name}-student"
    run = WORK / "runs" / f"{task.name}-shipped-student"
    student = train_student(task, SMALLEST, seed, run, progress=True).classifier
    student.model.save_pretrained(folder)
    student.tokenizer.save_pretrained(folder)
    shutil.rmtree(run)
    _write_manifest(task, folder, seed)
    return folder


def _write_manifest(task: Task, folder: Path, seed: int) -> None:
    command = f"python -m distill_helpers.course.recipes {task.name}"
    write_manifest(folder, command=command, seed=seed, label_names=task.data.label_names, measured={})
    # The figures are measured on the stored model, loaded again, with the adapter merged.
    stored = load_text_classifier(folder)
    measured = {
        f"{name}_{figure}": value
        for name, part in (("validation", task.data.validation), ("test", task.data.test))
        for figure, value in evaluate(stored, part, max_length=task.max_length).items()
        if figure in ("accuracy", "macro_f1", "nll", "ece")
    }
    write_manifest(folder, command=command, seed=seed, label_names=task.data.label_names, measured=measured)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Make a task's teacher and its smallest student, with their manifests."
    )
    parser.add_argument("task", choices=["help-desk", "older-help-desk", "banking77"])
    parser.add_argument("--data", type=Path, help="folder with Banking77's train.csv and test.csv")
    parser.add_argument("--only", choices=["teacher", "student"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    task = get_task(arguments.task, arguments.data)
    if arguments.only != "student":
        print(make_teacher(task, arguments.seed))
    if arguments.only != "teacher":
        print(make_student(task, arguments.seed))


if __name__ == "__main__":
    main()
