"""A person's look at a sample of the teacher's answers: how good they are, and verified labels to anchor a student.

items = review_items(records, label_names, size=150)
sheet = ReviewSheet("verdicts.jsonl", items, label_names)
review_widget(sheet)                                  # in a notebook; or sheet.judge(0, "right")
sheet.accuracy(), sheet.verified_labels()
"""

from __future__ import annotations

import json
import math
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from distill_helpers.api.journal.append_only import repair_last_line, write_lines
from distill_helpers.api.journal.journal import JournalRecord
from distill_helpers.api.labels.label_answers import Answers, label_reader
from distill_helpers.api.labels.label_probabilities import samples_of_inputs

__all__ = [
    "RIGHT",
    "UNSURE",
    "WRONG",
    "ReviewItem",
    "ReviewSheet",
    "ReviewedAccuracy",
    "Verdict",
    "review_items",
    "wilson_interval",
]

#: What a verdict may be.
RIGHT, WRONG, UNSURE = "right", "wrong", "unsure"


@dataclass(frozen=True)
class ReviewItem:
    """An input and what is to be judged: the name of a label, or a text."""

    input_text: str
    shown: str


@dataclass(frozen=True)
class Verdict:
    """One line of the file.

    Attributes:
        input: the text that was judged about.
        shown: the answer that was judged.
        verdict: "right", "wrong" or "unsure".
        label: the name of the right label; None where it is not known, or the answer is a text.
        date: UTC, ISO 8601, to the second.
    """

    input: str
    shown: str
    verdict: str
    label: str | None
    date: str


class ReviewedAccuracy(NamedTuple):
    """`share` of the answers that were judged right, with its 95% interval from `low` to `high`.

    `n_judged` are the answers judged right or wrong; the `n_unsure` others do not count.
    """

    share: float
    low: float
    high: float
    n_judged: int
    n_unsure: int


def review_items(
    records: Iterable[JournalRecord],
    label_names: Sequence[str] | None = None,
    *,
    answers: Answers = None,
    labels: Mapping[str, int] | None = None,
    size: int = 150,
    seed: int = 0,
) -> list[ReviewItem]:
    """A random sample of inputs with the teacher's label, each label with its share, in random order.

    The shares are those among the answers, so that the plain share of right ones estimates the accuracy on all of them;
    in random order it does so however far the review gets. A label with too few answers may not be drawn.

    Args:
        records: those that are learned from. Of several samples of an input the most frequent label is shown, of labels
            that are equally frequent the first; of texts the first.
        label_names: the classes; None where the answers are free texts.
        answers: what stands for each label in an answer; default the names.
        labels: the label of each input where it is not what the text names, such as `LabelProbabilities.labels`;
            inputs without one are left out.
        size: items; all where there are no more. 150 answers of which 80% are right give an interval from 73 to 86%.
        seed: the sample is a function of it and of the records.

    Raises:
        ValueError: a size below 1, no answer to review, one sample of an input twice, `labels` without `label_names`.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if labels is not None and label_names is None:
        raise ValueError("labels are indices; pass label_names to show them")
    reader = None if label_names is None else label_reader(label_names, answers)
    strata: dict[str, list[ReviewItem]] = defaultdict(list)
    for text, samples in samples_of_inputs(records).items():
        said = [record.answer.text for record in samples if record.answer is not None and record.answer.text.strip()]
        if label_names is None or reader is None:
            shown, stratum = (said[0] if said else None), ""
        else:
            named = [label for label in map(reader.named, said) if label is not None]
            label = Counter(named).most_common(1)[0][0] if named else None
            if labels is not None:
                label = labels.get(text)
            shown = stratum = "" if label is None else label_names[label]
        if shown:
            strata[stratum].append(ReviewItem(text, shown))
    total = sum(map(len, strata.values()))
    if total == 0:
        raise ValueError("there is no answer to review; pass the records that a filter kept")
    size = min(size, total)
    # Whole numbers nearest to the shares that sum up to the size: the largest remainders are rounded up.
    parts = {name: size * len(items) / total for name, items in strata.items()}
    sizes = {name: math.floor(part) for name, part in parts.items()}
    for name in sorted(parts, key=lambda name: (sizes[name] - parts[name], name))[: size - sum(sizes.values())]:
        sizes[name] += 1
    rng = random.Random(seed)
    drawn = [item for name in sorted(strata) for item in rng.sample(strata[name], sizes[name])]
    rng.shuffle(drawn)
    return drawn


def wilson_interval(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval for a share (1927), sound for few observations and near 0 and 1; z = 1.96 is 95%.

    Raises:
        ValueError: not 0 ≤ successes ≤ n, or n = 0.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"need 0 <= successes <= n and n > 0, got {successes} and {n}")
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


class ReviewSheet:
    """Items and the verdicts on them. A verdict is on the disk when `judge` returns.

    Opened again with the same file it goes on where it stopped. A verdict belongs to an input and the answer that was
    shown: an item whose answer has changed since is open again. The file holds the inputs: keep it like the journal.

    Args:
        path: a file of JSON lines, made with its folder at the first verdict. A torn last line is repaired.
        items: from `review_items`.
        label_names: the classes; None where the answers are free texts.

    Raises:
        ValueError: no items, a line that is not a verdict or names a label that is none of these, with its number.
    """

    def __init__(self, path: str | Path, items: Sequence[ReviewItem], label_names: Sequence[str] | None = None) -> None:
        if not items:
            raise ValueError("there are no items to review")
        self.path = Path(path)
        self.items = tuple(items)
        self.label_names = None if label_names is None else tuple(label_names)
        self._verdicts = self._read() if self.path.exists() else {}

    def judge(self, row: int, verdict: str, label: str | None = None) -> None:
        """Save a verdict on an item; a later one on the same item replaces it.

        Args:
            row: of the item.
            verdict: "right", "wrong" or "unsure".
            label: the right label's name, needed where a label is wrong.

        Raises:
            ValueError: another verdict, a wrong label without the right one, a label that does not go with the verdict.
        """
        item = self.items[row]
        if verdict not in (RIGHT, WRONG, UNSURE):
            raise ValueError(f"the verdict must be {RIGHT!r}, {WRONG!r} or {UNSURE!r}, got {verdict!r}")
        if self.label_names is None or verdict != WRONG:
            if label is not None:
                raise ValueError(f"only a label that is wrong is given the right one, not a verdict {verdict!r}")
            label = item.shown if self.label_names is not None and verdict == RIGHT else None
        elif label not in self.label_names or label == item.shown:
            others = [name for name in self.label_names if name != item.shown]
            raise ValueError(f"{item.shown!r} is wrong: say which is right, one of {others[:10]}, got {label!r}")
        entry = Verdict(item.input_text, item.shown, verdict, label, datetime.now(UTC).isoformat(timespec="seconds"))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab", buffering=0) as file:
            write_lines(file, json.dumps(asdict(entry), ensure_ascii=True).encode())
            os.fsync(file.fileno())
        self._verdicts[item.input_text] = entry

    def verdict(self, row: int) -> Verdict | None:
        """The verdict on an item; None where it is open."""
        found = self._verdicts.get(self.items[row].input_text)
        return found if found is not None and found.shown == self.items[row].shown else None

    def next_open(self, after: int = -1) -> int | None:
        """The first open item behind a row, else the first of all; None when none is left."""
        rows = [*range(after + 1, len(self.items)), *range(after + 1)]
        return next((row for row in rows if self.verdict(row) is None), None)

    def counts(self) -> dict[str, int]:
        """Items by verdict: right, wrong, unsure, open."""
        found = Counter("open" if v is None else v.verdict for v in map(self.verdict, range(len(self.items))))
        return {name: found[name] for name in (RIGHT, WRONG, UNSURE, "open")}

    def accuracy(self) -> ReviewedAccuracy:
        """The share of right answers among those judged right or wrong, with Wilson's 95% interval.

        The interval speaks of the inputs that the items were drawn from. Many unsure ones make it a guess.

        Raises:
            ValueError: no item was judged right or wrong yet.
        """
        counts = self.counts()
        n = counts[RIGHT] + counts[WRONG]
        if n == 0:
            raise ValueError("no answer was judged right or wrong yet")
        return ReviewedAccuracy(counts[RIGHT] / n, *wilson_interval(counts[RIGHT], n), n, counts[UNSURE])

    def verified_labels(self) -> dict[str, int]:
        """The right label's index of each input whose label is known now, whether the teacher had it right or not."""
        names = self.label_names or ()
        return {v.input: names.index(v.label) for v in self._verdicts.values() if v.label is not None}

    def _read(self) -> dict[str, Verdict]:
        content = self.path.read_bytes()
        if not content.endswith(b"\n"):
            with self.path.open("r+b", buffering=0) as file:
                repair_last_line(file, json.loads)
            content = self.path.read_bytes()
        verdicts = {}
        for number, line in enumerate(content.split(b"\n")[:-1], start=1):
            try:
                entry = Verdict(**json.loads(line))
            except (ValueError, TypeError):
                raise ValueError(f"line {number} of {self.path} is not a verdict; take the line out") from None
            if entry.label is not None and entry.label not in (self.label_names or ()):
                raise ValueError(
                    f"line {number} of {self.path}: {entry.label!r} is none of the labels; use another file"
                )
            verdicts[entry.input] = entry
        return verdicts
