"""Which label a teacher's words stand for: parsing a whole answer, or only its first bytes.

Each label has one or more *answers*, the strings that stand for it: the label's name, or the letter that the prompt
offers. An answer counts as it is given, in lower, upper and title case, and with a capital first letter. White space,
quotation marks, brackets or Markdown's asterisks may stand before it.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from distill_helpers.api.labels.mentions import Mentions, goes_on, normal_form

__all__ = ["Answers", "label_named_in"]

#: For each label one string or several; "ABCDE" gives five labels a letter each. None: the labels' names.
Answers = Sequence[str | Sequence[str]] | None

_BEFORE = " \t\r\n\"'`*_([{“‘«„「『【《〈（［"
_AROUND = _BEFORE + ".,:;!?)]}”’»」』】》〉）］。、！？，：；…"
#: What may stand before an answer, as bytes: the ASCII characters, and the characters of several bytes.
_BEFORE_ASCII = "".join(character for character in _BEFORE if character.isascii()).encode()
_BEFORE_WIDE = tuple(character.encode() for character in _BEFORE if not character.isascii())


def label_named_in(text: str, label_names: Sequence[str], *, answers: Answers = None) -> int | None:
    """The label that an answer names: the answer is the label, or mentions this label and no other.

    Where names overlap, the longest counts ("Mac hardware", not "Mac"; 退款进度, not 退款). The function does not
    understand what is said about a label: "not Windows" names Windows.

    * A mention is a whole word: "cat" is not found in "category", nor Rückgabe in Rückgabeantrag. A mark such as a
      vowel sign belongs to its word.
    * Chinese, Japanese, Thai, Lao, Khmer, Burmese and Tibetan do not set words apart, so a name in their scripts is
      found anywhere: 退款 in 这是退款问题. Katakana alone is read in words: カー is not found in カード.
    * In Korean, a particle may follow a name (환불은, 환불입니다), but another syllable may not stand before it.
    * Words of two scripts end where the script changes: "Mac" is found in "Macです".
    * Case, Unicode's composed and decomposed forms, full-width letters and invisible characters make no difference:
      STRASSE is Straße, and the Turkish i with and without a dot are one letter, unless your labels differ in nothing
      else. Accents do make a difference.
    * A name of one character counts only in the case in which it is written, between characters of other scripts, and
      not before a word in lower case. "A question about …" does not name A, and 不是 does not name 是.

    Args:
        text: the teacher's answer.
        label_names: the classes, in the order of their indices.
        answers: the strings that stand for each label in an answer; default the names.

    Returns:
        The label's index; None if no label is named, or more than one.

    Raises:
        ValueError: no labels, an empty name or answer, or an answer that stands for two labels.

    Example:
        >>> from distill_helpers.api.labels import label_named_in
        >>> label_named_in("It is a **Mac**.", ("Windows", "Mac"))
        1
        >>> label_named_in("Windows or Mac", ("Windows", "Mac")) is None
        True
        >>> label_named_in("これは返品です。", ("配送", "返品"))
        1
    """
    return label_reader(label_names, answers).named(text)


class Reading(NamedTuple):
    """What the beginning of an answer says.

    Attributes:
        labels: the labels whose answers begin like this; empty if no answer begins like this.
        decided: whether the rest of the answer can no longer change this: it is one label, or none.
    """

    labels: frozenset[int]
    decided: bool


def label_reader(label_names: Sequence[str], answers: Answers = None) -> LabelReader:
    """The reader of these labels, which is made once and then kept. Raises the same errors as `label_named_in`."""
    if isinstance(label_names, str) or len(label_names) == 0:
        raise ValueError("pass the names of the labels as a non-empty list")
    given = label_names if answers is None else answers
    if len(given) != len(label_names):
        raise ValueError(f"{len(label_names)} label names, but answers for {len(given)}")
    return _made(tuple((entry,) if isinstance(entry, str) else tuple(entry) for entry in given))


@functools.lru_cache(maxsize=32)
def _made(answers: tuple[tuple[str, ...], ...]) -> LabelReader:
    return LabelReader(answers)


class LabelReader:
    """Reads the labels from whole answers and from beginnings of answers. `label_reader` makes it.

    Args:
        answers: one or more strings for each label.

    Raises:
        ValueError: an empty name or answer, or an answer that stands for two labels.
    """

    def __init__(self, answers: Sequence[Sequence[str]]) -> None:
        self.n_labels = len(answers)
        self._spellings: dict[bytes, int] = {}
        self._read_before: dict[bytes, Reading] = {}
        for label, strings in enumerate(answers):
            if not strings or not all(normal_form(string).strip(_AROUND) for string in strings):
                raise ValueError(f"label {label} has an empty name or answer")
            for string in strings:
                bare = string.lstrip(_BEFORE)
                # A single character in the other case is more often a word: "a", "I".
                cases = {bare, bare.lower(), bare.upper(), bare.title(), bare.capitalize()} if len(bare) > 1 else {bare}
                forms = {unicodedata.normalize(form, case) for form in ("NFC", "NFD") for case in cases}
                self._spellings |= {form.encode(): label for form in forms | cases}
        named = [(label, string) for label, strings in enumerate(answers) for string in strings]
        try:
            self._mentions = Mentions(named, _AROUND, one_i=True)
        except ValueError:  # perhaps two labels that differ in the dot of an i alone
            self._mentions = Mentions(named, _AROUND, one_i=False)

    def named(self, text: str) -> int | None:
        """The label that a whole answer names; see `label_named_in`."""
        exact = self._mentions.exactly(text)
        if exact is not None:
            return exact
        labels = self._mentions.found_in(text)
        return labels.pop() if len(labels) == 1 else None

    def check_told_apart(self) -> None:
        """Check that no label's answer begins another label's, since then a token could not say which is meant.

        Raises:
            ValueError: an answer begins another label's answer.
        """
        for one, label in self._spellings.items():
            for other, others_label in self._spellings.items():
                if label != others_label and other.startswith(one):
                    raise ValueError(
                        f"the answer {one.decode()!r} of one label begins the answer {other.decode()!r} of another, so"
                        " the first tokens do not tell them apart; let the prompt offer letters or numbers of equal"
                        ' length (A, B, … or 01, 02, …) and pass them as answers, such as answers="ABCDE"'
                    )

    def read(self, start: bytes, *, remember: bool = True) -> Reading:
        """Which labels an answer names that begins with these bytes.

        Three beginnings are decided. The first is a whole answer that no letter follows. The second is two bytes or
        more, or a whole word, with which the answers of exactly one label begin; a single letter inside a word is not
        enough. The third is a beginning of no answer at all.

        Args:
            start: the first bytes of an answer; a character may be cut in two.
            remember: keep the reading. That pays for tokens, which occur again, and not for whole texts.
        """
        reading = self._read_before.get(start) or self._read(_without_brackets(start))
        if remember:
            self._read_before[start] = reading
        return reading

    def _read(self, start: bytes) -> Reading:
        begun, long_enough = set(), len(start) > 1
        for spelling, label in self._spellings.items():
            if start.startswith(spelling):
                after = start[len(spelling) :].decode(errors="replace")
                if not goes_on(spelling.decode(), after):
                    return Reading(frozenset([label]), True)
            elif spelling.startswith(start):
                begun.add(label)
                after = spelling[len(start) :].decode(errors="replace")
                long_enough |= len(start) == 1 and not re.match(r"\w", after)
        if any(mark.startswith(start) for mark in _BEFORE_WIDE):  # a part of a bracket, which says nothing yet
            return Reading(frozenset(range(self.n_labels)), False)
        return Reading(frozenset(begun), not begun or (len(begun) == 1 and long_enough))


def _without_brackets(start: bytes) -> bytes:
    """The beginning without what may stand before an answer."""
    while True:
        bare = start.lstrip(_BEFORE_ASCII)
        bare = next((bare[len(mark) :] for mark in _BEFORE_WIDE if bare.startswith(mark)), bare)
        if bare == start:
            return start
        start = bare
