"""Which label a teacher's words stand for: parsing a whole answer, or only its first bytes.

Each label has one or more *answers*, the strings that stand for it: the label's name, or the letter that the prompt
offers. An answer counts as it is given, in lower, upper and title case, and with a capital first letter. White space,
quotation marks, brackets or Markdown's asterisks may stand before it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Answers", "label_named_in"]

#: For each label one string or several; "ABCDE" gives five labels a letter each. None: the labels' names.
Answers = Sequence[str | Sequence[str]] | None

_BEFORE = " \t\r\n\"'`*_([{“‘«"
_AROUND = _BEFORE + ".,:;!?)]}”’»"
_BEFORE_BYTES = b" \t\r\n\"'`*_([{"
# What must not follow an answer (True: an answer of one character). "I" is not the answer in "I'm sorry", nor is "A" in
# "A question about …".
_GOES_ON = {False: r"\w", True: r"[\w'’]|\s+[a-z]"}


def label_named_in(text: str, label_names: Sequence[str], *, answers: Answers = None) -> int | None:
    """The label that an answer names: the answer is the label, or mentions this label and no other.

    If two names begin at the same place, the longer one counts ("Mac hardware", not "Mac"). A mention is a whole word,
    in any case. A name of one character counts only as it is written, and not before a word in lower case, so "A
    question about …" does not name A. The function does not understand what is said about a label: "not Windows" names
    Windows.

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
        self._of: dict[str, int] = {}
        self._spellings: dict[bytes, int] = {}
        self._read_before: dict[bytes, Reading] = {}
        for label, strings in enumerate(answers):
            if not strings or not all(string.strip(_AROUND) for string in strings):
                raise ValueError(f"label {label} has an empty name or answer")
            for string in strings:
                if self._of.setdefault(string.strip(_AROUND).casefold(), label) != label:
                    raise ValueError(f"the answer {string!r} stands for two labels")
                bare = string.lstrip(_BEFORE)
                # A single character in the other case is more often a word: "a", "I".
                cases = {bare, bare.lower(), bare.upper(), bare.title(), bare.capitalize()} if len(bare) > 1 else {bare}
                self._spellings |= {case.encode(): label for case in cases}
        mentions = sorted({string.strip(_AROUND) for strings in answers for string in strings}, key=len, reverse=True)
        self._mention = re.compile(r"(?<!\w)(?:" + "|".join(map(_mention, mentions)) + ")")

    def named(self, text: str) -> int | None:
        """The label that a whole answer names; see `label_named_in`."""
        exact = self._of.get(text.strip(_AROUND).casefold())
        if exact is not None:
            return exact
        labels = {self._of.get(found.group().casefold()) for found in self._mention.finditer(text)}
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
        reading = self._read_before.get(start) or self._read(start.lstrip(_BEFORE_BYTES))
        if remember:
            self._read_before[start] = reading
        return reading

    def _read(self, start: bytes) -> Reading:
        begun, long_enough = set(), len(start) > 1
        for spelling, label in self._spellings.items():
            if start.startswith(spelling):
                after = start[len(spelling) :].decode(errors="replace")
                if not re.match(_GOES_ON[len(spelling.decode()) == 1], after):
                    return Reading(frozenset([label]), True)
            elif spelling.startswith(start):
                begun.add(label)
                after = spelling[len(start) :].decode(errors="replace")
                long_enough |= len(start) == 1 and not re.match(r"\w", after)
        return Reading(frozenset(begun), not begun or (len(begun) == 1 and long_enough))


def _mention(answer: str) -> str:
    if len(answer) == 1:
        return f"{re.escape(answer)}(?!{_GOES_ON[True]})"
    return f"(?i:{re.escape(answer)})(?!{_GOES_ON[False]})"
