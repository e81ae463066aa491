"""Training a student in one call, with the way back from a kill. `DistillationTrainer` has the loop itself."""

from __future__ import annotations

import contextlib
import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from accelerate import PartialState  # type: ignore[import-untyped]
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback, TrainingArguments

from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.loading import load_text_classifier, pick_device
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.training.checkpoints import (
    ASSEMBLY,
    KeepWhole,
    claim_checkpoints,
    describe_run,
    is_claimed,
    newest_checkpoint,
)
from distill_helpers.training.checks import check_datasets, check_settings, check_task, choose_metric
from distill_helpers.training.dataset import DistillationCollator, DistillationDataset
from distill_helpers.training.model_card import write_model_card
from distill_helpers.training.output_folder import finished_student, locked, move_finished, refuse_other_models
from distill_helpers.training.projectors import remove_projectors
from distill_helpers.training.trainer import DistillationTrainer
from distill_helpers.training.validation_metrics import selection_metric, warn_if_nothing_was_learned

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

__all__ = ["DistilledStudent", "train_student_with_distillation"]


class DistilledStudent(NamedTuple):
    """What `train_student_with_distillation` returns.

    Attributes:
        model: the student of the best epoch, in evaluation mode.
        tokenizer: the student's tokenizer.
        history: one row for each epoch: `epoch`, the training loss and its terms, and the validation figures
            `eval_loss`, `eval_accuracy`, `eval_nll` (with hard labels; nats), `eval_agreement` and `eval_kl` (with
            teacher logits; KL(teacher ‖ student) at T = 1, nats). `eval_loss` depends on temperature and alpha; the
            others can be compared between all runs.
        output_dir: the folder with model, tokenizer, model card and `history.csv`.

    Example:
        Fine-tune a classifier on hard labels alone, which is the way to a teacher of your own:

        >>> few = dh.load_help_desk().train.subset(range(0, 2500, 100))
        >>> start = dh.load_course_model("help-desk-student", device="cpu")
        >>> data = dh.DistillationDataset(few.texts, few.labels, None, start.tokenizer, max_length=32)
        >>> hard_labels_alone = dh.DistillationConfig(alpha=0.0)
        >>> result = dh.train_student_with_distillation(
        ...     start, data, data, hard_labels_alone, n_epochs=1, output_dir="teacher", device="cpu", progress=False
        ... )
        >>> result
        DistilledStudent(TextClassifier(BertForSequenceClassification, 5 classes, 1,060,357 parameters, cpu),
        1 epoch, saved in teacher)
        >>> result.classifier.predict(["my mac shows a grey screen"]).label[0]
        'comp.sys.mac.hardware'
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    history: pd.DataFrame
    output_dir: Path

    @property
    def classifier(self) -> TextClassifier:
        """The student with its tokenizer, as the other functions of the package take it."""
        return TextClassifier(self.model, self.tokenizer)

    def __repr__(self) -> str:
        n_epochs = len(self.history)
        epochs = f"{n_epochs} epoch{'s' * (n_epochs != 1)}"
        return f"DistilledStudent({self.classifier!r}, {epochs}, saved in {self.output_dir})"


def train_student_with_distillation(
    student_model_name: str | Path | TextClassifier,
    train_dataset: DistillationDataset,
    val_dataset: DistillationDataset,
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
    teacher: TextClassifier | None = None,
    metric_for_best_model: str | None = None,
) -> DistilledStudent:
    """Train a student on soft targets, hard labels and features, and return the student of its best epoch.

    The optimizer is AdamW with warm-up, a cosine decay to 0 and gradients clipped at norm 1. The best epoch is the one
    with the highest validation accuracy and, among epochs of equal accuracy, the lowest validation NLL; see
    `metric_for_best_model`. A warning says if that student is no better than the most frequent class.

    A run that was killed goes on from its last whole checkpoint and ends with the same weights, bit for bit. The
    student of a call that was finished in `output_dir` before is read back, with a warning that says so. A finished
    student of any other call is replaced only if `resume=False` asks for it. One training at a time writes into a
    folder.

    Under `torchrun` or `accelerate launch`, `batch_size` is that of each process. Two processes with 16 messages each
    train the same student as one process with 32, up to rounding, and log the same figures.

    This is also the way to fine-tune a teacher: `DistillationConfig(alpha=0.0)` trains on hard labels alone, without
    any teacher (the example of `DistilledStudent` does so).

    Args:
        student_model_name: a `TextClassifier` (from `students`; the function trains a copy), or a folder or Hub name as
            `load_text_classifier` takes it.
        train_dataset, val_dataset: tokenised with the student's own tokenizer.
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
            "agreement".

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
    if isinstance(student_model_name, TextClassifier):
        # The caller's student stays as it was, so that the same call can be made again after an interruption.
        student = student_model_name._replace(model=copy.deepcopy(student_model_name.model))
    else:
        student = load_text_classifier(student_model_name, device="cpu")
    check_task("student", student.model, config)
    check_datasets(student, train_dataset, val_dataset, config, teacher)
    metric = choose_metric(metric_for_best_model, val_dataset, config, teacher)
    trainer_metric, greater_is_better = selection_metric(metric)
    output_dir = Path(output_dir)
    checkpoints = output_dir / "checkpoints"

    args = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=n_epochs,
        learning_rate=learning_rate,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=2 * batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        train_sampling_strategy="group_by_length" if group_by_length else "random",
        warmup_steps=warmup_ratio,
        lr_scheduler_type="cosine",
        weight_decay=weight_decay,
        max_grad_norm=1.0,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=trainer_metric,
        greater_is_better=greater_is_better,
        seed=seed,
        data_seed=seed,
        report_to=report_to,
        disable_tqdm=not progress,
        use_cpu=pick_device(device).type == "cpu",
        dataloader_pin_memory=pick_device(device).type == "cuda",
    )
    run = describe_run(student.model, train_dataset, val_dataset, args, config, teacher)
    if resume and (finished := finished_student(output_dir, run, student)) is not None:
        return DistilledStudent(finished[0], student.tokenizer, finished[1], output_dir)
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
            data_collator=DistillationCollator(student.tokenizer),
            processing_class=student.tokenizer,
            callbacks=[KeepWhole(checkpoints, processes.wait_for_everyone), *callbacks],
            teacher=teacher,
        )
        if not progress:
            trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=newest)
        processes.wait_for_everyone()  # each of them has read the best checkpoint, which is deleted below

        history = _history(trainer.state.log_history, config)
        model = student.model.eval()  # the Trainer has loaded the best weights into it
        remove_projectors(model)
        if processes.is_main_process:
            # Not trainer.save_model, which adds a pickle of the arguments.
            model.save_pretrained(checkpoints / ASSEMBLY)
            student.tokenizer.save_pretrained(checkpoints / ASSEMBLY)
            history.to_csv(checkpoints / ASSEMBLY / "history.csv", index=False)
            write_model_card(checkpoints / ASSEMBLY, model, config, history, args, metric)
            move_finished(checkpoints / ASSEMBLY, output_dir, run)
            shutil.rmtree(checkpoints)
        processes.wait_for_everyone()
    if config.response_loss_weight > 0 and processes.is_main_process:
        warn_if_nothing_was_learned(student.label_names, val_dataset, history, metric)
    return DistilledStudent(model, student.tokenizer, history, output_dir)


def _history(log_history: list[dict[str, float]], config: DistillationConfig) -> pd.DataFrame:
    """The Trainer's log as a table with one row for each epoch."""
    import pandas as pd

    terms = ("soft_target_loss", "task_loss", *config.feature_weights)
    columns = ("epoch", "loss", *terms, *(f"eval_{name}" for name in ("loss", "accuracy", "nll", "agreement", "kl")))
    epochs = pd.DataFrame(log_history).groupby("epoch", as_index=False).last()
    # A state that was read from a checkpoint has its entries sorted by name; the columns have one order all the same.
    return epochs[[name for name in columns if name in epochs]]
