"""Where text becomes tokens, and tokens text: one beginning, one end, and parts that join to what was written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "continued_text",
    "end_markers",
    "prompt_token_ids",
    "split_token_ids",
    "text_token_ids",
    "with_end",
]

#: Texts after which a completion is tokenised to learn how it is written in the middle of a text.
_ANCHORS = ("\n", ".", "a")


def prompt_token_ids(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]) -> list[list[int]]:
    """The tokens of texts that are to be continued: with the tokenizer's beginning of text, without its end of text.

    A prompt that a chat template rendered has its beginning already and gets no second one.
    """
    beginning, _ = _added_tokens(tokenizer)
    return [_begun(ids, beginning) for ids in _plain(tokenizer, prompts)]


def text_token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of whole texts, with what the tokenizer adds at both sides unless the text has it already."""
    beginning, end = _added_tokens(tokenizer)
    begun = (_begun(ids, beginning) for ids in _plain(tokenizer, texts))
    return [ids if not end or ids[-len(end) :] == end else ids + end for ids in begun]


def split_token_ids(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], completions: Sequence[str]
) -> list[tuple[list[int], list[int]]]:
    """The tokens of each prompt and of the completion that follows it. Together they decode to the joined text.

    The prompt has the tokens that it has alone, and the completion those with which the joined text goes on. Where the
    tokenizer would merge the last letters of the prompt with the first of the completion, the completion is tokenised
    on its own. A tokenizer may have no tokens for that, as a WordPiece for "pla" and "ying"; then the token across the
    border belongs to the completion.
    """
    beginning, _ = _added_tokens(tokenizer)
    joined = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
    parts = zip(*(_plain(tokenizer, texts) for texts in (prompts, joined, completions)), completions, strict=True)
    found = []
    for head, whole, alone, completion in parts:
        prompt, rest = _split(tokenizer, head, whole, alone, completion)
        found.append((_begun(prompt, beginning), rest))
    return found


def _split(
    tokenizer: PreTrainedTokenizerBase, head: list[int], whole: list[int], alone: list[int], completion: str
) -> tuple[list[int], list[int]]:
    if whole[: len(head)] == head:
        return head, whole[len(head) :]
    text = _decoded(tokenizer, whole)
    if _decoded(tokenizer, head + alone) == text:
        return head, alone
    for anchor in _ANCHORS:  # SentencePiece writes a blank before a text that stands alone
        before, after = _plain(tokenizer, [anchor, anchor + completion])
        rest = after[len(before) :]
        if after[: len(before)] == before and _decoded(tokenizer, head + rest) == text:
            return head, rest
    common = next((i for i, (one, other) in enumerate(zip(head, whole, strict=False)) if one != other), len(whole))
    return whole[:common], whole[common:]


def continued_text(tokenizer: PreTrainedTokenizerBase, prompt: list[int], completion: list[int]) -> str:
    """The text of a completion, so that it joins to the text of its prompt. Special tokens are left out.

    Decoded alone, a completion would lose the blank before its first word under many tokenizers.
    """
    for context in (prompt, prompt[-1:]):
        before = _decoded(tokenizer, context, skip_special_tokens=True)
        whole = _decoded(tokenizer, context + completion, skip_special_tokens=True)
        if whole.startswith(before):
            return whole[len(before) :]
    return _decoded(tokenizer, completion, skip_special_tokens=True)


def with_end(tokenizer: PreTrainedTokenizerBase, rows: Sequence[list[int]]) -> list[list[int]]:
    """Each row with the tokenizer's end of text, unless the row has an end marker already.

    Any special token is an end marker if nothing but blanks and line breaks follows it, so that the end of a turn that
    a chat template wrote is not followed by a second end.
    """
    if tokenizer.eos_token_id is None:
        return list(rows)
    special = end_markers(tokenizer)

    def has_end(ids: list[int]) -> bool:
        last = next((token for token in reversed(ids) if _decoded(tokenizer, [token]).strip()), None)
        return last in special

    return [ids if has_end(ids) else [*ids, tokenizer.eos_token_id] for ids in rows]


def end_markers(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The special tokens, with which a turn or a text can end."""
    special = {token for token, entry in tokenizer.added_tokens_decoder.items() if entry.special}
    return (special | set(tokenizer.all_special_ids)) - {tokenizer.unk_token_id}


def _plain(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    return tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False)["input_ids"]


def _decoded(tokenizer: PreTrainedTokenizerBase, ids: list[int], *, skip_special_tokens: bool = False) -> str:
    # Cleaning up would remove blanks before punctuation, across the border too.
    text = tokenizer.decode(ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=False)
    assert isinstance(text, str)
    return text


def _begun(ids: list[int], beginning: list[int]) -> list[int]:
    return ids if ids[:1] == beginning[:1] and beginning else beginning + ids


def _added_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What a tokenizer adds before and after each text."""
    probe = "a"
    plain, whole = _plain(tokenizer, [probe])[0], tokenizer(probe, return_attention_mask=False)["input_ids"]
    for first in range(len(whole) - len(plain) + 1):
        if whole[first : first + len(plain)] == plain and plain:
            return whole[:first], whole[first + len(plain) :]
    raise ValueError(
        f"{type(tokenizer).__name__} tokenises {probe!r} differently with and without special tokens, so that its"
        " beginning of text cannot be found; pass token ids to CompletionDataset"
    )
