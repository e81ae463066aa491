"""Batch request files and results, against what the providers' documents and SDKs say they look like."""

import json
import logging
import os
import random
import re
import stat
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse
from openai.types import Batch, FileObject
from openai.types.chat import ChatCompletion
from running_fault_server import KEY, FaultServer

from distill_helpers.api.batches import dialects as batch_dialects
from distill_helpers.api.batches.files import MergedBatch, merge_batch_results, write_batch_requests
from distill_helpers.api.collecting.collector import APIDistillationDataCollector
from distill_helpers.api.costs.budget import Budget
from distill_helpers.api.costs.price_table import Price, PriceTable
from distill_helpers.api.costs.pricing import worst_case_usage
from distill_helpers.api.journal.journal import Journal, read_journal
from distill_helpers.api.journal.records import Failure, JournalRecord, request_key
from distill_helpers.api.teachers.answers import TeacherAnswer, TokenLogprob, Usage
from distill_helpers.api.teachers.providers import AnthropicTeacher, OpenAITeacher

TODAY = date.today()
RECORDED = Path(__file__).with_name("recorded")
SETTINGS = {
    "system_prompt": "Sort it.",
    "max_tokens": 8,
    "temperature": 0.5,
    "api_key": KEY,
    "base_url": "http://127.0.0.1:1",
}
OPENAI = OpenAITeacher("gpt-4o-mini", **SETTINGS)
ANTHROPIC = AnthropicTeacher("claude-haiku-4-5", **SETTINGS)
TEACHERS = pytest.mark.parametrize("teacher", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
TEXTS = [f"Grüße aus Ulm, Nr. {number}" for number in range(1, 9)]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def recorded(name, keys):
    """A recorded file with `request-1`, … replaced by the keys of requests."""
    text = (RECORDED / name).read_text()
    return re.sub(r'"request-(\d+)"', lambda number: f'"{keys[int(number[1]) - 1]}"', text)


def written(teacher, folder, texts=TEXTS, **options):
    """A file of requests and its keys."""
    path = folder / "requests.jsonl"
    write_batch_requests(teacher, texts, path, **options)
    return path, [line["custom_id"] for line in lines(path)]


def openai_result(key, content="pc", **changes):
    line = json.loads((RECORDED / "openai_output.jsonl").read_text().splitlines()[0])
    line["response"]["body"]["choices"][0]["message"]["content"] = content
    return json.dumps(line | {"custom_id": key} | changes) + "\n"


EXPIRED = {"response": None, "error": {"code": "batch_expired", "message": "too late"}}


# The recorded shapes


def test_the_recorded_shapes_are_those_of_the_sdks():
    FileObject.model_validate_json((RECORDED / "openai_file.json").read_text())
    Batch.model_validate_json((RECORDED / "openai_batch.json").read_text())
    MessageBatch.model_validate_json((RECORDED / "anthropic_batch.json").read_text())
    for line in lines(RECORDED / "openai_output.jsonl"):
        assert line.keys() == {"id", "custom_id", "response", "error"}
        ChatCompletion.model_validate(line["response"]["body"])
    kinds = Counter(
        MessageBatchIndividualResponse.model_validate(line).result.type
        for line in lines(RECORDED / "anthropic_results.jsonl")
    )
    assert kinds == {"succeeded": 2, "errored": 2, "canceled": 1, "expired": 1}


# Requests


def test_a_line_is_exactly_what_openai_documents(tmp_path):
    path = tmp_path / "new folder" / "requests.jsonl"
    result = write_batch_requests(OPENAI, TEXTS[:2], path)
    assert (result.paths, result.n_requests, result.n_known) == ((path,), 2, 0)
    body = {
        "model": "gpt-4o-mini",
        "max_completion_tokens": 8,
        "temperature": 0.5,
        "messages": [{"role": "system", "content": "Sort it."}, {"role": "user", "content": TEXTS[0]}],
    }
    assert lines(path)[0] == {
        "custom_id": request_key(body),
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body,
    }
    assert path.read_bytes().isascii()
    assert path.read_bytes().endswith(b"}\n")


def test_a_line_is_exactly_what_anthropic_documents(tmp_path):
    path, _ = written(ANTHROPIC, tmp_path)
    params = {
        "model": "claude-haiku-4-5",
        "max_tokens": 8,
        "system": "Sort it.",
        "temperature": 0.5,
        "messages": [{"role": "user", "content": TEXTS[1]}],
    }
    assert lines(path)[1] == {"custom_id": request_key(params), "params": params}


@TEACHERS
def test_a_custom_id_is_one_that_both_providers_take(tmp_path, teacher):
    _, keys = written(teacher, tmp_path, n_samples=2)
    assert len(set(keys)) == 16
    assert all(re.fullmatch("[a-zA-Z0-9_-]{1,64}", key) for key in keys)


@TEACHERS
def test_only_what_the_journal_lacks_is_written(tmp_path, teacher):
    journal_path = tmp_path / "journal.jsonl"
    with Journal(journal_path) as journal:
        journal.append(
            JournalRecord.of(teacher.request(TEXTS[0]), TEXTS[0], TeacherAnswer("pc", "stop", "m"), 1),
            JournalRecord.of(teacher.request(TEXTS[1]), TEXTS[1], Failure("APITimeoutError"), 0),
        )
    texts = [*TEXTS[:3], TEXTS[0]]
    first, again = tmp_path / "first.jsonl", tmp_path / "again.jsonl"
    result = write_batch_requests(teacher, texts, first, n_samples=2, journal_path=journal_path)
    assert (result.n_requests, result.n_known) == (4, 2)
    asked = {(text, sample): request_key(teacher.request(text), sample) for text in TEXTS[:3] for sample in (0, 1)}
    assert {line["custom_id"] for line in lines(first)} == {
        asked[TEXTS[0], 0], asked[TEXTS[1], 1], asked[TEXTS[2], 0], asked[TEXTS[2], 1]
    }  # fmt: skip
    result = write_batch_requests(teacher, texts, again, n_samples=2, journal_path=journal_path, retry_failed=True)
    assert (result.n_requests, result.n_known) == (5, 1)
    assert asked[TEXTS[1], 0] in {line["custom_id"] for line in lines(again)}


def test_nothing_left_to_ask_makes_no_file(tmp_path):
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append(JournalRecord.of(OPENAI.request("a"), "a", TeacherAnswer("pc", "stop", "m")))
    result = write_batch_requests(OPENAI, ["a"], tmp_path / "r.jsonl", journal_path=tmp_path / "journal.jsonl")
    assert (result.paths, result.n_requests, result.n_known) == ((), 0, 1)
    assert not (tmp_path / "r.jsonl").exists()


def test_the_provider_limits():
    assert (batch_dialects._OPENAI.max_requests, batch_dialects._OPENAI.max_bytes) == (50_000, 200_000_000)
    assert (batch_dialects._ANTHROPIC.max_requests, batch_dialects._ANTHROPIC.max_bytes) == (100_000, 256_000_000)


@pytest.mark.slow
def test_more_requests_than_a_batch_takes_go_into_further_files(tmp_path):
    """One more than OpenAI's 50,000, for real."""
    texts = [str(number) for number in range(50_001)]
    result = write_batch_requests(OPENAI, texts, tmp_path / "r.jsonl")
    assert [path.name for path in result.paths] == ["r.jsonl", "r-2.jsonl"]
    assert [path.read_bytes().count(b"\n") for path in result.paths] == [50_000, 1]
    merged = tmp_path / "results.jsonl"
    merged.write_text(openai_result(lines(result.paths[1])[0]["custom_id"]))
    assert merge_batch_results(OPENAI, merged, tmp_path / "j.jsonl", result.paths) == MergedBatch(1, missing=50_000)
    assert read_journal(tmp_path / "j.jsonl")[0].input_text == "50000"


@pytest.mark.parametrize(("spare", "sizes"), [(0, [3, 3, 2]), (-1, [2, 2, 2, 2])])
def test_more_bytes_than_a_batch_takes_go_into_further_files(tmp_path, monkeypatch, spare, sizes):
    path, _ = written(ANTHROPIC, tmp_path)
    longest = max(map(len, path.read_bytes().splitlines(keepends=True)))
    assert len(set(map(len, path.read_bytes().splitlines()))) == 1
    limit = 3 * (longest + 1) + len('{"requests": []}') + spare
    monkeypatch.setattr(batch_dialects, "_ANTHROPIC", replace(batch_dialects._ANTHROPIC, max_bytes=limit))
    paths = write_batch_requests(ANTHROPIC, TEXTS, tmp_path / "split.jsonl").paths
    assert [len(lines(path)) for path in paths] == sizes
    for path in paths:  # as it is sent
        assert len(json.dumps({"requests": lines(path)})) <= limit


def test_a_request_over_the_limit_is_named_by_its_row_and_leaves_no_file(tmp_path, monkeypatch):
    small = replace(batch_dialects._OPENAI, max_bytes=500, max_requests=1)
    monkeypatch.setattr(batch_dialects, "_OPENAI", small)
    with pytest.raises(ValueError, match=r"texts\[2\] makes a request of \d+ bytes; the provider takes 500") as caught:
        write_batch_requests(OPENAI, ["a", "b", "secret " * 100], tmp_path / "r.jsonl")
    assert "secret" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_requests_is_never_overwritten(tmp_path, monkeypatch):
    path, _ = written(OPENAI, tmp_path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"requests\.jsonl exists: merge the results"):
        write_batch_requests(OPENAI, ["another"], path)
    assert path.read_bytes() == before
    # The second file stands in the way: the first one, which was written for it, goes again.
    monkeypatch.setattr(batch_dialects, "_OPENAI", replace(batch_dialects._OPENAI, max_requests=1))
    (tmp_path / "r-2.jsonl").write_text("")
    with pytest.raises(FileExistsError, match=r"r-2\.jsonl"):
        write_batch_requests(OPENAI, ["a", "b"], tmp_path / "r.jsonl")
    assert not (tmp_path / "r.jsonl").exists()
    assert (tmp_path / "r-2.jsonl").exists()


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "at least one text"),
        ("a text", {}, "must be a list"),
        (["a", "  "], {}, r"texts\[1\] is empty"),
        (["a", None], {}, r"texts\[1\] is NoneType"),
        (["\ud800"], {}, r"texts\[0\] holds half a surrogate pair"),
        (["a"], {"n_samples": 0}, "n_samples must be at least 1, got 0"),
    ],
)
def test_texts_that_are_none(tmp_path, texts, options, message):
    with pytest.raises(ValueError, match=message):
        write_batch_requests(OPENAI, texts, tmp_path / "r.jsonl", **options)


def test_samples_at_temperature_0_and_a_third_dialect(tmp_path):
    cold = OpenAITeacher("m", **SETTINGS | {"temperature": 0})
    with pytest.raises(ValueError, match="3 samples at temperature 0"):
        write_batch_requests(cold, ["a"], tmp_path / "r.jsonl", n_samples=3)
    with pytest.raises(ValueError, match=r"no batch API is known for a \w*Path;"):
        write_batch_requests(tmp_path, ["a"], tmp_path / "r.jsonl")


# Results


def test_openai_results_of_every_kind(tmp_path):
    requests, keys = written(OPENAI, tmp_path)
    output, errors, journal = tmp_path / "output.jsonl", tmp_path / "errors.jsonl", tmp_path / "journal.jsonl"
    output.write_text(recorded("openai_output.jsonl", keys))
    errors.write_text(recorded("openai_errors.jsonl", keys))
    result = merge_batch_results(OPENAI, [errors, output], journal, requests)
    assert result == MergedBatch(3, 3, 0, Counter(expired=1, canceled=1), 0)
    records = {record.input_text: record for record in read_journal(journal)}
    assert {text: record.failure for text, record in records.items() if record.failure} == {
        TEXTS[5]: Failure("BadRequestError", 400, "invalid_value", "max_tokens"),
        TEXTS[6]: Failure("InternalServerError", 503, "server_error"),
        TEXTS[7]: Failure("request_timeout"),
    }
    logprobs = TokenLogprob("mac", -0.25, (109, 97, 99)), TokenLogprob("pc", -1.75, (112, 99))
    model = "gpt-4o-mini-2024-07-18"
    assert records[TEXTS[0]].answer == TeacherAnswer("mac", "stop", model, Usage(22, 1), (logprobs,))
    assert records[TEXTS[1]].answer == TeacherAnswer("2 + 2 equals 4.", "stop", model, Usage(24, 15, 8))
    assert records[TEXTS[2]].answer.finish_reason == "length"
    assert records[TEXTS[0]].parameters == {"model": "gpt-4o-mini", "max_completion_tokens": 8, "temperature": 0.5}
    assert [record.key for record in records.values()] == [keys[i] for i in (5, 6, 7, 1, 0, 2)]
    assert records.keys().isdisjoint({TEXTS[3], TEXTS[4]})


def test_anthropic_results_of_every_kind(tmp_path):
    requests, keys = written(ANTHROPIC, tmp_path)
    results, journal = tmp_path / "results.jsonl", tmp_path / "journal.jsonl"
    results.write_text(recorded("anthropic_results.jsonl", keys))
    result = merge_batch_results(ANTHROPIC, results, journal, requests)
    assert result == MergedBatch(2, 2, 0, Counter(expired=1, canceled=1), missing=2)
    records = {record.input_text: record for record in read_journal(journal)}
    model = "claude-haiku-4-5-20251001"
    assert records[TEXTS[0]].answer == TeacherAnswer("Hello!", "stop", model, Usage(10, 34))
    assert records[TEXTS[1]].answer.usage == Usage(41, 36, 30)
    assert records[TEXTS[2]].failure == Failure("BadRequestError", 400, "invalid_request_error", "max_tokens")
    assert records[TEXTS[5]].failure == Failure("overloaded_error")
    assert records.keys() == {TEXTS[i] for i in (0, 1, 2, 5)}


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("authentication_error", Failure("AuthenticationError", 401, "authentication_error", "max_tokens")),
        ("permission_error", Failure("PermissionDeniedError", 403, "permission_error", "max_tokens")),
        ("not_found_error", Failure("NotFoundError", 404, "not_found_error", "max_tokens")),
        ("rate_limit_error", Failure("RateLimitError", 429, "rate_limit_error", "max_tokens")),
        ("api_error", Failure("InternalServerError", 500, "api_error", "max_tokens")),
    ],
)
def test_an_anthropic_error_is_recorded_as_a_live_call_records_it(tmp_path, kind, failure):
    requests, keys = written(ANTHROPIC, tmp_path, TEXTS[:1])
    line = recorded("anthropic_results.jsonl", [""] * 2 + keys * 6).splitlines()[2]
    (tmp_path / "r").write_text(line.replace("invalid_request_error", kind))
    merge_batch_results(ANTHROPIC, tmp_path / "r", tmp_path / "j", requests)
    assert [record.failure for record in read_journal(tmp_path / "j")] == [failure]


def test_a_body_that_is_no_answer_is_a_failure_of_its_request_alone(tmp_path):
    requests, keys = written(OPENAI, tmp_path, TEXTS[:2])
    broken = {"response": {"status_code": 200, "request_id": "r", "body": {"choices": []}}}
    (tmp_path / "r").write_text(openai_result(keys[0], **broken) + "\n" + openai_result(keys[1]))
    assert merge_batch_results(OPENAI, tmp_path / "r", tmp_path / "j", requests) == MergedBatch(1, 1)
    assert read_journal(tmp_path / "j")[0].failure == Failure("MalformedAnswerError")


#: Lines with the right custom_id that are odd in another way: what they become.
ODD_OPENAI = [
    ({"response": None}, Failure("MalformedAnswerError")),
    ({"response": "secret"}, Failure("MalformedAnswerError")),
    ({"response": {"status_code": "200"}}, Failure("MalformedAnswerError")),
    ({"response": {"status_code": True, "body": {}}}, Failure("MalformedAnswerError")),
    ({"response": {"status_code": 200, "body": None}}, Failure("MalformedAnswerError")),
    ({"response": {"status_code": 200, "body": [1]}}, Failure("MalformedAnswerError")),
    ({"response": {"status_code": 418, "body": "secret"}}, Failure("APIStatusError", 418)),
    ({"error": "secret", "response": None}, Failure("APIError")),
    ({"error": {"code": None}, "response": None}, Failure("APIError")),
    ({"error": {"code": ["secret"]}, "response": None}, Failure("APIError")),
]
ODD_ANTHROPIC = [
    ({"result": None}, Failure("MalformedAnswerError")),
    ({"result": "secret"}, Failure("MalformedAnswerError")),
    ({"result": {"type": "another"}}, Failure("MalformedAnswerError")),
    ({"result": {"type": ["another"]}}, Failure("MalformedAnswerError")),
    ({"result": {"type": "succeeded", "message": None}}, Failure("MalformedAnswerError")),
    ({"result": {"type": "errored"}}, Failure("APIError")),
    ({"result": {"type": "errored", "error": {"error": {"type": None}}}}, Failure("APIError")),
    ({"result": {"type": "errored", "error": "secret"}}, Failure("APIError")),
]


@pytest.mark.parametrize(
    ("teacher", "odd", "failure"),
    [*((OPENAI, *case) for case in ODD_OPENAI), *((ANTHROPIC, *case) for case in ODD_ANTHROPIC)],
)
def test_a_line_that_is_odd_is_a_failure_of_its_request_alone(tmp_path, teacher, odd, failure):
    requests, keys = written(teacher, tmp_path, TEXTS[:1])
    line = {"id": "1", "custom_id": keys[0], **({"error": None, "response": None} if teacher is OPENAI else {}), **odd}
    (tmp_path / "r").write_text(json.dumps(line) + "\n")
    with pytest.warns(UserWarning, match=f"may not learn from 1 of 1 results: 1 × {failure.name}"):
        assert merge_batch_results(teacher, tmp_path / "r", tmp_path / "j", requests) == MergedBatch(0, 1)
    (record,) = read_journal(tmp_path / "j")
    assert record.failure == failure
    malformed = failure.cause == "MalformedAnswerError"
    assert record.lost_usage == (worst_case_usage(teacher.request(TEXTS[0])) if malformed else Usage())
    assert merge_batch_results(teacher, tmp_path / "r", tmp_path / "j", requests) == MergedBatch(0, 0, 1)


def test_an_answer_of_a_batch_without_usage_is_charged_at_its_bound(tmp_path):
    requests, keys = written(OPENAI, tmp_path, TEXTS[:2])
    texts = []
    for key, changes in zip(keys, ({"usage": None}, {"usage": {"prompt_tokens": 5}, "model": "\ud83d"}), strict=True):
        line = json.loads(openai_result(key, "half \ud83d"))
        line["response"]["body"] |= changes
        texts.append(json.dumps(line) + "\n")
    (tmp_path / "r").write_text("".join(texts))
    assert merge_batch_results(OPENAI, tmp_path / "r", tmp_path / "j", requests) == MergedBatch(2)
    for record, text in zip(read_journal(tmp_path / "j"), TEXTS[:2], strict=True):
        assert (record.answer.text, record.answer.usage_reported) == ("half \ufffd", False)
        assert record.answer.usage == worst_case_usage(OPENAI.request(text))
    with Journal(tmp_path / "j") as journal:
        assert journal.usage(batch=True) == journal.usage() == sum((r.answer.usage for r in journal), Usage())


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
def test_files_of_requests_belong_to_their_owner_alone(tmp_path):
    requests, _ = written(OPENAI, tmp_path)
    assert stat.S_IMODE(requests.stat().st_mode) == 0o600


@TEACHERS
def test_merging_twice_adds_nothing(tmp_path, teacher):
    name = "openai_output.jsonl" if teacher is OPENAI else "anthropic_results.jsonl"
    requests, keys = written(teacher, tmp_path)
    results, journal = tmp_path / "results.jsonl", tmp_path / "journal.jsonl"
    results.write_text(recorded(name, keys) + recorded("openai_errors.jsonl", keys) * (teacher is OPENAI))
    first = merge_batch_results(teacher, results, journal, requests)
    before = journal.read_bytes()
    again = merge_batch_results(teacher, [results, results], journal, requests)
    assert journal.read_bytes() == before
    assert (again.answers, again.failures, again.known) == (0, 0, 2 * (first.answers + first.failures))
    assert again.missing == first.missing


def test_an_answer_supersedes_a_failure_and_never_the_other_way_round(tmp_path):
    requests, keys = written(OPENAI, tmp_path, TEXTS[:2])
    failed = {"response": {"status_code": 500, "request_id": "r", "body": {}}}
    results, journal = tmp_path / "r", tmp_path / "j"
    results.write_text(
        openai_result(keys[0], **failed) + openai_result(keys[0], "mac") + openai_result(keys[1], "pc")
        + openai_result(keys[1], **failed) + openai_result(keys[1], "another") + openai_result(keys[1], **EXPIRED)
    )  # fmt: skip
    assert merge_batch_results(OPENAI, results, journal, requests) == MergedBatch(2, 1, 3)
    assert [record.answer.text for record in read_journal(journal)] == ["mac", "pc"]
    results.write_text(openai_result(keys[0], **failed))
    assert merge_batch_results(OPENAI, results, journal, requests).failures == 0


@pytest.mark.slow
def test_every_sample_finds_its_place(tmp_path):
    """More records than are written at a time, in any order, some of them of an earlier batch."""
    journal = tmp_path / "journal.jsonl"
    with Journal(journal) as open_journal:
        open_journal.append(JournalRecord.of(OPENAI.request("0"), "0", TeacherAnswer("live", "stop", "m"), 1))
    texts = [str(number) for number in range(400)]
    path = tmp_path / "r.jsonl"
    assert write_batch_requests(OPENAI, texts, path, n_samples=3, journal_path=journal).n_requests == 1199
    samples = {request_key(OPENAI.request(text), k): f"{text}/{k}" for text in texts for k in range(3)}
    results = [openai_result(line["custom_id"], samples[line["custom_id"]]) for line in lines(path)]
    random.Random(0).shuffle(results)
    (tmp_path / "results").write_text("".join(results) + openai_result("foreign"))
    with pytest.raises(ValueError, match="custom_id 'foreign'"):
        merge_batch_results(OPENAI, tmp_path / "results", journal, path)
    assert len(read_journal(journal)) == 1 + 1000  # what had been written before the error is kept
    (tmp_path / "results").write_text("".join(results))
    assert merge_batch_results(OPENAI, tmp_path / "results", journal, path) == MergedBatch(199, known=1000)
    records = read_journal(journal)
    assert len(records) == 1200
    assert all(r.answer.text in (f"{r.input_text}/{r.sample}", "live") for r in records)
    assert all(r.key == request_key(OPENAI.request(r.input_text), r.sample) for r in records)


@TEACHERS
def test_errors_name_the_place_and_no_text(tmp_path, teacher):
    requests, keys = written(teacher, tmp_path)
    name = "openai_output.jsonl" if teacher is OPENAI else "anthropic_results.jsonl"
    good, results, journal = recorded(name, keys), tmp_path / "results.jsonl", tmp_path / "journal.jsonl"
    foreign = recorded("anthropic_results.jsonl" if teacher is OPENAI else "openai_output.jsonl", keys)
    cases = {
        r"line 1 of .*none of the requests has the custom_id 'request-2'": (RECORDED / name).read_text(),
        r"line 1 of .*is not a result of this provider": foreign,
        r"line \d+ of .*is not a result of this provider": good[:-40],  # a download that broke off
        r"line 2 of .*is not a result ": good.splitlines()[0] + '\n["secret"]\n',
    }
    for message, content in cases.items():
        results.write_text(content)
        with pytest.raises(ValueError, match=message) as caught:
            merge_batch_results(teacher, results, journal, requests)
        assert not any(word in str(caught.value) for word in ("secret", "Grüße", "equals", "Hello"))
        assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_requests_that_were_changed_are_noticed(tmp_path):
    requests, keys = written(OPENAI, tmp_path, TEXTS[:2])
    (tmp_path / "r").write_text(openai_result(keys[0]))
    requests.write_text(requests.read_text().replace("Sort it.", "Sort it!"))
    with pytest.raises(ValueError, match=f"the request {keys[0]} in .* is not as it was written"):
        merge_batch_results(OPENAI, tmp_path / "r", tmp_path / "j", requests)
    requests.write_text("no JSON\n")
    with pytest.raises(ValueError, match=r"line 1 of .* is not a batch request"):
        merge_batch_results(OPENAI, tmp_path / "r", tmp_path / "j", requests)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_a_live_collection_asks_what_the_batch_did_not_come_to(server: FaultServer, tmp_path, dialect):
    teacher = getattr(server, dialect)()
    requests, keys = written(teacher, tmp_path)
    name = "openai_output.jsonl" if dialect == "openai" else "anthropic_results.jsonl"
    text = recorded(name, keys) + recorded("openai_errors.jsonl", keys) * (dialect == "openai")
    (tmp_path / "results").write_text(text)
    journal = tmp_path / "journal.jsonl"
    merged = merge_batch_results(teacher, tmp_path / "results", journal, requests)
    collection = APIDistillationDataCollector(teacher).collect(TEXTS, journal, progress=False)
    unasked = merged.not_asked.total() + merged.missing
    assert unasked == 8 - merged.answers - merged.failures > 0
    assert server.asked() == Counter(TEXTS[3:5] if dialect == "openai" else [*TEXTS[3:5], *TEXTS[6:]])
    assert collection.set_aside.total() + len(collection.examples) == 8
    assert write_batch_requests(teacher, TEXTS, tmp_path / "more", journal_path=journal).n_requests == 0


def test_a_budget_counts_a_batchs_answers_at_the_batch_price(server: FaultServer, tmp_path):
    teacher = server.openai()
    requests, keys = written(teacher, tmp_path)
    (tmp_path / "results").write_text("".join(openai_result(key) for key in keys[:4]))
    merge_batch_results(teacher, tmp_path / "results", tmp_path / "journal", requests)
    rates = {"input": 1.0, "cached_input": 1.0, "cache_write": 1.0, "output": 2.0}
    costs = {}
    for discount in (0.5, None):
        price = Price(
            "openai", teacher.model, as_of=TODAY, source="https://example.org", batch_discount=discount, **rates
        )
        with pytest.warns(UserWarning, match="budget"):  # one that has no room for a single live call
            collection = APIDistillationDataCollector(teacher, prices=PriceTable([price])).collect(
                TEXTS, tmp_path / "journal", progress=False, budget=Budget(usd=1e-6)
            )
        costs[discount] = collection.cost_usd
        with Journal(tmp_path / "journal") as journal:
            assert journal.usage() == journal.usage(batch=True) == collection.usage
            assert journal.usage(batch=False) == Usage()
    assert 0 < costs[0.5] == pytest.approx(costs[None] / 2)


def test_no_text_and_no_key_in_the_logs(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    requests, keys = written(OPENAI, tmp_path)
    (tmp_path / "r").write_text(recorded("openai_output.jsonl", keys))
    merge_batch_results(OPENAI, tmp_path / "r", tmp_path / "j", requests)
    assert not re.search(f"Grüße|equals|{KEY}", caplog.text)
