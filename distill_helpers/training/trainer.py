"""`DistillationTrainer`: transformers' Trainer with the distillation loss.

The Trainer has the loop, mixed precision, several processes, checkpoints, tracking and progress bars. This module adds
the loss with the right denominator, the features of both models, and weight decay that depends on a parameter's number
of dimensions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import EvalPrediction, PreTrainedModel, Trainer, TrainingArguments

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.distillation_loss import DistillationLoss, count_items
from distill_helpers.losses.feature_terms import FeatureTerms
from distill_helpers.models.architectures import ModelShape
from distill_helpers.models.batching import check_vocabulary
from distill_helpers.models.capture import capture_features
from distill_helpers.models.features import Features
from distill_helpers.models.text_models import LanguageModel, TextClassifier
from distill_helpers.targets.features import TeacherFeatures, take_features

__all__ = ["DistillationTrainer", "remove_projectors"]


# The attribute of the student under which the projectors are trained, and saved in checkpoints.
_PROJECTORS = "distillation_projectors"


class DistillationTrainer(Trainer):
    """transformers' `Trainer` with `DistillationLoss`. It can do everything that the Trainer can do.

    Batches hold `teacher_logits` and, where feature terms are on, the teacher's features, as `DistillationDataset` and
    `DistillationCollator` make them. Whatever the batches lack comes from the live `teacher`.

    Where the widths of the models differ, the projectors are a part of the student during training: they are in its
    optimizer and in its checkpoints. `remove_projectors` removes them again.

    Args:
        model: the student.
        distillation_config: what the student learns from.
        args: the Trainer's own arguments; `args.seed` is also the seed of the projectors.
        teacher: runs beside the student for what the batches lack. Its tokenizer must be the student's, since both
            models read the same tokens. The teacher is moved to the Trainer's device and never trained.
        **kwargs: further arguments of the Trainer.

    Raises:
        ValueError: feature terms without a teacher or its cached features, another vocabulary, or models that do not
            fit the configuration.

    Example:
        Two steps with a live teacher, which gives the logits and the features; the log has every term of the loss:

        >>> from transformers import TrainingArguments
        >>> teacher = dh.load_course_model("help-desk-student", device="cpu")
        >>> few = dh.load_help_desk().train.subset(range(0, 2500, 250))
        >>> data = dh.DistillationDataset(few.texts, few.labels, None, teacher.tokenizer, max_length=16)
        >>> args = TrainingArguments(
        ...     "run", max_steps=2, logging_steps=2, save_strategy="no", report_to="none", use_cpu=True
        ... )
        >>> trainer = dh.DistillationTrainer(
        ...     dh.narrow_student(teacher, hidden_size=32).model,
        ...     dh.DistillationConfig(intermediate_layers=True),
        ...     args,
        ...     teacher=teacher,
        ...     train_dataset=data,
        ...     data_collator=dh.DistillationCollator(teacher.tokenizer),
        ... )
        >>> _ = trainer.train()
        {'loss': ...}
        >>> sorted(trainer.state.log_history[0])
        ['epoch', 'grad_norm', 'hidden_loss', 'learning_rate', 'loss', 'soft_target_loss', 'step', 'task_loss']
    """

    def __init__(
        self,
        model: PreTrainedModel,
        distillation_config: DistillationConfig,
        args: TrainingArguments,
        *,
        teacher: TextClassifier | LanguageModel | None = None,
        **kwargs: Any,
    ) -> None:
        # The Trainer would drop columns that the student's forward() does not name, such as teacher_logits.
        args.remove_unused_columns = False
        kwargs.setdefault("compute_metrics", accuracy_metric)
        terms = _feature_terms(model, distillation_config, teacher, kwargs.get("train_dataset"), args.seed)
        super().__init__(model=model, args=args, **kwargs)
        # The loss is divided by the items of the whole accumulated batch already; the Trainer must not divide again.
        self.model_accepts_loss_kwargs = True
        self.label_names = ["labels"]
        self.loss_fn = DistillationLoss(distillation_config, terms)
        self.teacher = None
        if teacher is not None:
            check_vocabulary(
                teacher.tokenizer,
                kwargs.get("processing_class"),
                "use the teacher's tokenizer for both (no trimmed vocabulary), or cached teacher_logits without feature"
                " terms",
            )
            self.teacher = teacher.model.to(args.device).eval()  # type: ignore[arg-type]
        self._term_sums: dict[str, Tensor] = {}
        self._term_steps = 0

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        inputs = dict(inputs)
        labels, teacher_logits = inputs.pop("labels"), inputs.pop("teacher_logits", None)
        teacher_features = take_features(inputs)
        terms = self.loss_fn.feature_terms
        config = self.loss_fn.config
        lacks_logits = teacher_logits is None and config.uses_teacher_logits
        lacks_features = teacher_features is None and terms is not None
        if self.teacher is not None and (lacks_logits or lacks_features):
            with torch.no_grad(), _capture(self.teacher, None if terms is None else terms.teacher_names) as captured:
                live_logits = self.teacher(**inputs).logits
            teacher_logits = live_logits if teacher_logits is None else teacher_logits
            teacher_features = captured if teacher_features is None else teacher_features
        student = self.accelerator.unwrap_model(model)
        with _capture(student, None if terms is None else terms.student_names) as student_features:
            outputs = model(**inputs)
        values = self.loss_fn(
            outputs.logits,
            teacher_logits,
            labels,
            # In evaluation the Trainer's count leaves out unlabelled messages; the loss then counts its items itself.
            num_items=num_items_in_batch if model.training else None,
            student_features=student_features,
            teacher_features=teacher_features,
            attention_mask=inputs.get("attention_mask"),
        )
        loss = self._remembered(values, model, num_items_in_batch)
        return (loss, {"logits": outputs.logits}) if return_outputs else loss

    def _remembered(
        self, values: dict[str, Tensor], model: nn.Module, num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        """The total loss, scaled for the number of processes. The other terms are kept for the log."""
        loss = values.pop("total_loss")
        if model.training:
            for name, value in values.items():
                self._term_sums[name] = self._term_sums.get(name, 0) + value
            if num_items_in_batch is not None and self.args.average_tokens_across_devices:
                # The count is that of all processes, and their gradients are averaged afterwards.
                loss = loss * self.accelerator.num_processes
        return loss

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        # The Trainer counts labels, and would leave out unlabelled messages, from which the student learns too.
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        batches = self._prepared(batches)
        count = torch.zeros((), dtype=torch.long, device=device)
        for batch in batches:
            count += count_items(batch["labels"], self.loss_fn.config.causal).to(device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            count = self.accelerator.gather(count).sum()
        self._term_steps += 1
        return batches, count

    def _prepared(self, batches: list) -> list:
        """The batches of a step on which the student is trained. Subclasses may change them here."""
        return batches

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        # Chosen by dimensions and not by name, since lists of names miss the norms of Llama and others.
        return [name for name, parameter in model.named_parameters() if parameter.dim() >= 2]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._term_steps:
            for name, total in self._term_sums.items():
                logs[name] = float(total) / self._term_steps
            self._term_sums, self._term_steps = {}, 0
        super().log(logs, start_time)


def remove_projectors(model: PreTrainedModel) -> None:
    """Remove the projectors of feature distillation from a student, which does not need them to predict.

    A student of `DistillationTrainer` has projectors after training if its width differs from the teacher's.
    `train_student_with_distillation` has removed them already.

    Example:
        >>> student = dh.create_transformer(("mac", "windows"), vocab_size=1000, hidden_size=32)
        >>> config, shape = dh.DistillationConfig(intermediate_layers=True), dh.ModelShape.of(student)
        >>> terms = dh.FeatureTerms(config, shape, dh.ModelShape(2, 64, n_heads=2))
        >>> student.distillation_projectors = terms.projectors  # as `DistillationTrainer` does
        >>> before = student.num_parameters()
        >>> dh.remove_projectors(student)
        >>> before - student.num_parameters()  # two layers from width 32 to 64
        4224
    """
    if hasattr(model, _PROJECTORS):
        delattr(model, _PROJECTORS)


def _feature_terms(
    model: PreTrainedModel,
    config: DistillationConfig,
    teacher: TextClassifier | LanguageModel | None,
    train_dataset: Any,
    seed: int,
) -> FeatureTerms | None:
    if not config.uses_features:
        return None
    cached: TeacherFeatures | None = getattr(train_dataset, "teacher_features", None)
    if cached is not None:
        shape = cached.shape
    elif teacher is not None:
        shape = ModelShape.of(teacher.model)
    else:
        raise ValueError("feature terms are on: pass teacher=, or a train_dataset with teacher_features")
    terms = FeatureTerms(config, ModelShape.of(model), shape, seed)
    if cached is not None and (missing := set(terms.teacher_names) - set(cached.tensors)):
        raise ValueError(f"the cached teacher features lack {sorted(missing)}; compute {list(terms.teacher_names)}")
    if len(terms.projectors):
        if not isinstance(model, PreTrainedModel):
            raise TypeError(
                f"{type(model).__name__} would not save projectors in its checkpoints; train a whole model of"
                " transformers, or match features between equal widths"
            )
        setattr(model, _PROJECTORS, terms.projectors)
    return terms


def _capture(model: nn.Module, names: tuple[str, ...] | None) -> contextlib.AbstractContextManager[Features | None]:
    return contextlib.nullcontext() if names is None else capture_features(model, names)


def accuracy_metric(prediction: EvalPrediction) -> dict[str, float]:
    """`accuracy` over the positions that have a label; an empty dictionary where no position has one."""
    labels = np.asarray(prediction.label_ids)
    labelled = labels != IGNORE_INDEX
    if not labelled.any():
        return {}
    return {"accuracy": float((np.asarray(prediction.predictions).argmax(-1) == labels)[labelled].mean())}
