"""Which answers a person reviews: a random sample, in which each label has its share."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from distill_helpers.api.journal.records import JournalRecord
from distill_helpers.api.labels.answer_parsing import Answers, label_reader
from distill_helpers.api.labels.label_probabilities import samples_of_inputs

__all__ = ["ReviewItem", "review_items"]


@dataclass(frozen=True)
class ReviewItem:
    """An answer that is to be judged.

    Attributes:
        input_text: the input.
        shown: the teacher's answer to it: the name of a label, or a text.
    """

    input_text: str
    shown: str

    def __repr__(self) -> str:
        return f"ReviewItem({len(self.input_text)} characters, answer of {len(self.shown)} characters)"


def review_items(
    records: Iterable[JournalRecord],
    label_names: Sequence[str] | None = None,
    *,
    answers: Answers = None,
    labels: Mapping[str, int] | None = None,
    size: int = 150,
    seed: int = 0,
) -> list[ReviewItem]:
    """Draw a random sample of inputs with the teacher's labels: each label with its share, in random order.

    The shares are the labels' shares among the answers. Therefore the plain share of right items estimates the accuracy
    on all answers, and because the order is random, it does so however far the review gets. A label with very few
    answers may not be drawn.

    Args:
        records: the records that a student would learn from. Of several samples of an input, the most frequent label is
            shown, and the first of equally frequent ones. Of several texts, the first is shown.
        label_names: the classes; None if the answers are free texts.
        answers: the strings that stand for each label in an answer; default the names.
        labels: each input's label, if it is not the label that the text names, for instance
            `LabelProbabilities.labels`. Inputs without a label are left out.
        size: number of items; if there are fewer answers, all of them. With 150 answers, 80% of them right, the
            accuracy's interval reaches from 73% to 86%.
        seed: the same seed and records give the same sample.

    Raises:
        ValueError: a size below 1, no answer to review, one sample of an input twice, or `labels` without
            `label_names`.

    Example:
        >>> from distill_helpers.api import JournalRecord, TeacherAnswer, review_items
        >>> said = {f"message {i}": "PC" if i % 4 else "Mac" for i in range(100)}
        >>> records = [JournalRecord.of({}, text, TeacherAnswer(answer, "stop", "m")) for text, answer in said.items()]
        >>> items = review_items(records, ("PC", "Mac"), size=20)
        >>> sum(item.shown == "PC" for item in items)
        15
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if labels is not None and label_names is None:
        raise ValueError("labels are indices; pass label_names to show their names")
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
    # The whole numbers that are nearest to the shares and sum to the size: the largest remainders are rounded up.
    parts = {name: size * len(items) / total for name, items in strata.items()}
    sizes = {name: math.floor(part) for name, part in parts.items()}
    for name in sorted(parts, key=lambda name: (sizes[name] - parts[name], name))[: size - sum(sizes.values())]:
        sizes[name] += 1
    rng = random.Random(seed)
    drawn = [item for name in sorted(strata) for item in rng.sample(strata[name], sizes[name])]
    rng.shuffle(drawn)
    return drawn
