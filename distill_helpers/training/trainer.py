"""`DistillationTrainer`: transformers' Trainer with the distillation loss.

The Trainer has the loop, mixed precision, several processes, checkpoints, tracking and progress bars. This module adds
the loss with the right denominator, the features of both models, and weight decay that depends on a parameter's number
of dimensions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Trainer, TrainingArguments

from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.losses.distillation_loss import DistillationLoss, count_items
from distill_helpers.models.batching import evaluation_mode, inputs_for
from distill_helpers.models.capture import capture_features
from distill_helpers.models.features import Features
from distill_helpers.models.image_models import ImageClassifier
from distill_helpers.models.text_models import LanguageModel, TextClassifier
from distill_helpers.targets.features import take_features
from distill_helpers.training.checkpoints import names_in_memory
from distill_helpers.training.checks import check_dataset_task, check_lengths, check_padding_side, check_task
from distill_helpers.training.image_dataset import check_image_pair
from distill_helpers.training.item_counts import counted_items, repeated_rows
from distill_helpers.training.pair_checks import check_live_pair
from distill_helpers.training.projectors import feature_terms_for
from distill_helpers.training.task_validation import TASK_VALIDATION

__all__ = ["DistillationTrainer"]


# The entry of a batch that says which of its items count.
_COUNTS = "counts"


class DistillationTrainer(Trainer):
    """transformers' `Trainer` with `DistillationLoss`. It can do everything that the Trainer can do.

    Batches hold `labels`, `teacher_logits` and, where feature terms are on, the teacher's features, as
    `DistillationDataset` and `DistillationCollator` make them. Whatever the batches lack from a teacher comes from the
    live `teacher`. The labels are those of the configuration's `task`; a `label_mask` is False where one is missing.

    Where the widths of the models differ, the projectors are a part of the student during training: they are in its
    optimizer and in its checkpoints. `remove_projectors` removes them again.

    Args:
        model: the student.
        distillation_config: what the student learns from.
        args: the Trainer's own arguments; `args.seed` is also the seed of the projectors.
        teacher: runs beside the student for what the batches lack. Its tokenizer, or its image processor, must be the
            student's, since both models read the same tokens or pixel values. The teacher is moved to the Trainer's
            device and never trained. It runs without dropout, and keeps the mode (training or evaluation) in which it
            came.
        **kwargs: further arguments of the Trainer.

    Raises:
        ValueError: feature terms without a teacher or its cached features, a model of another task than the
            configuration's, a text (with its row) that is longer than a model has positions, or whatever `check_pair`
            finds wrong with student and teacher: another vocabulary, classes in another order, shared weights … What
            it only doubts is a warning. During training and evaluation: a loss that is not finite.

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

    #: Checks of the pair that a subclass makes in its own way.
    _checked_elsewhere: tuple[str, ...] = ()

    def __init__(
        self,
        model: PreTrainedModel,
        distillation_config: DistillationConfig,
        args: TrainingArguments,
        *,
        teacher: TextClassifier | ImageClassifier | LanguageModel | None = None,
        **kwargs: Any,
    ) -> None:
        # The Trainer would drop columns that the student's forward() does not name, such as teacher_logits.
        args.remove_unused_columns = False
        kwargs.setdefault("compute_metrics", TASK_VALIDATION[distillation_config.task].metrics)
        check_task("student", model, distillation_config)
        for name in ("train_dataset", "eval_dataset"):
            check_dataset_task(name, kwargs.get(name), distillation_config)
        if teacher is not None:
            check_task("teacher", teacher.model, distillation_config)
        tokenizer, ignored = kwargs.get("processing_class"), self._checked_elsewhere
        check_live_pair(teacher, model, tokenizer, distillation_config, ignored=ignored, warn=args.should_log)
        check_image_pair(teacher, model, tokenizer, distillation_config)
        check_padding_side(kwargs.get("data_collator"), model)
        check_lengths({name: kwargs.get(name) for name in ("train_dataset", "eval_dataset")}, model, teacher)
        with_features: Any = teacher  # those of images have no feature terms
        terms = feature_terms_for(model, distillation_config, with_features, kwargs.get("train_dataset"), args.seed)
        super().__init__(model=model, args=args, **kwargs)
        # The loss is divided by the items of the whole accumulated batch already; the Trainer must not divide again.
        self.model_accepts_loss_kwargs = True
        self.label_names = ["labels"]
        self.loss_fn = DistillationLoss(distillation_config, terms)
        self.teacher = None if teacher is None else teacher.model.to(args.device)  # type: ignore[arg-type]
        self._evaluated = torch.zeros(2, dtype=torch.float64)  # the sum of the loss over its items, and their number
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
        label_mask = inputs.pop("label_mask", None)
        counts = inputs.pop(_COUNTS, None)
        if not model.training:
            counts = self._counts(labels, counts)
        teacher_features = take_features(inputs)
        terms = self.loss_fn.feature_terms
        lacks_logits = teacher_logits is None and (
            self.loss_fn.config.uses_teacher_logits or (not model.training and self._measures)
        )
        lacks_features = teacher_features is None and terms is not None
        if self.teacher is not None and (lacks_logits or lacks_features):
            names = None if terms is None else terms.teacher_names
            # Without dropout, in whatever mode the teacher has been handed over.
            with torch.no_grad(), evaluation_mode(self.teacher), _capture(self.teacher, names) as captured:
                live_logits = self.teacher(**inputs_for(self.teacher, inputs)).logits
            teacher_logits = live_logits if teacher_logits is None else teacher_logits
            teacher_features = captured if teacher_features is None else teacher_features
        student: Any = self.accelerator.unwrap_model(model)
        inputs = inputs_for(student, inputs)
        logits: list[Tensor] = []

        def values_of(forward: Callable[..., Any]) -> dict[str, Tensor]:
            with _capture(student, None if terms is None else terms.student_names) as student_features:
                logits.append(forward(**inputs).logits)
            return self.loss_fn(
                logits[0],
                teacher_logits if self.loss_fn.config.uses_teacher_logits else None,
                labels,
                mask=counts,
                # In evaluation the Trainer's count leaves out unlabelled messages; the loss then counts its own items.
                num_items=num_items_in_batch if model.training else None,
                student_features=student_features,
                teacher_features=teacher_features,
                attention_mask=inputs.get("attention_mask"),
                label_mask=label_mask,
            )

        values = self._inside_the_wrapper(model, inputs, values_of)
        loss = self._remembered(values, model, num_items_in_batch)
        if not model.training:
            self._add_to_evaluation(loss, labels, counts)
        if not return_outputs:
            return loss
        outputs = {"logits": logits[0]}
        if self._measures and teacher_logits is not None and teacher_logits.shape == logits[0].shape:
            outputs["teacher_logits"] = teacher_logits
            if counts is not None and counts.dim() == 2:  # the Trainer hands on nothing but outputs and labels
                outputs[_COUNTS] = counts.long()
        return loss, outputs

    def _inside_the_wrapper(
        self, model: nn.Module, inputs: dict[str, Any], values_of: Callable[[Callable[..., Any]], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """The terms of the loss, computed in the forward pass of the wrapper for several processes, if there is one.

        The wrapper waits for the gradient of each weight that its own forward pass used, and of no other. Projectors, a
        head that the loss applies, and a head that the loss leaves out would each be an error, or a wait without end.
        """
        if self.accelerator.num_processes == 1:
            return values_of(model)
        student: Any = self.accelerator.unwrap_model(model)
        forward, own = student.forward, vars(student).get("forward")
        student.forward = lambda **_: values_of(forward)
        try:
            return model(**inputs)
        finally:
            if own is None:
                del student.forward
            else:
                student.forward = own

    def _remembered(
        self, values: dict[str, Tensor], model: nn.Module, num_items_in_batch: Tensor | int | None
    ) -> Tensor:
        """The total loss, scaled for the number of processes. The other terms are kept for the log."""
        loss = values.pop("total_loss")
        # The Trainer would log the mean of the steps before instead, and save a student of NaN as the best.
        if not loss.isfinite():
            raise ValueError(
                f"the loss is {float(loss.detach())} {'at' if model.training else 'in the evaluation after'} step"
                f" {self.state.global_step}; lower the learning rate, use float32, or look for values that are not"
                " finite in the logits and features of a live teacher"
            )
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
        if batches and not self.loss_fn.config.causal:
            labels = batches[-1]["labels"]
            counts = self._counts(labels, batches[-1].get(_COUNTS))
            if counts is not None:
                batches[-1] = {**batches[-1], _COUNTS: counts}
        count = torch.zeros((), dtype=torch.long, device=device)
        for batch in batches:
            counts = batch.get(_COUNTS)
            n_items = self._n_items(batch["labels"]) if counts is None else counts.sum()
            count += n_items.to(device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            count = self.accelerator.gather(count).sum()
        self._term_steps += 1
        return batches, count

    def _n_repeated(self, n_rows: int) -> int:
        return repeated_rows(self.accelerator, n_rows)

    def _n_items(self, labels: Tensor) -> Tensor:
        return count_items(labels, self.loss_fn.config.causal, self.loss_fn.config.task)

    def _counts(self, labels: Tensor, given: Tensor | None) -> Tensor | None:
        return counted_items(labels, self._n_repeated(len(labels)), given, self.loss_fn.config.task)

    @property
    def _measures(self) -> bool:
        """Whether evaluation compares the student with its teacher. A metric of the caller's sees the logits alone."""
        return self.compute_metrics is TASK_VALIDATION[self.loss_fn.config.task].metrics

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        self._evaluated = torch.zeros(2, dtype=torch.float64)
        output = super().evaluation_loop(*args, **kwargs)
        if self.accelerator.num_processes > 1:
            self._evaluated = self.accelerator.reduce(self._evaluated.float().to(self.args.device), "sum")
        total, n_items = self._evaluated.tolist()
        if n_items and output.metrics is not None:
            # The Trainer's is a mean of the batches' means, which depends on how the items are spread over batches.
            output.metrics[f"{kwargs.get('metric_key_prefix', 'eval')}_loss"] = total / n_items
        return output

    def _add_to_evaluation(self, loss: Tensor, labels: Tensor, counts: Tensor | None) -> None:
        n_items = self._n_items(labels) if counts is None else counts.sum()
        self._evaluated += torch.tensor([float(loss.detach()) * int(n_items), int(n_items)], dtype=torch.float64)

    def _prepared(self, batches: list) -> list:
        """The batches of a step on which the student is trained. Subclasses may change them here."""
        return batches

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        # Of a checkpoint; the caller's own files keep the names under which others look for the weights.
        with names_in_memory(self.model) if _internal_call else contextlib.nullcontext():
            super().save_model(output_dir, _internal_call)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        # Chosen by dimensions and not by name, since lists of names miss the norms of Llama and others.
        return [name for name, parameter in model.named_parameters() if parameter.dim() >= 2]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._term_steps:
            # Each process has its share of the sum, or its own mean where the processes do not count together.
            how = "sum" if self.args.average_tokens_across_devices else "mean"
            for name, total in self._term_sums.items():
                logs[name] = float(self.accelerator.reduce(total, how)) / self._term_steps
            self._term_sums, self._term_steps = {}, 0
        super().log(logs, start_time)


def _capture(model: nn.Module, names: tuple[str, ...] | None) -> contextlib.AbstractContextManager[Features | None]:
    return contextlib.nullcontext() if names is None else capture_features(model, names)
