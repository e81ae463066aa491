"""The linear baseline against scikit-learn, and in the order of the classes."""

import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from distill_helpers.data.labelled_texts import LabelledTexts, TextSplits
from distill_helpers.evaluation.baselines import linear_baseline
from distill_helpers.evaluation.measures import classification_metrics

NAMES = ("video", "audio", "print")
TRAIN = LabelledTexts(
    ["grey screen", "black screen", "no sound", "low sound", "paper jam", "no paper", "screen flickers"],
    [0, 0, 1, 1, 2, 2, 0],
    NAMES,
)
TEST = LabelledTexts(["the paper is stuck", "sound gone", "my screen is grey"], [2, 1, 0], NAMES)


def test_it_is_logistic_regression_on_tf_idf_of_words_and_pairs():
    found = linear_baseline(TextSplits(TRAIN, TEST, TEST))
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True).fit(TRAIN.texts)
    model = LogisticRegression(C=10, max_iter=1000).fit(words.transform(TRAIN.texts), TRAIN.labels)
    expected = torch.from_numpy(model.predict_log_proba(words.transform(TEST.texts)))
    torch.testing.assert_close(found, expected)
    assert found.shape == (3, 3)
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(3).double())
    assert classification_metrics(found, TEST.labels)["accuracy"] == 1


def test_the_validation_set_plays_no_part():
    other = LabelledTexts(["sound"], [0], NAMES)
    pair = [linear_baseline(TextSplits(TRAIN, validation, TEST)) for validation in (TEST, other)]
    assert torch.equal(*pair)


def test_a_class_without_a_training_text_is_refused_by_name():
    without = TRAIN.subset([0, 1, 4, 5])
    with pytest.raises(ValueError, match="the class 'audio' has no training text"):
        linear_baseline(TextSplits(without, TEST, TEST))


def test_a_single_class_is_refused():
    one = LabelledTexts(["no sound", "low sound"], [0, 0], ("audio",))
    with pytest.raises(ValueError, match="single class"):
        linear_baseline(TextSplits(one, one, one))
