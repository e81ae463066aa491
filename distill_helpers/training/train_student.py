"""Training a student in one call, with the way back from a kill; the loop itself is `DistillationTrainer`'s."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from peft import PeftModel
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    TrainerCallback,
    TrainingArguments,
)

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.loading import TextClassifier, embedding_weight, load_text_classifier, pick_device
from distill_helpers.training.checkpoints import claim_checkpoints, newest_checkpoint, run_key
from distill_helpers.training.dataset import DistillationCollator, DistillationDataset
from distill_helpers.training.model_card import write_model_card
from distill_helpers.training.trainer import DistillationTrainer, remove_projectors

__all__ = ["DistilledStudent", "train_student_with_distillation"]

# Written last: whose result the folder holds.
_FINISHED = "finished-run.key"


class DistilledStudent(NamedTuple):
    """What `train_student_with_distillation` returns.

    Attributes:
        model: the student of the best epoch, in evaluation mode.
        tokenizer: its tokenizer.
        history: one row per epoch: `epoch`, the training loss and its terms, `eval_loss`, `eval_accuracy`.
        output_dir: where model, tokenizer, model card and `history.csv` are.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    history: pd.DataFrame
    output_dir: Path


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
) -> DistilledStudent:
    """Train a student on soft targets, hard labels and features, and return the student of its best epoch.

    AdamW with warm-up, a cosine decay to 0 and gradients clipped at norm 1. Validation accuracy decides which epoch is
    best, or validation loss where the configuration trains on features alone. A run that was killed goes on from its
    last whole epoch and ends with the same weights, bit for bit; one that was finished in `output_dir` is read back.

    Args:
        student_model_name: a `TextClassifier` (from `students`; it is not changed), or a folder or Hub name as
            `load_text_classifier` takes it.
        train_dataset, val_dataset: tokenised with the student's own tokenizer.
        distillation_config: default `DistillationConfig()`.
        n_epochs: passes over the training set.
        learning_rate: the peak. The default suits a small student from scratch; for a pretrained one try 5e-5.
        batch_size: messages per forward pass.
        warmup_ratio: share of the steps in which the rate rises.
        device: "cpu", "cuda", or None for the best there is.
        output_dir: for the result, and for checkpoints while it runs.
        weight_decay: on parameters of two or more dimensions.
        gradient_accumulation_steps: forward passes per step.
        group_by_length: make batches of messages of about the same length, which pads less where most messages are
            short and a few long (Banking77's transfer set: 15 tokens a message, random batches of 64 pad them to 44).
            The order of the batches is then less random.
        seed: of order and dropout.
        report_to: trackers as the Trainer names them ("wandb", "tensorboard", …), imported only when named.
        resume: go on from what is in `output_dir`; False starts afresh and deletes the checkpoints that are there.
        callbacks: further callbacks for the Trainer.
        progress: show the Trainer's progress bar and its log.
        teacher: runs beside the student for what the datasets lack: features that are not cached, logits.

    Returns:
        The best student, its history and where it was saved.

    Raises:
        ValueError: a setting out of range, a student in half precision, datasets whose classes or vocabulary do not fit
            it, feature terms without features, no labels to validate on, or checkpoints in `output_dir` that another
            run made.
    """
    config = DistillationConfig() if distillation_config is None else distillation_config
    _check_settings(n_epochs, learning_rate, batch_size, warmup_ratio, gradient_accumulation_steps)
    if isinstance(student_model_name, TextClassifier):
        # A copy: the caller's student stays as it was, so that the same call can be made again after an interrupt.
        student = student_model_name._replace(model=copy.deepcopy(student_model_name.model))
    else:
        student = load_text_classifier(student_model_name, device="cpu")
    _check_datasets(student, train_dataset, val_dataset, config, teacher)
    features_alone = config.response_loss_weight == 0
    output_dir = Path(output_dir)
    checkpoints = output_dir / "checkpoints"
    if not resume and checkpoints.exists():
        shutil.rmtree(checkpoints)

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
        metric_for_best_model="loss" if features_alone else "accuracy",
        greater_is_better=not features_alone,
        seed=seed,
        data_seed=seed,
        report_to=report_to,
        disable_tqdm=not progress,
        use_cpu=pick_device(device).type == "cpu",
        dataloader_pin_memory=pick_device(device).type == "cuda",
    )
    trainer = DistillationTrainer(
        student.model,
        config,
        args,
        train_dataset=train_dataset,
        eval_dataset=val_dataset,
        data_collator=DistillationCollator(student.tokenizer),
        processing_class=student.tokenizer,
        callbacks=list(callbacks),
        teacher=teacher,
    )
    if not progress:
        trainer.remove_callback(PrinterCallback)
    key = run_key(student.model, train_dataset, val_dataset, args, config, teacher)
    if resume and (finished := _finished_run(output_dir, key, student)) is not None:
        return finished
    claim_checkpoints(checkpoints, key)
    (output_dir / _FINISHED).unlink(missing_ok=True)  # what lies there will be overwritten
    trainer.train(resume_from_checkpoint=newest_checkpoint(checkpoints))

    history = _history(trainer.state.log_history, config)
    model = student.model.eval()  # the Trainer has loaded the best weights into it
    remove_projectors(model)
    # Not trainer.save_model, which adds a pickle of the arguments.
    model.save_pretrained(output_dir)
    student.tokenizer.save_pretrained(output_dir)
    history.to_csv(output_dir / "history.csv", index=False)
    write_model_card(output_dir, model, config, history, args)
    (output_dir / _FINISHED).write_text(key)
    shutil.rmtree(checkpoints)
    return DistilledStudent(model, student.tokenizer, history, output_dir)


def _finished_run(output_dir: Path, key: str, student: TextClassifier) -> DistilledStudent | None:
    """The result of a run with this key, where `output_dir` holds it whole; None where there is something to do."""
    finished = output_dir / _FINISHED
    # An adapter would come back merged into its base, as another kind of model.
    if not finished.is_file() or finished.read_text() != key or isinstance(student.model, PeftModel):
        return None
    model = type(student.model).from_pretrained(output_dir, dtype=torch.float32, local_files_only=True)
    history = pd.read_csv(output_dir / "history.csv")
    model.to(student.model.device)  # type: ignore[arg-type]
    return DistilledStudent(model.eval(), student.tokenizer, history, output_dir)


def _history(log_history: list[dict[str, float]], config: DistillationConfig) -> pd.DataFrame:
    """The Trainer's log, one row per epoch."""
    terms = ("soft_target_loss", "task_loss", *config.feature_weights)
    wanted = ("epoch", "loss", *terms, "eval_loss", "eval_accuracy")
    rows: dict[float, dict[str, float]] = {}
    for entry in log_history:
        if "loss" in entry or "eval_loss" in entry:
            rows.setdefault(entry["epoch"], {}).update({k: v for k, v in entry.items() if k in wanted})
    frame = pd.DataFrame(list(rows.values()))
    # A state read from a checkpoint has its entries sorted by name; the columns should not tell.
    return frame[[name for name in wanted if name in frame.columns]]


def _check_settings(
    n_epochs: int, learning_rate: float, batch_size: int, warmup_ratio: float, gradient_accumulation_steps: int
) -> None:
    counts = {
        "n_epochs": n_epochs,
        "batch_size": batch_size,
        "gradient_accumulation_steps": gradient_accumulation_steps,
    }
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    if not learning_rate > 0:
        raise ValueError(f"learning_rate must be positive, got {learning_rate!r}")
    if not 0 <= warmup_ratio < 1:
        raise ValueError(f"warmup_ratio must lie in [0, 1), got {warmup_ratio!r}; it is a share of the steps")


def _check_datasets(
    student: TextClassifier,
    train: DistillationDataset,
    validation: DistillationDataset,
    config: DistillationConfig,
    teacher: TextClassifier | None,
) -> None:
    n_classes, n_tokens = len(student.label_names), len(embedding_weight(student.model))
    vocabulary = student.tokenizer.get_vocab()
    # At a learning rate of 1e-5, 84% of bf16 weights are the same after ten steps of AdamW: the step is below rounding.
    half = {str(p.dtype) for p in student.model.parameters() if p.requires_grad and p.dtype.itemsize < 4}
    if half:
        raise ValueError(
            f"the student's weights are {half}; train in fp32, `student.model.float()`, with autocast if need be"
        )
    for name, data in (("train_dataset", train), ("val_dataset", validation)):
        if len(data) == 0:
            raise ValueError(f"{name} is empty")
        if config.alpha > 0 and config.response_loss_weight > 0 and data.teacher_logits is None and teacher is None:
            raise ValueError(
                f"{name} has no teacher logits and alpha is {config.alpha}; add them, pass teacher=, or set alpha=0"
            )
        if config.uses_features and data.teacher_features is None and teacher is None:
            raise ValueError(f"{name} has no teacher features and feature terms are on; add them or pass teacher=")
        if data.teacher_logits is not None and data.teacher_logits.shape[1] != n_classes:
            raise ValueError(f"{name}: {data.teacher_logits.shape[1]} teacher classes, but the student has {n_classes}")
        if max(data.labels) >= n_classes:
            raise ValueError(f"{name}: label {max(data.labels)}, but the student has {n_classes} classes")
        if max(map(max, data.token_ids)) >= n_tokens or data.tokenizer.get_vocab() != vocabulary:
            raise ValueError(f"{name} was tokenised with another tokenizer than the student's ({n_tokens} entries)")
    if config.response_loss_weight == 0:
        return
    if IGNORE_INDEX in validation.labels:
        raise ValueError("val_dataset has unlabelled messages; the best epoch can't be chosen without labels")
    if config.alpha < 1 and all(label == IGNORE_INDEX for label in train.labels):
        raise ValueError(f"alpha is {config.alpha}, but no training message has a hard label; set alpha=1")
