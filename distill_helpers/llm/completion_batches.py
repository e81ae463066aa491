"""From items of a `CompletionDataset` to batches, padded or packed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.llm.packing import packed_positions, rows_of_at_most
from distill_helpers.llm.padding import padded
from distill_helpers.llm.token_targets import TokenTargets
from distill_helpers.losses.causal_alignment import causal_shift

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["CompletionCollator", "n_sequences", "without_last_sequences"]

#: The entry of a packed batch that says to which item each token belongs; −1 at padding.
SEQUENCES = "sequences"


class CompletionCollator:
    """Pads items of `CompletionDataset` on the right to the longest among them, whatever side the tokenizer pads.

    A causal model reads from left to right, so that no token depends on padding after it (`llm.padding`).

    With `packed_length`, the items of a batch share rows instead of being padded to the longest. None of them reads
    another. A batch has the same items, tokens to learn and loss as without packing, and takes less time where the
    lengths of the items differ much. `LLMDistillationTrainer` refuses models that cannot be packed (`llm.packing`).

    Args:
        tokenizer: the student's own.
        packed_length: the largest number of tokens in a row; a longer item gets a row of its own. The cost of attention
            grows with the square of a row, so take about the length of the longest items. None: a row for each item.

    Raises:
        ValueError: a `packed_length` below 1.

    Example:
        >>> from distill_helpers.llm import CompletionCollator, CompletionDataset
        >>> tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
        >>> data = CompletionDataset([[5, 6, 7, 8], [5, 9], [4, 3]], [2, 1, 1], tokenizer)
        >>> CompletionCollator(tokenizer)(list(data))["input_ids"].shape
        torch.Size([3, 4])
        >>> CompletionCollator(tokenizer, packed_length=4)(list(data))["position_ids"]
        tensor([[0, 1, 2, 3],
                [0, 1, 0, 1]])
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, packed_length: int | None = None) -> None:
        if packed_length is not None and packed_length < 1:
            raise ValueError(f"packed_length must be at least 1 or None, got {packed_length}")
        self.tokenizer = tokenizer
        self.packed_length = packed_length

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor | TokenTargets]:
        """A batch of items.

        Returns:
            `input_ids` and `labels`, (batch, longest). If the items have targets, `teacher_targets` with a row for each
            label that counts. Padded: `attention_mask`. Packed: `position_ids`, which begin anew with each item, and
            `sequences`, the number of the item to which each token belongs (−1 at padding), both (rows, longest row).
        """
        lengths = [len(item["input_ids"]) for item in items]
        if self.packed_length is None:
            rows = [[i] for i in range(len(items))]
        else:
            rows = rows_of_at_most(lengths, self.packed_length)
        order = [i for row in rows for i in row]
        token_ids = [[token for i in row for token in items[i]["input_ids"]] for row in rows]
        batch: dict[str, Any] = dict(padded(token_ids, self.tokenizer))
        tokens = batch["attention_mask"].bool()

        def laid_out(values: list[int], fill: int) -> Tensor:
            laid = torch.full_like(batch["input_ids"], fill)
            laid[tokens] = torch.tensor(values)
            return laid

        batch["labels"] = laid_out([label for i in order for label in items[i]["labels"]], IGNORE_INDEX)
        if self.packed_length is not None:
            del batch["attention_mask"]  # with one, transformers would not look for borders in the positions
            width = tokens.shape[1]
            positions = [packed_positions([lengths[i] for i in row], width) for row in rows]
            batch["position_ids"] = torch.tensor(positions)
            batch[SEQUENCES] = laid_out([i for i in order for _ in range(lengths[i])], -1)
        if "teacher_targets" in items[0]:
            first, *others = (items[i]["teacher_targets"] for i in order)
            batch["teacher_targets"] = first.followed_by(others)
        return batch


def n_sequences(batch: dict[str, Any]) -> int:
    """The number of items in a batch of `CompletionCollator`."""
    return int(batch[SEQUENCES].max()) + 1 if SEQUENCES in batch else len(batch["labels"])


def without_last_sequences(batch: dict[str, Any], n: int) -> dict[str, Any]:
    """A batch of `CompletionCollator` in which the last n items are not learnt; their targets are left out."""
    if n == 0:
        return batch
    labels = batch["labels"]
    numbers = batch.get(SEQUENCES, torch.arange(len(labels), device=labels.device)[:, None].expand_as(labels))
    kept = numbers < n_sequences(batch) - n
    changed = {"labels": labels.masked_fill(~kept, IGNORE_INDEX)}
    if "teacher_targets" in batch:
        targets = batch["teacher_targets"]
        counted = causal_shift(targets=labels) != IGNORE_INDEX
        rows = causal_shift(targets=kept)[counted]
        changed["teacher_targets"] = targets[rows.to(next(iter(targets.tensors.values())).device)]
    return batch | changed
