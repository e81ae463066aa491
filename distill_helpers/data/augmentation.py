"""New messages for the teacher to label, made from messages that exist.

The labels stay right whatever happens to the words, because the teacher labels the result. A transfer set may therefore
be rougher than an augmented training set (TinyBERT, arXiv 1909.10351, section 3.2; Beyer et al., arXiv 2106.05237).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from distill_helpers.data.labelled_texts import IGNORE_INDEX, LabelledTexts, check_texts

__all__ = ["augment_labelled_texts", "augment_texts", "drop_words", "splice"]


def drop_words(text: str, share: float, rng: random.Random) -> str:
    """The text after each of its words was dropped with probability `share`. At least one word stays."""
    words = text.split()
    kept = [word for word in words if rng.random() >= share]
    return " ".join(kept or [rng.choice(words)])


def splice(first: str, second: str, rng: random.Random) -> str:
    """The beginning of one text and the end of another, each cut at a random word: a message between two classes."""
    head, tail = first.split(), second.split()
    return " ".join(head[: rng.randint(1, len(head))] + tail[rng.randint(0, len(tail) - 1) :])


def augment_texts(
    texts: Sequence[str], n_new: int, *, spliced: float = 0.5, dropped_words: float = 0.15, seed: int = 0
) -> list[str]:
    """New texts, distinct from each other and from the given texts.

    Args:
        texts: the training messages, without labels.
        n_new: how many texts to make.
        spliced: the share of the new texts that are made of two messages (`splice`). Each of the others is made of one.
        dropped_words: the probability with which each word of a new text is dropped (`drop_words`).
        seed: the same seed gives the same texts.

    Raises:
        ValueError: no text or an empty text, a share outside [0, 1], a negative number, or texts so few and short that
            no more new ones can be made of them.

    Example:
        >>> from distill_helpers.data import augment_texts
        >>> augment_texts(["my mac shows a grey screen", "windows will not start"], 2, seed=4)
        ['shows a will start', 'windows shows a grey screen']
    """
    return [text for text, _ in _augmented(texts, n_new, spliced, dropped_words, seed)]


def augment_labelled_texts(
    data: LabelledTexts, n_new: int, *, spliced: float = 0.5, dropped_words: float = 0.15, seed: int = 0
) -> tuple[list[str], list[int]]:
    """The texts of `augment_texts`, and for each the label that it inherits.

    With them a student without a teacher can have the same texts as one with a teacher. Nobody has read the texts: what
    is left of a message may no longer say what its label says.

    Args:
        data: the training messages.
        n_new, spliced, dropped_words, seed: as in `augment_texts`.

    Returns:
        The texts, and their labels. A text that is spliced of two classes has `IGNORE_INDEX`.

    Raises:
        ValueError: as in `augment_texts`.

    Example:
        >>> from distill_helpers.data import augment_labelled_texts
        >>> data = dh.LabelledTexts(["my mac shows a grey screen", "windows will not start"], [0, 1], ("mac", "pc"))
        >>> augment_labelled_texts(data, 2, seed=6)
        (['my mac a grey screen a grey', 'windows will a grey screen'], [0, -100])
    """
    made = _augmented(data.texts, n_new, spliced, dropped_words, seed)
    labels = [{data.labels[row] for row in rows} for _, rows in made]
    return [text for text, _ in made], [of.pop() if len(of) == 1 else IGNORE_INDEX for of in labels]


def _augmented(
    texts: Sequence[str], n_new: int, spliced: float, dropped_words: float, seed: int
) -> list[tuple[str, tuple[int, ...]]]:
    """New texts, each with the rows of the texts of which it is made."""
    check_texts(texts)
    for name, share in (("spliced", spliced), ("dropped_words", dropped_words)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {share}")
    if n_new < 0:
        raise ValueError(f"n_new must not be negative, got {n_new}")
    rng = random.Random(seed)
    seen = set(texts)
    made: list[tuple[str, tuple[int, ...]]] = []
    failures = 0
    while len(made) < n_new:
        rows: tuple[int, ...] = (rng.randrange(len(texts)),)
        text = texts[rows[0]]
        if rng.random() < spliced:
            rows += (rng.randrange(len(texts)),)
            text = splice(text, texts[rows[1]], rng)
        text = drop_words(text, dropped_words, rng)
        if text in seen:
            failures += 1
            if failures > 1000 + 100 * n_new:
                raise ValueError(f"made only {len(made)} of {n_new} new texts from {len(texts)}; ask for fewer")
            continue
        seen.add(text)
        made.append((text, rows))
    return made
