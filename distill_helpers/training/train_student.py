"""Training a student in one call, with the way back from a kill. `DistillationTrainer` has the loop itself."""

from __future__ import annotations

import contextlib
import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from transformers import PrinterCallback, TrainerCallback

from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.image_models import ImageClassifier
from distill_helpers.models.loading import load_text_classifier
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.training.checkpoints import (
    ASSEMBLY,
    KeepWhole,
    claim_checkpoints,
    describe_run,
    is_claimed,
    newest_checkpoint,
)
from distill_helpers.training.checks import check_settings, choose_metric
from distill_helpers.training.constant_answers import warn_if_nothing_was_learned
from distill_helpers.training.distilled_student import DistilledStudent
from distill_helpers.training.model_card import write_model_card
from distill_helpers.training.output_folder import (
    finished_student,
    locked,
    move_finished,
    refuse_other_models,
    save_student,
)
from distill_helpers.training.projectors import remove_projectors
from distill_helpers.training.run_setup import check_run, collator_for, history_of, training_arguments
from distill_helpers.training.token_dataset import TrainingSet
from distill_helpers.training.trainer import DistillationTrainer

__all__ = ["train_student_with_distillation"]


def train_student_with_distillation(
    student_model_name: str | Path | TextClassifier | ImageClassifier,
    train_dataset: TrainingSet,
    val_dataset: TrainingSet,
    distillation_config: DistillationConfig | None = None,
    n_epochs: int = 5,
    learning_rate: float = 1e-3,
    batch_size: int = 32,
    warmup_ratio: float = 0.1,
    device: str | torch.device | None = None,
    output_dir: str | Path = "distilled_model",
    *,
    weight_decay: float = 0.01,
    gradient_accumulation_steps: int = 1,
    group_by_length: bool = False,
    seed: int = 0,
    report_to: str | list[str] = "none",
    resume: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
    progress: bool = True,
    teacher: TextClassifier | ImageClassifier | None = None,
    metric_for_best_model: str | None = None,
) -> DistilledStudent:
    """Train a student on soft targets, hard labels and features, and return the student of its best epoch.

    The optimizer is AdamW with warm-up, a cosine decay to 0 and gradients clipped at norm 1. The best epoch is the one
    with the highest validation accuracy and, among epochs of equal accuracy, the lowest validation NLL; see
    `metric_for_best_model`. A warning says if that student is no better than the most frequent class.

    The student may choose one of several classes, give several labels, or give scores, of texts or of pairs of texts.
    The data sets and the configuration say so by their `task`, and must agree with the student.

    A run that was killed goes on from its last whole checkpoint and ends with the same weights, bit for bit. The
    student of a call that was finished in `output_dir` before is read back, with a warning that says so. A finished
    student of any other call is replaced only if `resume=False` asks for it. One training at a time writes into a
    folder.

    Under `torchrun` or `accelerate launch`, `batch_size` is that of each process. Two processes with 16 messages each
    train the same student as one process with 32, up to rounding, and log the same figures.

    `DistillationConfig(alpha=0.0)` trains on hard labels alone, without any teacher. `fine_tune_teacher` does so, from
    texts and labels, with the defaults of a pretrained model.

    Args:
        student_model_name: a `TextClassifier` (from `students`; the function trains a copy), or a folder or Hub name as
            `load_text_classifier` takes it; an `ImageClassifier` for images.
        train_dataset, val_dataset: made with the student's own tokenizer or processor.
        distillation_config: what the student learns from; default `DistillationConfig()`.
        n_epochs: passes over the training set.
        learning_rate: the peak. The default suits a small student from scratch; for a pretrained model try 5e-5.
        batch_size: messages in each forward pass.
        warmup_ratio: the share of the steps in which the learning rate rises.
        device: "cpu", "cuda", or None for the best there is.
        output_dir: the folder for the result, and for checkpoints while the run lasts.
        weight_decay: applies to parameters of two or more dimensions.
        gradient_accumulation_steps: forward passes in each step of the optimizer.
        group_by_length: make batches of messages of about the same length. Such batches need less padding where most
            messages are short and a few are long (in Banking77's transfer set, messages have 15 tokens, and random
            batches of 64 pad them to 44). The order of the batches is then less random.
        seed: of order and dropout.
        report_to: trackers as the Trainer names them ("wandb", "tensorboard", …), imported only when named.
        resume: go on from what is in `output_dir`. False starts afresh: it deletes the checkpoints there at once, and
            replaces a finished student as soon as the new one is complete.
        callbacks: further callbacks for the Trainer.
        progress: show the Trainer's progress bar and its log.
        teacher: runs beside the student for what the data sets lack, logits or features.
        metric_for_best_model: what chooses the best epoch on the validation set. "accuracy" (ties: the lower NLL) and
            "nll" need hard labels, and leave out messages without one. "agreement" with the teacher (ties: the lower
            KL) and "kl" need teacher logits. "loss" is the training's own loss, which depends on temperature and alpha.
            By default, features alone go by "loss", labelled messages by "accuracy", messages without any label by
            "agreement". Several labels go by "micro_f1" (ties: the lower "bce"), or "macro_f1", "bce", "agreement" and
            "kl"; scores go by "mse", or "spearman", "teacher_mse" and "teacher_spearman". Without any label, the
            default is "agreement" or "teacher_mse".

    Returns:
        The best student, its history, and the folder in which the student was saved.

    Raises:
        ValueError: a setting out of range, a student in half precision or of another task, data sets whose classes or
            vocabulary do not fit the student, feature terms without features, a metric that can't be computed, a loss
            that is not finite, or an `output_dir` with the checkpoints or the student of another run, or with a damaged
            student.
        RuntimeError: another training writes into `output_dir` at this moment.

    Example:
        >>> few = dh.load_help_desk().train.subset(range(0, 2500, 100))
        >>> teacher = dh.load_course_model("help-desk-teacher", device="cpu")
        >>> logits = dh.precompute_teacher_logits(teacher, few.texts, max_length=32, device="cpu", progress=False)
        >>> student = dh.create_student(teacher, few.texts, vocab_size=500, hidden_size=32)
        >>> data = dh.DistillationDataset(few.texts, few.labels, logits, student.tokenizer, max_length=32)
        >>> result = dh.train_student_with_distillation(
        ...     student, data, data, n_epochs=1, output_dir="student", device="cpu", progress=False
        ... )
        >>> list(result.history.columns)
        ['epoch', 'loss', 'soft_target_loss', 'task_loss', 'eval_loss', 'eval_accuracy', 'eval_nll', 'eval_agreement',
        'eval_kl']
    """
    config = DistillationConfig() if distillation_config is None else distillation_config
    check_settings(n_epochs, learning_rate, batch_size, warmup_ratio, gradient_accumulation_steps)
    if isinstance(student_model_name, TextClassifier | ImageClassifier):
        # The caller's student stays as it was, so that the same call can be made again after an interruption.
        student: Any = student_model_name._replace(model=copy.deepcopy(student_model_name.model))
    else:
        student = load_text_classifier(student_model_name, device="cpu")
    reader = student[1]  # a tokenizer or a processor
    check_run(student, train_dataset, val_dataset, config, teacher, group_by_length=group_by_length)
    metric = choose_metric(metric_for_best_model, val_dataset, config, teacher)
    output_dir = Path(output_dir)
    checkpoints = output_dir / "checkpoints"

    args = training_arguments(
        checkpoints,
        metric,
        n_epochs=n_epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        warmup_ratio=warmup_ratio,
        device=device,
        weight_decay=weight_decay,
        gradient_accumulation_steps=gradient_accumulation_steps,
        group_by_length=group_by_length,
        seed=seed,
        report_to=report_to,
        progress=progress,
    )
    run = describe_run(student.model, train_dataset, val_dataset, args, config, teacher)
    if resume and (finished := finished_student(output_dir, run, student)) is not None:
        return DistilledStudent(finished[0], reader, finished[1], output_dir)
    processes = PartialState()
    with contextlib.ExitStack() as stack:
        if processes.is_main_process:
            stack.enter_context(locked(output_dir))
            if not resume and checkpoints.exists():
                shutil.rmtree(checkpoints)
            if resume and not is_claimed(checkpoints, run):  # a killed run that was to replace a student may go on
                refuse_other_models(output_dir, run)
            claim_checkpoints(checkpoints, run)
            newest = newest_checkpoint(checkpoints)
        processes.wait_for_everyone()
        if not processes.is_main_process:
            newest = newest_checkpoint(checkpoints)
        trainer = DistillationTrainer(
            student.model,
            config,
            args,
            train_dataset=train_dataset,
            eval_dataset=val_dataset,
            data_collator=collator_for(student, config),
            processing_class=reader,
            callbacks=[KeepWhole(checkpoints, processes.wait_for_everyone), *callbacks],
            teacher=teacher,
        )
        if not progress:
            trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=newest)
        processes.wait_for_everyone()  # each of them has read the best checkpoint, which is deleted below

        history = history_of(trainer.state.log_history, config)
        model = student.model.eval()  # the Trainer has loaded the best weights into it
        remove_projectors(model)
        if processes.is_main_process:
            # Not trainer.save_model, which adds a pickle of the arguments.
            save_student(model, checkpoints / ASSEMBLY)
            reader.save_pretrained(checkpoints / ASSEMBLY)
            history.to_csv(checkpoints / ASSEMBLY / "history.csv", index=False)
            write_model_card(checkpoints / ASSEMBLY, model, config, history, args, metric)
            move_finished(checkpoints / ASSEMBLY, output_dir, run)
            shutil.rmtree(checkpoints)
        processes.wait_for_everyone()
    if config.response_loss_weight > 0 and processes.is_main_process:
        warn_if_nothing_was_learned(student.label_names, val_dataset, history, metric)
    return DistilledStudent(model, reader, history, output_dir)
