"""The figures of several labels, of scores and of tokens, against scikit-learn, SciPy and values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy import stats
from sklearn.metrics import f1_score, log_loss, ndcg_score

from distill_helpers.data.labelled_texts import IGNORE_INDEX
from distill_helpers.evaluation.measures import classification_metrics
from distill_helpers.evaluation.task_metrics import (
    multi_label_metrics,
    regression_metrics,
    token_classification_metrics,
)

repeatable = settings(deadline=None, max_examples=40, derandomize=True)

# Several labels

# Three texts, two labels; the decisions are yes no, yes yes, no yes, and one of the six is wrong.
LOGITS = torch.tensor([[3.0, -2.0], [1.0, 1.0], [-2.0, 2.0]])
LABELS = [[1, 0], [1, 0], [0, 1]]


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def test_multi_label_figures_equal_values_worked_out_by_hand():
    row = multi_label_metrics(LOGITS, LABELS)
    assert row["micro_f1"] == pytest.approx(2 * 3 / (2 * 3 + 1))
    assert row["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert row["subset_accuracy"] == pytest.approx(2 / 3)
    right = [3.0, 2.0, 1.0, -1.0, 2.0, 2.0]  # the logit of the true answer of each decision
    assert row["bce"] == pytest.approx(-sum(math.log(sigmoid(z)) for z in right) / 6)
    # Each text has a bin of its own, except that σ(2) meets σ(−2)'s "no" and σ(1) nobody.
    first = (1 - sigmoid(3)) + (1 - sigmoid(1)) + (1 - sigmoid(2))
    second = 2 * (1 - sigmoid(2)) + sigmoid(1)
    assert row["ece"] == pytest.approx((first / 3 + second / 3) / 2)
    assert "agreement" not in row


@settings(repeatable, max_examples=8)
@given(seed=st.integers(0, 1000), texts=st.integers(1, 30), n_labels=st.integers(1, 5))
def test_multi_label_figures_equal_those_of_scikit_learn(seed, texts, n_labels):
    generator = np.random.default_rng(seed)
    logits, labels = generator.normal(0, 3, (texts, n_labels)), generator.integers(2, size=(texts, n_labels))
    row = multi_label_metrics(torch.from_numpy(logits), labels)
    said, p = logits >= 0, 1 / (1 + np.exp(-logits))
    averages = {
        name: f1_score(labels[:, 0], said[:, 0], zero_division=0)
        if n_labels == 1
        else f1_score(labels, said, average=name, zero_division=0)
        for name in ("micro", "macro")
    }
    assert row["micro_f1"] == pytest.approx(averages["micro"])
    assert row["macro_f1"] == pytest.approx(averages["macro"])
    assert row["subset_accuracy"] == pytest.approx((said == labels).all(axis=1).mean())
    assert row["bce"] == pytest.approx(log_loss(labels.reshape(-1), p.reshape(-1), labels=[0, 1]), rel=1e-6)
    assert 0 <= row["ece"] <= 1


def test_a_threshold_moves_decisions_and_no_probabilities():
    low, high = (multi_label_metrics(LOGITS, LABELS, threshold=t) for t in (0.1, 0.8))
    assert low["micro_f1"] == pytest.approx(2 * 3 / (2 * 3 + 3))  # yes to all six
    assert high["micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1))  # yes to the two logits above log 4
    assert (low["bce"], low["ece"]) == (high["bce"], high["ece"])


def test_unknown_labels_are_left_out():
    labels = torch.tensor(LABELS).float()
    labels[1, 1] = IGNORE_INDEX  # the wrong decision
    row = multi_label_metrics(LOGITS, labels)
    assert (row["micro_f1"], row["macro_f1"], row["subset_accuracy"]) == (1, 1, 1)
    assert row["bce"] == pytest.approx(-sum(math.log(sigmoid(z)) for z in (3, 2, 1, 2, 2)) / 5)
    labels[:, 1] = torch.tensor([0, IGNORE_INDEX, IGNORE_INDEX])
    labels[0, 0] = IGNORE_INDEX
    assert math.isnan(multi_label_metrics(LOGITS, labels)["subset_accuracy"])


def test_a_confident_mistake_costs_its_logit_and_not_infinity():
    assert multi_label_metrics(torch.tensor([[800.0]]), [[0]])["bce"] == pytest.approx(800)


def test_agreement_is_the_share_of_equal_decisions():
    teacher = torch.tensor([[1.0, 1.0], [1.0, 1.0], [-1.0, 1.0]])
    assert multi_label_metrics(LOGITS, LABELS, teacher)["agreement"] == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("logits", "labels", "options", "message"),
    [
        (LOGITS, [0, 0, 1], {}, r"\(3, 2\) and \(3,\)"),
        (LOGITS, [[1, 0]], {}, r"\(3, 2\) and \(1, 2\)"),
        (LOGITS[0], [1, 0], {}, r"\(2,\) and \(2,\)"),
        (torch.zeros(0, 2), np.zeros((0, 2)), {}, r"\(0, 2\)"),
        (LOGITS, [[1, 0], [1, 2], [0, 1]], {}, "row 1, column 1: label 2 is neither"),
        (LOGITS, [[1, 0], [1, 0.5], [0, 1]], {}, "row 1, column 1: label 0.5 is neither"),
        (LOGITS, [[1, 0], [1, 0], [math.nan, 1]], {}, "row 2, column 0: label nan"),
        (LOGITS, [[1, -100]] * 3, {}, "label 1 is known of no text"),
        (LOGITS.log(), LABELS, {}, "not finite"),
        (LOGITS, LABELS, {"threshold": 0}, r"\(0, 1\), got 0"),
        (LOGITS, LABELS, {"threshold": 1.0}, r"\(0, 1\), got 1"),
        (LOGITS, LABELS, {"teacher_logits": torch.zeros(1, 2)}, r"\(3, 2\) and \(1, 2\)"),
    ],
)
def test_what_has_no_multi_label_figures_is_refused(logits, labels, options, message):
    with pytest.raises(ValueError, match=message):
        multi_label_metrics(logits, labels, **options)


# Scores


@repeatable
@given(seed=st.integers(0, 1000), texts=st.integers(3, 30), columns=st.integers(1, 3))
def test_regression_figures_equal_those_of_scipy(seed, texts, columns):
    generator = np.random.default_rng(seed)
    scores, labels = generator.normal(size=(2, texts, columns)).round(1)
    labels[0] = labels[1] + 1
    row = regression_metrics(torch.from_numpy(scores), labels, torch.from_numpy(labels))
    assert row["mse"] == pytest.approx(((scores - labels) ** 2).mean())
    assert row["mae"] == pytest.approx(abs(scores - labels).mean())
    with np.errstate(all="ignore"):
        pearson = np.mean([stats.pearsonr(a, b)[0] for a, b in zip(scores.T, labels.T, strict=True)])
        spearman = np.mean([stats.spearmanr(a, b)[0] for a, b in zip(scores.T, labels.T, strict=True)])
    assert row["pearson"] == pytest.approx(pearson, nan_ok=True)
    assert row["spearman"] == pytest.approx(spearman, nan_ok=True)
    # The teacher's scores are the labels here.
    assert (row["teacher_mse"], row["teacher_spearman"]) == pytest.approx((row["mse"], row["spearman"]), nan_ok=True)


def test_a_column_and_a_row_of_scores_are_the_same():
    scores, labels = torch.tensor([0.0, 3.0, 1.0]), torch.tensor([0.0, 1.0, 2.0])
    expected = regression_metrics(scores, labels)
    assert expected["mse"] == pytest.approx(5 / 3)  # broadcast it would be 22/9
    assert regression_metrics(scores[:, None], labels) == expected
    assert regression_metrics(scores, labels[:, None]) == expected


def test_equal_scores_have_errors_and_no_correlation():
    row = regression_metrics(torch.ones(3), [0.0, 1.0, 2.0])
    assert row["mae"] == pytest.approx(2 / 3)
    assert math.isnan(row["pearson"])
    assert math.isnan(row["spearman"])


def test_a_ranking_is_judged_query_by_query():
    labels = [2.0, 0.0, 1.0, 3.0, 0.0, 5.0, 5.0]
    scores = torch.tensor([0.5, 0.9, 0.5, -1.0, -2.0, 0.1, 0.2])
    groups = ["a", "a", "a", "b", "b", "c", "c"]  # "c" has no two labels to tell apart
    row = regression_metrics(scores, labels, groups=groups)
    # a: (2, 0) wrong, (2, 1) equal scores, (0, 1) wrong; b: right.
    assert row["pairwise_accuracy"] == pytest.approx((0 + 0.5 + 0 + 1) / 4)
    a = ndcg_score([[2.0, 0.0, 1.0]], [[0.5, 0.9, 0.5]])
    assert row["ndcg"] == pytest.approx((a + 1) / 2)
    shuffled = [6, 2, 4, 0, 3, 1, 5]
    again = regression_metrics(scores[shuffled], [labels[i] for i in shuffled], groups=[groups[i] for i in shuffled])
    assert again == pytest.approx(row)


SCORES = torch.tensor([0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("scores", "labels", "options", "message"),
    [
        (SCORES, [1.0, 2.0], {}, r"\(3,\) and \(2,\)"),
        (torch.zeros(3, 2), [1.0, 2.0, 3.0], {}, r"\(3, 2\) and \(3,\)"),
        (torch.zeros(1), [1.0], {}, "two or more texts"),
        (SCORES, [1.0, math.nan, 3.0], {}, "row 1: the label .*nan.* not finite"),
        (torch.tensor([0.0, 1.0, math.inf]), [1.0, 2.0, 3.0], {}, "row 2: the score .*inf.* not finite"),
        (SCORES, [0, 0, 0], {}, "all labels of column 0 are 0"),
        (SCORES, [1.0, 2.0, 3.0], {"teacher_scores": torch.zeros(3, 1)}, r"\(3,\) and \(3, 1\)"),
        (SCORES, [1.0, 2.0, 3.0], {"groups": ["a", "b"]}, "2 groups"),
        (torch.zeros(3, 2), torch.arange(6).reshape(3, 2), {"groups": ["a"] * 3}, r"one score.*\(3, 2\)"),
        (SCORES, [1.0, -2.0, 3.0], {"groups": ["a"] * 3}, "row 1: the label -2 is negative"),
        (SCORES, [1.0, 2.0, 3.0], {"groups": ["a", "b", "c"]}, "no group has two texts"),
    ],
)
def test_what_has_no_regression_figures_is_refused(scores, labels, options, message):
    with pytest.raises(ValueError, match=message):
        regression_metrics(scores, labels, **options)


# Tokens


def test_token_figures_are_those_of_the_labelled_tokens_alone():
    generator = torch.Generator().manual_seed(0)
    logits, teacher = (torch.randn(3, 6, 4, generator=generator) for _ in range(2))
    labels = torch.arange(18).reshape(3, 6) % 4
    labels[0, 3:], labels[1, 0], labels[2, ::2] = IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX
    counted = labels != IGNORE_INDEX
    expected = classification_metrics(logits[counted], labels[counted].tolist(), teacher[counted])
    logits[~counted], teacher[~counted] = math.nan, math.inf
    assert token_classification_metrics(logits, labels, teacher) == pytest.approx(expected)
    # The same as lists of texts of their own lengths.
    lengths = (3, 6, 6)
    cut = [
        [of_text[:n] for of_text, n in zip(batch, lengths, strict=True)] for batch in (logits, labels.tolist(), teacher)
    ]
    assert token_classification_metrics(*cut) == pytest.approx(expected)


TOKENS = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (TOKENS, [[0, 1, 2]], "2 texts in logits and 1 in the labels"),
        (TOKENS, [[0, 1, 2], [0, 1]], r"row 1: logits of shape \(3, 4\) and 2 labels"),
        (TOKENS[0], [0, 1, 2], r"labels must have the shape \(texts, length\)"),
        (TOKENS[..., 0], [[0, 1, 2]] * 2, r"row 0: logits of shape \(3,\)"),
        (TOKENS, torch.full((2, 3), IGNORE_INDEX), "no token has a label"),
        (TOKENS, [], "no token has a label"),
        (TOKENS, torch.full((2, 3), 4), "label 4 is neither one of the 4 classes"),
        (TOKENS, torch.full((2, 3), -1), "label -1 is neither"),
        (TOKENS, torch.zeros(2, 3), "class indices, got torch.float32"),
        (TOKENS.log(), torch.zeros(2, 3).long(), "not finite"),
    ],
)
def test_what_has_no_token_figures_is_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        token_classification_metrics(logits, labels)
