"""From texts to padded batches, and from batches to logits.

Texts are tokenised once, and a batch is only as long as its longest text: padding ten tokens to 512 makes a batch
some thirty times slower than it needs to be.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from distill_helpers.data.labelled_texts import check_texts

__all__ = ["OTHER_TOKENIZER", "check_vocabulary", "encode_texts", "evaluation_mode", "pad_batch", "predict_logits"]

#: What to do where teacher and student do not share their tokens.
OTHER_TOKENIZER = (
    "use a teacher of the student's family, let the teacher write text (`teacher_completions`), or compare sorted"
    " probabilities (`universal_logit_distance`)"
)


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int | None = None
) -> list[list[int]]:
    """Token ids of each text, special tokens included, truncated to `max_length` (default: the tokenizer's own).

    Raises:
        ValueError: no text, an empty one (with its row), or a `max_length` too short for the special tokens.
    """
    check_texts(texts)
    length = resolve_max_length(tokenizer, max_length)
    return tokenizer(list(texts), truncation=True, max_length=length, return_attention_mask=False)["input_ids"]


def pad_batch(
    token_ids: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase, *, side: str | None = None
) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask`, both (batch, longest).

    Args:
        token_ids: of each text.
        tokenizer: says which token pads.
        side: "left" or "right"; default the side that the tokenizer pads.

    Raises:
        ValueError: a tokenizer without a padding token.
    """
    if tokenizer.pad_token_id is None:
        raise ValueError("the tokenizer has no padding token; set `tokenizer.pad_token = tokenizer.eos_token`")
    longest = max(map(len, token_ids))
    ids, mask = [], []
    for row in token_ids:
        padding = longest - len(row)
        pads, ones, zeros = [tokenizer.pad_token_id] * padding, [1] * len(row), [0] * padding
        left = (tokenizer.padding_side if side is None else side) == "left"
        ids.append([*pads, *row] if left else [*row, *pads])
        mask.append(zeros + ones if left else ones + zeros)
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """No dropout inside; afterwards, by an exception too, the model is in the mode in which it came."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@torch.inference_mode()
def predict_logits(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    batch_size: int = 64,
    max_length: int | None = None,
    progress: str | None = None,
) -> Tensor:
    """A classifier's logits for each text, in the order of the texts. The model is used where it is.

    Args:
        model: a sequence classifier; left in the mode (training or evaluation) in which it came.
        tokenizer: the model's own.
        texts: none of them empty.
        batch_size: texts at a time, those of similar length together.
        max_length: in tokens; default the tokenizer's own.
        progress: text of a progress bar; None shows none.

    Returns:
        fp32, (texts, classes), on the CPU.

    Raises:
        ValueError: as `encode_texts`; a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    encoded = encode_texts(tokenizer, texts, max_length)
    by_length = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    starts = range(0, len(by_length), batch_size)
    rows: list[Tensor] = []
    with evaluation_mode(model):
        for start in tqdm(starts, desc=progress, unit="batch", disable=progress is None):
            batch = pad_batch([encoded[i] for i in by_length[start : start + batch_size]], tokenizer)
            rows.append(model(**{k: v.to(model.device) for k, v in batch.items()}).logits.float().cpu())
    logits = torch.empty(len(encoded), rows[0].shape[1])
    logits[torch.tensor(by_length)] = torch.cat(rows)
    return logits


def resolve_max_length(tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> int:
    """`max_length`, or the tokenizer's own. Raises ValueError where it leaves no room for a token."""
    length = tokenizer.model_max_length if max_length is None else max_length
    if length < 3:
        raise ValueError(f"max_length must be at least 3 (two special tokens and one of text), got {length}")
    return min(length, sys.maxsize)  # a tokenizer without a limit of its own says 1e30, too much for the fast ones


def check_finite(teacher_logits: Tensor, remedy: str, first_row: int = 0) -> None:
    """Raise ValueError, with the row and the remedy, where logits (texts, classes) are not finite."""
    bad = (~teacher_logits.isfinite()).any(dim=1).nonzero().flatten()
    if len(bad):
        raise ValueError(f"row {first_row + int(bad[0])}: the teacher's logits are not finite; {remedy}")


def check_vocabulary(teacher: PreTrainedTokenizerBase, student: Any, remedy: str) -> None:
    """Raise ValueError, with the remedy, where a teacher can't read a student's tokens. None has no tokens to check."""
    if student is not None and student.get_vocab() != teacher.get_vocab():
        raise ValueError(
            f"teacher and student have different vocabularies, and the teacher reads the student's tokens; {remedy}"
        )
