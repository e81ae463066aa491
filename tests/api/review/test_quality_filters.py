"""Filters: each reason by itself, the first that applies, nothing lost; agreement as it is defined."""

import random

import numpy as np
import pytest
from api_records import answered, failed, place

from distill_helpers.api.labels.label_probabilities import probabilities_from_logprobs
from distill_helpers.api.review.quality_filters import (
    SetAside,
    filter_records,
    is_refusal,
    modal_share,
    pairwise_agreement,
)

NAMES = ("mac", "windows")
PRINTER = "my printer prints every page twice since i installed the new driver for windows"
SECRET = "my password is hunter2"


def test_agreement():
    assert modal_share(["a", "b", "a", None, None]) == 0.4
    assert modal_share([0, 0, 0]) == 1  # label 0 is a label
    assert modal_share([None]) == 0
    assert pairwise_agreement(["a", "a", "a", "b"]) == 0.5
    assert pairwise_agreement([0, 0]) == 1
    assert pairwise_agreement([None, None]) == 0
    with pytest.raises(ValueError, match="there are no samples"):
        modal_share([])
    with pytest.raises(ValueError, match="two samples or more, got 1"):
        pairwise_agreement(["a"])


def test_pairwise_agreement_has_no_bias_and_the_modal_share_has():
    rng = random.Random(0)
    drawn = [rng.choices("abc", weights=[5, 3, 2], k=3) for _ in range(20_000)]
    assert np.mean([pairwise_agreement(d) for d in drawn]) == pytest.approx(0.38, abs=0.01)
    assert np.mean([modal_share(d) for d in drawn]) > 0.55


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot assist with this request.",
        '"Sorry, I am unable to answer."',
        "I can't provide this.",
        "I am not able to classify messages.",
        "I won't do that",
        "Unfortunately, I cannot say.",
        "As an AI language model, I have no opinion.",
        "This request violates our policy.",
    ],
)
def test_refusals_in_words(text):
    assert is_refusal(text)
    assert not is_refusal(text, [])


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry to hear that your screen stays black.",
        "I can't find the driver for Windows.",
        "mac",
        "Sorry for the delay: reinstall the driver.",
        "The user says: I can't help it",
        "",
    ],
)
def test_what_is_no_refusal(text):
    assert not is_refusal(text)


def test_each_record_is_set_aside_for_its_first_reason():
    records = [
        answered("1", "mac"),
        failed("2"),
        answered("3", "mac", finish_reason="length"),
        answered("4", "no", finish_reason="refusal"),
        answered("5", "", finish_reason="content_filter"),
        answered("6", "mac", finish_reason="tool_use"),
        answered("7", "  "),
        answered("8", "I'm sorry, I can't say whether it is a mac."),
        answered("9", "either mac or windows"),
        answered("10", "It is Windows."),
    ]
    result = filter_records(records, NAMES)
    assert result.kept == [records[0], records[9]]
    reasons = ["failed", "truncated", "refused", "refused", "ended otherwise", "empty", "refusal in words"]
    assert result.set_aside == [
        SetAside(record, reason) for record, reason in zip(records[1:9], [*reasons, "names no label"], strict=True)
    ]
    assert result.counts == {reason: reasons.count(reason) for reason in reasons} | {"names no label": 1}
    assert next(iter(result.counts)) == "refused"
    assert result.lost_inputs == [str(i) for i in range(2, 10)]


def test_rules_that_can_be_turned_off():
    cut, none, sorry = answered("1", "ma", finish_reason="length"), answered("2", "?"), answered("3", "I can't answer")
    records = [cut, none, sorry]
    assert filter_records(records, NAMES, allow_truncated=True, must_name_a_label=False).kept == [cut, none]
    assert filter_records(records).kept == [none]  # free texts
    assert filter_records(records, refusals=()).kept == [none, sorry]
    assert filter_records([answered("1", "A")], NAMES, answers="AB").kept
    assert not filter_records([answered("1", "A")], NAMES).kept


def test_low_agreement_sets_the_whole_input_aside():
    agree = [answered("a", text, sample=i) for i, text in enumerate(["mac", "Mac!", "windows"])]
    differ = [answered("b", text, sample=i) for i, text in enumerate(["mac", "?", "windows"])]
    refused = [answered("c", text, sample=i) for i, text in enumerate(["mac", "I can't help", "As an AI, no"])]
    lost = [answered("d", "mac"), failed("d", sample=1), failed("d", sample=2)]
    result = filter_records([*agree, *differ, *refused, *lost], NAMES, min_agreement=0.6)
    assert result.kept == [*agree, lost[0]]  # a failure is no opinion
    assert result.counts == {"low agreement": 3, "refusal in words": 2, "failed": 2, "names no label": 1}
    assert result.lost_inputs == ["b", "c"]


def test_free_texts_agree_up_to_case_and_blanks():
    records = [answered("a", text, sample=i) for i, text in enumerate(["Restart it.", " restart  it.\n", "No"])]
    assert filter_records(records, min_agreement=0.6).kept == records
    assert filter_records(records, min_agreement=0.7).counts == {"low agreement": 3}


def test_limits_on_probabilities():
    records = [
        answered("sure", "A", place(("A", 0.9), ("B", 0.1))),
        answered("torn", "A", place(("A", 0.55), ("B", 0.45))),
        answered("astray", "A", place(("A", 0.3), ("The", 0.6))),
    ]
    soft = probabilities_from_logprobs(records, NAMES, answers="AB")
    limits = {"answers": "AB", "probabilities": soft}
    result = filter_records(records, NAMES, min_confidence=0.6, max_off_label_mass=0.5, **limits)
    assert result.kept == records[:1]
    assert [aside.reason for aside in result.set_aside] == ["low confidence", "off-label mass"]
    assert filter_records(records, NAMES, **limits).kept == records
    with pytest.raises(ValueError, match="not among the probabilities") as error:
        filter_records([answered(SECRET, "A")], NAMES, min_confidence=0.6, **limits)
    assert SECRET not in str(error.value)


def test_near_duplicate_inputs():
    changed = PRINTER.replace("installed", "install")
    records = [
        answered(PRINTER, "?"),
        answered(changed, "mac"),
        answered("screen black", "mac"),
        answered(PRINTER + " nt", "mac"),
        answered(changed, "mac", sample=1),
    ]
    assert filter_records(records, NAMES).counts == {"names no label": 1}
    result = filter_records(records, NAMES, max_similarity=0.8)
    assert result.kept == [records[1], records[2], records[4]]  # the first is gone already and hides none
    assert result.counts == {"names no label": 1, "near-duplicate": 1}
    assert filter_records([failed("a")], max_similarity=0.8).counts == {"failed": 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_agreement": 1.1}, r"min_agreement .* 1.1"),
        ({"min_confidence": -0.1}, r"min_confidence .* -0.1"),
        ({"max_off_label_mass": 2}, r"max_off_label_mass .* 2"),
        ({"min_confidence": 0.5}, "need the probabilities"),
        ({"max_off_label_mass": 0.5}, "need the probabilities"),
        ({"max_similarity": 0.0}, "threshold"),
    ],
)
def test_limits_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        filter_records([answered("a", "mac")], NAMES, **settings)


def test_answers_to_two_prompts_are_not_mixed():
    with pytest.raises(ValueError, match="more than one prompt") as error:
        filter_records([answered(SECRET, "mac"), answered(SECRET, "mac", model="n")], NAMES)
    assert SECRET not in str(error.value)


def test_a_repr_is_one_line_without_a_text():
    result = filter_records([answered(SECRET, "mac"), failed("b"), failed("c")], NAMES)
    assert repr(result) == "FilteredRecords(1 kept, 2 set aside: {'failed': 2})"
    assert SECRET not in repr(result.set_aside + result.kept)
