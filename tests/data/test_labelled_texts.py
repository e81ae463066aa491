"""Labelled messages: validation with the row, and stratified seeded splits."""

from collections import Counter

import pytest
from hypothesis import given, settings, strategies as st
from labelled_messages import messages, rows_of

from distill_helpers.data.labelled_texts import LabelledTexts, TextSplits, split_off

# LabelledTexts


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        (["a", "b"], [0], "2 texts but 1 labels"),
        ([], [], "non-empty"),
        ("ab", [0, 1], "list of texts"),
        (["a", ""], [0, 1], "row 1.*empty"),
        (["a", "b", " \n\t"], [0, 1, 0], "row 2.*empty"),
        (["a", None], [0, 1], "row 1.*not a string"),
        (["a", "b"], [0, 2], "row 1: label 2.*2 names"),
        (["a", "b"], [-1, 0], "row 0: label -1"),
    ],
)
def test_messages_that_cannot_be_right_are_refused_with_their_row(texts, labels, message):
    with pytest.raises(ValueError, match=message):
        LabelledTexts(texts, labels, ("x", "y"))


def test_a_subset_keeps_the_order_that_was_asked_for():
    data = messages([2, 2])
    subset = data.subset([3, 0])
    assert (subset.texts, subset.labels) == (["message 3", "message 0"], [1, 0])
    assert subset.label_names == data.label_names


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_sample_keeps_every_class_in_its_share(fraction, seed):
    # Class-sorted, so that taking the first rows would give a single class.
    data = messages([60, 40, 20])
    sample = data.sample(fraction, seed=seed)
    assert len(sample) == round(fraction * 120)
    counts = Counter(sample.labels)
    for label, count in ((0, 60), (1, 40), (2, 20)):
        assert abs(counts[label] - fraction * count) < 1
    assert len(set(sample.texts)) == len(sample)
    assert set(rows_of(sample)) <= set(rows_of(data))


def test_a_sample_is_a_function_of_its_seed():
    data = messages([60, 40, 20])
    assert data.sample(0.5, seed=3) == data.sample(0.5, seed=3)
    assert data.sample(0.5, seed=3) != data.sample(0.5, seed=4)
    assert data.sample(1.0, seed=3) == data


@pytest.mark.parametrize(
    ("counts", "fraction", "message"),
    [
        ([60, 40], 0, r"\(0, 1\].*got 0"),
        ([60, 40], -0.5, "got -0.5"),
        ([60, 40], 1.1, "got 1.1"),
        ([60, 40], float("nan"), "got nan"),
        ([60, 40], 0.01, "all 2 classes"),
        ([60, 1], 0.5, "label 1 has a single example"),
        ([98, 2], 0.1, "label 1 is too rare"),  # a tenth of 2 rounds to none
    ],
)
def test_a_sample_that_cannot_keep_every_class_is_refused(counts, fraction, message):
    with pytest.raises(ValueError, match=message):
        messages(counts).sample(fraction)


def test_messages_and_splits_are_shown_in_one_line():
    assert repr(messages([1200, 40])) == "LabelledTexts(1,240 texts, 2 classes)"
    splits = TextSplits(messages([1200, 40]), messages([5, 2]), messages([3, 4]), ("a", "b", "c"))
    assert repr(splits) == "TextSplits(1,240 train, 7 validation, 7 test, 3 transfer, 2 classes)"


# split_off


@settings(deadline=None, max_examples=40, derandomize=True)
@given(
    counts=st.lists(st.integers(8, 30), min_size=2, max_size=3),
    share=st.floats(0.25, 0.6),
    seed=st.integers(0, 2**32 - 1),
)
def test_split_off_is_disjoint_covering_ordered_and_stratified(counts, share, seed):
    data = messages(counts)
    size = int(share * len(data))
    rest, held_out = split_off(data, size, seed)
    assert len(held_out) == size
    assert sorted(rows_of(rest) + rows_of(held_out)) == sorted(rows_of(data))  # the texts are distinct
    for part in (rest, held_out):
        assert part.texts == [text for text in data.texts if text in set(part.texts)]
    for label, count in enumerate(counts):
        assert abs(held_out.labels.count(label) - count * size / len(data)) <= 1


def test_split_off_is_a_function_of_its_seed():
    data = messages([30, 30])
    assert split_off(data, 10, seed=5) == split_off(data, 10, seed=5)
    assert split_off(data, 10, seed=5) != split_off(data, 10, seed=6)


@pytest.mark.parametrize(
    ("counts", "size", "message"),
    [
        ([10, 10], 0, "cannot split 0 off 20"),
        ([10, 10], 1, "cannot split 1 off 20"),
        ([10, 10], 19, "cannot split 19 off 20"),
        ([10, 10], 21, "cannot split 21 off 20"),
        ([10, 1], 4, "label 1 has a single example"),
        ([98, 2], 10, "label 1 is too rare"),
        ([98, 2], 95, "label 1 is too rare"),
    ],
)
def test_split_off_refuses_what_would_lose_a_class(counts, size, message):
    with pytest.raises(ValueError, match=message):
        split_off(messages(counts), size)


def test_a_transfer_text_without_its_label_is_refused():
    parts = messages([1200, 40]), messages([5, 2]), messages([3, 4])
    assert TextSplits(*parts, ("a", "b"), (0, 1)).transfer_labels == (0, 1)
    with pytest.raises(ValueError, match="2 transfer texts have 1 labels"):
        TextSplits(*parts, ("a", "b"), (0,))
