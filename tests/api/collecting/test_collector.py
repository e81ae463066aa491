"""The collector against a server that misbehaves: the job ends, nothing is lost, causes are recorded."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fault_server import written
from running_fault_server import KEY, FaultServer

from distill_helpers.api.collecting.collector import APIDistillationDataCollector, Collection, TaskExample
from distill_helpers.api.collecting.planned_requests import plan_requests
from distill_helpers.api.collecting.worker_pool import _APART_S, TeacherUnavailableError
from distill_helpers.api.costs.budget import Budget
from distill_helpers.api.costs.price_table import PriceTable
from distill_helpers.api.costs.pricing import worst_case_usage
from distill_helpers.api.journal import journal as journal_module
from distill_helpers.api.journal.journal import Journal, read_journal
from distill_helpers.api.journal.records import Failure, request_key
from distill_helpers.api.teachers.answers import TeacherAnswer, Usage
from distill_helpers.api.teachers.providers import AnthropicTeacher, OpenAITeacher

DIALECTS = ["openai", "anthropic"]
CUSTOMER = "".join(("Mei", "er of Ulm"))  # in two pieces, since a traceback shows the lines of this file
StartServer = Callable[[float], FaultServer]


def collect(server: FaultServer, dialect: str, texts: list[str], path: Path, **options: object) -> Collection:
    teacher_options = {k: options.pop(k) for k in ("max_retries", "timeout_s", "temperature") if k in options}
    teacher = getattr(server, dialect)(**teacher_options)
    return APIDistillationDataCollector(teacher).collect(texts, path, progress=False, **options)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_input_is_asked_once_and_answered_in_order(server: FaultServer, dialect: str, tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(40)]
    collection = collect(server, dialect, [*texts, "text 3"], tmp_path / "j.jsonl")
    assert [example.input_text for example in collection.examples] == texts
    assert all(example.teacher_output == f"answer to {example.input_text}" for example in collection.examples)
    assert collection.examples[0].metadata["model"] == "faulty-1"
    assert server.asked() == Counter(texts)
    assert (collection.stopped, collection.not_asked, collection.usage.output_tokens) == (None, 0, 200)


#: Fault, records that it leaves (a failure or the reason for which an answer is set aside), and how often it is asked.
FAULTS = [
    ("429 1 times", None, 2),
    ("429 retry-after 1 times", None, 2),
    ("500 1 times", None, 2),
    ("503 1 times", None, 2),
    ("reset 1 times", None, 2),
    ("half an answer 1 times", None, 2),
    ("slow", None, 1),
    ("time-out 1 times", None, 2),
    ("429", "RateLimitError 429 (faulty)", 3),
    ("500", "InternalServerError 500 (faulty)", 3),
    ("503", "InternalServerError 503 (faulty)", 3),
    ("reset", "APIConnectionError", 3),
    ("time-out", "APITimeoutError", 3),
    ("400", "BadRequestError 400 (faulty)", 1),
    ("malformed", "MalformedAnswerError", 1),
    ("another shape", "MalformedAnswerError", 1),
    ("empty", "empty", 1),
    ("truncated", "length", 1),
    ("refused", "refusal", 1),
]


@pytest.mark.slow
@pytest.mark.parametrize("dialect", DIALECTS)
def test_faults_are_met_and_recorded(server: FaultServer, dialect: str, tmp_path: Path) -> None:
    """All of them in one job, between good requests, which must not suffer."""
    good = [f"text {i}" for i in range(60)]
    bad = {f"[{fault}] text": (kept, asked) for fault, kept, asked in FAULTS}
    texts = [*good[:30], *bad, *good[30:]]
    collection = collect(server, dialect, texts, tmp_path / "j.jsonl", max_concurrent=8)

    healed = [text for text, (kept, _) in bad.items() if kept is None]
    assert {e.input_text for e in collection.examples} == {*good, *healed}
    names = (
        {"InternalServerError 503 (faulty)": "ServiceUnavailableError 503 (faulty)"} if dialect == "anthropic" else {}
    )
    assert collection.set_aside == Counter(names.get(kept, kept) for kept, _ in bad.values() if kept)
    assert collection.not_asked == 0
    assert {text: server.asked()[text] for text in bad} == {text: asked for text, (_, asked) in bad.items()}
    records = {record.input_text: record for record in read_journal(tmp_path / "j.jsonl")}
    assert set(records) == set(texts)
    assert records["[429] text"].failure == Failure("RateLimitError", 429, "faulty")
    truncated = records["[truncated] text"].answer
    assert truncated is not None
    assert (truncated.text, truncated.finish_reason, truncated.usable) == ("answer to", "length", False)


@pytest.mark.slow
def test_retry_after_is_waited_for(server: FaultServer, tmp_path: Path) -> None:
    start = time.perf_counter()
    collection = collect(server, "openai", ["[429 retry-after 2 times] text"], tmp_path / "j.jsonl")
    assert len(collection.examples) == 1
    assert 2.0 <= time.perf_counter() - start < 4.5


def test_a_rerun_asks_only_what_is_missing(server: FaultServer, tmp_path: Path) -> None:
    first = [f"text {i}" for i in range(10)] + ["[400] text"]
    collect(server, "openai", first, tmp_path / "j.jsonl")
    collection = collect(server, "openai", [*first, "new"], tmp_path / "j.jsonl")
    assert server.asked() == Counter([*first, "new"])
    assert len(collection.examples) == 11
    assert collection.set_aside == {"BadRequestError 400 (faulty)": 1}


def test_failures_are_asked_again_on_request(server: FaultServer, tmp_path: Path) -> None:
    texts = ["good", "[400 1 times] text", "[truncated] text"]
    collect(server, "openai", texts, tmp_path / "j.jsonl")
    collection = collect(server, "openai", texts, tmp_path / "j.jsonl", retry_failed=True)
    assert [e.input_text for e in collection.examples] == texts[:2]
    assert server.asked() == {"good": 1, "[400 1 times] text": 2, "[truncated] text": 1}
    assert len(read_journal(tmp_path / "j.jsonl")) == 3


def test_another_question_is_another_answer(server: FaultServer, tmp_path: Path) -> None:
    """The journal serves another temperature, another model or another prompt beside the first."""
    for temperature in (0.0, 1.0, 1.0):
        collect(server, "openai", ["text"], tmp_path / "j.jsonl", temperature=temperature)
    assert server.asked() == {"text": 2}


def test_samples_of_one_input_are_asked_and_kept_apart(server: FaultServer, tmp_path: Path) -> None:
    collection = collect(server, "openai", ["a", "b"], tmp_path / "j.jsonl", temperature=1.0, n_samples=3)
    assert server.asked() == {"a": 3, "b": 3}
    assert [e.metadata["sample"] for e in collection.examples] == [0, 1, 2] * 2
    more = collect(server, "openai", ["a", "b"], tmp_path / "j.jsonl", temperature=1.0, n_samples=4)
    assert server.asked() == {"a": 4, "b": 4}
    assert len(more.examples) == 8


@pytest.mark.parametrize(("fault", "status"), [("401", 401), ("402", 402), ("403", 403), ("404", 404)])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_key_or_no_model_ends_the_job_at_once(
    server: FaultServer, dialect: str, fault: str, status: int, tmp_path: Path
) -> None:
    texts = ["good", f"[{fault}] secret text", *(f"text {i}" for i in range(200))]
    with pytest.raises(TeacherUnavailableError, match=f"{status}") as caught:
        collect(server, dialect, texts, tmp_path / "j.jsonl", max_concurrent=2)
    assert sum(server.asked().values()) < 50
    shown = "".join(map(str, (caught.value, caught.value.__cause__)))
    assert caught.value.__suppress_context__
    assert "secret" not in shown
    assert f"[{fault}] secret text" not in {record.input_text for record in read_journal(tmp_path / "j.jsonl")}


def test_a_teacher_that_is_down_ends_the_job(server: FaultServer, tmp_path: Path) -> None:
    texts = ["good", *(f"[500] text {i}" for i in range(100))]
    with pytest.warns(UserWarning, match="10 failures in a row"):
        collection = collect(
            server, "openai", texts, tmp_path / "j.jsonl", max_retries=0, max_concurrent=3, stop_after_failures=10
        )
    # The failures before the answer do not count, and two more requests may be under way when the tenth fails.
    inputs = [record.input_text for record in read_journal(tmp_path / "j.jsonl")]
    assert 10 <= len(inputs) - 1 - inputs.index("good") <= 12
    assert collection.set_aside == {"InternalServerError 500 (faulty)": len(inputs) - 1}
    assert collection.not_asked == len(texts) - len(inputs)
    assert "InternalServerError 500" in str(collection.stopped)


def test_failures_between_answers_do_not_end_the_job(server: FaultServer, tmp_path: Path) -> None:
    texts = [f"[400] text {i}" if i % 2 else f"text {i}" for i in range(60)]
    collection = collect(server, "openai", texts, tmp_path / "j.jsonl", max_concurrent=1, stop_after_failures=2)
    assert (collection.stopped, len(collection.examples), collection.not_asked) == (None, 30, 0)


#: Fields in place of the good answer's, and what becomes of it: None for an example.
ODD_ANSWERS: dict[str, list[tuple[dict[str, Any], str | None]]] = {
    "openai": [
        ({"usage": None}, None),
        ({"usage": {"prompt_tokens": None, "completion_tokens": -1}}, None),
        ({"model": None}, None),
        ({"choices": []}, "MalformedAnswerError"),
        ({"choices": [{"message": {"content": "ok \ud83d"}, "finish_reason": "length"}]}, "length"),
        ({"choices": [{"message": {"content": "ok"}, "finish_reason": None}]}, "no finish reason"),
        ({"choices": [{"message": {"content": [{"type": "text", "text": "ok"}]}, "finish_reason": "stop"}]}, None),
        ({"choices": None, "error": {"code": "overloaded"}}, "MalformedAnswerError (overloaded)"),
        ({"model": "\ud83d", "usage": {"prompt_tokens": 1e999}}, None),
    ],
    "anthropic": [
        ({"usage": None}, None),
        ({"usage": {"input_tokens": 1.5, "output_tokens": True}}, None),
        ({"model": None}, None),
        ({"content": 5}, "MalformedAnswerError"),
        ({"content": [{"type": "text", "text": "ok \ud83d"}], "stop_reason": "max_tokens"}, "length"),
        ({"stop_reason": None}, "no finish reason"),
        ({"content": "ok"}, None),
        ({"content": None, "stop_reason": None, "error": {"type": "overloaded"}}, "MalformedAnswerError (overloaded)"),
    ],
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_whatever_a_server_sends_is_recorded_and_never_asked_again(
    server: FaultServer, dialect: str, tmp_path: Path
) -> None:
    texts = {written("answer", fields): reason for fields, reason in ODD_ANSWERS[dialect]}
    for _ in range(3):
        collection = collect(server, dialect, list(texts), tmp_path / "j.jsonl")
        assert [e.input_text for e in collection.examples] == [text for text, reason in texts.items() if reason is None]
        assert collection.set_aside == Counter(reason for reason in texts.values() if reason)
        assert collection.not_asked == 0
    assert server.asked() == Counter(list(texts))
    assert len(read_journal(tmp_path / "j.jsonl")) == len(texts)


class Odd:
    """A teacher of another dialect, which checks nothing."""

    model, failures = "odd", (OSError,)

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def request(self, text: str) -> dict[str, Any]:
        return {"model": "odd", "max_tokens": 9, "messages": [{"role": "user", "content": text}]}

    async def ask(self, request: Mapping[str, Any]) -> TeacherAnswer:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def read(self, response: Mapping[str, Any]) -> TeacherAnswer:
        raise NotImplementedError

    async def close(self) -> None:
        pass


def test_an_answer_that_could_not_be_read_again_is_a_failure_that_is_charged(tmp_path: Path) -> None:
    odd = [
        TeacherAnswer("half \ud800", "stop", "m", Usage(10, 1)),
        TeacherAnswer("x", None, "m", Usage(10, 1)),  # type: ignore[arg-type]
        TeacherAnswer("x", "stop", "m", Usage(1.5, 1)),  # type: ignore[arg-type]
        TeacherAnswer("x", "stop", "m", Usage(-3, 1)),
        TeacherAnswer("x", "stop", "m", Usage(10, math.nan)),  # type: ignore[arg-type]
    ]
    texts = list("abcde")
    bound = worst_case_usage(Odd().request("a"))
    with pytest.warns(UserWarning, match=r"3 of 5 records were set aside.*3 × MalformedAnswerError"):
        collection = APIDistillationDataCollector(Odd(*odd)).collect(
            texts, tmp_path / "j", progress=False, max_concurrent=1
        )
    assert collection.set_aside == {"MalformedAnswerError": 3}
    assert collection.usage == sum([bound] * 5, Usage())
    assert collection.usage_not_reported == 2
    with pytest.warns(UserWarning, match="set aside"):
        again = APIDistillationDataCollector(Odd()).collect(texts, tmp_path / "j", progress=False)
    assert again.usage == collection.usage


def test_a_failure_of_unknown_kind_is_charged_at_its_bound_and_with_a_retry_both_count(tmp_path: Path) -> None:
    bound, text = worst_case_usage(Odd().request("a")), ["a"]
    with pytest.warns(UserWarning, match="1 of 1 records"):
        first = APIDistillationDataCollector(Odd(OSError())).collect(text, tmp_path / "j", progress=False)
    assert first.usage == bound
    good = Odd(TeacherAnswer("x", "stop", "m", Usage(10, 1)))
    second = APIDistillationDataCollector(good).collect(text, tmp_path / "j", progress=False, retry_failed=True)
    assert second.usage == bound + Usage(10, 1)


@pytest.mark.parametrize(
    ("fault", "lost", "answered"),
    [
        ("[half an answer 1 times] text", 1, True),
        ("[half an answer] text", 3, False),
        ("[reset 2 times] text", 2, True),
        ("[malformed] text", 1, False),
        ("[another shape] text", 1, False),
        ("[half an answer 1 times] [answer] text", 1, True),
        ("[500] text", 0, False),
        ("[400] text", 0, False),
        ("[429 2 times] text", 0, True),
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.slow
def test_what_may_have_been_charged_is_counted(
    server: FaultServer, tmp_path: Path, dialect: str, fault: str, lost: int, answered: bool
) -> None:
    collection = collect(server, dialect, [fault], tmp_path / "j.jsonl")
    teacher = getattr(server, dialect)()
    bound = worst_case_usage(teacher.request(fault))
    assert collection.usage == sum([bound] * lost, Usage(10, 5) if answered else Usage())
    (record,) = read_journal(tmp_path / "j.jsonl")
    assert record.lost_usage == sum([bound] * lost, Usage())


@pytest.mark.slow
def test_a_server_that_is_not_there_is_not_charged(tmp_path: Path) -> None:
    for teacher in (
        OpenAITeacher("m", api_key="k", base_url="http://127.0.0.1:9/v1", max_retries=1),
        AnthropicTeacher("m", api_key="k", base_url="http://127.0.0.1:9", max_retries=1),
    ):
        path = tmp_path / type(teacher).__name__
        with pytest.warns(UserWarning, match="1 of 1 records were set aside"):
            collection = APIDistillationDataCollector(teacher).collect(["a"], path, progress=False)
        assert collection.set_aside == {"APIConnectionError": 1}
        assert collection.usage == Usage()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.slow
def test_a_retry_needs_room_in_the_budget(server: FaultServer, dialect: str, tmp_path: Path) -> None:
    """Generated under a limit of two bounds: two attempts that were cut off, and no third."""
    text = "[half an answer] text"
    bound = worst_case_usage(getattr(server, dialect)().request(text))
    limit = 2 * (bound.input_tokens + bound.output_tokens)
    with pytest.warns(UserWarning, match="1 of 1 records"):
        collection = collect(server, dialect, [text], tmp_path / "j", budget=Budget(tokens=limit), max_retries=5)
    assert server.asked() == {text: 2}
    assert collection.set_aside == {"NoBudgetForRetryError": 1}
    assert collection.usage == bound + bound
    with pytest.warns(UserWarning, match="no room"):
        collect(server, dialect, [text, "another"], tmp_path / "j", budget=Budget(tokens=limit))
    assert server.asked() == {text: 2}


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": "9"}])
def test_a_budget_holds_for_a_server_that_reports_no_usage(server: FaultServer, usage: Any, tmp_path: Path) -> None:
    texts = [written("answer", {"usage": usage}) + " " * i for i in range(60)]
    with pytest.warns(UserWarning, match="budget"):
        collection = collect(server, "openai", texts, tmp_path / "j.jsonl", budget=Budget(tokens=5000))
    used = collection.usage.input_tokens + collection.usage.output_tokens
    assert 4400 < used <= 5000
    assert collection.usage_not_reported == len(collection.examples) == sum(server.asked().values()) < 15
    assert f"{len(collection.examples)} without a reported usage" in repr(collection)
    record = read_journal(tmp_path / "j.jsonl")[0]
    assert record.answer is not None
    assert record.answer.usage == worst_case_usage(server.openai().request(record.input_text))
    assert not record.answer.usage_reported
    with pytest.warns(UserWarning, match="budget"):
        again = collect(server, "openai", texts, tmp_path / "j.jsonl", budget=Budget(tokens=5000))
    assert again.usage == collection.usage


def test_without_a_limit_of_output_there_is_no_budget(server: FaultServer, tmp_path: Path) -> None:
    teacher = server.openai(parameters={"max_completion_tokens": None})
    collector = APIDistillationDataCollector(teacher)
    with pytest.raises(ValueError, match="this budget can't be kept: the request has no limit of output"):
        collector.collect(["a"], tmp_path / "j", budget=Budget(tokens=5000), progress=False)
    assert not server.asked()
    assert collector.collect(["a"], tmp_path / "j", progress=False).usage == Usage(10, 5)


#: Refusals of a parameter that all requests share, and how many requests show it.
REFUSALS: list[tuple[Any, int, str]] = [
    ({"error": {"code": "unsupported_parameter", "param": "max_completion_tokens", "message": "?"}}, 1, "unsupported"),
    ({"error": {"code": None, "type": "t", "param": "temperature", "message": "?"}}, 2, "t: temperature"),
    ({"detail": [{"type": "extra_forbidden", "loc": ["body", "max_completion_tokens"]}]}, 1, "extra_forbidden"),
    ({"error": {"message": "unknown field max_completion_tokens"}}, 2, "max_completion_tokens"),
]


@pytest.mark.parametrize(("body", "asked", "reason"), REFUSALS)
def test_a_parameter_that_the_server_refuses_ends_the_job(
    server: FaultServer, tmp_path: Path, body: Any, asked: int, reason: str
) -> None:
    texts = [written("refuse", body) + " " * i for i in range(100)]
    with pytest.raises(TeacherUnavailableError, match=rf"BadRequestError 400 \(.*{reason}.*leave it out"):
        collect(server, "openai", texts, tmp_path / "j.jsonl", max_concurrent=1)
    assert sum(server.asked().values()) == asked


@pytest.mark.parametrize("code", ["insufficient_quota", "model_not_found"])
def test_a_code_that_concerns_every_request_ends_the_job(server: FaultServer, tmp_path: Path, code: str) -> None:
    texts = [written("refuse", {"error": {"code": code}}) + " " * i for i in range(100)]
    with pytest.raises(TeacherUnavailableError, match=code):
        collect(server, "openai", texts, tmp_path / "j.jsonl", max_concurrent=1)
    assert sum(server.asked().values()) == 1


def test_a_refusal_that_depends_on_the_text_does_not_end_the_job(server: FaultServer, tmp_path: Path) -> None:
    """A long text leaves no room for the answer: the server names a parameter that all requests share."""
    refused = written("refuse", {"error": {"type": "BadRequestError", "param": "max_completion_tokens"}})
    texts = ["text", *(refused + " " * i for i in range(5)), *(f"text {i}" for i in range(9))]
    collection = collect(server, "openai", texts, tmp_path / "j.jsonl", max_concurrent=1)
    assert len(collection.examples) == 10
    assert collection.set_aside == {"BadRequestError 400 (BadRequestError: max_completion_tokens)": 5}
    refused = written("refuse", {"error": {"code": "context_length_exceeded", "param": "messages"}})
    texts = [refused + " " * i for i in range(3)] + [f"other {i}" for i in range(4)]
    collection = collect(server, "openai", texts, tmp_path / "j.jsonl", max_concurrent=1)
    assert collection.set_aside == {"BadRequestError 400 (context_length_exceeded: messages)": 3}


def test_most_answers_set_aside_is_a_warning_with_the_reasons(server: FaultServer, tmp_path: Path) -> None:
    texts = ["[truncated] a", "[truncated] b", "[refused] c", "good"]
    with pytest.warns(UserWarning, match=r"3 of 4 records were set aside, and only 1 .*2 × length, 1 × refusal"):
        collect(server, "openai", texts, tmp_path / "j.jsonl")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collect(server, "openai", [*texts, "good 2", "good 3"], tmp_path / "j.jsonl")


def test_a_journal_that_may_only_be_read_serves_if_nothing_is_missing(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect(server, "openai", ["a"], tmp_path / "j.jsonl")
    monkeypatch.setattr(journal_module.FileLock, "acquire", _refuse_writing)
    assert len(collect(server, "openai", ["a"], tmp_path / "j.jsonl").examples) == 1
    with pytest.raises(OSError, match="may only be read"):
        collect(server, "openai", ["a", "b"], tmp_path / "j.jsonl")
    assert server.asked() == {"a": 1}


def _refuse_writing(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


@pytest.mark.parametrize("when", [1, 2])
def test_a_sync_that_fails_ends_the_run(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    """The only sync of a run, and a later one."""
    calls = []

    def sync(self: journal_module.Journal) -> None:
        calls.append(1)
        if len(calls) == when:
            raise OSError(errno.EIO, "the disk fails")

    monkeypatch.setattr(journal_module.Journal, "sync", sync)
    texts = ["only"] if when == 1 else [f"text {i}" for i in range(20)]
    with pytest.raises(OSError, match="the disk fails"):
        collect(server, "openai", texts, tmp_path / "j.jsonl", max_concurrent=1)
    assert 0 <= len(server.asked()) - len(read_journal(tmp_path / "j.jsonl")) <= 1  # a call that was under way


def test_the_last_answers_are_synced_before_a_run_ends(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(journal_module.Journal, "sync", lambda self: synced.append(len(self)) or time.sleep(0.02))
    collect(server, "openai", [f"text {i}" for i in range(20)], tmp_path / "j.jsonl", max_concurrent=20)
    assert synced[-1] == 20


@pytest.mark.slow
@pytest.mark.parametrize("concurrent", [1, 7])
def test_a_budget_in_tokens_is_never_passed_and_nearly_used(
    start_fault_server: StartServer, tmp_path: Path, concurrent: int
) -> None:
    server = start_fault_server(0.01)
    texts = [f"text {i}" for i in range(250)]
    with pytest.warns(UserWarning, match="budget"):
        collection = collect(
            server, "openai", texts, tmp_path / "j.jsonl", max_concurrent=concurrent, budget=Budget(tokens=3000)
        )
    used = collection.usage.input_tokens + collection.usage.output_tokens
    assert 2600 <= used <= 3000  # one request may use some 350 tokens at most, and uses 15
    assert len(collection.examples) == used // 15
    assert collection.not_asked == 250 - len(collection.examples)
    with pytest.warns(UserWarning, match="budget"):  # a rerun has the same budget, not another one
        again = collect(server, "openai", texts, tmp_path / "j.jsonl", budget=Budget(tokens=3000))
    assert again.usage == collection.usage


@pytest.mark.slow
def test_a_budget_in_dollars(server: FaultServer, tmp_path: Path, prices: PriceTable) -> None:
    """At $1 for each of a million input and output tokens an answer costs $0.000015."""
    collector = APIDistillationDataCollector(server.openai(), prices=prices)
    with pytest.warns(UserWarning, match="budget"):
        collection = collector.collect(
            [f"text {i}" for i in range(200)], tmp_path / "j.jsonl", budget=Budget(usd=0.002), progress=False
        )
    assert collection.cost_usd is not None
    assert 0.0016 <= collection.cost_usd <= 0.002
    assert collection.cost_usd == pytest.approx(15e-6 * len(collection.examples))
    bigger = collector.collect(
        [f"text {i}" for i in range(200)], tmp_path / "j.jsonl", budget=Budget(usd=1.0), progress=False
    )
    assert len(bigger.examples) == 200


def test_a_prompt_that_may_be_longer_than_its_price_is_for_is_refused_before_any_call(
    server: FaultServer, tmp_path: Path, prices: PriceTable
) -> None:
    short = PriceTable([replace(price, max_prompt_tokens=2000) for price in prices])
    collector = APIDistillationDataCollector(server.openai(), prices=short)
    with pytest.raises(ValueError, match="prompts of up to 2000") as error:
        collector.collect(["a", "b" * 1900], tmp_path / "journal", budget=Budget(usd=1), progress=False)
    assert "bbb" not in str(error.value)
    assert not server.asked()
    fitting = collector.collect(["a", "b" * 100], tmp_path / "journal", budget=Budget(usd=1), progress=False)
    assert len(fitting.examples) == 2
    collector.collect(["b" * 1900], tmp_path / "other", progress=False)  # without a budget there is none to pass


def test_a_model_without_a_price_has_no_cost_and_no_budget_in_dollars(server: FaultServer, tmp_path: Path) -> None:
    assert collect(server, "openai", ["text"], tmp_path / "j.jsonl").cost_usd is None
    with pytest.raises(ValueError, match=r"faulty-1.*prices"):
        collect(server, "openai", ["text 2"], tmp_path / "j.jsonl", budget=Budget(usd=1.0))
    assert server.asked() == {"text": 1}


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "at least one"),
        ("a text", {}, "list"),
        (["a", " "], {}, r"texts\[1\] is empty"),
        (["a", 3], {}, r"texts\[1\] is int"),
        (["a", "half \ud800"], {}, r"texts\[1\] .*surrogate"),
        (["a"], {"max_concurrent": 0}, "max_concurrent.*0"),
        (["a"], {"n_samples": 0}, "n_samples.*0"),
        (["a"], {"n_samples": 2}, "temperature 0"),
        (["a"], {"stop_after_failures": 0}, "stop_after_failures"),
    ],
)
def test_bad_input_is_an_error_before_anything_is_asked(
    server: FaultServer, tmp_path: Path, texts: list[str], options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        collect(server, "openai", texts, tmp_path / "j.jsonl", **options)
    assert not server.asked()
    assert not (tmp_path / "j.jsonl").exists()


def test_a_teacher_is_named_or_ready(server: FaultServer) -> None:
    with pytest.raises(ValueError, match=r"unknown provider 'gemini'.*anthropic.*openai"):
        APIDistillationDataCollector("gemini", "pro")
    with pytest.raises(ValueError, match="teacher_model"):
        APIDistillationDataCollector("openai")
    with pytest.raises(ValueError, match="ready teacher"):
        APIDistillationDataCollector(server.openai(), system_prompt="be brief")
    named = APIDistillationDataCollector(
        "openai", "m", "be brief", temperature=None, max_tokens=7, base_url=server.url, api_key=KEY
    )
    assert named.teacher.request("x") == {
        "model": "m",
        "max_completion_tokens": 7,
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "x"}],
    }


def test_it_can_be_awaited_and_called_under_a_running_loop(server: FaultServer, tmp_path: Path) -> None:
    """As in a notebook, whose own thread has a loop that runs; one teacher serves several loops."""
    collector = APIDistillationDataCollector(server.openai())

    async def notebook() -> tuple[Collection, Collection]:
        called = collector.collect(["a"], tmp_path / "j.jsonl", progress=False)
        return called, await collector.collect_distillation_data(["b"], tmp_path / "j.jsonl", progress=False)

    called, awaited = asyncio.run(notebook())
    assert (called.examples[0].input_text, awaited.examples[0].input_text) == ("a", "b")


@pytest.mark.slow
def test_concurrency_is_constant(start_fault_server: StartServer, tmp_path: Path) -> None:
    """One slow answer in a job of four workers does not hold up the other three."""
    server = start_fault_server(0.05)
    texts = ["[time-out] text", *(f"text {i}" for i in range(60))]
    start = time.perf_counter()
    collect(server, "openai", texts, tmp_path / "j.jsonl", max_concurrent=4, max_retries=0, timeout_s=1.0)
    assert time.perf_counter() - start < 3.0  # 60 answers by three workers take 1 s


class Clocked(OpenAITeacher):
    """Notes when each call starts."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.starts: list[float] = []

    async def ask(self, request: Mapping[str, Any]) -> TeacherAnswer:
        self.starts.append(time.perf_counter())
        return await super().ask(request)


@pytest.mark.slow
def test_calls_do_not_start_together(server: FaultServer, tmp_path: Path) -> None:
    teacher = Clocked("faulty-1", api_key=KEY, base_url=f"{server.url}/v1", max_tokens=50)
    texts = [f"text {i}" for i in range(100)]
    APIDistillationDataCollector(teacher).collect(texts, tmp_path / "j", max_concurrent=100, progress=False)
    assert len(teacher.starts) == 100
    # No call is ahead of its turn, however late the first one was noted here.
    assert teacher.starts[-1] - teacher.starts[0] > 99 * _APART_S - 0.03


@pytest.mark.slow
def test_an_interrupt_keeps_what_was_answered(start_fault_server: StartServer, tmp_path: Path) -> None:
    server = start_fault_server(0.05)
    texts = [f"text {i}" for i in range(500)]

    def interrupt() -> None:
        while len(server.asked()) < 20:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    # A shell's background job starts with interrupts ignored, and then Python does not handle them by itself.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            collect(server, "openai", texts, tmp_path / "j.jsonl", max_concurrent=4)
    finally:
        signal.signal(signal.SIGINT, before)
    answered = {record.input_text for record in read_journal(tmp_path / "j.jsonl")}
    assert 0 < len(answered) < 500
    assert len(server.asked()) - len(answered) <= 4
    collect(server, "openai", texts, tmp_path / "j.jsonl", max_concurrent=20)
    assert sum(server.asked().values()) <= 504
    assert all(server.asked()[text] == 1 for text in answered)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["interrupt", "cancel", "another worker's error"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_calls_that_are_cut_off_are_charged_at_their_worst_and_asked_again(
    start_fault_server: StartServer, dialect: str, how: str, tmp_path: Path
) -> None:
    """The server has written the answers, although nobody reads them."""
    # So slow that on a busy machine too no answer comes before what cuts the calls off.
    server, path, texts = start_fault_server(1.5), tmp_path / "j.jsonl", [f"text {i}" for i in range(12)]
    collector = APIDistillationDataCollector(getattr(server, dialect)(timeout_s=20.0))
    n_asked = 4

    def wait() -> None:
        while len(server.asked()) < n_asked:
            time.sleep(0.005)

    def interrupt() -> None:
        wait()
        os.kill(os.getpid(), signal.SIGINT)

    async def cancelled() -> None:
        job = asyncio.create_task(collector.collect_distillation_data(texts, path, 4, progress=False))
        await asyncio.to_thread(wait)
        job.cancel()
        await job

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if how == "cancel":
            with pytest.raises(asyncio.CancelledError):
                asyncio.run(cancelled())
        elif how == "interrupt":
            threading.Thread(target=interrupt, daemon=True).start()
            with pytest.raises(KeyboardInterrupt):
                collector.collect(texts, path, max_concurrent=4, progress=False)
        else:
            with pytest.raises(TeacherUnavailableError):
                collector.collect([*texts[:4], "[401] text"], path, max_concurrent=5, progress=False)
    finally:
        signal.signal(signal.SIGINT, before)
    worst = worst_case_usage(collector.teacher.request(texts[0]))
    assert read_journal(path) == []
    with Journal(path) as journal:
        assert journal.usage() == sum([worst] * 4, Usage())
        assert all(request_key(collector.teacher.request(text)) not in journal for text in texts)
    room = 4 * (worst.input_tokens + worst.output_tokens)
    with pytest.warns(UserWarning, match="the budget has no room"):
        stopped = collector.collect(texts, path, progress=False, budget=Budget(tokens=room + 100))
    assert (stopped.not_asked, stopped.set_aside, stopped.usage) == (12, Counter(), sum([worst] * 4, Usage()))
    collection = collector.collect(texts, path, max_concurrent=12, progress=False)
    assert [example.input_text for example in collection.examples] == texts
    assert collection.usage.output_tokens == 4 * worst.output_tokens + 12 * 5
    if how != "another worker's error":  # which may come before the last of the four has arrived
        assert server.asked() == Counter(texts[:4]) + Counter(texts)


class Uncounted(OpenAITeacher):
    """A teacher of somebody's own that sends its request by other means, so that its attempts are not counted."""

    async def ask(self, request: Mapping[str, Any]) -> TeacherAnswer:
        await asyncio.sleep(30)
        raise AssertionError


def test_a_cut_off_call_of_a_teacher_that_counts_no_attempts_is_charged(server: FaultServer, tmp_path: Path) -> None:
    teacher = Uncounted("faulty-1", api_key=KEY, base_url=f"{server.url}/v1", max_tokens=50)
    collector = APIDistillationDataCollector(teacher)

    async def cancelled() -> None:
        await asyncio.wait_for(collector.collect_distillation_data(["a"], tmp_path / "j", progress=False), 0.2)

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())
    with Journal(tmp_path / "j") as journal:
        assert journal.usage() == worst_case_usage(teacher.request("a"))


@pytest.mark.slow
def test_two_collections_do_not_share_a_journal(start_fault_server: StartServer, tmp_path: Path) -> None:
    server = start_fault_server(0.5)
    first = threading.Thread(target=collect, args=(server, "openai", ["a"], tmp_path / "j.jsonl"))
    first.start()
    while not server.asked():
        time.sleep(0.01)
    with pytest.raises(RuntimeError, match="being written"):
        collect(server, "openai", ["b"], tmp_path / "j.jsonl")
    first.join()
    assert server.asked() == {"a": 1}


_CHILD = """
import os, sys, time
from pathlib import Path
from distill_helpers.api.collecting.collector import APIDistillationDataCollector
from distill_helpers.api.teachers.providers import OpenAITeacher
url, journal, n, concurrent = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
texts = [f"text {i}" for i in range(n)]
for line in sys.stdin:  # each line asks for another process that does the job; forked, since an import takes seconds
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)
        teacher = OpenAITeacher("faulty-1", api_key="k", base_url=url, max_tokens=50)
        APIDistillationDataCollector(teacher).collect(texts, journal, max_concurrent=concurrent, progress=False)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("ended", status, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, which this system can't")
def test_killed_a_hundred_times_at_random_moments(start_fault_server: StartServer, tmp_path: Path) -> None:
    """One job, killed with SIGKILL a hundred times and then left to its end."""
    rng, server, journal = random.Random(0), start_fault_server(0.02), tmp_path / "j.jsonl"
    n, concurrent, kills = 4000, 8, 100
    arguments = [sys.executable, "-c", _CHILD, f"{server.url}/v1", str(journal), str(n), str(concurrent)]
    nursery = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    answered_before: set[str] = set()
    for number in range(kills + 1):
        asked_before, log_before = server.asked(), server.log.stat().st_size
        nursery.stdin.write("again\n")
        child = int(nursery.stdout.readline())
        if number < kills:
            started = time.perf_counter()
            while server.log.stat().st_size == log_before and time.perf_counter() - started < 30:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.15))
            os.kill(child, signal.SIGKILL)
        status = int(nursery.stdout.readline().split()[1])
        assert status == (signal.SIGKILL if number < kills else 0), f"run {number} ended with {status}"
        asked = server.asked() - asked_before
        assert not answered_before & set(asked), "an answered request was asked again"
        answered = {record.input_text for record in read_journal(journal)} if journal.exists() else set()
        assert answered_before <= answered, "an answer was lost"
        lost = set(asked) - answered
        assert len(lost) <= concurrent, f"{len(lost)} requests lost at one kill"
        answered_before = answered
    nursery.stdin.close()
    nursery.wait()
    lines = journal.read_text().splitlines()
    keys = [re.search(r'"key":"([0-9a-f]{64})"', line) for line in lines]
    assert len(lines) == n
    assert len({key[1] for key in keys if key}) == n
    assert {record.input_text for record in read_journal(journal)} == {f"text {i}" for i in range(n)}
    assert sum(server.asked().values()) <= n + kills * concurrent


@pytest.mark.slow
def test_no_key_and_no_text_in_anything_but_the_journal(
    server: FaultServer, tmp_path: Path, capfd: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """A run in which everything fails, with logging at its most talkative: what it prints, logs, warns and raises."""
    caplog.set_level(logging.DEBUG)
    faults = [fault for fault, kept, _ in FAULTS if kept and fault != "time-out"]
    texts = [f"[{fault}] {CUSTOMER}" for fault in faults]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for dialect in DIALECTS:
            teacher = getattr(server, dialect)(max_retries=0)
            collector = APIDistillationDataCollector(teacher)
            path = tmp_path / f"{dialect}.jsonl"
            collector.collect(texts, path, stop_after_failures=3, max_concurrent=1)
            with pytest.raises(TeacherUnavailableError) as caught:
                collector.collect([f"[401] {CUSTOMER}"], path)
            warnings.warn(str(caught.getrepr(style="long", funcargs=False)), stacklevel=1)
    printed = capfd.readouterr()
    logged = "\n".join(record.getMessage() + str(record.exc_info) for record in caplog.records)
    everything = "\n".join([printed.out, printed.err, logged, *(str(w.message) for w in warned)])
    assert "failures in a row" in everything
    assert "TeacherUnavailableError" in everything
    assert CUSTOMER not in everything
    assert KEY not in everything
    written = [file for file in tmp_path.rglob("*") if file.is_file() and file.parent == tmp_path]
    assert {file.suffix for file in written} <= {".jsonl", ".lock"}
    assert all(KEY.encode() not in file.read_bytes() for file in written)
    assert "could not answer" not in "".join(file.read_text() for file in written)


def test_keys_of_the_journal_are_the_requests_own(server: FaultServer, tmp_path: Path) -> None:
    teacher = server.openai()
    APIDistillationDataCollector(teacher).collect(["a"], tmp_path / "j.jsonl", progress=False)
    assert read_journal(tmp_path / "j.jsonl")[0].key == request_key(teacher.request("a"))


def test_reprs_are_one_line_without_a_text(server: FaultServer, tmp_path: Path) -> None:
    collector = APIDistillationDataCollector(server.openai())
    assert repr(collector) == "APIDistillationDataCollector(OpenAITeacher('faulty-1'))"
    collection = collector.collect(["secret", "[truncated] secret"], tmp_path / "j.jsonl", progress=False)
    assert repr(collection) == "Collection(1 examples, set aside: {'length': 1}, 0 not asked)"
    priced = replace(collection, stopped="no room", not_asked=3, cost_usd=0.00126)
    assert repr(priced) == "Collection(1 examples, set aside: {'length': 1}, 3 not asked, stopped: no room, $0.0013)"
    assert repr(TaskExample("secret", "an answer")) == "TaskExample(6 characters, answer of 9 characters)"
    (request,) = plan_requests(collector.teacher, ["secret"])
    assert repr(request) == f"PlannedRequest({request.key[:8]}…, sample 0, 6 characters)"
