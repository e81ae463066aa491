"""Prompts and completions for the training of a causal language model. Only the completion counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from distill_helpers.data.labelled_texts import IGNORE_INDEX, check_texts
from distill_helpers.llm.token_targets import TokenTargets
from distill_helpers.models.batching import pad_batch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["CompletionCollator", "CompletionDataset"]


class SequenceTargets(Protocol):
    """What a teacher says of each sequence of a data set. A `TokenTargetStore` is an example."""

    n_tokens: list[int]

    def __getitem__(self, index: int, /) -> TokenTargets: ...


class CompletionDataset(Dataset):
    """Sequences of tokens. The first tokens of each are its prompt, which the student reads but does not learn.

    Args:
        token_ids: prompt and completion of each sequence, one after the other.
        prompt_lengths: the number of tokens in the prompt of each sequence. With 0 the whole sequence is learnt except
            for its first token, which nothing predicts.
        tokenizer: the student's own.
        teacher_targets: what a teacher says of these sequences, from `precompute_token_targets`.

    Raises:
        ValueError: there is no sequence, a sequence has no token to learn (with its row), or the targets belong to
            other sequences.

    Example:
        >>> from distill_helpers.llm import CompletionDataset
        >>> tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
        >>> data = CompletionDataset([[5, 6, 7, 8], [5, 9]], [2, 1], tokenizer)
        >>> data
        CompletionDataset(2 sequences, 3 tokens to learn)
        >>> data[0]
        {'input_ids': [5, 6, 7, 8], 'labels': [-100, -100, 7, 8]}
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
            raise ValueError(
                "there must be sequences, and a prompt length for each, got"
                f" {len(token_ids)} sequences and {len(prompt_lengths)} lengths"
            )
        for row, (ids, prompt) in enumerate(zip(token_ids, prompt_lengths, strict=True)):
            if not max(prompt, 1) < len(ids):
                raise ValueError(
                    f"row {row} has no completion: {prompt} of its {len(ids)} tokens are the prompt; shorten the"
                    " prompt, raise max_length, or leave the row out"
                )
        self.token_ids = [list(ids) for ids in token_ids]
        self.prompt_lengths = list(prompt_lengths)
        self.tokenizer = tokenizer
        if teacher_targets is not None and teacher_targets.n_tokens != self.n_tokens:
            raise ValueError(
                f"teacher_targets belong to sequences with {sum(teacher_targets.n_tokens)} tokens to learn, but this"
                f" dataset has {sum(self.n_tokens)}; compute them for this dataset"
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
        """Prompts and completions. The two are tokenised separately, so that no token lies across their border.

        Args:
            prompts: as the model is to see them, with the markup of a chat template if there is one.
            completions: begin each with a blank if one separates it from its prompt.
            max_length: of prompt and completion together, in tokens. What is longer is cut at the end.
            end: append the tokenizer's end-of-text token, so that the student learns to stop. It is the first to go if
                a sequence is cut. Pass False if completions were cut when they were written, or the student learns to
                stop in mid-sentence.

        Raises:
            ValueError: a text is empty, or a prompt leaves no room for its completion (with its row).
        """
        check_texts(prompts)
        check_texts(completions)
        prompt_ids = tokenizer(list(prompts), return_attention_mask=False)["input_ids"]
        completion_ids = tokenizer(list(completions), add_special_tokens=False, return_attention_mask=False)
        last = [tokenizer.eos_token_id] if end and tokenizer.eos_token_id is not None else []
        pairs = zip(prompt_ids, completion_ids["input_ids"], strict=True)
        token_ids = [(prompt + completion + last)[:max_length] for prompt, completion in pairs]
        return cls(token_ids, [len(ids) for ids in prompt_ids], tokenizer)

    @classmethod
    def from_texts(
        cls, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, prompt_tokens: int = 0, max_length: int = 512
    ) -> CompletionDataset:
        """Plain texts, cut after `max_length` tokens. The first `prompt_tokens` of each are its prompt.

        Raises:
            ValueError: a text is empty, or no longer than its prompt (with its row).
        """
        check_texts(texts)
        encoded = tokenizer(list(texts), return_attention_mask=False)["input_ids"]
        return cls([ids[:max_length] for ids in encoded], [prompt_tokens] * len(texts), tokenizer)

    @property
    def n_tokens(self) -> list[int]:
        """The number of tokens to learn in each sequence."""
        pairs = zip(self.token_ids, self.prompt_lengths, strict=True)
        return [len(ids) - max(prompt, 1) for ids, prompt in pairs]

    def with_targets(self, teacher_targets: SequenceTargets) -> CompletionDataset:
        """The same sequences, together with a teacher's targets."""
        return CompletionDataset(self.token_ids, self.prompt_lengths, self.tokenizer, teacher_targets=teacher_targets)

    def __len__(self) -> int:
        return len(self.token_ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.sequence(index)
        return item if self.teacher_targets is None else item | {"teacher_targets": self.teacher_targets[index]}

    def sequence(self, index: int) -> dict[str, Any]:
        """An item without its targets: `input_ids`, and `labels` with `IGNORE_INDEX` at tokens that are not learnt."""
        ids = self.token_ids[index]
        first = max(self.prompt_lengths[index], 1)  # in a batch padded on the left, padding would predict token 0
        return {"input_ids": ids, "labels": [IGNORE_INDEX] * first + ids[first:]}

    def __repr__(self) -> str:
        targets = "" if self.teacher_targets is None else ", with teacher_targets"
        return f"CompletionDataset({len(self):,} sequences, {sum(self.n_tokens):,} tokens to learn{targets})"


class CompletionCollator:
    """Pads items of `CompletionDataset` to the longest among them, on the side on which the tokenizer pads.

    Args:
        tokenizer: the student's own.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor | TokenTargets]:
        """A batch of items.

        Returns:
            `input_ids`, `attention_mask` and `labels`, (batch, longest). If the items have targets, `teacher_targets`
            with a row for each label that counts.
        """
        batch: dict[str, Any] = dict(pad_batch([item["input_ids"] for item in items], self.tokenizer))
        labels = torch.full_like(batch["input_ids"], IGNORE_INDEX)
        labels[batch["attention_mask"].bool()] = torch.tensor([label for item in items for label in item["labels"]])
        batch["labels"] = labels
        if "teacher_targets" in items[0]:
            first, *others = (item["teacher_targets"] for item in items)
            batch["teacher_targets"] = first.followed_by(others)
        return batch
