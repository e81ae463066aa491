"""Prompts and completions as a causal language model is trained on them: only the completion counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from distill_helpers.data.labelled_texts import IGNORE_INDEX, check_texts
from distill_helpers.llm.token_targets import TokenTargets
from distill_helpers.models.batching import pad_batch

__all__ = ["CompletionCollator", "CompletionDataset"]


class SequenceTargets(Protocol):
    """What a teacher says of each sequence of a data set; a `TokenTargetStore` is one."""

    n_tokens: list[int]

    def __getitem__(self, index: int, /) -> TokenTargets: ...


class CompletionDataset(Dataset):
    """Sequences of tokens, of which the first are a prompt: it is read and not learnt.

    Args:
        token_ids: prompt and completion of each sequence.
        prompt_lengths: tokens of each sequence that are its prompt. 0: the whole sequence is learnt but for its first
            token, which nothing predicts.
        tokenizer: the student's own.
        teacher_targets: what a teacher says of these sequences, from `precompute_token_targets`.

    Raises:
        ValueError: no sequence, one without a token to learn (with its row), targets of other sequences.
    """

    def __init__(
        self,
        token_ids: Sequence[Sequence[int]],
        prompt_lengths: Sequence[int],
        tokenizer: PreTrainedTokenizerBase,
        *,
        teacher_targets: SequenceTargets | None = None,
    ) -> None:
        if not token_ids or len(token_ids) != len(prompt_lengths):
            raise ValueError(f"need a prompt length for each sequence, got {len(token_ids)} and {len(prompt_lengths)}")
        for row, (ids, prompt) in enumerate(zip(token_ids, prompt_lengths, strict=True)):
            if not max(prompt, 1) < len(ids):
                raise ValueError(
                    f"row {row} has no completion: {len(ids)} tokens, {prompt} of them its prompt; shorten the prompt,"
                    " raise max_length or leave the row out"
                )
        self.token_ids = [list(ids) for ids in token_ids]
        self.prompt_lengths = list(prompt_lengths)
        self.tokenizer = tokenizer
        if teacher_targets is not None and teacher_targets.n_tokens != self.n_tokens:
            raise ValueError(
                f"teacher_targets are of sequences with {sum(teacher_targets.n_tokens)} tokens to learn, these have"
                f" {sum(self.n_tokens)}; compute them for this dataset"
            )
        self.teacher_targets = teacher_targets

    @classmethod
    def from_pairs(
        cls,
        prompts: Sequence[str],
        completions: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int = 512,
        end: bool = True,
    ) -> CompletionDataset:
        """Prompts and completions, tokenised apart, so that no token lies across the border.

        Args:
            prompts: as the model is to see them, a chat template's marks included.
            completions: a leading blank belongs to them.
            max_length: of both together, in tokens; the end is cut off.
            end: learn to end, where the completion was not cut off (the tokenizer's end-of-text token).

        Raises:
            ValueError: an empty text, or a prompt that leaves no room, with its row.
        """
        check_texts(prompts)
        check_texts(completions)
        begun = tokenizer(list(prompts), return_attention_mask=False)["input_ids"]
        written = tokenizer(list(completions), add_special_tokens=False, return_attention_mask=False)["input_ids"]
        last = [tokenizer.eos_token_id] if end and tokenizer.eos_token_id is not None else []
        token_ids = [(p + c + last)[:max_length] for p, c in zip(begun, written, strict=True)]
        return cls(token_ids, [len(p) for p in begun], tokenizer)

    @classmethod
    def from_texts(
        cls, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, prompt_tokens: int = 0, max_length: int = 512
    ) -> CompletionDataset:
        """Plain texts, cut off after `max_length` tokens; the first `prompt_tokens` are read and not learnt.

        Raises:
            ValueError: an empty text, or one no longer than its prompt, with its row.
        """
        check_texts(texts)
        encoded = tokenizer(list(texts), return_attention_mask=False)["input_ids"]
        return cls([ids[:max_length] for ids in encoded], [prompt_tokens] * len(texts), tokenizer)

    @property
    def n_tokens(self) -> list[int]:
        """Tokens to learn in each sequence."""
        pairs = zip(self.token_ids, self.prompt_lengths, strict=True)
        return [len(ids) - max(prompt, 1) for ids, prompt in pairs]

    def with_targets(self, teacher_targets: SequenceTargets) -> CompletionDataset:
        """The same sequences with a teacher's targets."""
        return CompletionDataset(self.token_ids, self.prompt_lengths, self.tokenizer, teacher_targets=teacher_targets)

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.sequence(index)
        return item if self.teacher_targets is None else item | {"teacher_targets": self.teacher_targets[index]}

    def sequence(self, index: int) -> dict[str, Any]:
        """An item without its targets: `input_ids`, and `labels` with `IGNORE_INDEX` at the prompt."""
        ids, prompt = self.token_ids[index], self.prompt_lengths[index]
        return {"input_ids": ids, "labels": [IGNORE_INDEX] * prompt + ids[prompt:]}


class CompletionCollator:
    """Pads a list of items of `CompletionDataset` to the longest of them, on the side that the tokenizer pads.

    Args:
        tokenizer: the student's own.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor | TokenTargets]:
        """`input_ids`, `attention_mask` and `labels`, (batch, longest); `teacher_targets`, a row for each label."""
        batch: dict[str, Any] = dict(pad_batch([item["input_ids"] for item in items], self.tokenizer))
        labels = torch.full_like(batch["input_ids"], IGNORE_INDEX)
        labels[batch["attention_mask"].bool()] = torch.tensor([label for item in items for label in item["labels"]])
        batch["labels"] = labels
        if "teacher_targets" in items[0]:
            first, *others = (item["teacher_targets"] for item in items)
            batch["teacher_targets"] = first.followed_by(others)
        return batch
