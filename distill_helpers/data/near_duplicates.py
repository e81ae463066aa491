"""Texts that say the same thing with a few letters or words changed, found by the letters that they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from distill_helpers.data.labelled_texts import check_texts

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

__all__ = ["deduplicate", "unlike"]

_BLOCK = 256


def deduplicate(texts: Sequence[str], threshold: float = 0.8, *, against: Sequence[str] = ()) -> list[int]:
    """Rows (0-based) of the texts that are not nearly equal to a text in `against` or to an earlier text that is kept.

    The similarity of two texts is the cosine of their tf-idf vectors, which count the pieces of 3 to 5 letters inside
    the words. A changed ending or a few other words do not hide a copy, and the order of the words does not count.

    Args:
        texts: none of them empty.
        threshold: in (0, 1]. Two texts whose cosine reaches it count as one.
        against: texts that must not come again, such as the texts of the test set.

    Raises:
        ValueError: no text, an empty text (with its row), or a threshold out of range.

    Example:
        >>> from distill_helpers.data import deduplicate
        >>> deduplicate(["my printer is jammed", "my printers are jammed", "grey screen"], threshold=0.5)
        [0, 2]
    """
    import numpy as np

    rows = unlike(texts, against, threshold)
    if not rows:
        return []
    vectors = _piece_vectors([texts[row] for row in rows])
    kept = np.ones(len(rows), dtype=bool)
    for i, j in _similar_pairs(vectors, vectors, threshold):  # i rises, so every earlier text is decided already
        if j < i and kept[j]:
            kept[i] = False
    return [row for row, keep in zip(rows, kept, strict=True) if keep]


def unlike(texts: Sequence[str], others: Sequence[str], threshold: float) -> list[int]:
    """Rows (0-based) of the texts that are not nearly equal to any of the others; see `deduplicate`."""
    check_texts(texts)
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must lie in (0, 1], got {threshold}")
    if len(others) == 0:
        return list(range(len(texts)))
    check_texts(others)
    vectors = _piece_vectors([*texts, *others])
    copies = {i for i, _ in _similar_pairs(vectors[: len(texts)], vectors[len(texts) :], threshold)}
    return [row for row in range(len(texts)) if row not in copies]


def _piece_vectors(texts: Sequence[str]) -> csr_matrix:
    """Rows of length 1. No text is without pieces: a word of one or two letters counts with the blanks around it."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    # In fp64: in fp32, the cosine of a text with its copy can be 1 - 3e-6.
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5)).fit_transform(texts)


def _similar_pairs(left: csr_matrix, right: csr_matrix, threshold: float) -> Iterator[tuple[int, int]]:
    """(row of left, row of right) of each pair whose cosine reaches the threshold, in the order of left."""
    transposed = right.T.tocsr()
    for start in range(0, left.shape[0], _BLOCK):  # a block at a time, since all cosines would not fit in memory
        cosines = (left[start : start + _BLOCK] @ transposed).tocoo()
        near = cosines.data >= threshold - 1e-9  # a copy's cosine is 1 only up to rounding
        pairs = zip(cosines.row[near].tolist(), cosines.col[near].tolist(), strict=True)
        yield from sorted((start + i, j) for i, j in pairs)
