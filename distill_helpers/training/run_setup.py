"""What a training in one call needs before it starts: its checks, the Trainer's arguments, a collator; its history."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainingArguments

from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.adapters import check_can_be_merged
from distill_helpers.models.batching import padding_side
from distill_helpers.models.image_models import ImageClassifier
from distill_helpers.models.loading import pick_device
from distill_helpers.training.checks import check_datasets, check_lengths, check_task
from distill_helpers.training.dataset import DistillationCollator
from distill_helpers.training.image_dataset import ImageDistillationCollator, check_image_pair
from distill_helpers.training.pair_checks import check_live_pair
from distill_helpers.training.task_validation import TASK_VALIDATION
from distill_helpers.training.token_dataset import TokenClassificationCollator, TrainingSet
from distill_helpers.training.validation_metrics import selection_metric

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["check_run", "collator_for", "history_of", "training_arguments"]


def check_run(
    student: Any,
    train_dataset: TrainingSet,
    val_dataset: TrainingSet,
    config: DistillationConfig,
    teacher: Any,
    *,
    group_by_length: bool,
) -> None:
    """Raise ValueError for what can be seen before a run has a folder. The Trainer checks a part of it again."""
    check_can_be_merged(student.model)
    check_task("student", student.model, config)
    check_datasets(student, train_dataset, val_dataset, config, teacher)
    check_live_pair(teacher, student.model, student[1], config, warn=False)
    check_image_pair(teacher, student.model, student[1], config)
    if isinstance(student, ImageClassifier) and group_by_length:
        raise ValueError("group_by_length groups texts, and images have no length; leave it out")
    check_lengths({"train_dataset": train_dataset, "val_dataset": val_dataset}, student.model, teacher)


def training_arguments(
    checkpoints: Path,
    metric: str,
    *,
    n_epochs: int,
    learning_rate: float,
    batch_size: int,
    warmup_ratio: float,
    device: str | torch.device | None,
    weight_decay: float,
    gradient_accumulation_steps: int,
    group_by_length: bool,
    seed: int,
    report_to: str | list[str],
    progress: bool,
) -> TrainingArguments:
    """The Trainer's arguments: AdamW with warm-up and a cosine decay, evaluated and saved after each epoch.

    `metric` is the key of `validation_metrics.SELECTIONS` that chooses the epoch. The other arguments are those of
    `train_student_with_distillation`.
    """
    trainer_metric, greater_is_better = selection_metric(metric)
    return TrainingArguments(
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


def collator_for(student: Any, config: DistillationConfig) -> Any:
    """What makes batches of the student's data sets. `student` is a model with its tokenizer or processor."""
    if isinstance(student, ImageClassifier):
        return ImageDistillationCollator()
    if config.task == "token_classification":
        return TokenClassificationCollator(student.tokenizer)
    return DistillationCollator(student.tokenizer, side=padding_side(student.model))


def history_of(log_history: list[dict[str, float]], config: DistillationConfig) -> pd.DataFrame:
    """The Trainer's log as a table with one row for each epoch."""
    import pandas as pd

    terms = ("soft_target_loss", "task_loss", *config.feature_weights)
    columns = ("epoch", "loss", *terms, *TASK_VALIDATION[config.task].columns)
    epochs = pd.DataFrame(log_history).groupby("epoch", as_index=False).last()
    # A state that was read from a checkpoint has its entries sorted by name; the columns have one order all the same.
    return epochs[[name for name in columns if name in epochs]]
