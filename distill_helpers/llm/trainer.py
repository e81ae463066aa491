"""`LLMDistillationTrainer`: a causal language model learns from another. The logits of a batch never exist at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from distill_helpers.llm.completion_batches import (
    SEQUENCES,
    CompletionCollator,
    n_sequences,
    without_last_sequences,
)
from distill_helpers.llm.completion_dataset import CompletionDataset
from distill_helpers.llm.completion_stream import CompletionStream
from distill_helpers.llm.dense_targets import HiddenTargets
from distill_helpers.llm.given_models import bare_model, check_own_tokenizer, language_models
from distill_helpers.llm.live_targets import LiveTargets, check_live_targets
from distill_helpers.llm.on_policy import on_policy_batch
from distill_helpers.llm.output_heads import last_hidden_states, output_head
from distill_helpers.llm.packing import check_packing
from distill_helpers.llm.seeds import derived_seed
from distill_helpers.llm.token_level import completion_hidden_states, completion_labels, token_level_terms
from distill_helpers.llm.token_targets import TokenTargets
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.batching import OTHER_TOKENIZER, check_vocabulary, evaluation_mode
from distill_helpers.models.text_models import LanguageModel
from distill_helpers.training.trainer import DistillationTrainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

__all__ = ["LLMDistillationTrainer"]


class LLMDistillationTrainer(DistillationTrainer):
    """The `Trainer` of transformers, for a student that learns from a teacher's next-token distributions.

    What you pass decides the kind of distillation:

    * *white box*: a `teacher`, or a data set with `teacher_targets` (`precompute_token_targets`);
    * *sequence level* or *black box*: a data set of texts that a teacher wrote (`teacher_completions`, or
      `distill_helpers.api`), and alpha = 0;
    * *on-policy*: a `teacher`, and `on_policy_fraction` above 0.

    PEFT may wrap the student: LoRA, or QLoRA over a model that bitsandbytes has quantised. On a CPU, train a QLoRA
    student before you evaluate it. bitsandbytes 0.50 packs the base for the evaluation, and then no gradient passes
    through it.

    Args:
        model: the student: a `LanguageModel`, a causal language model of transformers, or a PEFT model around one.
        distillation_config: alpha, temperature, divergence and `chunk_size`. The loss is always causal. Feature terms
            must be off.
        args: the Trainer's own arguments.
        train_dataset, eval_dataset: a `CompletionDataset` or a `CompletionStream` each. Several processes all read the
            whole stream, and learn rows of their own; the last batch of a pass is filled up with its first rows.
        teacher: runs beside the student if the batches carry no targets. Targets of the kind "hidden" need its head.
            It is a `LanguageModel`, or a bare model with its `tokenizer`. The teacher is moved to the Trainer's device
            and never trained.
        tokenizer: the teacher's own. Needed with a bare teacher, refused otherwise: the student's comes with the data.
        on_policy_fraction: the fraction of the batches whose completions the student writes anew (λ of GKD). It needs
            alpha = 1, since the student's own words are no labels for it.
        data_collator: default `CompletionCollator(tokenizer)`. With its `packed_length`, the items of a batch share
            rows; the training is the same and faster.
        max_new_tokens, on_policy_temperature: of these completions.
        target_kind: what is kept of the live teacher's distributions: "hidden" for all of them; or a kind of
            `precompute_token_targets`, or a class of your own, to find out what less would cost. "written" keeps the
            teacher's probability of the token that the student wrote, see `WrittenTargets`. It needs on-policy batches
            alone, the reverse KL, and the loss's own temperature in the sampling. An evaluation has all distributions
            in any case.
        target_options: of the kind, such as `{"k": 20}`.
        vocab_size: the number of rows of both heads that are tokens, if the heads are padded differently.
        **kwargs: whatever else the Trainer takes.

    Raises:
        ValueError: the teacher has another tokenizer, feature terms are on, a fraction is out of range, a sequence has
            no prompt for on-policy distillation (with its row), alpha is above 0 and nothing comes from a teacher, or
            the kind of targets does not fit the loss. During training: a batch has no token to learn, or the loss is
            not finite.
    """

    def __init__(
        self,
        model: LanguageModel | PreTrainedModel | nn.Module,
        distillation_config: DistillationConfig,
        args: TrainingArguments,
        *,
        train_dataset: CompletionDataset | CompletionStream,
        teacher: LanguageModel | PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        on_policy_fraction: float = 0.0,
        max_new_tokens: int = 64,
        on_policy_temperature: float = 1.0,
        target_kind: str | type[TokenTargets] = "hidden",
        target_options: Mapping[str, Any] | None = None,
        vocab_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(train_dataset, CompletionDataset | CompletionStream):
            raise TypeError(
                f"train_dataset must be a CompletionDataset or a CompletionStream, got {type(train_dataset).__name__};"
                " CompletionDataset.from_hf makes one of a Hugging Face data set"
            )
        if isinstance(model, LanguageModel):
            check_own_tokenizer(model, train_dataset.tokenizer)
        model = bare_model(model)
        if teacher is not None or tokenizer is not None:
            teacher = language_models(*([] if teacher is None else [teacher]), tokenizer=tokenizer)[0]
        kwargs.setdefault("data_collator", CompletionCollator(train_dataset.tokenizer))
        _check_on_policy(on_policy_fraction, distillation_config, teacher, train_dataset, kwargs["data_collator"])
        live_targets = LiveTargets(target_kind, target_options or {}, distillation_config.temperature, vocab_size)
        stored = getattr(train_dataset, "teacher_targets", None) is not None
        check_live_targets(live_targets, distillation_config, on_policy_fraction, on_policy_temperature, stored=stored)
        _check_teacher(distillation_config, teacher, train_dataset)
        _check_streams(train_dataset, kwargs.get("eval_dataset"), args)
        args.prediction_loss_only = True  # this trainer never has logits
        kwargs.setdefault("processing_class", train_dataset.tokenizer)
        kwargs.setdefault("compute_metrics", None)
        if vocab_size is not None:
            self._checked_elsewhere = ("padded rows",)
        super().__init__(
            model,  # type: ignore[arg-type]
            replace(distillation_config, causal=True),
            args,
            teacher=teacher,
            train_dataset=train_dataset,
            **kwargs,
        )
        if getattr(self.data_collator, "packed_length", None) is not None:
            check_packing(self.model, "student")  # type: ignore[arg-type]
            if self.teacher is not None:
                check_packing(self.teacher, "teacher")
        self.on_policy_fraction = on_policy_fraction
        self.max_new_tokens = max_new_tokens
        self.on_policy_temperature = on_policy_temperature
        self.live_targets = live_targets
        self.vocab_size = vocab_size

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        inputs = dict(inputs)
        if not model.training:  # in training, `_prepared` has done it
            inputs = without_last_sequences(inputs, self._n_repeated(n_sequences(inputs)))
        labels, targets = inputs.pop("labels"), inputs.pop("teacher_targets", None)
        inputs.pop(SEQUENCES, None)
        student: Any = self.accelerator.unwrap_model(model)
        kept: list[Tensor] = []

        def values_of(_: Any) -> dict[str, Tensor]:
            kept.append(completion_hidden_states(last_hidden_states(student, **inputs), labels))
            return token_level_terms(
                kept[0],
                output_head(student),
                completion_labels(labels),
                self.loss_fn.config,
                targets=targets,
                teacher_head=None if self.teacher is None else output_head(self.teacher),
                # A process whose whole batch is repeated has no item, and may not divide by the number of its items.
                num_items=num_items_in_batch if model.training and len(kept[0]) else None,
                vocab_size=self.vocab_size,
            )

        with self.accelerator.autocast():
            if targets is not None:
                targets = targets.to(labels.device)
            elif self.teacher is not None and self.loss_fn.config.alpha > 0:
                hidden = self._teacher_hidden_states(inputs, labels)
                targets = HiddenTargets(hidden)
                if model.training:
                    seed = derived_seed(self.state.global_step, self.args.seed)  # another one than that of the coins
                    targets = self.live_targets.of(hidden, output_head(self.teacher), completion_labels(labels), seed)
            values = self._inside_the_wrapper(model, inputs, values_of)
        hidden = kept[0]
        if not values["total_loss"].isfinite():
            raise ValueError(
                f"the loss is {float(values['total_loss'].detach())} at step {self.state.global_step}: "
                + ("the student's hidden states are not finite" if not hidden.isfinite().all() else "check the targets")
                + "; lower the learning rate, or use float32"
            )
        loss = self._remembered(values, model, num_items_in_batch)
        if not model.training:
            self._add_to_evaluation(loss, labels, None)
        return (loss, {}) if return_outputs else loss

    @torch.no_grad()
    def _teacher_hidden_states(self, inputs: dict[str, Any], labels: Tensor) -> Tensor:
        teacher: Any = self.teacher
        with evaluation_mode(teacher):  # without dropout, in whatever mode the teacher has been handed over
            hidden = completion_hidden_states(last_hidden_states(teacher, **inputs), labels)
        if not hidden.isfinite().all():
            raise ValueError(
                f"the teacher's hidden states are not finite at step {self.state.global_step}; if the teacher computes"
                " in half precision, try float32"
            )
        return hidden

    def _prepared(self, batches: list) -> list:
        prepared = []
        for number, batch in enumerate(batches):
            # The items with which several processes fill up the last batch of all are not learnt once more.
            n_repeated = self._n_repeated(n_sequences(batch)) if number == len(batches) - 1 else 0
            if not len(completion_labels(batch["labels"])):
                raise ValueError(
                    f"batch {number} of step {self.state.global_step} has no token to learn; all of its labels are -100"
                )
            # From the step, not from a running generator: a resumed run must toss the same coins. The smaller factor
            # is enough for the batches of a step, and keeps seeds of 32 bits below 2^63.
            seed = derived_seed(derived_seed(self.args.seed, self.state.global_step), number, factor=1_009)
            coin = torch.rand((), generator=torch.Generator().manual_seed(seed))
            if coin < self.on_policy_fraction:
                student = LanguageModel(
                    self.accelerator.unwrap_model(self.model),
                    self.processing_class,  # type: ignore[arg-type]
                )
                batch = on_policy_batch(  # noqa: PLW2901
                    student,
                    batch,
                    max_new_tokens=self.max_new_tokens,
                    temperature=self.on_policy_temperature,
                    seed=seed,
                )
            prepared.append(without_last_sequences(batch, n_repeated))
        return prepared


def _check_teacher(config: DistillationConfig, teacher: LanguageModel | None, train_dataset: Any) -> None:
    if config.uses_features:
        raise ValueError("this trainer has no feature terms; turn them off in the DistillationConfig")
    if teacher is not None:
        check_vocabulary(teacher.tokenizer, train_dataset.tokenizer, OTHER_TOKENIZER)
    elif config.alpha > 0:
        targets = train_dataset.teacher_targets
        if targets is None:
            raise ValueError(
                f"alpha is {config.alpha}, which needs a teacher: pass teacher=, or a train_dataset with"
                " teacher_targets, or set alpha=0"
            )
        if targets[0].needs_head:
            raise ValueError(f"{type(targets[0]).__name__} need the teacher's head; pass teacher= too")


def _check_on_policy(
    fraction: float, config: DistillationConfig, teacher: LanguageModel | None, train_dataset: Any, collator: Any
) -> None:
    if not 0 <= fraction <= 1:
        raise ValueError(f"on_policy_fraction must lie in [0, 1], got {fraction!r}")
    if fraction == 0:
        return
    if teacher is None or config.alpha < 1:
        raise ValueError(
            f"on-policy distillation needs a live teacher and alpha=1, got alpha={config.alpha} and"
            f" {'no' if teacher is None else 'a'} teacher"
        )
    if isinstance(train_dataset, CompletionStream):
        if not train_dataset.has_prompts:
            raise ValueError(
                "a stream of plain texts has no prompts that the student could continue; give it the columns 'prompt'"
                " and 'completion'"
            )
    elif 0 in train_dataset.prompt_lengths:
        row = train_dataset.prompt_lengths.index(0)
        raise ValueError(f"row {row} of train_dataset has no prompt that the student could continue; give it one")
    if getattr(collator, "packed_length", None) is not None:
        raise ValueError(
            "the student continues prompts that stand in rows of their own; leave packed_length out of the"
            " CompletionCollator, or set on_policy_fraction=0"
        )


def _check_streams(train_dataset: Any, eval_dataset: Any, args: TrainingArguments) -> None:
    """Set what several processes need to read a stream, or raise ValueError if they cannot."""
    if args.world_size == 1:
        return
    eval_sets = eval_dataset.values() if isinstance(eval_dataset, dict) else [eval_dataset]
    if any(isinstance(data, CompletionStream) for data in eval_sets):
        raise ValueError(
            "several processes cannot evaluate a stream, whose last batch they would fill up without a trace; pass a"
            " CompletionDataset as eval_dataset"
        )
    if isinstance(train_dataset, CompletionStream):
        config: Any = args.accelerator_config
        if config.dispatch_batches:
            raise ValueError(
                "with dispatch_batches, the batches of all processes would have to be of one length; leave it out of"
                " accelerator_config"
            )
        config.dispatch_batches = False
