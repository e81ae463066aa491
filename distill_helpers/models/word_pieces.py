"""From words to tokens and back: which token stands for which word.

A tokenizer cuts a word into pieces. The word's first piece stands for the word: the model's output there is its class.
Other pieces and special tokens stand for no word. A class for each word, and not for each piece, is what two models
have in common whose tokenizers cut words differently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from distill_helpers.data.labelled_texts import fault_of
from distill_helpers.models.batching import TokenIds, resolve_max_length

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["EncodedWords", "check_words", "encode_words", "mark_words_by_a_space"]

# In every tokenizer that marks the beginning of a word by the space before it, a word alone and a word after a space
# are different tokens.
_PROBE = ["a", "a"]


class EncodedWords(NamedTuple):
    """Texts of words as tokens. `encode_words` makes them.

    Attributes:
        token_ids: of each text, special tokens included; with their segments where the tokenizer makes some that are
            not 0 (`batching.TokenIds`).
        first_pieces: of each text, the places of its words' first pieces among its tokens. Word i of the text stands at
            `first_pieces[i]`; words that were cut off have no place.
        n_words: of each text, the number of its words, those that were cut off included.
    """

    token_ids: list[list[int]]
    first_pieces: list[list[int]]
    n_words: list[int]

    @property
    def n_read(self) -> list[int]:
        """The number of words of each text that were not cut off."""
        return list(map(len, self.first_pieces))

    @property
    def n_cut(self) -> int:
        """The number of words that were cut off, in all texts together."""
        return sum(self.n_words) - sum(self.n_read)

    def __repr__(self) -> str:
        n_tokens = sum(map(len, self.token_ids))
        return (
            f"EncodedWords({len(self.token_ids):,} texts, {sum(self.n_words):,} words, {n_tokens:,} tokens,"
            f" {self.n_cut:,} cut off)"
        )

    def told_cut(self, reader: str) -> str | None:
        """What was cut off, in words; None if nothing was.

        Args:
            reader: whose tokens these are, "student" or "teacher".
        """
        if not self.n_cut:
            return None
        rows = [row for row, (n, kept) in enumerate(zip(self.n_words, self.n_read, strict=True)) if n > kept]
        texts = "1 text" if len(rows) == 1 else f"{len(rows):,} texts"
        return (
            f"{self.n_cut:,} of {sum(self.n_words):,} words lie beyond the {reader}'s max_length and were cut off, in"
            f" {texts} (the first is row {rows[0]}: {self.n_read[rows[0]]:,} of its {self.n_words[rows[0]]:,} words"
            " are left)"
        )


def check_words(texts: Sequence[Sequence[str]]) -> None:
    """Raise ValueError, with row and word (both 0-based), unless every text is a sequence of one word or more.

    Raises:
        ValueError: no text at all; a text that is one string, has no word or is no sequence; a word that is empty, no
            string or not valid Unicode.
    """
    if isinstance(texts, str | bytes) or len(texts) == 0:
        raise ValueError("pass a non-empty list of texts, each of them a list of words")
    for row, words in enumerate(texts):
        if isinstance(words, str | bytes):
            raise ValueError(
                f"row {row}: the text is one {type(words).__name__}, and its classes are those of words; pass its words"
                " as a list, such as `text.split()`"
            )
        if not hasattr(words, "__len__") or not hasattr(words, "__getitem__") or isinstance(words, dict):
            raise ValueError(f"row {row}: a {type(words).__name__} is no list of words; pass a list of strings")
        if len(words) == 0:
            raise ValueError(f"row {row}: the text has no word; drop the row")
        for place, word in enumerate(words):
            if (fault := fault_of(word)) is not None:
                fault = fault.replace("the text", "the word")
                raise ValueError(f"row {row}, word {place}: {fault}; drop the word with its label, or fix it")


def encode_words(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Sequence[str]], max_length: int | None = None
) -> EncodedWords:
    """The tokens of texts that are given word by word, and the place of each word's first piece.

    Args:
        tokenizer: a fast tokenizer of transformers, which knows of each token the word that it comes from.
        texts: the words of each text, none of them empty.
        max_length: longer texts are cut to so many tokens; default the tokenizer's own limit. A word whose first piece
            is left is left, though its later pieces may be cut off. Nothing is said of what was cut: `told_cut` does.

    Raises:
        TypeError: a slow tokenizer.
        ValueError: no text, a text without words, an empty word, or a word that becomes no token, such as a control
            character, with row and word; a tokenizer that needs `add_prefix_space=True` for single words; a
            `max_length` that is too short for the special tokens, or that leaves no word of some text.

    Example:
        >>> tokenizer = dh.load_course_model("help-desk-student", device="cpu").tokenizer
        >>> encoded = dh.models.encode_words(tokenizer, [["no", "soundblaster", "driver"]])
        >>> tokenizer.convert_ids_to_tokens(encoded.token_ids[0])
        ['[CLS]', 'no', 'sound', '##bla', '##ster', 'driver', '[SEP]']
        >>> encoded.first_pieces
        [[1, 2, 5]]
    """
    if not tokenizer.is_fast:
        raise TypeError(
            f"{type(tokenizer).__name__} is a slow tokenizer, which does not say which token comes from which word;"
            " load its fast version"
        )
    check_words(texts)
    length = resolve_max_length(tokenizer, max_length)
    _check_word_borders(tokenizer)
    encoded = EncodedWords([], [], [])
    rows = _tokenized(tokenizer, texts)
    for row, words in enumerate(texts):
        token_ids, word_of_token = rows[row]
        n_pieces = Counter(word for word in word_of_token if word is not None)
        for place, word in enumerate(words):
            if place not in n_pieces:
                raise ValueError(
                    f"row {row}, word {place}: {word!r} becomes no token, so that no output of the model is its class;"
                    " drop the word with its label, or write another character in its place"
                )
        if len(token_ids) > length:
            token_ids, word_of_token = _cut(tokenizer, words, length)
        # A word may be cut off at its beginning too, if the tokenizer cuts from the left.
        left = Counter(word for word in word_of_token if word is not None)
        if tokenizer.truncation_side != "right" and any(left[word] < n for word, n in n_pieces.items()):
            raise ValueError(
                f"row {row}: the text must be cut to {length:,} tokens, and the tokenizer cuts the beginning of texts;"
                " set `tokenizer.truncation_side = 'right'`, or split the text"
            )
        first_pieces = [word_of_token.index(word) for word in range(len(left))]
        if not first_pieces:
            raise ValueError(f"row {row}: max_length={length} leaves no word of the text; raise max_length")
        encoded.token_ids.append(token_ids)
        encoded.first_pieces.append(first_pieces)
        encoded.n_words.append(len(words))
    return encoded


def mark_words_by_a_space(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let a tokenizer put the space that marks words before each word, the first one of a text too. Changes it.

    Byte-level tokenizers and those of SentencePiece (Metaspace) have a setting for this; others are left as they are.
    """
    pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    is_sequence = type(pre_tokenizer).__name__ == "Sequence"
    for part in list(pre_tokenizer) if is_sequence else [pre_tokenizer]:
        if hasattr(part, "add_prefix_space"):
            part.add_prefix_space = True
        elif getattr(part, "prepend_scheme", None) == "never":
            part.prepend_scheme = "always"


def _tokenized(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Sequence[str]], **options: Any
) -> list[tuple[list[int], list[int | None]]]:
    """Of each text its token ids, and for each token the number of its word; None for a special token."""
    batch = tokenizer(
        [list(words) for words in texts],
        is_split_into_words=True,
        return_attention_mask=False,
        verbose=False,  # no warning about texts that are too long: they are cut here
        **options,
    )
    segments = batch.get("token_type_ids", [[] for _ in texts])
    return [
        (TokenIds(ids, own) if any(own) else ids, list(batch.word_ids(row)))
        for row, (ids, own) in enumerate(zip(batch["input_ids"], segments, strict=True))
    ]


def _cut(tokenizer: PreTrainedTokenizerBase, words: Sequence[str], length: int) -> tuple[list[int], list[int | None]]:
    return _tokenized(tokenizer, [words], truncation=True, max_length=length)[0]


def _check_word_borders(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ValueError if words that are given one by one become other tokens than the same words in a text."""
    in_text = tokenizer(" ".join(_PROBE), add_special_tokens=False)["input_ids"]
    one_by_one = tokenizer(_PROBE, is_split_into_words=True, add_special_tokens=False)["input_ids"]
    # The first word of a text may lack the space that the others have; the last word never does.
    if in_text[-1:] != one_by_one[-1:] or len(in_text) != len(one_by_one):
        shown = [tokenizer.convert_ids_to_tokens(ids) for ids in (in_text, one_by_one)]
        raise ValueError(
            f"{type(tokenizer).__name__} marks a word by the space before it, and words that are given one by one have"
            f" none: {' '.join(_PROBE)!r} becomes {shown[0]} as a text, and {shown[1]} as two words, which the model"
            " has never seen as words. Load model and tokenizer by `load_token_classifier(…, add_prefix_space=True)`"
        )
