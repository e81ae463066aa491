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
    rows: Iterable[Any], tokenizer: PreTrainedTokenizerBase, *, column: str = "messages", split_turns: bool = False
) -> list[tuple[list[int], list[bool]]]:
    """The tokens of each conversation, and for each token whether the assistant writes it.

    The end marker of a turn is a part of what the assistant writes; the line break that a template puts after the
    marker is not. If the template has `{% generation %}` blocks, they decide. Otherwise the conversation is rendered up
    to each turn of the assistant and up to its end; what is between the two is the turn.

    Args:
        rows: a list of messages each, or a mapping that has one in `column`. A message has `role` and `content`.
        tokenizer: with a chat template.
        column: of the messages.
        split_turns: make a sequence of each turn of the assistant, with what stands before the turn as the template
            renders it while the turn is the last. Only that turn is learnt.

    Returns:
        One entry for each conversation, or with `split_turns` for each turn of the assistant, in order.

    Raises:
        ValueError: the tokenizer has no chat template; or, with its row, a conversation is not a list of messages, has
            no turn of the assistant, is refused by the template, or is rendered differently when it goes on.
    """
    template = tokenizer.get_chat_template() if tokenizer.chat_template else None
    if template is None:
        raise ValueError("the tokenizer has no chat template; set tokenizer.chat_template, or use from_pairs")
    marked = _MARKS.search(template) is not None
    found = []
    for number, row in enumerate(rows):
        messages = _messages(number, row, column)
        try:
            if split_turns:
                turns = [turn for turn, message in enumerate(messages) if message["role"] == "assistant"]
                sequences = [_tokens_between_prefixes(tokenizer, messages[: turn + 1], [turn]) for turn in turns]
            elif marked:
                sequences = [_marked_tokens(tokenizer, messages)]
            else:
                sequences = [_tokens_between_prefixes(tokenizer, messages, range(len(messages)))]
        except Exception as error:  # a template raises whatever its author and Jinja raise
            raise ValueError(f"row {number}: {error}") from error
        if not all(any(learnt) for _, learnt in sequences):
            raise ValueError(f"row {number}: no token of the conversation is the assistant's; leave the row out")
        found += sequences
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
        content = message.get("content")
        if not isinstance(content, str | list) and not (content is None and message.get("tool_calls")):
            raise ValueError(f"row {number} has a message whose content is {content!r}; a content is a text")
        if message["role"] == "assistant" and isinstance(content, str) and not (content.strip() or len(message) > 2):
            raise ValueError(f"row {number} has an empty turn of the assistant; leave the turn or the row out")
    if not any(message["role"] == "assistant" for message in messages):
        raise ValueError(f"row {number} has no turn of the assistant, so that nothing could be learnt; leave it out")
    # A data set of Hugging Face fills up what a message lacks with None, which a template would take as given.
    return [{k: v for k, v in message.items() if v is not None or k == "content"} for message in messages]


def _marked_tokens(tokenizer: Any, messages: list[Mapping[str, Any]]) -> tuple[list[int], list[bool]]:
    encoded = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    return list(encoded["input_ids"]), [bool(mark) for mark in encoded["assistant_masks"]]


def _tokens_between_prefixes(
    tokenizer: Any, messages: list[Mapping[str, Any]], turns: Iterable[int]
) -> tuple[list[int], list[bool]]:
    """The tokens of a conversation; those are learnt that the assistant writes in some of its turns."""

    def rendered(n: int, *, to_be_answered: bool = False) -> str:
        return tokenizer.apply_chat_template(messages[:n], tokenize=False, add_generation_prompt=to_be_answered)

    whole = rendered(len(messages))
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids, places = encoded["input_ids"], encoded["offset_mapping"]
    learnt, markers = [False] * len(ids), end_markers(tokenizer)
    for turn in turns:
        if messages[turn]["role"] != "assistant":
            continue
        before, after = rendered(turn, to_be_answered=True), rendered(turn + 1)
        if not after.startswith(before) or not whole.startswith(after):
            raise ValueError(
                f"the chat template renders the conversation differently up to message {turn} than as a whole, so that"
                " the assistant's tokens cannot be told; pass split_turns=True, which makes a sequence of each turn, or"
                " give the template {% generation %} blocks"
            )
        inside = [i for i, (start, stop) in enumerate(places) if len(before) <= start < stop <= len(after)]
        last = next((i for i in reversed(inside) if whole[slice(*places[i])].strip()), None)
        if last is not None and ids[last] in markers:
            inside = [i for i in inside if i <= last]
        for i in inside:
            learnt[i] = True
    return ids, learnt
