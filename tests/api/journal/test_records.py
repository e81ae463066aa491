"""Records: what they hold, what they show, and the key of what was asked."""

import pytest

from distill_helpers.api.journal.records import Failure, JournalRecord, request_key
from distill_helpers.api.teachers.answers import TeacherAnswer, TokenLogprob, Usage

REQUEST = {
    "model": "m",
    "temperature": 0.5,
    "system": "be brief",
    "messages": [{"role": "user", "content": "the text"}],
}


def test_key_depends_on_all_that_was_asked_and_on_nothing_else() -> None:
    key = request_key({"model": "m", "temperature": 0.0, "messages": []})
    assert key == request_key({"messages": [], "temperature": 0.0, "model": "m"})
    others = [
        {"model": "n", "temperature": 0.0, "messages": []},
        {"model": "m", "temperature": 0.5, "messages": []},
        {"model": "m", "messages": []},
        {"model": "m", "temperature": 0.0, "messages": [{"role": "user", "content": "x"}]},
    ]
    keys = {key, *(request_key(other) for other in others)}
    keys |= {request_key({"model": "m", "temperature": 0.0, "messages": []}, sample) for sample in (1, 2)}
    assert len(keys) == 7


def test_a_record_has_the_parameters_but_not_the_prompt_again() -> None:
    made = JournalRecord.of(REQUEST, "the text", Failure("X"))
    assert made.parameters == {"model": "m", "temperature": 0.5}
    assert made.to_json().count(b"the text") == 1


def test_a_record_is_an_answer_or_a_failure() -> None:
    with pytest.raises(ValueError, match="an answer or a failure"):
        JournalRecord("k", "text", 0, {}, "2026-01-01")


def test_a_repr_is_one_line_without_a_text() -> None:
    answer = TeacherAnswer("it is\nsecret", "stop", "m-1", Usage(10, 2), ((TokenLogprob("it", -0.1, (105, 116)),),))
    shown = repr(JournalRecord.of(REQUEST, "the text", answer, sample=3, batch=True))
    assert shown.startswith(f"JournalRecord({request_key(REQUEST, 3)[:8]}…, sample 3, 20")
    assert shown.endswith(
        ", batch, TeacherAnswer(12 characters, finish_reason='stop', model='m-1', 10 + 2 tokens, log-probabilities at 1"
        " positions))"
    )
    failed = repr(JournalRecord.of(REQUEST, "the text", Failure("RateLimitError", 429)))
    assert failed.endswith(", failed: RateLimitError 429)")
    assert "text" not in shown + failed
