"""From texts to padded batches.

Texts are tokenised once, and a batch is only as long as its longest text. Padding ten tokens to 512 would make a batch
some thirty times slower.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from distill_helpers.data.labelled_texts import check_texts

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "OTHER_TOKENIZER",
    "check_batch_size",
    "check_pad_token",
    "check_positions",
    "check_vocabulary",
    "encode_texts",
    "evaluation_mode",
    "model_batch",
    "pad_batch",
    "position_limit",
    "to_device",
]

#: What to do where teacher and student do not share their tokens.
OTHER_TOKENIZER = (
    "use a teacher of the student's family, let the teacher write text (`teacher_completions`), or compare sorted"
    " probabilities (`universal_logit_distance`)"
)


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int | None = None
) -> list[list[int]]:
    """Token ids of each text, special tokens included.

    Args:
        tokenizer: any tokenizer of transformers.
        texts: none of them empty.
        max_length: longer texts are cut to so many tokens; default the tokenizer's own limit.

    Raises:
        ValueError: no text, an empty text (with its row), or a `max_length` that is too short for the special tokens.

    Example:
        >>> tokenizer = dh.load_course_model("help-desk-student").tokenizer
        >>> dh.encode_texts(tokenizer, ["no sound", "my mac shows a grey screen"], max_length=6)
        [[2, 130, 585, 3], [2, 103, 2292, 896, 43, 3]]
    """
    check_texts(texts)
    length = resolve_max_length(tokenizer, max_length)
    return tokenizer(list(texts), truncation=True, max_length=length, return_attention_mask=False)["input_ids"]


def pad_batch(
    token_ids: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase, *, side: str | None = None
) -> dict[str, Tensor]:
    """One batch of texts of several lengths, padded to the longest.

    Args:
        token_ids: the token ids of each text.
        tokenizer: says which token pads.
        side: "left" or "right"; default the side that the tokenizer pads.

    Returns:
        `input_ids` and `attention_mask`, both int64, (batch, longest). The mask is 0 where there is padding.

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
    batch = tokenizer.pad(
        {"input_ids": [list(ids) for ids in token_ids]},
        padding_side=side,
        return_attention_mask=True,
        return_tensors="pt",
    )
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


def model_batch(
    model: PreTrainedModel, token_ids: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerBase
) -> dict[str, Tensor]:
    """One batch on the model's device, padded so that no output depends on the other texts of the batch.

    Padding stands on the right, whatever the tokenizer's side: most encoders and GPT-2 count their positions from the
    first column. Only a model that reads its class off the last column (XLNet) is padded on the left.

    Raises:
        ValueError: a tokenizer without a padding token, or with another one than the model looks for.
    """
    check_pad_token(model, tokenizer)
    side = "left" if getattr(model.config, "summary_type", None) == "last" else "right"
    return to_device(pad_batch(token_ids, tokenizer, side=side), model.device)


def check_pad_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError if a model looks for another padding token than the tokenizer pads with.

    Decoders find the last token of a text by `config.pad_token_id`, and RoBERTa's relatives count their positions by
    the padding token that they were built with. Models that read the attention mask alone pass.
    """
    looked_for = {"its configuration": _text_config(model).pad_token_id} if _finds_the_end_by_padding(model) else {}
    for name, module in model.named_modules():
        # The padding row of an nn.Embedding does not matter: the attention mask hides it.
        if isinstance(getattr(module, "padding_idx", None), int) and type(module).__name__.endswith("Embeddings"):
            looked_for[f"its module {name!r}"] = module.padding_idx
    for where, pad in looked_for.items():
        if pad != tokenizer.pad_token_id:
            raise ValueError(
                f"the tokenizer pads with token {tokenizer.pad_token_id}, but by {where} this {type(model).__name__}"
                f" looks for {pad}, so its outputs would depend on the other texts of a batch; set"
                " `model.config.pad_token_id = tokenizer.pad_token_id` (for positions: before the model is built), or"
                " give the tokenizer the model's padding token"
            )


def _finds_the_end_by_padding(model: PreTrainedModel) -> bool:
    """Whether a classifier's forward pass reads `pad_token_id`, as all decoders' do."""
    classes = [kind for kind in type(model).__mro__ if kind.__name__.endswith("ForSequenceClassification")]
    forwards = [inspect.unwrap(vars(kind)["forward"]) for kind in classes if "forward" in vars(kind)]
    return bool(forwards) and "pad_token_id" in forwards[0].__code__.co_names


def _text_config(model: PreTrainedModel) -> Any:
    return model.config.get_text_config()


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


def check_positions(model: nn.Module, token_ids: Sequence[Sequence[int]]) -> None:
    """Raise ValueError, with row and remedy, for a text of more tokens than the model has learned positions for."""
    limit = position_limit(model)
    for row, ids in enumerate(token_ids):
        if len(ids) > limit:
            raise ValueError(
                f"row {row}: the text has {len(ids):,} tokens, and the model has {limit:,} positions; pass"
                f" max_length={limit}, or set `tokenizer.model_max_length = {limit}`"
            )


def position_limit(model: nn.Module) -> int:
    """The number of tokens for which a model has learned positions; the largest integer if it learns none."""
    return min((_n_positions(name, module) for name, module in model.named_modules()), default=sys.maxsize)


def _n_positions(name: str, module: nn.Module) -> int:
    """The number of tokens for which a table of positions has rows; the largest integer for every other module."""
    if name.rpartition(".")[2] not in ("position_embeddings", "embed_positions", "wpe"):
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
