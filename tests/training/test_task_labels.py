"""Labels of every task from lists, arrays, tensors and data frames; what a task cannot have is refused with its row."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array

from distill_helpers import IGNORE_INDEX
from distill_helpers.training.task_labels import labels_of_task, rows_with_labels

MATRIX = [[1, 0], [0, 1], [IGNORE_INDEX, 1]]


@pytest.mark.parametrize(
    "labels",
    [
        MATRIX,
        [tuple(map(float, row)) for row in MATRIX],
        np.array(MATRIX),
        torch.tensor(MATRIX),
        list(torch.tensor(MATRIX)),
        pd.DataFrame(MATRIX, columns=["mac", "pc"]),
        csr_array(np.array(MATRIX)),
        [[True, False], [False, True], [IGNORE_INDEX, True]],
    ],
    ids=["lists", "tuples", "array", "tensor", "rows", "frame", "sparse", "bool"],
)
def test_several_labels_are_a_matrix_whatever_holds_them(labels):
    kept = labels_of_task("multi_label", labels, 3, None)
    assert kept.dtype == torch.float32
    assert kept.tolist() == MATRIX


@pytest.mark.parametrize(
    "labels",
    [[0.5, None, 2], np.array([0.5, None, 2], dtype=object), [[0.5], [None], [2.0]], [0.5, [None], torch.tensor(2)]],
)
def test_scores_are_a_matrix_with_nan_where_one_is_missing(labels):
    kept = labels_of_task("regression", labels, 3, None)
    assert kept.shape == (3, 1)
    assert kept[[0, 2]].tolist() == [[0.5], [2.0]]
    assert math.isnan(kept[1, 0])
    assert rows_with_labels(kept) == [True, False, True]


def test_a_row_of_several_scores_may_lack_one_or_all():
    kept = labels_of_task("regression", [[1.0, None], [1.0, 2.0], None], 3, 2)
    assert kept.isnan().tolist() == [[False, True], [False, False], [True, True]]
    assert rows_with_labels(kept) == [False, True, False]


def test_without_labels_the_teacher_says_how_many_columns_there_are():
    assert labels_of_task("single_label", None, 2, 3) == [IGNORE_INDEX] * 2
    several = labels_of_task("multi_label", None, 2, 3)
    assert several.shape == (2, 3)
    assert (several == IGNORE_INDEX).all()
    assert labels_of_task("regression", None, 2, 3).isnan().all()
    with pytest.raises(ValueError, match="nobody knows how many columns a regression target has; pass labels"):
        labels_of_task("regression", None, 2, None)


def test_a_text_has_a_label_if_one_of_several_is_known():
    assert rows_with_labels(torch.tensor([[1.0, -100], [-100, -100]])) == [True, False]
    assert rows_with_labels([0, -100]) == [True, False]


@pytest.mark.parametrize(
    ("labels", "columns", "message"),
    [
        ([[0, 1], [0, 2]], None, r"row 1, column 1: the label 2 is neither 0 nor 1, and not -100"),
        ([[0, 0.3]], None, r"row 0, column 1: .* A soft label belongs in teacher_logits"),
        ([[0, math.nan]], None, r"row 0, column 1: the label is missing \(nan\); mark an unknown label with -100"),
        ([[0, None]], None, r"row 0, column 1: the label is missing \(None\)"),
        ([[0, pd.NA]], None, r"row 0, column 1: the label is missing"),
        ([[0, "mac"]], None, r"row 0, column 1: the label 'mac' is a name, .*MultiLabelBinarizer"),
        ([{"mac"}], None, r"row 0: the labels \{'mac'\} are no row of 0 and 1.*MultiLabelBinarizer"),
        (["mac"], None, r"row 0: the labels 'mac' are no row of 0 and 1"),
        ([2, 1], None, r"row 0: the label 2 is no row of 0 and 1, one for each label; .*one_hot"),
        ([[0, 1], [1]], None, r"row 1: there are 1 labels, and row 0 has 2"),
        ([[0, 1]], 3, r"row 0: there are 2 labels, and the teacher has 3 outputs"),
        ([[]], None, r"row 0: there are 0 labels"),
    ],
)
def test_what_several_labels_cannot_be_is_refused_with_its_place(labels, columns, message):
    with pytest.raises(ValueError, match=message):
        labels_of_task("multi_label", labels, len(labels), columns)


@pytest.mark.parametrize(
    ("labels", "columns", "message"),
    [
        ([1.0, math.nan], None, r"row 1, column 0: the score is nan; write None for a missing score"),
        ([pd.NA], None, r"row 0, column 0: the score is <NA>; write None"),
        ([1.0, math.inf], None, r"row 1, column 0: the score inf is not finite in float32"),
        ([1e300], None, r"row 0, column 0: the score 1e\+300 is not finite in float32"),
        ([True], None, r"row 0, column 0: the score True is no number"),
        (["0.5"], None, r"row 0, column 0: the score '0.5' is no number; pass a float"),
        ([0.5, -100], None, r"row 1, column 0: -100 may be a score or the mark of a missing one; write None"),
        ([0.5], 2, r"row 0: there are 1 labels, and the teacher has 2 outputs"),
        ([[0.5, 1.0], [0.5]], None, r"row 1: there are 1 labels, and row 0 has 2"),
    ],
)
def test_what_a_score_cannot_be_is_refused_with_its_place(labels, columns, message):
    with pytest.raises(ValueError, match=message):
        labels_of_task("regression", labels, len(labels), columns)


@pytest.mark.parametrize("task", ["single_label", "multi_label", "regression"])
def test_one_string_is_no_sequence_of_labels(task):
    with pytest.raises(TypeError, match=r"labels must be a sequence .* got one str"):
        labels_of_task(task, "01", 2, None)
