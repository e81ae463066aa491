import random

import pytest
from hypothesis import given, settings, strategies as st

from distill_helpers.data.augmentation import augment_labelled_texts, augment_texts, drop_words, splice
from distill_helpers.data.labelled_texts import IGNORE_INDEX, LabelledTexts

WORD = st.text("abcdefghij", min_size=1, max_size=4)
TEXT = st.lists(WORD, min_size=1, max_size=8).map(" ".join)


def is_subsequence(short: list[str], long: list[str]) -> bool:
    rest = iter(long)
    return all(word in rest for word in short)


@settings(deadline=None, max_examples=40)
@given(text=TEXT, share=st.floats(0, 1), seed=st.integers(0, 10))
def test_dropping_keeps_the_order_and_at_least_one_word(text: str, share: float, seed: int) -> None:
    words = drop_words(text, share, random.Random(seed)).split()
    assert words
    assert is_subsequence(words, text.split())


def test_dropping_nothing_and_everything() -> None:
    assert drop_words("one two three", 0.0, random.Random(0)) == "one two three"
    assert len(drop_words("one two three", 1.0, random.Random(0)).split()) == 1


def test_the_share_of_dropped_words_is_the_one_asked_for() -> None:
    text = " ".join(["word"] * 10_000)
    assert len(drop_words(text, 0.3, random.Random(0)).split()) == pytest.approx(7000, abs=150)


@settings(deadline=None, max_examples=40)
@given(first=TEXT, second=TEXT, seed=st.integers(0, 10))
def test_a_splice_begins_like_one_and_ends_like_the_other(first: str, second: str, seed: int) -> None:
    head, tail = first.split(), second.split()
    spliced = splice(first, second, random.Random(seed)).split()
    assert any(
        spliced[:cut] == head[:cut] and spliced[cut:] == tail[len(tail) - (len(spliced) - cut) :]
        for cut in range(1, len(spliced))
    )


def test_new_texts_are_new_distinct_and_a_function_of_the_seed() -> None:
    texts = [f"word{i} word{i + 1} word{i + 2} word{i + 3}" for i in range(20)]
    made = augment_texts(texts, 200, seed=1)
    assert len(set(made)) == 200
    assert not set(made) & set(texts)
    assert made == augment_texts(texts, 200, seed=1)
    assert made != augment_texts(texts, 200, seed=2)


def test_spliced_share_decides_whether_texts_are_mixed() -> None:
    texts = ["a1 a2 a3 a4 a5 a6", "b1 b2 b3 b4 b5 b6"]
    alone = augment_texts(texts, 20, spliced=0.0, dropped_words=0.4, seed=0)
    assert all(len({word[0] for word in text.split()}) == 1 for text in alone)
    mixed = augment_texts(texts, 20, spliced=1.0, dropped_words=0.0, seed=0)
    assert any({word[0] for word in text.split()} == {"a", "b"} for text in mixed)


def test_a_text_inherits_the_label_of_what_it_is_made_of() -> None:
    messages = [f"{name}{i} {name}{i + 1} {name}{i + 2}" for name in "ab" for i in range(9)]
    data = LabelledTexts(messages, [0] * 9 + [1] * 9, ("a", "b"))
    texts, labels = augment_labelled_texts(data, 100, seed=3)
    assert texts == augment_texts(data.texts, 100, seed=3)
    for text, label in zip(texts, labels, strict=True):
        names = {word[0] for word in text.split()}
        assert label == IGNORE_INDEX or names == {data.label_names[label]}
        assert len(names) == 1 or label == IGNORE_INDEX
    assert {0, 1, IGNORE_INDEX} == set(labels)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": [], "n_new": 1}, "non-empty"),
        ({"texts": ["a", " "], "n_new": 1}, "row 1"),
        ({"texts": ["a b"], "n_new": -1}, "-1"),
        ({"texts": ["a b"], "n_new": 1, "spliced": 1.5}, "spliced .* 1.5"),
        ({"texts": ["a b"], "n_new": 1, "dropped_words": -0.1}, "dropped_words .* -0.1"),
        ({"texts": ["a"], "n_new": 5, "spliced": 0.0}, "made only 0 of 5"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        augment_texts(**arguments)
