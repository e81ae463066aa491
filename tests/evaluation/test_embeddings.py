"""The rank correlation of similarities: what changes it, and which pairs are compared."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.stats import spearmanr

from distill_helpers.evaluation import embeddings
from distill_helpers.evaluation.embeddings import similarity_rank_correlation

repeatable = settings(deadline=None, max_examples=30, derandomize=True)


def vectors(n, width, seed=0):
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


@repeatable
@given(seed=st.integers(0, 1000), n=st.integers(3, 12), widths=st.tuples(st.integers(2, 6), st.integers(2, 6)))
def test_it_is_spearmans_correlation_over_all_pairs(seed, n, widths):
    student, teacher = vectors(n, widths[0], seed), vectors(n, widths[1], seed + 1)
    pairs = list(itertools.combinations(range(n), 2))
    cosines = [
        [torch.cosine_similarity(e[i].double(), e[j].double(), dim=0).item() for i, j in pairs]
        for e in (student, teacher)
    ]
    assert similarity_rank_correlation(student, teacher) == pytest.approx(spearmanr(*cosines).statistic, abs=1e-9)


def test_rotation_length_and_padding_keep_it_and_noise_lowers_it():
    teacher = vectors(40, 8)
    rotation, _ = torch.linalg.qr(vectors(8, 8, seed=1))
    same = torch.cat([teacher @ rotation, torch.zeros(40, 3)], dim=1) * torch.rand(40, 1).add(0.1)
    assert similarity_rank_correlation(same, teacher) == pytest.approx(1, abs=1e-6)
    noisy = similarity_rank_correlation(teacher + vectors(40, 8, seed=2), teacher)
    assert 0.3 < noisy < 0.9
    assert abs(similarity_rank_correlation(vectors(40, 8, seed=3), teacher)) < 0.2


def test_half_precision_embeddings_are_compared_in_double():
    student, teacher = vectors(20, 8).bfloat16(), vectors(20, 8, seed=1)
    assert similarity_rank_correlation(student, teacher) == similarity_rank_correlation(student.double(), teacher)


def test_of_too_many_pairs_some_are_drawn_by_the_seed():
    student, teacher = vectors(200, 8) + vectors(200, 8, seed=1), vectors(200, 8)
    whole = similarity_rank_correlation(student, teacher)
    some = [similarity_rank_correlation(student, teacher, max_pairs=4000, seed=seed) for seed in (0, 0, 1)]
    assert some[0] == some[1] != some[2]
    assert some[0] == pytest.approx(whole, abs=0.05)
    assert some[0] != whole


@pytest.mark.parametrize(("n", "max_pairs"), [(5, 3), (5, 9), (30, 434), (2000, 5000), (3_000_000_000, 1000)])
def test_drawn_pairs_are_distinct_and_in_order(n, max_pairs):
    first, second = (index.tolist() for index in embeddings._pairs(n, max_pairs, seed=1))
    pairs = set(zip(first, second, strict=True))
    assert len(pairs) == len(first) == max_pairs
    assert all(0 <= i < j < n for i, j in pairs)


def test_every_pair_is_drawn_as_often():
    counts = np.zeros((5, 5))
    for seed in range(500):
        first, second = embeddings._pairs(5, 4, seed)
        counts[first, second] += 1
    drawn = counts[np.triu_indices(5, 1)]
    assert drawn.sum() == 2000
    assert drawn.min() > 150  # 200 expected, standard deviation 11
    assert drawn.max() < 250


def test_a_collapsed_student_has_no_order():
    assert math.isnan(similarity_rank_correlation(torch.ones(5, 4), vectors(5, 4)))


NOT_A_NUMBER, ZERO = vectors(4, 3), vectors(4, 3)
NOT_A_NUMBER[2, 1], ZERO[3] = math.nan, 0.0


@pytest.mark.parametrize(
    ("student", "teacher", "options", "message"),
    [
        (vectors(4, 3), vectors(5, 3), {}, r"\(4, 3\) and \(5, 3\)"),
        (vectors(2, 3), vectors(2, 3), {}, "three or more"),
        (vectors(4, 3)[:, 0], vectors(4, 3), {}, r"\(4,\) and \(4, 3\)"),
        (NOT_A_NUMBER, vectors(4, 3), {}, "row 2: the student's embedding"),
        (vectors(4, 3), ZERO, {}, "row 3: the teacher's embedding is zero"),
        (vectors(4, 3), vectors(4, 3), {"max_pairs": 1}, "max_pairs.*got 1"),
    ],
)
def test_what_has_no_similarities_is_refused(student, teacher, options, message):
    with pytest.raises(ValueError, match=message):
        similarity_rank_correlation(student, teacher, **options)
