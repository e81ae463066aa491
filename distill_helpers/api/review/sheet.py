"""A person reviews a sample of the teacher's answers: how accurate they are, and verified labels for the student.

The whole review in a notebook; elsewhere, call `sheet.judge(0, "right")` in place of the widget:

    items = review_items(records, label_names, size=150)
    sheet = ReviewSheet("verdicts.jsonl", items, label_names)
    review_widget(sheet)
    sheet.accuracy(), sheet.verified_labels()
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from distill_helpers.api.journal.append_only_file import append_lines, numbered_lines, private_file, repair_last_line
from distill_helpers.api.journal.records import utc_now
from distill_helpers.api.review.sampling import ReviewItem

__all__ = [
    "RIGHT",
    "UNSURE",
    "WRONG",
    "ReviewSheet",
    "ReviewVerdict",
    "ReviewedAccuracy",
    "wilson_interval",
]

#: The verdicts on an answer.
RIGHT, WRONG, UNSURE = "right", "wrong", "unsure"


@dataclass(frozen=True)
class ReviewVerdict:
    """A person's verdict on one answer: a line of the review sheet's file.

    Attributes:
        input: the input.
        shown: the answer that was judged.
        verdict: "right", "wrong" or "unsure".
        label: the name of the right label; None if it is unknown, or if the answer is a text.
        date: UTC, ISO 8601, to the second.
    """

    input: str
    shown: str
    verdict: str
    label: str | None
    date: str

    def __repr__(self) -> str:
        return f"ReviewVerdict({self.verdict!r}, label={self.label!r}, {self.date})"


class ReviewedAccuracy(NamedTuple):
    """The share of right answers that a review shows.

    Attributes:
        share: of the answers that were judged right or wrong, the part that was judged right.
        low, high: the 95% interval of that share.
        n_judged: number of answers that were judged right or wrong.
        n_unsure: number of answers that were judged unsure, which do not count.
    """

    share: float
    low: float
    high: float
    n_judged: int
    n_unsure: int


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a share (1927), sound for few observations and for shares near 0 and 1.

    Args:
        successes: number of observations that count.
        n: number of all observations.
        confidence: of the interval, in (0, 1).

    Returns:
        The lower and the upper bound of the share.

    Raises:
        ValueError: successes are not in 0 to n, or there is no observation.

    Example:
        >>> from distill_helpers.api.review import wilson_interval
        >>> low, high = wilson_interval(120, 150)
        >>> round(low, 3), round(high, 3)
        (0.729, 0.856)
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"need 0 <= successes <= n and n > 0, got {successes} and {n}")
    from scipy.stats import binomtest  # not above: scipy takes long to import

    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


class ReviewSheet:
    """Items, and a person's verdicts on them. A verdict is on the disk when `judge` returns.

    A sheet that is opened again with the same file goes on where the review stopped. A verdict belongs to an input and
    to the answer that was shown, so an item whose answer has changed since is open again. The file holds the inputs:
    protect it as you protect the journal.

    Args:
        path: a file of JSON lines; it is made, with its folder, at the first verdict. A torn last line is repaired.
        items: from `review_items`.
        label_names: the classes; None if the answers are free texts.

    Raises:
        ValueError: no items; or a line that is not a verdict, or names a label that is not among the names, with the
            line's number.

    Example:
        >>> from distill_helpers.api.review import ReviewItem, ReviewSheet
        >>> items = [ReviewItem("no sound", "PC"), ReviewItem("the dock is gone", "PC"), ReviewItem("no mouse", "PC")]
        >>> sheet = ReviewSheet("verdicts.jsonl", items, ("PC", "Mac"))
        >>> sheet.judge(0, "right")
        >>> sheet.judge(1, "wrong", "Mac")
        >>> sheet
        ReviewSheet('verdicts.jsonl', 3 items: 1 right, 1 wrong, 0 unsure, 1 open)
        >>> sheet.verified_labels()
        {'no sound': 0, 'the dock is gone': 1}
    """

    def __init__(self, path: str | Path, items: Sequence[ReviewItem], label_names: Sequence[str] | None = None) -> None:
        if not items:
            raise ValueError("there are no items to review")
        self.path = Path(path)
        self.items = tuple(items)
        self.label_names = None if label_names is None else tuple(label_names)
        self._verdicts = self._read() if self.path.exists() else {}

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts().items())
        return f"ReviewSheet({str(self.path)!r}, {len(self.items)} items: {counts})"

    def judge(self, row: int, verdict: str, label: str | None = None) -> None:
        """Save a verdict on an item. A later verdict on the same item replaces it.

        Args:
            row: the item's index.
            verdict: "right", "wrong" or "unsure".
            label: the right label's name; needed if the teacher's label is wrong.

        Raises:
            ValueError: another verdict, a wrong label without the right one, or a label with a verdict that has none.
        """
        item = self.items[row]
        if verdict not in (RIGHT, WRONG, UNSURE):
            raise ValueError(f"the verdict must be {RIGHT!r}, {WRONG!r} or {UNSURE!r}, got {verdict!r}")
        if self.label_names is None or verdict != WRONG:
            if label is not None:
                raise ValueError(f"only a wrong label needs the right one: with the verdict {verdict!r}, pass no label")
            label = item.shown if self.label_names is not None and verdict == RIGHT else None
        elif label not in self.label_names or label == item.shown:
            others = [name for name in self.label_names if name != item.shown]
            raise ValueError(
                f"{item.shown!r} is wrong: pass the right label, such as one of {others[:10]}, got {label!r}"
            )
        entry = ReviewVerdict(item.input_text, item.shown, verdict, label, utc_now())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab", buffering=0, opener=private_file) as file:
            append_lines(file, json.dumps(asdict(entry), ensure_ascii=True).encode())
            os.fsync(file.fileno())
        self._verdicts[item.input_text] = entry

    def verdict(self, row: int) -> ReviewVerdict | None:
        """The verdict on an item; None if the item is open."""
        found = self._verdicts.get(self.items[row].input_text)
        return found if found is not None and found.shown == self.items[row].shown else None

    def next_open(self, after: int = -1) -> int | None:
        """The index of the first open item after a row, or else of the first open item; None if none is left."""
        rows = [*range(after + 1, len(self.items)), *range(after + 1)]
        return next((row for row in rows if self.verdict(row) is None), None)

    def counts(self) -> dict[str, int]:
        """The number of items by verdict: right, wrong, unsure, open."""
        found = Counter("open" if v is None else v.verdict for v in map(self.verdict, range(len(self.items))))
        return {name: found[name] for name in (RIGHT, WRONG, UNSURE, "open")}

    def accuracy(self) -> ReviewedAccuracy:
        """The share of right answers among the answers judged right or wrong, with Wilson's 95% interval.

        The interval is about the inputs from which the items were drawn. With many unsure items it is a guess.

        Raises:
            ValueError: no item was judged right or wrong yet.
        """
        counts = self.counts()
        n = counts[RIGHT] + counts[WRONG]
        if n == 0:
            raise ValueError("no answer was judged right or wrong yet")
        return ReviewedAccuracy(counts[RIGHT] / n, *wilson_interval(counts[RIGHT], n), n, counts[UNSURE])

    def verified_labels(self) -> dict[str, int]:
        """The index of the right label of each input that was judged right, or wrong with the right label."""
        names = self.label_names or ()
        return {v.input: names.index(v.label) for v in self._verdicts.values() if v.label is not None}

    def _read(self) -> dict[str, ReviewVerdict]:
        if not self.path.read_bytes().endswith(b"\n"):
            with self.path.open("r+b", buffering=0) as file:
                repair_last_line(file, json.loads)
        verdicts = {}
        for number, line in numbered_lines(self.path, json.loads):
            try:
                entry = ReviewVerdict(**json.loads(line))
            except (ValueError, TypeError):
                raise ValueError(
                    f"line {number} of {self.path} is not a verdict; delete the line, and its item will be open again"
                ) from None
            if entry.label is not None and entry.label not in (self.label_names or ()):
                raise ValueError(
                    f"line {number} of {self.path}: {entry.label!r} is none of the labels; use another file"
                )
            verdicts[entry.input] = entry
        return verdicts
