"""Do two models of sentence embeddings find the same texts similar? Their widths need not be equal."""

from __future__ import annotations

import math
import random

import numpy as np
import torch
from torch import Tensor

__all__ = ["similarity_rank_correlation"]


def similarity_rank_correlation(
    student_embeddings: Tensor, teacher_embeddings: Tensor, *, max_pairs: int = 100_000, seed: int = 0
) -> float:
    """Spearman's rank correlation of the cosine similarities of pairs of texts: does the student keep the order?

    A search uses the order of similarities alone, and the order does not depend on the embeddings' width. The loss
    compares vectors instead, and can be small or large for one and the same order.

    Args:
        student_embeddings: (texts, width), one row for each text.
        teacher_embeddings: (texts, width of its own), of the same texts in the same order.
        max_pairs: if n texts have more pairs than this, n(n − 1)/2, so many are drawn without replacement.
        seed: decides which pairs are drawn.

    Returns:
        A number in [−1, 1]; 1 if every pair has the same rank for both. NaN if all pairs are equally similar for one of
        the models.

    Raises:
        ValueError: not the same number of texts, fewer than three texts, an embedding that is zero or not finite (with
            its row), or `max_pairs` below 2.

    Example:
        A student that keeps the teacher's vectors up to a rotation, and one that keeps half of the coordinates:

        >>> generator = torch.Generator().manual_seed(0)
        >>> teacher = torch.randn(50, 8, generator=generator)
        >>> rotation, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator))
        >>> for student in (teacher @ rotation, teacher[:, :4]):
        ...     print(f"{dh.similarity_rank_correlation(student, teacher):.2f}")
        1.00
        0.64
    """
    from scipy.stats import spearmanr

    n = len(teacher_embeddings)
    if student_embeddings.dim() != 2 or teacher_embeddings.dim() != 2 or len(student_embeddings) != n or n < 3:
        raise ValueError(
            "need embeddings (texts, width) of the same three or more texts, got the shapes"
            f" {tuple(student_embeddings.shape)} and {tuple(teacher_embeddings.shape)}"
        )
    if max_pairs < 2:
        raise ValueError(f"max_pairs must be at least 2, got {max_pairs}; one pair has no order")
    first, second = _pairs(n, max_pairs, seed)
    similarities = []
    for name, embeddings in (("student", student_embeddings), ("teacher", teacher_embeddings)):
        vectors = embeddings.detach().double().cpu()
        lengths = vectors.norm(dim=1)
        bad = (~lengths.isfinite() | (lengths == 0)).nonzero()
        if len(bad):
            raise ValueError(f"row {int(bad[0])}: the {name}'s embedding is zero or not finite, and has no direction")
        unit = vectors / lengths[:, None]
        # Rounded, so that two similarities that are equal stay equal in rank.
        similarities.append((unit[first] * unit[second]).sum(dim=1).numpy().round(12))
    if any(np.ptp(values) == 0 for values in similarities):
        return float("nan")
    return float(spearmanr(*similarities).statistic)


def _pairs(n: int, max_pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    """All pairs i < j of n texts, or `max_pairs` of them."""
    n_pairs = n * (n - 1) // 2
    if n_pairs <= max_pairs:
        first, second = torch.triu_indices(n, n, offset=1)
        return first, second
    # Drawn by number, without a list of all pairs: a million texts have 5e11. Pair (0, j) has the number j(j − 1)/2.
    numbers = sorted(random.Random(seed).sample(range(n_pairs), max_pairs))
    second_of = [(1 + math.isqrt(1 + 8 * number)) // 2 for number in numbers]
    first_of = [number - j * (j - 1) // 2 for number, j in zip(numbers, second_of, strict=True)]
    return torch.tensor(first_of), torch.tensor(second_of)
