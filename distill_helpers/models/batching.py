"""From texts to padded batches.

Texts are tokenised once, and a batch is only as long as its longest text. Padding ten tokens to 512 would make a batch
some thirty times slower.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from distill_helpers.data.text_inputs import TextInput, check_inputs
from distill_helpers.models.pad_tokens import check_pad_token
from distill_helpers.models.prediction_tasks import without_wrappers

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "OTHER_TOKENIZER",
    "POSITION_TABLES",
    "TokenIds",
    "check_batch_size",
    "check_positions",
    "check_vocabulary",
    "encode_texts",
    "evaluation_mode",
    "inputs_for",
    "model_batch",
    "pad_batch",
    "padded_rows",
    "padding_side",
    "position_limit",
    "rows_by_length",
    "to_device",
]

#: The names under which models of transformers keep a learned vector for each position.
POSITION_TABLES = (
    "position_embeddings",
    "embed_positions",
    "wpe",
    "positions_embed",
    "char_position_embeddings",
)
#: What to do where teacher and student do not share their tokens.
OTHER_TOKENIZER = (
    "use a teacher of the student's family, let the teacher write text (`teacher_completions`), or compare sorted"
    " probabilities (`universal_logit_distance`)"
)


class TokenIds(list[int]):
    """The token ids of one input, with the segments that its tokens belong to, such as 0 and 1 for the two of a pair.

    A list of ints, so that it can stand wherever token ids stand. The segments stay with their own input when the
    inputs are sorted and batched; `pad_batch` hands them on.

    Args:
        token_ids: as the tokenizer makes them.
        token_type_ids: as many.
    """

    def __init__(self, token_ids: Sequence[int], token_type_ids: Sequence[int]) -> None:
        super().__init__(token_ids)
        self.token_type_ids = list(token_type_ids)

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenIds, (list(self), self.token_type_ids)


def segments_of(token_ids: Sequence[int]) -> list[int] | None:
    """The segments of the tokens of one input; None where all tokens are of segment 0."""
    return token_ids.token_type_ids if isinstance(token_ids, TokenIds) else None


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[TextInput], max_length: int | None = None
) -> list[list[int]]:
    """Token ids of each text, special tokens included.

    Args:
        tokenizer: any tokenizer of transformers.
        texts: texts, or pairs of texts (tuples of two), none of them empty.
        max_length: longer texts are cut to so many tokens; default the tokenizer's own limit. Of a pair, the longer
            text is cut first.

    Returns:
        A list for each text. Where the tokenizer tells segments apart, as BERT's does in a pair, the list is a
        `TokenIds`, which keeps them. Segments that are 0 throughout, the models' default, are left out.

    Raises:
        ValueError: no text, an empty text (with its row), a `max_length` that is too short for the special tokens and
            a token of each text, or pairs for a tokenizer that puts nothing between two texts, as GPT-2's.

    Example:
        >>> tokenizer = dh.load_course_model("help-desk-student").tokenizer
        >>> dh.encode_texts(tokenizer, ["no sound", "my mac shows a grey screen"], max_length=6)
        [[2, 130, 585, 3], [2, 103, 2292, 896, 43, 3]]
    """
    check_inputs(texts)
    length = resolve_max_length(tokenizer, max_length)
    if any(isinstance(text, tuple) for text in texts):
        needed = tokenizer.num_special_tokens_to_add(pair=True) + 2
        if needed - 2 <= tokenizer.num_special_tokens_to_add(pair=False):
            raise ValueError(
                f"{type(tokenizer).__name__} puts nothing between the two texts of a pair, so that ('ab', 'c') and"
                " ('a', 'bc') would be the same input; join the texts by a template of your own, such as"
                " f'query: {query}\\npassage: {passage}'"
            )
        if length < needed:
            raise ValueError(
                f"max_length must be at least {needed} for pairs ({needed - 2} special tokens and one of each text),"
                f" got {length}"
            )
    encoded = tokenizer(list(texts), truncation="longest_first", max_length=length, return_attention_mask=False)
    if "token_type_ids" not in encoded:
        return encoded["input_ids"]
    both = zip(encoded["input_ids"], encoded["token_type_ids"], strict=True)
    return [TokenIds(ids, segments) if any(segments) else ids for ids, segments in both]


def pad_batch(
    token_ids: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase, *, side: str | None = None
) -> dict[str, Tensor]:
    """One batch of texts of several lengths, padded to the longest.

    Args:
        token_ids: the token ids of each text, from `encode_texts`.
        tokenizer: says which token pads.
        side: "left" or "right"; default the side that the tokenizer pads.

    Returns:
        `input_ids` and `attention_mask`, both int64, (batch, longest). The mask is 0 where there is padding. Where
        some text has segments (`TokenIds`), `token_type_ids` too, 0 for a text without.

    Raises:
        ValueError: a tokenizer without a padding token.

    Example:
        >>> tokenizer = dh.load_course_model("help-desk-student").tokenizer
        >>> dh.pad_batch([[2, 30, 31, 3], [2, 32, 3]], tokenizer)["attention_mask"]
        tensor([[1, 1, 1, 1],
                [1, 1, 1, 0]])
    """
    if tokenizer.pad_token_id is None:
        raise ValueError("the tokenizer has no padding token; set `tokenizer.pad_token = tokenizer.eos_token`")
    side = tokenizer.padding_side if side is None else side
    batch = padded_rows(token_ids, tokenizer.pad_token_id, side)
    segments = [segments_of(ids) for ids in token_ids]
    if any(segments):
        known = [own or [0] * len(ids) for own, ids in zip(segments, token_ids, strict=True)]
        batch["token_type_ids"] = padded_rows(known, tokenizer.pad_token_type_id, side)["input_ids"]
    return batch


def padded_rows(token_ids: Sequence[Sequence[int]], fill: int, side: str) -> dict[str, Tensor]:
    """Rows of several lengths as `input_ids` and `attention_mask`, both int64, (batch, longest).

    Args:
        token_ids: the tokens of each row.
        fill: stands where there is padding; the mask is 0 there.
        side: of the padding, "left" or "right".
    """
    rows = [torch.tensor(list(ids), dtype=torch.long) for ids in token_ids]

    def pad(values: list[Tensor], value: int) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=value, padding_side=side)

    return {"input_ids": pad(rows, fill), "attention_mask": pad([torch.ones_like(row) for row in rows], 0)}


def rows_by_length(token_ids: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """The rows of each batch, from the shortest texts to the longest, so that a batch needs little padding.

    Raises:
        ValueError: a batch size below 1.
    """
    check_batch_size(batch_size)
    order = sorted(range(len(token_ids)), key=lambda row: len(token_ids[row]))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def model_batch(
    model: PreTrainedModel, token_ids: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase
) -> dict[str, Tensor]:
    """One batch on the model's device, padded so that no output depends on the other texts of the batch.

    The side of the padding is the model's (`padding_side`), whatever the tokenizer's. The segments of a pair are handed
    on to a model that knows segments (`inputs_for`).

    Raises:
        ValueError: a tokenizer without a padding token, or with another one than the model looks for.
    """
    check_pad_token(model, tokenizer)
    batch = pad_batch(token_ids, tokenizer, side=padding_side(model))
    return inputs_for(model, to_device(batch, model.device))


def padding_side(model: PreTrainedModel) -> str:
    """The side on which a classifier's batches are padded: "right", since most models count from the first column.

    BERT and GPT-2 number their positions so. Only a model that reads its class off the last column (XLNet) is padded
    on the left.
    """
    return "left" if getattr(model.config, "summary_type", None) == "last" else "right"


def inputs_for(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch without `token_type_ids` where the model knows no segments, as DistilBERT and RoBERTa do not.

    A model without segments tells the two texts of a pair apart by the separator between them.
    """
    inner = without_wrappers(model)
    kind: Any = type(inner)
    knows = _takes_segments(kind) and getattr(getattr(inner, "config", None), "type_vocab_size", 2) > 1
    return {name: value for name, value in batch.items() if knows or name != "token_type_ids"}


@functools.cache
def _takes_segments(kind: Any) -> bool:
    return "token_type_ids" in inspect.signature(kind.forward).parameters


def to_device(batch: Mapping[str, Any], device: torch.device) -> dict[str, Tensor]:
    """The tensors of a batch, on this device. Entries that are no tensors are left out."""
    return {name: value.to(device) for name, value in batch.items() if isinstance(value, Tensor)}


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """No dropout inside the block. Afterwards, also after an exception, each module is in the mode in which it came."""
    were_training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, was_training in were_training:
            module.training = was_training


def resolve_max_length(tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> int:
    """`max_length`, or the tokenizer's own limit. Raises ValueError if it leaves no room for a token of text."""
    length = tokenizer.model_max_length if max_length is None else max_length
    if length < 3:
        raise ValueError(f"max_length must be at least 3 (two special tokens and one of text), got {length}")
    return min(length, sys.maxsize)  # a tokenizer without a limit says 1e30, which the fast tokenizers cannot take


def check_batch_size(batch_size: int) -> None:
    """Raise ValueError for a batch size below 1."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")


def check_positions(
    model: nn.Module, token_ids: Sequence[Sequence[int]], who: str = "the model", where: str = ""
) -> None:
    """Raise ValueError, with row and remedy, for a text of more tokens than the model has learned positions for.

    Args:
        model: reads the texts.
        token_ids: the token ids of each text.
        who: names the model in the message.
        where: comes before the row in the message, such as "train_dataset, ".
    """
    limit = position_limit(model)
    for row, ids in enumerate(token_ids):
        if len(ids) > limit:
            raise ValueError(
                f"{where}row {row}: the text has {len(ids):,} tokens, and {who} has {limit:,} positions; pass"
                f" max_length={limit}, or set `tokenizer.model_max_length = {limit}`"
            )


def position_limit(model: nn.Module) -> int:
    """The number of tokens for which a model has learned positions; the largest integer if it learns none."""
    tables = (_n_positions(name, module) for name, module in model.named_modules())
    # Nystromformer numbers fewer positions than its table has rows.
    numbered = (ids.shape[-1] for name, ids in model.named_buffers() if name.rpartition(".")[2] == "position_ids")
    return min((*tables, *numbered), default=sys.maxsize)


def _n_positions(name: str, module: nn.Module) -> int:
    """The number of tokens for which a table of positions has rows; the largest integer for every other module."""
    if name.rpartition(".")[2] not in POSITION_TABLES:
        return sys.maxsize
    rows = getattr(module, "num_embeddings", sys.maxsize)
    # RoBERTa's positions begin after the padding row, OPT's after an offset.
    padding = getattr(module, "padding_idx", None)
    return int(rows) - int(getattr(module, "offset", 0 if padding is None else padding + 1))


def check_finite(teacher_logits: Tensor, remedy: str, first_row: int = 0) -> None:
    """Raise ValueError, with the row and the remedy, if some logits (texts, classes) are not finite."""
    bad = (~teacher_logits.isfinite()).any(dim=1).nonzero().flatten()
    if len(bad):
        raise ValueError(f"row {first_row + int(bad[0])}: the teacher's logits are not finite; {remedy}")


def check_vocabulary(teacher: PreTrainedTokenizerBase, student: Any, remedy: str) -> None:
    """Raise ValueError, with the remedy, if the teacher cannot read the student's tokens.

    Args:
        teacher: the teacher's tokenizer.
        student: the student's tokenizer. None if there are no tokens to check.
        remedy: ends the message.
    """
    if student is not None and student.get_vocab() != teacher.get_vocab():
        raise ValueError(
            f"teacher and student have different vocabularies, and the teacher reads the student's tokens; {remedy}"
        )
