"""What a student has to beat: a linear model of words, which trains in a second or two."""

from __future__ import annotations

import torch
from torch import Tensor

from distill_helpers.data.labelled_texts import TextSplits

__all__ = ["linear_baseline"]


def linear_baseline(data: TextSplits) -> Tensor:
    """Train a linear model on the training texts and return its log-probabilities of the test texts.

    The model is logistic regression on tf-idf of words and pairs of words. It trains in a second or two, so a student
    that is less accurate has no reason to exist.

    Args:
        data: `train` and `test` are used. Every class needs a training text.

    Returns:
        fp64, (texts, classes), in the order of the label names. As log-probabilities they serve wherever logits do, in
        `classification_metrics` for one.

    Raises:
        ValueError: a class without a training text, with its name.

    Example:
        >>> names = ("audio", "video")
        >>> train = dh.LabelledTexts(["no sound", "low sound", "grey screen", "black screen"], [0, 0, 1, 1], names)
        >>> test = dh.LabelledTexts(["the sound is gone", "my screen is grey"], [0, 1], names)
        >>> dh.linear_baseline(dh.TextSplits(train, test, test)).exp().round(decimals=1)
        tensor([[0.8000, 0.2000],
                [0.2000, 0.8000]], dtype=torch.float64)
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    # scikit-learn would leave out the column of such a class, and shift those after it.
    if missing := set(range(len(data.label_names))) - set(data.train.labels):
        raise ValueError(f"the class {data.label_names[min(missing)]!r} has no training text; drop it or find some")
    if len(data.label_names) < 2:
        raise ValueError("a single class leaves nothing to learn")
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(C=10, max_iter=1000)
    )
    model.fit(data.train.texts, data.train.labels)
    return torch.from_numpy(model.predict_log_proba(data.test.texts))
