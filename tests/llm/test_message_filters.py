"""The filters among messages that a language model wrote: which rule removes what, and what is left."""

import pytest
import torch

from distill_helpers.llm.message_filters import filter_messages
from distill_helpers.llm.synthetic_data import SyntheticMessage

NAMES = ("screen", "printer")
GOOD = "the screen of my machine stays black although the fan runs and the light is on"
OTHER = "when i draw a polygon with two holes the filled area shows strange stripes at its edges"
KNOWN = "my printer prints every page twice since i installed the new driver for it last week"


def filtered(*cases, known=None, **options):
    """Each case: text, topic, the teacher's probability for that topic."""
    messages = [SyntheticMessage(text, topic) for text, topic, _ in cases]
    rows = [[p, 1 - p] if topic == NAMES[0] else [1 - p, p] for _, topic, p in cases]
    return filter_messages(messages, torch.tensor(rows).log(), NAMES, known=known or {}, **options)


def test_each_rule_removes_its_messages():
    result = filtered(
        (GOOD, "screen", 0.9),
        ("black screen", "screen", 0.9),
        ("help me " * 6, "screen", 0.9),
        (KNOWN.replace("installed", "install"), "printer", 0.9),
        (OTHER, "printer", 0.1),
        (OTHER, "screen", 0.51),
        (GOOD.replace("stays", "stayed"), "screen", 0.9),
        (GOOD + " and so are the many other lights of my machine which", "screen", 0.9),
        known={"training": [KNOWN], "test": ["nothing like it"]},
        max_words=20,
    )
    assert result.rows == [0, 5]
    assert result.messages == [SyntheticMessage(GOOD, "screen"), SyntheticMessage(OTHER, "screen")]
    assert list(result.table.itertuples(name=None)) == [
        ("written", 0, 8),
        ("fewer than 8 words", 1, 7),
        ("more than 20 words", 1, 6),
        ("repeats itself", 1, 5),
        ("copies training", 1, 4),
        ("copies test", 0, 4),
        ("teacher below 0.5", 1, 3),
        ("near-duplicate", 1, 2),
    ]
    assert repr(result) == "FilteredMessages(2 of 8 messages kept)"


def test_the_limits_can_be_moved():
    assert filtered(("black screen", "screen", 0.2), min_words=2, min_confidence=0.2 - 1e-6).rows == [0]
    assert filtered(("black screen", "screen", 0.2), min_words=2, min_confidence=0.3).rows == []
    assert filtered(("help me " * 6, "screen", 0.9), min_distinct=2 / 12).rows == [0]
    almost = GOOD.replace("stays", "stayed")
    assert filtered((GOOD, "screen", 0.9), (almost, "screen", 0.9), max_similarity=1.0).rows == [0, 1]


def test_a_message_about_another_topic_can_be_kept_as_what_it_is():
    cases = (GOOD, "screen", 0.1), (OTHER, "printer", 0.6)
    result = filtered(*cases, min_confidence=0.8, relabel=True)
    assert result.messages == [SyntheticMessage(GOOD, "printer")]  # 0.9 for the other topic
    assert filtered(*cases, min_confidence=0.8).messages == []


def test_a_first_copy_that_the_teacher_refuses_does_not_take_the_second_with_it():
    assert filtered((GOOD, "printer", 0.1), (GOOD, "screen", 0.9)).rows == [1]


def test_nothing_left_is_a_result_too():
    result = filtered(("black screen", "screen", 0.9), known={"training": [GOOD]})
    assert result.messages == result.rows == []
    assert result.table["left"].tolist() == [1, 0, 0, 0, 0, 0]


def test_an_empty_set_of_known_texts_removes_nothing():
    assert filtered((GOOD, "screen", 0.9), (GOOD, "screen", 0.9), known={"training": []}).table["removed"].tolist() == [
        *(0, 0, 0, 0, 0, 1)
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messages": []}, "non-empty"),
        ({"messages": [SyntheticMessage(GOOD, "screen"), SyntheticMessage(" ", "screen")]}, "row 1"),
        ({"messages": [SyntheticMessage(GOOD, "mouse")] * 2}, "unknown topic 'mouse'"),
        ({"teacher_logits": torch.zeros(1, 2)}, r"shape \(1, 2\), but must have \(2, 2\)"),
        ({"teacher_logits": torch.zeros(2, 3)}, r"shape \(2, 3\), but must have \(2, 2\)"),
        ({"teacher_logits": torch.tensor([[0.0, 0.0], [0.0, float("nan")]])}, "row 1.*not finite"),
        ({"min_words": 0}, "min_words"),
        ({"max_words": 7}, "min_words <= max_words, got 8 and 7"),
        ({"min_confidence": 1.5}, "min_confidence .* 1.5"),
        ({"min_distinct": -0.5}, "min_distinct .* -0.5"),
        ({"max_similarity": 0.0}, "threshold .* 0.0"),
        ({"known": {"test": ["x", ""]}}, "row 1"),
    ],
)
def test_bad_input_of_the_filters(change, message):
    arguments = {
        "messages": [SyntheticMessage(GOOD, "screen")] * 2,
        "teacher_logits": torch.zeros(2, 2),
        "label_names": NAMES,
        "known": {"training": [KNOWN]},
    }
    with pytest.raises(ValueError, match=message):
        filter_messages(**arguments | change)
