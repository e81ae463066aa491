"""On-policy distillation: the student writes, and the teacher scores what the student wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.llm.completion_batches import SEQUENCES, CompletionCollator
from distill_helpers.llm.generation import continuations
from distill_helpers.llm.given_models import language_models
from distill_helpers.models.batching import to_device
from distill_helpers.models.text_models import LanguageModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["completed", "on_policy_batch", "prompts_of"]


def on_policy_batch(
    student: LanguageModel | PreTrainedModel,
    batch: dict[str, Any],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    seed: int = 0,
) -> dict[str, Any]:
    """The prompts of a batch with new completions, which the student samples. No gradient goes through the sampling.

    This is algorithm 1 of GKD (Agarwal et al., arXiv 2306.13649): a student has to be right where its own writing leads
    it. Of the student's own generation settings only the end tokens are used. Top-k, top-p or a repetition penalty
    would make the completions come from another distribution than the one that is trained.

    Args:
        student: the model in training: a `LanguageModel`, or a bare model with its `tokenizer`.
        batch: from `CompletionCollator`, not packed. Its completions and its targets are not used.
        tokenizer: the student's own. Needed with a bare model, refused with a `LanguageModel`.
        max_new_tokens: the largest number of tokens to write. A completion also ends with any of the student's end
            tokens (`generation.end_tokens`), which is kept.
        temperature: of the sampling.
        seed: the completions are a function of the seed, the student and the prompts.

    Returns:
        A batch as `CompletionCollator` makes it, on the student's device.

    Raises:
        ValueError: a sequence has no prompt (with its row), the batch is packed, a bare model comes without its
            tokenizer, or a number is out of range.
        TypeError: the student is not a causal language model.
    """
    student = language_models(student, tokenizer=tokenizer)[0]
    prompts = prompts_of(batch)
    sequences = completed(student, prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    items = [
        {"input_ids": ids, "labels": [IGNORE_INDEX] * len(prompt) + ids[len(prompt) :]}
        for prompt, ids in zip(prompts, sequences, strict=True)
    ]
    return to_device(CompletionCollator(student.tokenizer)(items), student.model.device)


def prompts_of(batch: dict[str, Any]) -> list[list[int]]:
    """The tokens of each sequence before its first label.

    Args:
        batch: `input_ids`, `attention_mask` and `labels`, from `CompletionCollator`.

    Raises:
        ValueError: a sequence has none (with its row), or the batch is packed.
    """
    if SEQUENCES in batch:
        raise ValueError(
            "prompts are continued in rows of their own; leave packed_length out of the CompletionCollator, or set"
            " on_policy_fraction=0"
        )
    prompts = []
    for row, (ids, mask, labels) in enumerate(
        zip(batch["input_ids"], batch["attention_mask"].bool(), batch["labels"], strict=True)
    ):
        tokens = ids[mask]
        prompt = tokens[: int((labels[mask] != IGNORE_INDEX).int().argmax())]
        if not len(prompt):
            raise ValueError(f"sequence {row} of the batch has no prompt that the student could continue; give it one")
        prompts.append(prompt.tolist())
    return prompts


def completed(
    model: LanguageModel,
    prompts: list[list[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int = 0,
) -> list[list[int]]:
    """The tokens of each prompt, and after them what the model writes; see `generation.continuations`."""
    written = continuations(model, prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed)
    return [prompt + ids for prompt, ids in zip(prompts, written, strict=True)]
