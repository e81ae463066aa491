"""Texts that say the same with a few letters or words changed: found by their pieces, a block of texts at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from distill_helpers.data.labelled_texts import check_texts

__all__ = ["deduplicate"]

_BLOCK = 256


def deduplicate(texts: Sequence[str], threshold: float = 0.8, *, against: Sequence[str] = ()) -> list[int]:
    """Rows (0-based) of the texts that are not nearly equal to one of `against` or to a kept text before them.

    Similarity is the cosine of tf-idf vectors of the 3 to 5 letters long pieces of the words, so that a changed ending
    or a few other words do not hide a copy; the order of the words does not count.

    Args:
        texts: none of them empty.
        threshold: in (0, 1]; from this cosine on two texts count as one.
        against: texts that must not come again, such as those of the test set.

    Raises:
        ValueError: no text or an empty one, a threshold out of range.
    """
    rows = unlike(texts, against, threshold)
    if not rows:
        return []
    vectors = _piece_vectors([texts[row] for row in rows])
    kept = np.ones(len(rows), dtype=bool)
    for i, j in _similar_pairs(vectors, vectors, threshold):  # i rises, so that what comes before it is decided
        if j < i and kept[j]:
            kept[i] = False
    return [row for row, keep in zip(rows, kept, strict=True) if keep]


def unlike(texts: Sequence[str], others: Sequence[str], threshold: float) -> list[int]:
    """Rows (0-based) of the texts that are not nearly equal to any of the others; see `deduplicate`."""
    check_texts(texts)
    if not 0 < threshold <= 1:
        raise ValueError(f"the threshold must lie in (0, 1], got {threshold}")
    if len(others) == 0:
        return list(range(len(texts)))
    check_texts(others)
    vectors = _piece_vectors([*texts, *others])
    copies = {i for i, _ in _similar_pairs(vectors[: len(texts)], vectors[len(texts) :], threshold)}
    return [row for row in range(len(texts)) if row not in copies]


def _piece_vectors(texts: Sequence[str]) -> csr_matrix:
    """Rows of length 1. Each text has pieces: words shorter than three letters count with the blanks around them."""
    return TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), dtype=np.float32).fit_transform(texts)


def _similar_pairs(left: csr_matrix, right: csr_matrix, threshold: float) -> Iterator[tuple[int, int]]:
    """(row of left, row of right) of each pair whose cosine reaches the threshold, in the order of left."""
    transposed = right.T.tocsr()
    for start in range(0, left.shape[0], _BLOCK):  # all cosines at once would not fit in memory
        cosines = (left[start : start + _BLOCK] @ transposed).tocoo()
        near = cosines.data >= threshold - 1e-6  # a copy's cosine is 1 only up to rounding
        pairs = zip(cosines.row[near].tolist(), cosines.col[near].tolist(), strict=True)
        yield from sorted((start + i, j) for i, j in pairs)
