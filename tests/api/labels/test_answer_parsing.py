"""Parsing answers: which label a text names."""

import pytest

from distill_helpers.api.labels.answer_parsing import label_named_in

QUEUES = ("graphics", "Windows", "PC hardware", "Mac hardware", "X")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("graphics", 0),
        ("  **Graphics**.\n", 0),
        ("It is for the queue 'PC hardware'.", 2),
        ("mac hardware", 3),
        ("it seems to be MAC HARDWARE, or so", 3),
        ("X", 4),
        ("It is about X.", 4),
        ("Windows, since windows does not start", 1),  # twice the same
        ("Windows or X", None),
        ("hardware", None),
        ("graphical", None),
        ("macro hardware", None),
        ("the x axis", None),  # one character counts as it is written
        ("X marks the spot", None),  # and not before a word
        ("I don't know", None),
        ("", None),
    ],
)
def test_the_label_that_an_answer_names(text, label):
    assert label_named_in(text, QUEUES) == label


def test_the_longest_name_counts():
    names = ("Mac", "Mac hardware", "hardware")
    assert [label_named_in(f"It's {t}!", names) for t in ("Mac", "Mac hardware", "hardware")] == [0, 1, 2]
    assert label_named_in("Mac hardware or Mac", names) is None


@pytest.mark.parametrize(
    ("text", "label"),
    [("B", 1), ("a", 0), ("(B)", 1), ("B) Windows", 1), ("The answer is D.", 3), ("A question about …", None)],
)
def test_letters_that_the_prompt_offers(text, label):
    assert label_named_in(text, QUEUES, answers="ABCDE") == label


def test_several_answers_stand_for_a_label():
    answers = [["A", "graphics"], "B", "C", "D", ["E", "X11"]]
    assert [label_named_in(t, QUEUES, answers=answers) for t in ("A", "graphics", "x11", "D")] == [0, 0, 4, 3]


@pytest.mark.parametrize(
    ("names", "answers", "message"),
    [
        ([], None, "non-empty"),
        ("graphics", None, "list"),
        (["a", " "], None, "label 1 .* empty"),
        (["Mac", "mac"], None, "'mac' stands for two"),
        (["Mac", "PC"], "ABC", "2 label names, but answers for 3"),
    ],
)
def test_labels_that_cannot_be_read(names, answers, message):
    with pytest.raises(ValueError, match=message):
        label_named_in("Mac", names, answers=answers)
