"""From conversations to tokens, of which those that the assistant wrote are learnt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distill_helpers.llm.text_borders import end_markers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["conversation_tokens"]

#: Where a template marks what the assistant wrote.
_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")


def conversation_tokens(
    rows: Iterable[Any], tokenizer: PreTrainedTokenizerBase, *, column: str = "messages"
) -> list[tuple[list[int], list[bool]]]:
    """The tokens of each conversation, and for each token whether the assistant writes it.

    The end marker of a turn is a part of what the assistant writes; the line break that a template puts after the
    marker is not. If the template has `{% generation %}` blocks, they decide. Otherwise the conversation is rendered up
    to each turn of the assistant and up to its end; what is between the two is the turn.

    Args:
        rows: a list of messages each, or a mapping that has one in `column`. A message has `role` and `content`.
        tokenizer: with a chat template.
        column: of the messages.

    Raises:
        ValueError: the tokenizer has no chat template; or, with its row, a conversation is not a list of messages, has
            no turn of the assistant, is refused by the template, or is rendered differently when it goes on.
    """
    template = tokenizer.get_chat_template() if tokenizer.chat_template else None
    if template is None:
        raise ValueError("the tokenizer has no chat template; set tokenizer.chat_template, or use from_pairs")
    tokens = _marked_tokens if _MARKS.search(template) else _tokens_between_prefixes
    found = []
    for number, row in enumerate(rows):
        messages = _messages(number, row, column)
        try:
            ids, learnt = tokens(tokenizer, messages)
        except Exception as error:  # a template raises whatever its author and Jinja raise
            raise ValueError(f"row {number}: {error}") from error
        if not any(learnt):
            raise ValueError(f"row {number}: no token of the conversation is the assistant's; leave the row out")
        found.append((ids, learnt))
    return found


def _messages(number: int, row: Any, column: str) -> list[Mapping[str, Any]]:
    if isinstance(row, Mapping) and column not in row:
        raise ValueError(f"row {number} has no column {column!r}, only {sorted(row)}; name the column of the messages")
    messages = row[column] if isinstance(row, Mapping) else row
    if isinstance(messages, str) or not isinstance(messages, Sequence):
        raise ValueError(f"row {number} must be a list of messages, got {type(messages).__name__}")
    for message in messages:
        if not isinstance(message, Mapping) or "role" not in message:
            raise ValueError(f"row {number} has a message without a role; a message is a mapping of role and content")
    if not any(message["role"] == "assistant" for message in messages):
        raise ValueError(f"row {number} has no turn of the assistant, so that nothing could be learnt; leave it out")
    return list(messages)


def _marked_tokens(tokenizer: Any, messages: list[Mapping[str, Any]]) -> tuple[list[int], list[bool]]:
    encoded = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return list(encoded["input_ids"]), [bool(mark) for mark in encoded["assistant_masks"]]


def _tokens_between_prefixes(tokenizer: Any, messages: list[Mapping[str, Any]]) -> tuple[list[int], list[bool]]:
    def rendered(n: int, *, to_be_answered: bool = False) -> str:
        return tokenizer.apply_chat_template(messages[:n], tokenize=False, add_generation_prompt=to_be_answered)

    whole = rendered(len(messages))
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids, places = encoded["input_ids"], encoded["offset_mapping"]
    learnt, markers = [False] * len(ids), end_markers(tokenizer)
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before, after = rendered(turn, to_be_answered=True), rendered(turn + 1)
        if not after.startswith(before) or not whole.startswith(after):
            raise ValueError(
                f"the chat template renders the conversation differently up to message {turn} than as a whole, so that"
                " the assistant's tokens cannot be told; give the template {% generation %} blocks, or split the"
                " conversation into prompts and completions for from_pairs"
            )
        inside = [i for i, (start, stop) in enumerate(places) if len(before) <= start < stop <= len(after)]
        last = next((i for i in reversed(inside) if whole[slice(*places[i])].strip()), None)
        if last is not None and ids[last] in markers:
            inside = [i for i in inside if i <= last]
        for i in inside:
            learnt[i] = True
    return ids, learnt
