"""Labelled messages in any numbers, every one of them distinct."""

from distill_helpers.data.labelled_texts import LabelledTexts

NAMES = ("billing", "delivery", "returns")


def messages(counts, start=0):
    """So many messages of each class, sorted by class and numbered from `start`."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return LabelledTexts([f"message {start + i}" for i in range(len(labels))], labels, NAMES[: len(counts)])


def rows_of(data):
    return list(zip(data.texts, (data.label_names[label] for label in data.labels), strict=True))
