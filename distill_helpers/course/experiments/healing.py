"""SmolLM2 cut to a third of its layers and healed by the teacher's distributions, on-policy, or by hard labels.

    python -m distill_helpers.course.experiments.healing

The student keeps the ten layers that change their input most. Cut like this, it writes text without any sense. Every
method trains it for the same number of steps on the same windows of Grimm's tales, in the same order for the same seed.
It is judged on tales that it has not read: how surprising the student finds them, how far its distributions are from
the teacher's, and how surprising the *teacher* finds the text that the student writes after their openings.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from distill_helpers.course.logs import markdown_table, read_log, run_missing, write_table
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
    "LOG",
    "METHODS",
    "Healed",
    "Method",
    "healed",
    "judge",
    "pruned_student",
    "run",
    "summary",
    "teacher_targets",
    "windows",
    "write",
]

LOG = "healing"
#: Besides the methods the log has the teacher itself, and the student as it was cut.
TEACHER, PRUNED = "teacher", "pruned, not healed"

#: The number of layers that the student keeps of 30; the tokens of a window, and of its opening, which is not learned.
N_LAYERS, WINDOW, OPENING = 10, 64, 16
#: One pass over the 1,199 windows. The learning rate was chosen on the validation tales by runs half as long, with
#: 5e-4, 1e-3 and 2e-3.
STEPS, BATCH_SIZE, LEARNING_RATE = 150, 8, 1e-3
#: The number of first steps whose mean loss is kept, for a comparison with a run that stops there.
EARLY = 10
#: Of the windows of the held-out tales, every third is used to judge.
EVERY = 3


class Method(NamedTuple):
    """How a student is healed.

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


#: The rows of the table.
METHODS = {
    "hard labels": Method(0.0),
    "forward KL": Method(1.0),
    "reverse KL": Method(1.0, "reverse_kl"),
    "JSD": Method(1.0, "generalized_jsd"),
    "half on-policy, reverse KL": Method(1.0, "reverse_kl", 0.5),
}


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
    """A student, and the mean of its training loss over the first ten steps, within the warm-up of 15."""

    student: LanguageModel
    early_loss: float


def healed(
    method: Method,
    seed: int,
    *,
    begin: LanguageModel | None = None,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
    stop_after: int | None = None,
    cached: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
) -> Healed:
    """Train a student by a method.

    Args:
        method: one of `METHODS`, or another.
        seed: of the order of the windows, and of the text that the student writes on-policy.
        begin: the student before the training, which is copied; default the one cut out of the teacher.
        steps: of the learning rate's schedule; default the course's.
        learning_rate: at its peak; default the course's.
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


def write(model: LanguageModel, n: int = 32, *, part: str = "test", seed: int = 0) -> CompletionDataset:
    """Let a model continue the openings of the first `n` windows, at temperature 1."""
    data = windows(part)
    prompts = [ids[:OPENING] for ids in data.token_ids[:n]]
    sequences = completed(model, prompts, max_new_tokens=WINDOW - OPENING, temperature=1.0, seed=seed)
    return CompletionDataset(sequences, [OPENING] * len(sequences), data.tokenizer)


def judge(model: LanguageModel, part: str = "test") -> dict[str, float]:
    """Measure a model by `evaluate_language_model` on held-out tales, and by what it writes.

    Returns:
        The figures of `evaluate_language_model`, and `written_perplexity`: the teacher's perplexity of the text that
        the model writes.
    """
    figures = evaluate_language_model(model, windows(part), teacher())
    return figures | {"written_perplexity": evaluate_language_model(teacher(), write(model))["perplexity"]}


def run(method: str, seed: int) -> dict[str, float | str]:
    """Heal one student, and return the figures of `judge` and the first three texts that the student writes.

    Args:
        method: a key of `METHODS`, "teacher" or "pruned, not healed".
        seed: see `healed`.

    Raises:
        KeyError: no method has this name.
    """
    figures: dict[str, float | str] = {}
    if method == TEACHER:
        model = teacher()
    elif method == PRUNED:
        model = pruned_student()
    else:
        model, figures["early_loss"] = healed(METHODS[method], seed)
    figures |= judge(model)
    for number, ids in enumerate(write(model, 3, seed=seed).token_ids):
        figures[f"writes_{number}"] = str(model.tokenizer.decode(ids[OPENING:], skip_special_tokens=True))
    return figures


def summary() -> pd.DataFrame:
    """Make the table: a row for the teacher, the cut student and each method, with means over the seeds and spreads.

    e^KL compares perplexities on text whose next tokens are drawn from the teacher's distribution. There the student's
    perplexity is e^(H + KL), which is e^KL times the teacher's own, e^H.
    """
    log = read_log(LOG)
    lines = {}
    for name in (TEACHER, PRUNED, *METHODS):
        group = log[log["method"] == name]
        lines[name] = {
            "seeds": len(group),
            "perplexity": group["perplexity"].mean(),
            "± sd": group["perplexity"].std(ddof=1),
            "KL to the teacher": group["forward_kl"].mean(),
            "± sd of it": group["forward_kl"].std(ddof=1),
            "e^KL: times the teacher's perplexity": np.exp(group["forward_kl"]).mean(),
            "reverse KL": group["reverse_kl"].mean(),
            "same next token %": 100 * group["agreement"].mean(),
            "teacher's perplexity of what it writes": group["written_perplexity"].mean(),
            "± sd of that": group["written_perplexity"].std(ddof=1),
        }
    return pd.DataFrame.from_dict(lines, orient="index")


def markdown() -> str:
    """Format the table for a page."""
    return markdown_table(summary(), ("", "", ".1f", ".1f", ".2f", ".2f", ",.1f", ".2f", ".1f", ",.1f", ".1f"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the runs that the log lacks, then the table.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--only-runs", action="store_true", help="no table, because another run is on, say")
    arguments = parser.parse_args()
    wanted = [{"method": name, "seed": 0} for name in (TEACHER, PRUNED)]
    wanted += [{"method": name, "seed": seed} for seed in arguments.seeds for name in arguments.methods]
    run_missing(LOG, wanted, run)
    if not arguments.only_runs:
        write_table(LOG, markdown())


if __name__ == "__main__":
    main()
