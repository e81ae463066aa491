"""Which answers are reviewed: who is drawn, and what is shown."""

from collections import Counter

import pytest
from api_records import answered, failed, place

from distill_helpers.api.labels.label_probabilities import probabilities_from_logprobs
from distill_helpers.api.review.sampling import ReviewItem, review_items

NAMES = ("mac", "windows", "x & y")
SECRET = "my password is hunter2"


def test_items_have_each_label_with_its_share_and_the_seed_decides():
    records = [answered(f"input {i}", NAMES[0 if i < 700 else 1 if i < 950 else 2]) for i in range(1000)]
    items = review_items(records, NAMES, size=150)
    assert Counter(item.shown for item in items) == {"mac": 105, "windows": 38, "x & y": 7}  # 37.5 and 7.5
    assert len(set(items)) == 150
    assert items == review_items(records, NAMES, size=150)
    assert items != review_items(records, NAMES, size=150, seed=1)
    # In random order: the first half is a sample as well.
    assert 40 <= sum(item.shown == "mac" for item in items[:75]) <= 65
    assert len(review_items(records[:20], NAMES, size=150)) == 20


def test_what_is_shown_of_samples_texts_and_other_labels():
    records = [answered("a", text, sample=i) for i, text in enumerate(["windows", "mac", "?", "It is a mac"])]
    records += [answered("b", "?"), failed("c"), answered("d", "windows"), answered("d", "mac", sample=1)]
    shown = {item.input_text: item.shown for item in review_items(records, NAMES)}
    assert shown == {"a": "mac", "d": "windows"}
    texts = {item.input_text: item.shown for item in review_items(records)}
    assert texts == {"a": "windows", "b": "?", "d": "windows"}
    given = review_items(records, NAMES, labels={"a": 2, "b": 0})
    assert {item.input_text: item.shown for item in given} == {"a": "x & y", "b": "mac"}


def test_the_labels_of_probabilities_can_be_shown():
    records = [answered("a", "A", place(("A", 0.5), ("B", 0.4))), answered("b", "A", place(("A", 0.8), ("B", 0.1)))]
    labels = probabilities_from_logprobs(records, NAMES[:2], answers="AB").calibrated().labels
    shown = {item.input_text: item.shown for item in review_items(records, NAMES[:2], labels=labels)}
    assert shown == {"a": "windows", "b": "mac"}


@pytest.mark.parametrize(
    ("records", "settings", "message"),
    [
        ([answered("a", "mac")], {"size": 0}, "size .* 0"),
        ([failed("a"), answered("b", "?")], {"label_names": NAMES}, "no answer to review"),
        ([answered("a", "mac")], {"labels": {"a": 0}}, "pass label_names"),
        ([answered(SECRET, "mac"), answered(SECRET, "mac", model="n")], {}, "more than one prompt"),
    ],
)
def test_items_that_cannot_be_drawn(records, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        review_items(records, **settings)
    assert SECRET not in str(error.value)


def test_a_repr_shows_no_text():
    assert repr(ReviewItem(SECRET, "mac")) == "ReviewItem(22 characters, answer of 3 characters)"
