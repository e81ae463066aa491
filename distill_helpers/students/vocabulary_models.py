"""The vocabularies of fast tokenizers, and how each kind loses entries: WordPiece, byte-pair encoding, Unigram.

A kind knows what its entries spell, which of them must stay so that every text can still be spelled, and which of them
the texts use most. It reads and writes the entry `model` of a `tokenizer.json`.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from transformers.convert_slow_tokenizer import bytes_to_unicode

__all__ = ["BpeVocabulary", "UnigramVocabulary", "Vocabulary", "WordPieceVocabulary", "vocabulary_of"]

_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


class Vocabulary(ABC):
    """The entries of one tokenizer, and which of them a trimmed tokenizer needs.

    Args:
        model: the entry `model` of a `tokenizer.json`.
        byte_level: whether each byte of a text is a symbol, as GPT-2 has it.
    """

    def __init__(self, model: Mapping[str, Any], *, byte_level: bool = False) -> None:
        self.model = dict(model)
        self.byte_level = byte_level
        #: The index of each entry in the tokenizer as it is.
        self.indices = self._read_indices()

    def _read_indices(self) -> dict[str, int]:
        return dict(self.model["vocab"])

    def always_kept(self, used_characters: Iterable[str]) -> set[str]:
        """What stays whatever the size: symbols that spell, bytes to fall back on, the unknown token.

        Args:
            used_characters: the characters in the texts. Of the others, only ASCII characters are kept, and, in a
                byte-level vocabulary, the symbols of all 256 bytes.
        """
        spelling = set(bytes_to_unicode().values()) if self.byte_level else {chr(code) for code in range(128)}
        spelling.update(used_characters)
        kept = {entry for entry in self.indices if self._symbol(entry) in spelling}
        if self.model.get("byte_fallback"):
            kept.update(_BYTES)
        kept.update(self._unknown())
        return kept & self.indices.keys()

    def _unknown(self) -> set[str]:
        """The unknown token, if there is one."""
        return {self.model["unk_token"]} - {None}

    def stranded(self, used: Iterable[str]) -> set[str]:
        """The entries in use that cannot be spelled, because one of their symbols has no entry of its own.

        Without such an entry, a text that was spelled before would hold an unknown token.
        """
        if self.model.get("byte_fallback"):
            return set()
        return {entry for entry in used if any(symbol not in self.indices for symbol in self.symbols(entry))}

    def by_use(self, counts: Mapping[str, int]) -> list[str]:
        """The entries in use, the most frequent first. Of equally frequent ones, the first in the vocabulary.

        Args:
            counts: how often each entry stands in the tokenised texts.
        """
        return sorted(counts, key=lambda entry: (-counts[entry], self.indices[entry]))

    @abstractmethod
    def trimmed(self, kept: Sequence[str]) -> dict[str, Any]:
        """The entry `model` of a `tokenizer.json` with these entries alone, at the indices of their order."""

    def symbols(self, entry: str) -> list[str]:
        """The entries of single characters that spell this entry."""
        return list(entry)

    def _symbol(self, entry: str) -> str:
        """The entry without the marks of its place in a word."""
        return entry


class WordPieceVocabulary(Vocabulary):
    """Entries that are found longest first (BERT, MiniLM, DistilBERT, ELECTRA, MPNet)."""

    def symbols(self, entry: str) -> list[str]:
        prefix = self.model["continuing_subword_prefix"]
        symbols = [prefix + character for character in self._symbol(entry)]
        return symbols if entry.startswith(prefix) else [entry[0], *symbols[1:]]

    def _symbol(self, entry: str) -> str:
        return entry.removeprefix(self.model["continuing_subword_prefix"])

    def trimmed(self, kept: Sequence[str]) -> dict[str, Any]:
        return {**self.model, "vocab": {entry: index for index, entry in enumerate(kept)}}


class UnigramVocabulary(Vocabulary):
    """Entries with scores, of which the best sum is found (T5, XLM-R, ALBERT, DeBERTa-v2).

    The entry with the lowest score stays, because the score of an unknown character is derived from that score. A text
    whose entries all stay is therefore encoded as before.
    """

    def _read_indices(self) -> dict[str, int]:
        self._scores: dict[str, float] = dict(self.model["vocab"])
        return {entry: index for index, (entry, _) in enumerate(self.model["vocab"])}

    def _unknown(self) -> set[str]:
        index = self.model["unk_id"]
        return set() if index is None else {self.model["vocab"][index][0]}

    def always_kept(self, used_characters: Iterable[str]) -> set[str]:
        lowest = min(self._scores, key=self._scores.__getitem__)
        return super().always_kept(used_characters) | {lowest}

    def trimmed(self, kept: Sequence[str]) -> dict[str, Any]:
        return {
            **self.model,
            "vocab": [[entry, self._scores[entry]] for entry in kept],
            "unk_id": next(map(kept.index, self._unknown()), None),
        }


class BpeVocabulary(Vocabulary):
    """Entries that merges build from symbols (GPT-2, RoBERTa, Llama, Qwen, Gemma).

    An entry can be built only if the entries on its way stay too. Each use of an entry is therefore a use of these, so
    that the most used entries always include them. A text whose entries all stay is encoded as before: the merges that
    are left out are none of those that it needs.
    """

    def _read_indices(self) -> dict[str, int]:
        self._prefix = self.model.get("continuing_subword_prefix") or ""
        self._suffix = self.model.get("end_of_word_suffix") or ""
        pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in self.model["merges"]]
        self._ranks = {pair: rank for rank, pair in enumerate(pairs)}
        return dict(self.model["vocab"])

    def _symbol(self, entry: str) -> str:
        # An entry may be its own marks: "##" as two signs, not as a mark before nothing.
        return entry.removeprefix(self._prefix).removesuffix(self._suffix) or entry

    def symbols(self, entry: str) -> list[str]:
        first = not (self._prefix and entry.startswith(self._prefix))
        last = bool(self._suffix) and entry.endswith(self._suffix)
        symbols = [self._prefix + character for character in self._symbol(entry)]
        if first:
            symbols[0] = symbols[0].removeprefix(self._prefix)
        if last:
            symbols[-1] += self._suffix
        return symbols

    def built_by(self, entry: str) -> list[str]:
        """The entries that the merges build on the way to an entry, in this order, the entry itself last.

        Empty if the merges do not lead there, as to a single symbol, a special token or, in Llama 3, to some words.
        """
        symbols, built = self.symbols(entry), []
        while len(symbols) > 1:
            ranks = [self._ranks.get(pair, math.inf) for pair in itertools.pairwise(symbols)]
            if (lowest := min(ranks)) == math.inf:
                return []
            place = ranks.index(lowest)
            symbols[place : place + 2] = [self._merged(symbols[place], symbols[place + 1])]
            built.append(symbols[place])
        return built if symbols == [entry] else []

    def by_use(self, counts: Mapping[str, int]) -> list[str]:
        uses: Counter[str] = Counter()
        for entry, count in counts.items():
            for built in self.built_by(entry) or [entry]:
                uses[built] += count
        # What an entry is built from has as many uses and fewer symbols, and so stands before the entry.
        return sorted(uses, key=lambda entry: (-uses[entry], len(self.symbols(entry)), self.indices[entry]))

    def trimmed(self, kept: Sequence[str]) -> dict[str, Any]:
        vocabulary = {entry: index for index, entry in enumerate(kept)}
        merges = [
            [left, right]
            for left, right in self._ranks
            if left in vocabulary and right in vocabulary and self._merged(left, right) in vocabulary
        ]
        return {**self.model, "vocab": vocabulary, "merges": merges}

    def _merged(self, left: str, right: str) -> str:
        return left + right.removeprefix(self._prefix)


_KINDS: dict[str, type[Vocabulary]] = {
    "WordPiece": WordPieceVocabulary,
    "Unigram": UnigramVocabulary,
    "BPE": BpeVocabulary,
}


def vocabulary_of(pipeline: Mapping[str, Any]) -> Vocabulary | None:
    """The vocabulary of a tokenizer. None for a kind whose words cannot be spelled in pieces, such as WordLevel.

    Args:
        pipeline: what a `tokenizer.json` holds.
    """
    if (kind := _KINDS.get(pipeline["model"]["type"])) is None:
        return None
    steps = [pipeline["normalizer"], pipeline["pre_tokenizer"]]
    return kind(pipeline["model"], byte_level=any(_has_step(step, "ByteLevel") for step in steps))


def _has_step(step: Any, name: str) -> bool:
    """Whether a step of the pipeline, or a step inside a sequence, is of this type."""
    if step is None:
        return False
    inner = step.get("normalizers") or step.get("pretokenizers") or []
    return step["type"] == name or any(_has_step(part, name) for part in inner)
