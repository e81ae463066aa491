"""Where a text mentions a label: whole words, in every script, case and Unicode form."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

__all__ = ["Mentions", "goes_on", "normal_form"]

#: Characters that nobody sees: soft hyphens, joiners, direction marks, variation selectors.
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff]")
#: Scripts that do not set words apart: Han, hiragana, bopomofo; Thai, Lao, Tibetan, Burmese, Khmer.
_UNDIVIDED = re.compile(
    "[\u3005\u3007\u3040-\u309f\u3100-\u312f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff]"
)
_KATAKANA = re.compile("[\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff]")
_HANGUL = re.compile("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")

#: How many characters after a name can show whether the word goes on.
_LOOK_AHEAD = 16


def normal_form(text: str) -> str:
    """The text in NFKC, without invisible characters."""
    return unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))


def goes_on(answer: str, after: str) -> bool:
    """Whether what follows an answer makes it the beginning of another word.

    A letter that is a whole answer must also not be followed by an apostrophe ("I" in "I'm sorry") or by a word in
    lower case ("A" in "A question about …").
    """
    answer, after = normal_form(answer), normal_form(after)
    if len(answer) == 1:
        in_a_sentence = _script(answer) == "word" and re.match(r"['’]|\s+[a-z]", after)
        return bool(in_a_sentence) or _one_word(answer, after[:1], alone=True)
    if after and _script(answer[-1]) == _script(after[0]) == "Hangul":
        return False  # in Korean, particles follow their noun without a space
    return _one_word(answer[-1], after[:1])


def _one_word(left: str, right: str, *, alone: bool = False) -> bool:
    """Whether two characters that stand side by side belong to one word; "" is the edge of the text.

    Args:
        left: a character.
        right: the next character.
        alone: one of them is a whole name, which in no script may be a part of a word.
    """
    if not left or not right:
        return False
    if unicodedata.category(right).startswith("M"):
        return True  # a mark belongs to what it stands on
    kinds = _script(left), _script(right)
    return kinds[0] == kinds[1] and kinds[0] != "" and (alone or kinds[0] != "undivided")


def _script(character: str) -> str:
    """The kind of script, as far as words are concerned; "" for what is no part of a word."""
    for kind, pattern in (("undivided", _UNDIVIDED), ("katakana", _KATAKANA), ("Hangul", _HANGUL)):
        if pattern.match(character):
            return kind
    return "word" if re.match(r"\w", character) or unicodedata.category(character).startswith("M") else ""


class Mentions:
    """Finds names in texts.

    Args:
        names: pairs of a label and a name; a label may have several names.
        around: characters that do not count at the ends of a name or of a text.
        one_i: take the i without a dot for an i, as Turkish texts need in which somebody has changed the case.

    Raises:
        ValueError: a name that stands for two labels.
    """

    def __init__(self, names: Sequence[tuple[int, str]], around: str, *, one_i: bool) -> None:
        self._around, self._one_i = around, one_i
        self._label: dict[str, int] = {}
        self._as_written: dict[str, str] = {}  # of a name of one character
        for label, name in names:
            written = normal_form(name).strip(around)
            folded = self._fold(written)[0]
            if self._label.setdefault(folded, label) != label:
                raise ValueError(f"the answer {name!r} stands for two labels")
            if len(written) == 1:
                self._as_written[folded] = written
        self._by_start: dict[str, list[str]] = {}
        for folded in self._label:
            self._by_start.setdefault(folded[0], []).append(folded)

    def exactly(self, text: str) -> int | None:
        """The label whose name the text is, apart from what is around it."""
        return self._label.get(self._fold(normal_form(text).strip(self._around))[0])

    def found_in(self, text: str) -> set[int]:
        """The labels that a text mentions. Of mentions that overlap, the longest counts."""
        written = normal_form(text)
        folded, origin = self._fold(written)
        found = [
            (start, start + len(name), self._label[name])
            for start, character in enumerate(folded)
            for name in self._by_start.get(character, ())
            if folded.startswith(name, start)
            and (start == 0 or origin[start - 1] < origin[start])  # not from the second s of an ß on
            and origin[start + len(name) - 1] < origin[start + len(name)]
            and self._is_mention(name, written, origin[start], origin[start + len(name)])
        ]
        labels, taken = set(), [False] * len(folded)
        for start, end, label in sorted(found, key=lambda span: span[0] - span[1]):
            if not any(taken[start:end]):
                taken[start:end] = [True] * (end - start)
                labels.add(label)
        return labels

    def _is_mention(self, name: str, written: str, start: int, end: int) -> bool:
        before, mention = written[max(start - 1, 0) : start], written[start:end]
        if name in self._as_written:
            if mention != self._as_written[name] or _one_word(before, mention, alone=True):
                return False
        elif not mention or _one_word(before, mention[0]):
            return False
        return not goes_on(mention, written[end : end + _LOOK_AHEAD])

    def _fold(self, written: str) -> tuple[str, list[int]]:
        """The text without case, and for each of its characters, and its end, the index in the text."""
        folded: list[str] = []
        origin: list[int] = []
        for index, character in enumerate(written):
            parts = character.casefold()
            if self._one_i:
                if character == "\u0307" and folded and folded[-1] == "i":
                    continue  # the dot of an İ in lower case
                parts = {"İ": "i", "ı": "i"}.get(character, parts)
            folded += parts
            origin += [index] * len(parts)
        return "".join(folded), [*origin, len(written)]
