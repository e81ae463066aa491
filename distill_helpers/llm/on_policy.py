"""On-policy distillation: the student writes, and the teacher scores what the student wrote."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.llm.completion_dataset import CompletionCollator
from distill_helpers.llm.seeds import seeded
from distill_helpers.models.batching import evaluation_mode, pad_batch, to_device
from distill_helpers.models.text_models import LanguageModel

__all__ = ["completed", "on_policy_batch", "prompts_of"]


def on_policy_batch(
    student: LanguageModel,
    batch: dict[str, Any],
    *,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    seed: int = 0,
) -> dict[str, Any]:
    """The prompts of a batch with new completions, which the student samples. No gradient goes through the sampling.

    This is algorithm 1 of GKD (Agarwal et al., arXiv 2306.13649): a student has to be right where its own writing leads
    it. Neither top-k nor top-p is used, since the completions would then come from another distribution than the one
    that is trained.

    Args:
        student: the model in training, and its tokenizer.
        batch: from `CompletionCollator`. Its completions and its targets are not used.
        max_new_tokens: the largest number of tokens to write. A completion also ends with the end-of-text token.
        temperature: of the sampling.
        seed: the completions are a function of the seed, the student and the prompts.

    Returns:
        A batch as `CompletionCollator` makes it, on the student's device.

    Raises:
        ValueError: a sequence has no prompt (with its row), or a number is out of range.
    """
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
        ValueError: a sequence has none (with its row).
    """
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


@torch.no_grad()
def completed(
    model: LanguageModel,
    prompts: list[list[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int = 0,
) -> list[list[int]]:
    """The tokens of each prompt, and after them what the model writes. The end-of-text token is kept.

    Args:
        model: stays on its device and in its mode.
        prompts: the tokens of each.
        max_new_tokens: the largest number of tokens to write.
        temperature: of the sampling; at 0 the model takes the likeliest token each time.
        seed: of the sampling. The global random state does not change.

    Raises:
        ValueError: the temperature is below 0, or there is no room for a token.
    """
    if temperature < 0 or max_new_tokens < 1:
        raise ValueError(
            f"temperature must be at least 0 and max_new_tokens at least 1, got {temperature} and {max_new_tokens}"
        )
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    device, end = model.model.device, model.tokenizer.eos_token_id
    inputs = pad_batch(prompts, model.tokenizer, side="left")
    with evaluation_mode(model.model), seeded(seed, device):
        generate: Any = model.model.generate
        output: Tensor = generate(
            **to_device(inputs, device),
            max_new_tokens=max_new_tokens,
            eos_token_id=end,
            pad_token_id=model.tokenizer.pad_token_id,
            **sampling,
        )
    written = output[:, inputs["input_ids"].shape[1] :].tolist()
    return [prompt + _up_to_end(ids, end) for prompt, ids in zip(prompts, written, strict=True)]


def _up_to_end(ids: list[int], end: int | None) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids
