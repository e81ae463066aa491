"""One student of a language model: cut out of SmolLM2, trained on Grimm's tales by a method, and what judges it.

`healing` makes students that were cut out write again, `on_policy` lets a healed one go on.
"""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from distill_helpers.course.tasks import WORK
from distill_helpers.data.corpora import load_grimm_tales
from distill_helpers.llm.completion_dataset import CompletionDataset
from distill_helpers.llm.evaluation import evaluate_language_model
from distill_helpers.llm.on_policy import completed
from distill_helpers.llm.token_target_store import TokenTargetStore, precompute_token_targets
from distill_helpers.llm.token_targets import TokenTargets
from distill_helpers.llm.trainer import LLMDistillationTrainer
from distill_helpers.losses.distillation_config import DistillationConfig
from distill_helpers.models.language_model_loading import load_language_model
from distill_helpers.models.text_models import LanguageModel
from distill_helpers.students.pruning import prune

__all__ = [
    "BATCH_SIZE",
    "EARLY",
    "FORWARD_KL",
    "HARD_LABELS",
    "N_LAYERS",
    "N_WRITTEN",
    "OPENING",
    "REVERSE_KL",
    "WINDOW",
    "Healed",
    "KeepBest",
    "Method",
    "healed",
    "pruned_student",
    "surprise",
    "teacher",
    "teacher_targets",
    "text_of",
    "windows",
    "write",
]

#: The number of layers that the student keeps of 30; the tokens of a window, and of its opening, which is not learned.
N_LAYERS, WINDOW, OPENING = 10, 64, 16
BATCH_SIZE = 8
#: The number of first steps whose mean loss is kept, for a comparison with a run that stops there.
EARLY = 10
#: Of the windows of the held-out tales, every third is used to judge; a student that is judged writes after so many.
EVERY, N_WRITTEN = 3, 48


class Method(NamedTuple):
    """What a student learns from.

    Args:
        alpha: the weight of the teacher; 0 means hard labels alone.
        divergence: from the teacher's distributions.
        on_policy: the share of the batches that the student writes itself.
        kind, options: what is kept of the teacher's distributions there; see `LLMDistillationTrainer`.
    """

    alpha: float
    divergence: str = "forward_kl"
    on_policy: float = 0.0
    kind: str | type[TokenTargets] = "hidden"
    options: Mapping[str, Any] = {}


HARD_LABELS = Method(0.0)
FORWARD_KL, REVERSE_KL = Method(1.0), Method(1.0, "reverse_kl")


@cache
def teacher() -> LanguageModel:
    """Load SmolLM2-135M-Instruct, on the best device of this machine."""
    return load_language_model()


@cache
def windows(part: str) -> CompletionDataset:
    """Cut tales into windows of 64 tokens: all windows for "train", every third for "validation" or "test"."""
    tokenizer = teacher().tokenizer
    rows: list[list[int]] = []
    for ids in tokenizer(getattr(load_grimm_tales(), part))["input_ids"]:
        rows += [ids[start : start + WINDOW] for start in range(0, len(ids) - WINDOW + 1, WINDOW)]
    rows = rows if part == "train" else rows[::EVERY]
    return CompletionDataset(rows, [OPENING] * len(rows), tokenizer)


@cache
def teacher_targets() -> TokenTargetStore:
    """Compute the teacher's hidden states of the training windows (1,152 bytes a token), or find them on disk."""
    return precompute_token_targets(teacher(), windows("train"), "hidden", cache_dir=WORK / "targets", progress=False)


@cache
def pruned_student() -> LanguageModel:
    """Cut out of the teacher the ten layers that change their input most, measured on twenty training tales."""
    return prune(teacher(), load_grimm_tales().train[:20], n_layers=N_LAYERS, max_length=WINDOW)


class Healed(NamedTuple):
    """A student, and the mean of its training loss over the first ten steps, when the rate still rises."""

    student: LanguageModel
    early_loss: float


def healed(
    method: Method,
    seed: int,
    *,
    begin: LanguageModel | None = None,
    steps: int,
    learning_rate: float,
    stop_after: int | None = None,
    cached: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
) -> Healed:
    """Train a student by a method.

    Args:
        method: what it learns from.
        seed: of the order of the windows, and of the text that the student writes on-policy.
        begin: the student before the training, which is copied; default the one cut out of the teacher.
        steps: of the learning rate's schedule.
        learning_rate: at its peak.
        stop_after: stop after so many steps, at least ten; default after all of them.
        cached: take the teacher's hidden states from the work folder, and compute them first if they are not there.
            Otherwise the teacher reads each batch.
        callbacks: for the Trainer.
    """
    begin = pruned_student() if begin is None else begin
    student = begin._replace(model=copy.deepcopy(begin.model))
    data = windows("train")
    if method.alpha and cached and method.on_policy < 1:
        data = data.with_targets(teacher_targets())
    with tempfile.TemporaryDirectory() as scratch:
        trainer = LLMDistillationTrainer(
            student.model,
            DistillationConfig(temperature=1.0, alpha=method.alpha, divergence=method.divergence),
            TrainingArguments(
                scratch,
                max_steps=steps,
                per_device_train_batch_size=BATCH_SIZE,
                learning_rate=learning_rate,
                lr_scheduler_type="cosine",
                warmup_steps=0.1,
                save_strategy="no",
                logging_steps=EARLY,
                report_to="none",
                disable_tqdm=True,
                dataloader_pin_memory=False,
                seed=seed,
                data_seed=seed,
            ),
            train_dataset=data,
            teacher=teacher() if method.alpha else None,
            on_policy_fraction=method.on_policy,
            max_new_tokens=WINDOW - OPENING,
            target_kind=method.kind,
            target_options=method.options,
            callbacks=[*callbacks, _StopAfter(steps if stop_after is None else stop_after)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    student.model.eval()
    return Healed(student, next(entry["loss"] for entry in trainer.state.log_history if "loss" in entry))


class _StopAfter(TrainerCallback):
    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        control.should_training_stop = control.should_training_stop or state.global_step >= self._step


class KeepBest(TrainerCallback):
    """Judges the student every few steps, and keeps the best weights.

    Args:
        every: the steps from one judgement to the next.
        judge: a figure of the student, lower is better.
    """

    def __init__(self, every: int, judge: Callable[[LanguageModel], float]) -> None:
        self.every, self._judge = every, judge
        #: The figures with the sign changed, as `fair_arms.Trained` takes them.
        self.curve: list[float] = []
        self._best: dict[str, Tensor] = {}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step % self.every:
            return
        model = kwargs["model"]
        self.curve.append(-self._judge(LanguageModel(model, teacher().tokenizer)))
        if self.curve[-1] == max(self.curve):
            self._best = copy.deepcopy(model.state_dict())

    def take_best(self, student: LanguageModel) -> None:
        """Give a student the weights with the best figure."""
        student.model.load_state_dict(self._best)


def surprise(model: LanguageModel) -> float:
    """The mean −log q of the validation tales' tokens, in nats: the logarithm of the perplexity."""
    return math.log(evaluate_language_model(model, windows("validation"))["perplexity"])


def write(model: LanguageModel, n: int = N_WRITTEN, *, part: str = "test", seed: int = 0) -> CompletionDataset:
    """Let a model continue the openings of the first `n` windows, at temperature 1."""
    data = windows(part)
    prompts = [ids[:OPENING] for ids in data.token_ids[:n]]
    sequences = completed(model, prompts, max_new_tokens=WINDOW - OPENING, temperature=1.0, seed=seed)
    return CompletionDataset(sequences, [OPENING] * len(sequences), data.tokenizer)


def text_of(written: CompletionDataset, row: int) -> str:
    """What a model wrote after the opening of one row of `write`."""
    return str(written.tokenizer.decode(written.token_ids[row][OPENING:], skip_special_tokens=True))
