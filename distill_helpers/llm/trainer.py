"""`LLMDistillationTrainer`: a causal language model learns from another, without either's logits ever being whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainingArguments

from distill_helpers.llm.completion_dataset import CompletionCollator, CompletionDataset
from distill_helpers.llm.on_policy import on_policy_batch
from distill_helpers.llm.output_heads import last_hidden_states, output_head
from distill_helpers.llm.token_level import completion_hidden_states, completion_labels, token_level_terms
from distill_helpers.llm.token_targets import HiddenTargets, TokenTargets
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.batching import OTHER_TOKENIZER, check_vocabulary
from distill_helpers.models.loading import LanguageModel
from distill_helpers.training.trainer import DistillationTrainer

__all__ = ["LLMDistillationTrainer"]


class LLMDistillationTrainer(DistillationTrainer):
    """transformers' `Trainer` for a student that learns from a teacher's next-token distributions.

    Its kinds of distillation by what it is given:

    * *white box*: a `teacher`, or a data set with `teacher_targets` (`precompute_token_targets`);
    * *sequence level*, or *black box*: a data set of what a teacher wrote (`teacher_completions`, `api`), alpha = 0;
    * *on-policy*: a `teacher` and `on_policy_fraction` above 0.

    The student may be wrapped by PEFT (LoRA, and QLoRA over a model that bitsandbytes has quantised). On a CPU, train
    such a one before it is evaluated: bitsandbytes 0.50 packs the base for inference then, and no gradient passes it.

    Args:
        model: the student; a causal language model of transformers, or a PEFT model around one.
        distillation_config: alpha, temperature, divergence and `chunk_size`; always causal. No feature terms.
        args: the Trainer's own arguments.
        train_dataset, eval_dataset: of `CompletionDataset`.
        teacher: runs beside the student where the batches carry no targets. Its head is also what targets of the kind
            "hidden" need. Moved to the Trainer's device and never trained.
        on_policy_fraction: of the batches, whose completions the student writes anew; GKD's λ. Needs alpha = 1, since
            its own words are no labels for it.
        max_new_tokens, on_policy_temperature: of those completions.
        vocabulary_size: rows of both heads that are tokens, where the heads are padded differently.
        **kwargs: whatever else the Trainer takes.

    Raises:
        ValueError: another tokenizer, feature terms, fractions out of range, nothing of a teacher where alpha is above
            0; during training: a batch without a token to learn, a loss that is not finite.
    """

    def __init__(
        self,
        model: PreTrainedModel | nn.Module,
        distillation_config: DistillationConfig,
        args: TrainingArguments,
        *,
        train_dataset: CompletionDataset,
        teacher: LanguageModel | None = None,
        on_policy_fraction: float = 0.0,
        max_new_tokens: int = 64,
        on_policy_temperature: float = 1.0,
        vocabulary_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        if distillation_config.uses_features:
            raise ValueError("feature terms are not for language models here; turn them off")
        if not 0 <= on_policy_fraction <= 1:
            raise ValueError(f"on_policy_fraction must lie in [0, 1], got {on_policy_fraction!r}")
        if on_policy_fraction and (teacher is None or distillation_config.alpha < 1):
            raise ValueError("on-policy distillation needs a live teacher and alpha=1")
        targets = train_dataset.teacher_targets
        if distillation_config.alpha > 0 and teacher is None:
            if targets is None:
                raise ValueError("alpha is above 0: pass teacher=, or a train_dataset with teacher_targets, or alpha=0")
            if isinstance(targets[0], HiddenTargets):
                raise ValueError("targets of the kind 'hidden' need the teacher's head; pass teacher= too")
        if teacher is not None:
            check_vocabulary(teacher.tokenizer, train_dataset.tokenizer, OTHER_TOKENIZER)
        args.prediction_loss_only = True  # logits are what this trainer never makes
        kwargs.setdefault("data_collator", CompletionCollator(train_dataset.tokenizer))
        kwargs.setdefault("processing_class", train_dataset.tokenizer)
        kwargs.setdefault("compute_metrics", None)
        super().__init__(
            model,  # type: ignore[arg-type]
            replace(distillation_config, causal=True),
            args,
            teacher=teacher,
            train_dataset=train_dataset,
            **kwargs,
        )
        self.on_policy_fraction = on_policy_fraction
        self.max_new_tokens = max_new_tokens
        self.on_policy_temperature = on_policy_temperature
        self.vocabulary_size = vocabulary_size

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        inputs = dict(inputs)
        labels, targets = inputs.pop("labels"), inputs.pop("teacher_targets", None)
        student: Any = self.accelerator.unwrap_model(model)
        with self.accelerator.autocast():
            if targets is not None:
                targets = targets.to(labels.device)
            elif self.teacher is not None and self.loss_fn.config.alpha > 0:
                targets = self._live_targets(inputs, labels)
            with _hidden_states_as_output(student):
                hidden = completion_hidden_states(model(**inputs), labels)
            values = token_level_terms(
                hidden,
                output_head(student),
                completion_labels(labels),
                self.loss_fn.config,
                targets=targets,
                teacher_head=None if self.teacher is None else output_head(self.teacher),
                num_items=num_items_in_batch if model.training else None,
                vocabulary_size=self.vocabulary_size,
            )
        if not values["total_loss"].isfinite():
            raise ValueError(
                f"the loss is {float(values['total_loss'].detach())} at step {self.state.global_step}: "
                + ("the student's hidden states are not finite" if not hidden.isfinite().all() else "see the targets")
                + "; lower the learning rate, or use float32"
            )
        loss = self._remembered(values, model, num_items_in_batch)
        return (loss, {}) if return_outputs else loss

    @torch.no_grad()
    def _live_targets(self, inputs: dict[str, Any], labels: Tensor) -> TokenTargets:
        teacher: Any = self.teacher
        hidden = completion_hidden_states(last_hidden_states(teacher, **inputs), labels)
        if not hidden.isfinite().all():
            raise ValueError(f"the teacher's hidden states are not finite at step {self.state.global_step}")
        return HiddenTargets(hidden)

    def _prepared(self, batches: list) -> list:
        prepared = []
        for number, batch in enumerate(batches):
            if not len(completion_labels(batch["labels"])):
                raise ValueError(f"a batch of step {self.state.global_step} has no token to learn; see its labels")
            # Of the step, not of a running generator: a resumed run must throw the same coins.
            seed = (self.args.seed * 1_000_003 + self.state.global_step) * 1_009 + number
            coin = torch.rand((), generator=torch.Generator().manual_seed(seed))
            if coin < self.on_policy_fraction:
                batch = on_policy_batch(  # noqa: PLW2901
                    self.accelerator.unwrap_model(self.model),
                    self.processing_class,  # type: ignore[arg-type]
                    batch,
                    max_new_tokens=self.max_new_tokens,
                    temperature=self.on_policy_temperature,
                    seed=seed,
                )
            prepared.append(batch)
        return prepared


@contextlib.contextmanager
def _hidden_states_as_output(student: Any) -> Iterator[None]:
    """Inside, calling the student, or what wraps it for several processes, returns its last hidden states."""
    own = vars(student).get("forward")
    student.forward = lambda **inputs: last_hidden_states(student, **inputs)
    try:
        yield
    finally:
        if own is None:
            del student.forward
        else:
            student.forward = own
