"""On-policy distillation: the student writes, the teacher scores what it wrote."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.llm.completion_dataset import CompletionCollator
from distill_helpers.models.batching import evaluation_mode, pad_batch

__all__ = ["completed", "on_policy_batch", "prompts_of"]


def on_policy_batch(
    student: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    batch: dict[str, Any],
    *,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    seed: int = 0,
) -> dict[str, Any]:
    """The prompts of a batch with completions that the student samples, no gradient through the sampling.

    GKD (Agarwal et al., arXiv 2306.13649, algorithm 1): what the student would write is where it has to be right. With
    top-k or top-p the completions would come from another distribution than the one that is trained, so neither is
    used.

    Args:
        student: the causal language model in training.
        tokenizer: its own.
        batch: from `CompletionCollator`; its completions and targets are not used.
        max_new_tokens: at most so many tokens are written; a completion also ends with the end-of-text token.
        temperature: of the sampling.
        seed: the completions are a function of it, the student and the prompts.

    Returns:
        A batch as `CompletionCollator` makes it, on the student's device.

    Raises:
        ValueError: a sequence without a prompt.
    """
    prompts = prompts_of(batch)
    sequences = completed(
        student, tokenizer, prompts, max_new_tokens=max_new_tokens, temperature=temperature, seed=seed
    )
    items = [
        {"input_ids": ids, "labels": [IGNORE_INDEX] * len(prompt) + ids[len(prompt) :]}
        for prompt, ids in zip(prompts, sequences, strict=True)
    ]
    return {name: value.to(student.device) for name, value in CompletionCollator(tokenizer)(items).items()}


def prompts_of(batch: dict[str, Any]) -> list[list[int]]:
    """The tokens of each sequence before its first label.

    Raises:
        ValueError: a sequence that has none.
    """
    prompts = []
    for row, (ids, mask, labels) in enumerate(
        zip(batch["input_ids"], batch["attention_mask"].bool(), batch["labels"], strict=True)
    ):
        own = ids[mask]
        prompt = own[: int((labels[mask] != IGNORE_INDEX).int().argmax())]
        if not len(prompt):
            raise ValueError(f"sequence {row} of the batch has no prompt for the student to go on from; give it one")
        prompts.append(prompt.tolist())
    return prompts


@torch.no_grad()
def completed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    *,
    max_new_tokens: int,
    temperature: float,
    seed: int = 0,
) -> list[list[int]]:
    """Each prompt's tokens and what the model writes behind them, the end-of-text token included where it ended.

    Args:
        temperature: 0 takes the likeliest token each time.
        seed: of the sampling; the global random state is left as it was.

    Raises:
        ValueError: a temperature below 0, or no room for a token.
    """
    if temperature < 0 or max_new_tokens < 1:
        raise ValueError(f"need temperature >= 0 and max_new_tokens >= 1, got {temperature} and {max_new_tokens}")
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    inputs = pad_batch(prompts, tokenizer, side="left")
    with evaluation_mode(model), torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        generate: Any = model.generate
        output: Tensor = generate(
            **{name: tensor.to(model.device) for name, tensor in inputs.items()},
            max_new_tokens=max_new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **sampling,
        )
    written = output[:, inputs["input_ids"].shape[1] :].tolist()
    return [prompt + _to_its_end(ids, tokenizer.eos_token_id) for prompt, ids in zip(prompts, written, strict=True)]


def _to_its_end(ids: list[int], end: int | None) -> list[int]:
    return ids[: ids.index(end) + 1] if end in ids else ids
