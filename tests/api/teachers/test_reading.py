"""Whatever a server sends: a usable answer, an answer that is set aside with a reason, or a malformed answer."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from fault_server import anthropic_answer, openai_answer

from distill_helpers.api.journal.journal import Journal, read_journal
from distill_helpers.api.journal.records import JournalRecord
from distill_helpers.api.teachers.answers import IMPOSSIBLE, TeacherAnswer, Usage
from distill_helpers.api.teachers.connection import MalformedAnswerError
from distill_helpers.api.teachers.providers import AnthropicTeacher, OpenAITeacher
from distill_helpers.api.teachers.reading import BAD_LOGPROBS, UNKNOWN_REASON

SETTINGS = {"api_key": "k", "base_url": "http://127.0.0.1:9"}
OPENAI = OpenAITeacher("asked-for", top_logprobs=5, **SETTINGS)
WITHOUT_LOGPROBS = OpenAITeacher("asked-for", **SETTINGS)
ANTHROPIC = AnthropicTeacher("asked-for", **SETTINGS)
NOT_COUNTS = [None, -1, 2.5, math.nan, math.inf, True, "12", [], {}, 10**30]


def openai(**choice: Any) -> dict[str, Any]:
    response = copy.deepcopy(openai_answer("x", "billing"))
    response["choices"][0] |= choice
    return response


def message(**fields: Any) -> dict[str, Any]:
    return openai(message={"role": "assistant", "content": "billing"} | fields)


def logprobs(**token: Any) -> dict[str, Any]:
    return openai(logprobs={"content": [{"top_logprobs": [{"token": "billing", "logprob": -0.5} | token]}]})


@pytest.fixture
def kept(tmp_path):
    """Reads a response, puts the answer into a journal, and returns what the reader says."""

    def read(teacher, response) -> TeacherAnswer:
        record = JournalRecord.of(teacher.request("x"), "x", teacher.read(response))
        with Journal(tmp_path / "j.jsonl") as journal:
            journal.append(record)
        with Journal(tmp_path / "j.jsonl") as journal:
            assert journal.has_answer(record.key)
        answer = {kept.key: kept for kept in read_journal(tmp_path / "j.jsonl")}[record.key].answer
        assert answer is not None
        return answer

    return read


@pytest.mark.parametrize("count", NOT_COUNTS, ids=str)
def test_what_is_no_count_is_not_reported(kept, count) -> None:
    for name in ("prompt_tokens", "completion_tokens"):
        response = openai() | {"usage": {"prompt_tokens": 5, "completion_tokens": 1} | {name: count}}
        answer = kept(OPENAI, response)
        assert (answer.text, answer.usage, answer.usage_reported, answer.usable) == ("billing", Usage(), False, True)
    for name in ("input_tokens", "output_tokens"):
        response = anthropic_answer("x") | {"usage": {"input_tokens": 5, "output_tokens": 1} | {name: count}}
        assert not kept(ANTHROPIC, response).usage_reported


@pytest.mark.parametrize("usage", [None, [], "5", 5, {}, {"total_tokens": 6}], ids=str)
def test_no_usage_is_not_reported(kept, usage) -> None:
    assert not kept(OPENAI, openai() | {"usage": usage}).usage_reported
    assert not kept(ANTHROPIC, anthropic_answer("x") | {"usage": usage}).usage_reported


@pytest.mark.parametrize("cached", [-1, 2.5, True, "3"], ids=str)
def test_odd_counts_of_cached_tokens_make_the_usage_unknown(kept, cached) -> None:
    for name in ("cached_tokens", "cache_write_tokens"):
        usage = {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {name: cached}}
        assert not kept(OPENAI, openai() | {"usage": usage}).usage_reported
    for name in ("cache_read_input_tokens", "cache_creation_input_tokens"):
        usage = {"input_tokens": 5, "output_tokens": 1, name: cached}
        assert not kept(ANTHROPIC, anthropic_answer("x") | {"usage": usage}).usage_reported


def test_whole_counts_that_are_written_as_floats_are_counts(kept) -> None:
    usage = {"prompt_tokens": 5.0, "completion_tokens": 1.0, "prompt_tokens_details": None}
    answer = kept(OPENAI, openai() | {"usage": usage})
    assert (answer.usage, answer.usage_reported) == (Usage(5, 1), True)


@pytest.mark.parametrize("reason", [None, "", " ", 3, True, [], {}], ids=str)
def test_without_a_finish_reason_the_text_may_be_cut_off(kept, reason) -> None:
    for teacher, response in (
        (OPENAI, openai(finish_reason=reason)),
        (ANTHROPIC, anthropic_answer("x") | {"stop_reason": reason}),
    ):
        answer = kept(teacher, response)
        assert (answer.finish_reason, answer.usable) == (UNKNOWN_REASON, False)
    del (response := openai())["choices"][0]["finish_reason"]
    assert kept(OPENAI, response).finish_reason == UNKNOWN_REASON


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("length", "length"),
        ("max_tokens", "length"),
        ("model_length", "length"),
        ("model_context_window_exceeded", "length"),
        ("eos_token", "stop"),
        ("stop_sequence", "stop"),
        ("end_turn", "stop"),
        ("tool_calls", "tool_calls"),
        ("content_filter", "content_filter"),
        ("half \ud83d", "half \ufffd"),
    ],
)
def test_finish_reasons_by_one_name(kept, given, reason) -> None:
    assert kept(OPENAI, openai(finish_reason=given)).finish_reason == reason
    assert kept(ANTHROPIC, anthropic_answer("x", reason=given)).finish_reason == reason


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ([{"type": "text", "text": "bill"}, {"type": "text", "text": "ing"}], "billing"),
        ([{"type": "thinking", "thinking": "hm"}, {"type": "output_text", "text": "billing"}], "billing"),
        (["bill", "ing"], "billing"),
        ([{"text": "billing"}], "billing"),
        ([], ""),
        ("ok \ud83d", "ok \ufffd"),
        ("ok \ud83d\ude00", "ok 😀"),
        ([{"type": "text", "text": "\ude00 ok"}], "\ufffd ok"),
        ("\x00", "\x00"),
    ],
)
def test_contents_that_can_be_read(kept, content, text) -> None:
    assert kept(OPENAI, message(content=content)).text == text
    assert kept(ANTHROPIC, anthropic_answer("x") | {"content": content}).text == text


@pytest.mark.parametrize(
    ("response", "place"),
    [
        ({}, "choices"),
        ({"choices": None}, "choices"),
        ({"choices": []}, "choices"),
        ({"choices": {"0": {}}}, "choices"),
        ({"choices": [None]}, "choices[0].message"),
        ({"choices": [{}]}, "choices[0].message"),
        ({"choices": [{"message": "secret"}]}, "choices[0].message"),
        (message(content=5), "choices[0].message.content"),
        (message(content={"text": "secret"}), "choices[0].message.content"),
        (message(content=[{"type": "text", "text": None}]), "choices[0].message.content[0].text"),
        (message(content=["secret", 5]), "choices[0].message.content[1]"),
        (message(content=[{"type": 5}]), "choices[0].message.content[0]"),
    ],
    ids=str,
)
def test_the_place_of_what_cannot_be_read_is_named_and_no_text(response, place) -> None:
    with pytest.raises(MalformedAnswerError) as error:
        OPENAI.read(response)
    assert f": {place} is not " in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("content", [5, {"text": "a"}, [5], [{"type": "text"}]], ids=str)
def test_contents_of_anthropic_that_cannot_be_read(content) -> None:
    with pytest.raises(MalformedAnswerError, match="content"):
        ANTHROPIC.read(anthropic_answer("x") | {"content": content})
    with pytest.raises(MalformedAnswerError, match="content is not"):
        ANTHROPIC.read({})


@pytest.mark.parametrize("model", [None, "", 5, ["m"]], ids=str)
def test_without_a_model_it_is_the_one_that_was_asked_for(kept, model) -> None:
    assert kept(OPENAI, openai() | {"model": model}).model == "asked-for"
    assert kept(ANTHROPIC, anthropic_answer("x") | {"model": model}).model == "asked-for"
    assert kept(OPENAI, openai() | {"model": "m\udc00"}).model == "m\ufffd"


def test_refusals_and_calls_of_tools_are_set_aside(kept) -> None:
    for refusal in ("I can't.", True, {"why": "no"}):
        assert kept(OPENAI, message(refusal=refusal, content=None)).set_aside_reason == "refusal"
    in_parts = message(content=[{"type": "refusal", "refusal": "I can't."}])
    assert kept(OPENAI, in_parts).set_aside_reason == "refusal"
    calls = message(content=None, tool_calls=[{"id": "1"}])
    assert kept(OPENAI, calls).set_aside_reason == "empty"
    calls["choices"][0]["finish_reason"] = "tool_calls"
    assert kept(OPENAI, calls).set_aside_reason == "tool_calls"


def test_of_several_choices_the_first_is_the_answer(kept) -> None:
    response = openai()
    response["choices"].append({"message": {"content": "another"}, "finish_reason": "length"})
    assert kept(OPENAI, response).text == "billing"


def test_an_impossible_token_has_the_probability_0(kept) -> None:
    (token,) = kept(OPENAI, logprobs(logprob=-math.inf)).top_logprobs[0]
    assert (token.logprob, math.exp(token.logprob)) == (IMPOSSIBLE, 0.0)


def test_bytes_that_are_missing_are_those_of_the_text(kept) -> None:
    assert kept(OPENAI, logprobs()).top_logprobs[0][0].bytes == tuple(b"billing")
    assert kept(OPENAI, logprobs(token="é\ud83d", bytes=None)).top_logprobs[0][0].bytes == tuple("é\ufffd".encode())
    assert kept(OPENAI, logprobs(bytes=[0xC3])).top_logprobs[0][0].bytes == (0xC3,)


@pytest.mark.parametrize(
    "token",
    [
        {"logprob": math.nan},
        {"logprob": "-0.5"},
        {"logprob": None},
        {"logprob": True},
        {"logprob": 0.5},
        {"logprob": math.inf},
        {"logprob": 10**400},
        {"bytes": [300]},
        {"bytes": [-1]},
        {"bytes": [1.5]},
        {"bytes": "billing"},
        {"bytes": 7},
        {"token": None},
        {"token": 5},
    ],
    ids=str,
)
def test_log_probabilities_that_are_none_set_the_answer_aside_if_they_were_asked_for(kept, token) -> None:
    answer = kept(OPENAI, logprobs(**token))
    assert (answer.text, answer.set_aside_reason, answer.top_logprobs) == ("billing", BAD_LOGPROBS, ())
    unasked = kept(WITHOUT_LOGPROBS, logprobs(**token))
    assert (unasked.usable, unasked.top_logprobs) == (True, ())


@pytest.mark.parametrize("places", [5, [5], [None], [{}], [{"top_logprobs": 5}], [{"top_logprobs": [5]}]], ids=str)
def test_positions_that_are_none_set_the_answer_aside(kept, places) -> None:
    assert kept(OPENAI, openai(logprobs={"content": places})).set_aside_reason == BAD_LOGPROBS


@pytest.mark.parametrize("given", [None, {}, {"content": None}, {"content": []}], ids=str)
def test_no_log_probabilities_are_none(kept, given) -> None:
    answer = kept(OPENAI, openai(logprobs=given))
    assert (answer.top_logprobs, answer.usable) == ((), True)
    assert kept(OPENAI, openai(logprobs={"content": [{"top_logprobs": None}]})).top_logprobs == ((),)


def test_a_surrogate_that_came_over_the_wire_is_replaced(kept) -> None:
    wire = b'{"model":"m","choices":[{"finish_reason":"length","message":{"content":"ok \\ud83d"}}]}'
    assert kept(OPENAI, json.loads(wire)).text == "ok \ufffd"
