"""Near-duplicates: what counts as one text, which of them stays, and blocks that change nothing."""

import random

import pytest
from hypothesis import given, settings, strategies as st

from distill_helpers.data import near_duplicates
from distill_helpers.data.corpora import load_help_desk
from distill_helpers.data.near_duplicates import deduplicate

PRINTER = "my printer prints every page twice since i installed the new driver for windows"
SCREEN = "the screen of my macintosh stays black although the fan runs and the light is on"
X = "how do i set the background colour of the root window from my resources file"


def test_the_first_of_near_duplicates_stays():
    changed = PRINTER.replace("installed", "install").replace("prints", "print")
    assert deduplicate([PRINTER, SCREEN, changed, X, SCREEN]) == [0, 1, 3]
    assert deduplicate([changed, X, PRINTER]) == [0, 1]


def test_the_threshold_decides_what_is_near():
    changed = PRINTER.replace("installed", "install").replace("prints", "print")
    assert deduplicate([PRINTER, changed, SCREEN, PRINTER], 1.0) == [0, 1, 2]  # only the copy goes
    assert deduplicate([PRINTER, SCREEN, X], 0.5) == [0, 1, 2]
    assert deduplicate([PRINTER, SCREEN, X], 1e-4) == [0]


def test_one_copy_among_a_chain_of_similar_texts_is_compared_with_what_was_kept():
    # b is near a and c is near b, but c is not near a: b goes, and with it the reason to drop c.
    words = [f"{a}{b}{a}{b}" for a in "bdgkm" for b in "aeiou"]
    a, b, c = (" ".join(words[start : start + 12]) for start in (0, 4, 8))
    assert deduplicate([a, b], 0.5) == deduplicate([b, c], 0.5) == [0]
    assert deduplicate([a, b, c], 0.5) == [0, 2]


def test_texts_of_another_set_do_not_come_again():
    assert deduplicate([PRINTER, SCREEN, X], against=[X + " please", "something else"]) == [0, 1]
    assert deduplicate([X, X], against=[X]) == []
    assert deduplicate([SCREEN, X, X], against=[PRINTER]) == [0, 1]


def test_short_texts_are_compared_too():
    assert deduplicate(["x", "y", "x", "a b", "a b"]) == [0, 1, 3]


@pytest.fixture(scope="module")
def real_messages():
    return load_help_desk().train.texts[:60]


@pytest.mark.parametrize("threshold", [1.0, 0.999, 0.9, 0.5])
@pytest.mark.slow
def test_the_copy_of_a_real_message_always_goes(real_messages, threshold):
    for text in real_messages:
        assert deduplicate([text, text], threshold) == [0]
        assert deduplicate([text], threshold, against=[text]) == []
    n = len(real_messages)
    kept = deduplicate(real_messages * 3, threshold)
    assert kept == deduplicate(real_messages, threshold)
    assert threshold < 1 or kept == list(range(n))


TEXTS = st.text(min_size=1, max_size=60).filter(lambda text: text.isprintable() and bool(text.strip()))


@settings(deadline=None, max_examples=15, derandomize=True)
@given(
    texts=st.lists(TEXTS, min_size=1),
    threshold=st.floats(1e-3, 1.0),
)
def test_whatever_the_texts_no_copy_stays_and_the_first_text_does(texts, threshold):
    kept = deduplicate([*texts, *texts], threshold)
    assert kept[0] == 0
    assert max(kept) < len(texts)
    assert len({texts[row] for row in kept}) == len(kept)
    assert deduplicate([texts[row] for row in kept], 1.0) == list(range(len(kept)))
    assert deduplicate(texts, threshold, against=texts) == []


def test_blocks_do_not_change_the_result(monkeypatch):
    rng = random.Random(0)
    words = ["printer", "screen", "window", "driver", "memory", "disk"]
    texts = [" ".join(rng.choices(words, k=3)) for _ in range(200)]
    others = [" ".join(rng.choices(words, k=3)) for _ in range(30)]
    whole = deduplicate(texts, 0.9, against=others)
    assert 10 < len(whole) < 150
    monkeypatch.setattr(near_duplicates, "_BLOCK", 7)
    assert deduplicate(texts, 0.9, against=others) == whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": []}, "non-empty"),
        ({"texts": ["a", " "]}, "row 1"),
        ({"texts": ["a"], "against": ["b", ""]}, "row 1"),
        ({"texts": ["a"], "threshold": 0.0}, "threshold .* 0.0"),
        ({"texts": ["a"], "threshold": 1.1}, "threshold .* 1.1"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        deduplicate(**arguments)
