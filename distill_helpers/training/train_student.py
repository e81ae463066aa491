"""Training a student in one call, with the way back from a kill. `DistillationTrainer` has the loop itself."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback, TrainingArguments

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.architectures import embedding_weight
from distill_helpers.models.loading import load_text_classifier, pick_device
from distill_helpers.models.text_models import TextClassifier
from distill_helpers.training.checkpoints import claim_checkpoints, newest_checkpoint, run_key
from distill_helpers.training.dataset import DistillationCollator, DistillationDataset
from distill_helpers.training.model_card import write_model_card
from distill_helpers.training.trainer import DistillationTrainer, remove_projectors

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

__all__ = ["DistilledStudent", "train_student_with_distillation"]

# The file that is written last. It says which run's result the folder holds.
_FINISHED = "finished-run.key"


class DistilledStudent(NamedTuple):
    """What `train_student_with_distillation` returns.

    Attributes:
        model: the student of the best epoch, in evaluation mode.
        tokenizer: the student's tokenizer.
        history: one row for each epoch: `epoch`, the training loss and its terms, `eval_loss`, `eval_accuracy`.
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
) -> DistilledStudent:
    """Train a student on soft targets, hard labels and features, and return the student of its best epoch.

    The optimizer is AdamW with warm-up, a cosine decay to 0 and gradients clipped at norm 1. The best epoch is the one
    with the highest validation accuracy, or with the lowest validation loss where the configuration trains on features
    alone. A run that was killed goes on from its last complete epoch and ends with the same weights, bit for bit. A run
    that was finished in `output_dir` is read back instead of repeated.

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
        resume: go on from what is in `output_dir`. False starts afresh and deletes the checkpoints in it.
        callbacks: further callbacks for the Trainer.
        progress: show the Trainer's progress bar and its log.
        teacher: runs beside the student for what the data sets lack, logits or features.

    Returns:
        The best student, its history, and the folder in which the student was saved.

    Raises:
        ValueError: a setting out of range, a student in half precision, data sets whose classes or vocabulary do not
            fit the student, feature terms without features, no labels to validate on, or checkpoints of another run in
            `output_dir`.

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
        ['epoch', 'loss', 'soft_target_loss', 'task_loss', 'eval_loss', 'eval_accuracy']
    """
    config = DistillationConfig() if distillation_config is None else distillation_config
    _check_settings(n_epochs, learning_rate, batch_size, warmup_ratio, gradient_accumulation_steps)
    if isinstance(student_model_name, TextClassifier):
        # The caller's student stays as it was, so that the same call can be made again after an interruption.
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
    (output_dir / _FINISHED).unlink(missing_ok=True)  # the result in this folder will be overwritten
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
    """The result of the run with this key, read from `output_dir`; None where the folder does not hold it."""
    import pandas as pd

    finished = output_dir / _FINISHED
    # A PEFT adapter would come back merged into its base, as another kind of model.
    if not finished.is_file() or finished.read_text() != key or not isinstance(student.model, PreTrainedModel):
        return None
    model = type(student.model).from_pretrained(output_dir, dtype=torch.float32, local_files_only=True)
    history = pd.read_csv(output_dir / "history.csv")
    model.to(student.model.device)  # type: ignore[arg-type]
    return DistilledStudent(model.eval(), student.tokenizer, history, output_dir)


def _history(log_history: list[dict[str, float]], config: DistillationConfig) -> pd.DataFrame:
    """The Trainer's log as a table with one row for each epoch."""
    import pandas as pd

    terms = ("soft_target_loss", "task_loss", *config.feature_weights)
    columns = ("epoch", "loss", *terms, "eval_loss", "eval_accuracy")
    epochs = pd.DataFrame(log_history).groupby("epoch", as_index=False).last()
    # A state that was read from a checkpoint has its entries sorted by name; the columns have one order all the same.
    return epochs[[name for name in columns if name in epochs]]


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
    # At a learning rate of 1e-5, ten steps of AdamW leave 84% of bf16 weights unchanged: the steps are below rounding.
    half = {str(p.dtype) for p in student.model.parameters() if p.requires_grad and p.dtype.itemsize < 4}
    if half:
        raise ValueError(
            f"the student's weights are {', '.join(sorted(half))}, in which small steps are lost; train in fp32,"
            " `student.model.float()`"
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
    if config.response_loss_weight == 0:
        return
    if IGNORE_INDEX in validation.labels:
        raise ValueError(
            "val_dataset has unlabelled messages, and the best epoch can't be chosen without labels; leave them out"
        )
    if config.alpha < 1 and all(label == IGNORE_INDEX for label in train.labels):
        raise ValueError(f"alpha is {config.alpha}, but no training message has a hard label; set alpha=1")
