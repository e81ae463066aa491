"""The filters that choose, among the messages that a language model wrote, those that a student may learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from distill_helpers.data.labelled_texts import check_texts
from distill_helpers.data.near_duplicates import deduplicate, unlike
from distill_helpers.llm.synthetic_data import SyntheticMessage
from distill_helpers.models.batching import check_finite

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FilteredMessages", "filter_messages"]


class FilteredMessages(NamedTuple):
    """The messages that the filters kept.

    Args:
        messages: in their order.
        rows: their rows (0-based) among the messages that were filtered; they select the teacher's logits.
        table: a row for each rule, in the order of use, with the columns `removed` and `left`.
    """

    messages: list[SyntheticMessage]
    rows: list[int]
    table: pd.DataFrame

    def __repr__(self) -> str:
        return f"FilteredMessages({len(self.rows):,} of {int(self.table['left'].iloc[0]):,} messages kept)"


def filter_messages(
    messages: Sequence[SyntheticMessage],
    teacher_logits: Tensor,
    label_names: Sequence[str],
    *,
    known: Mapping[str, Sequence[str]],
    min_words: int = 8,
    max_words: int | None = None,
    min_distinct: float = 0.5,
    max_similarity: float = 0.8,
    min_confidence: float = 0.5,
    relabel: bool = False,
) -> FilteredMessages:
    """The messages that are worth learning from. Each rule sees the messages that the rules before it have left.

    Args:
        messages: from `write_messages`.
        teacher_logits: (messages, classes), from `precompute_teacher_logits`.
        label_names: the classes, in the order of the logits.
        known: name and texts of each set that must not be repeated: the training messages, of which the prompts showed
            some, and the validation and test messages, which the student must not see.
        min_words, max_words: length in words; None sets no upper limit.
        min_distinct: the smallest share of different words. With fewer, the model was caught in a loop.
        max_similarity: two texts whose cosine reaches this number count as one, see `deduplicate`. This holds against
            `known`, and among the messages, of which the first is kept.
        min_confidence: the smallest probability that the teacher (at T = 1) gives to the topic asked for. 0 also keeps
            the messages that came out about something else: their soft labels are right all the same.
        relabel: give each message the topic that the teacher finds likeliest, whatever the writer was asked for, and
            apply `min_confidence` to this topic. A small writer often misses its topic, but writes a good message about
            another.

    Raises:
        ValueError: there is no message or an empty one, a topic is unknown, the logits have another shape or are not
            finite, or a limit is out of range.

    Example:
        >>> from distill_helpers.llm import SyntheticMessage, filter_messages
        >>> texts = ("my screen flickers", "my screen is black")
        >>> messages = [SyntheticMessage(text, "screen") for text in texts]
        >>> logits = torch.tensor([[4.0, 0.0], [0.0, 4.0]])  # the teacher takes the second for a printer
        >>> filter_messages(messages, logits, ("screen", "printer"), known={}, min_words=2)
        FilteredMessages(1 of 2 messages kept)
    """
    import pandas as pd

    texts = [message.text for message in messages]
    check_texts(texts)
    if teacher_logits.shape != (len(messages), len(label_names)):
        raise ValueError(
            f"teacher_logits has shape {tuple(teacher_logits.shape)}, but must have ({len(messages)},"
            f" {len(label_names)}), (messages, classes)"
        )
    check_finite(teacher_logits, "label these messages again")
    if unknown := {message.topic for message in messages} - set(label_names):
        raise ValueError(f"unknown topic {min(unknown)!r}; the classes are {list(label_names)}")
    for name, share in (("min_distinct", min_distinct), ("min_confidence", min_confidence)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {share}")
    if min_words < 1 or (max_words is not None and max_words < min_words):
        raise ValueError(f"need 1 <= min_words <= max_words, got {min_words} and {max_words}")

    if relabel:
        likeliest = teacher_logits.argmax(dim=1).tolist()
        messages = [SyntheticMessage(text, label_names[i]) for text, i in zip(texts, likeliest, strict=True)]
    words = [text.split() for text in texts]
    topics = torch.tensor([list(label_names).index(message.topic) for message in messages])
    confidence = teacher_logits.softmax(dim=1).gather(1, topics[:, None]).flatten().tolist()

    def passing(passes: Sequence[bool]) -> Callable[[list[int]], list[int]]:
        return lambda rows: [row for row in rows if passes[row]]

    def unlike_texts(others: Sequence[str]) -> Callable[[list[int]], list[int]]:
        return lambda rows: [rows[i] for i in unlike([texts[row] for row in rows], others, max_similarity)]

    rules = {f"fewer than {min_words} words": passing([len(w) >= min_words for w in words])}
    if max_words is not None:
        rules[f"more than {max_words} words"] = passing([len(w) <= max_words for w in words])
    rules["repeats itself"] = passing([len(set(w)) / len(w) >= min_distinct for w in words])
    rules |= {f"copies {name}": unlike_texts(others) for name, others in known.items()}
    rules[f"teacher below {min_confidence:g}"] = passing([p >= min_confidence for p in confidence])
    rules["near-duplicate"] = lambda rows: [rows[i] for i in deduplicate([texts[r] for r in rows], max_similarity)]

    rows = list(range(len(messages)))
    table = [("written", 0, len(rows))]
    for rule, apply in rules.items():
        before = len(rows)
        rows = apply(rows) if rows else rows
        table.append((rule, before - len(rows), len(rows)))
    frame = pd.DataFrame(table, columns=["rule", "removed", "left"]).set_index("rule")
    return FilteredMessages([messages[row] for row in rows], rows, frame)
