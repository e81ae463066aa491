"""The journal: what was written is there, whatever happened in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill_helpers.api.journal.journal import Journal, read_journal
from distill_helpers.api.journal.records import Failure, JournalRecord, request_key
from distill_helpers.api.teachers.answers import TeacherAnswer, TokenLogprob, Usage

LOGPROBS = ((TokenLogprob("é", -0.1, tuple("é".encode())), TokenLogprob("\ufffd", -2.5, (0xC3,))),)


def question(text: str, **parameters: object) -> dict:
    return {"model": "m", "messages": [{"role": "user", "content": text}]} | parameters


def record(text: str, outcome: TeacherAnswer | Failure | None = None, sample: int = 0) -> JournalRecord:
    answer = TeacherAnswer(f"about {text}", "stop", "m-1", Usage(10, 2, 4, 1), LOGPROBS)
    return JournalRecord.of(question(text), text, outcome or answer, sample)


@pytest.mark.parametrize("text", ["plain", "two\nlines", 'quo"te', "é \u2028 \u0085 \x00", "日本語 🐟"])
def test_what_is_read_is_what_was_written(tmp_path: Path, text: str) -> None:
    written = [record(text), record("b", Failure("APITimeoutError")), record("c", Failure("BadRequestError", 400))]
    with Journal(tmp_path / "new folder" / "j.jsonl") as journal:
        journal.append(*written)
        assert list(journal) == written
    assert read_journal(journal.path) == written
    with Journal(journal.path) as again:
        assert list(again) == written
        assert again.get(written[0].key) == written[0]
        assert again.get("no such key") is None


def test_the_latest_record_of_a_key_counts_and_keeps_its_place(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append(record("a", Failure("InternalServerError", 500)), record("b"))
        assert not journal.has_answer(record("a").key)
        journal.append(record("a"))
        assert journal.has_answer(record("a").key)
        assert len(journal) == 2
    assert [r.input_text for r in read_journal(journal.path)] == ["a", "b"]
    assert all(r.answer for r in read_journal(journal.path))


def test_usage_is_that_of_the_answers(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append(record("a"), record("b"), record("c", Failure("X")))
        assert journal.usage() == Usage(20, 4, 8, 2)
    with Journal(journal.path) as journal:
        assert journal.usage() == Usage(20, 4, 8, 2)


@pytest.mark.parametrize("kept", [1, 17, 100, -2])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, kept: int, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "j.jsonl"
    whole, last = record("a").to_json() + b"\n", record("secret text").to_json()
    path.write_bytes(whole + last[:kept])
    assert [r.input_text for r in read_journal(path)] == ["a"]
    with Journal(path) as journal:
        assert [r.input_text for r in journal] == ["a"]
        journal.append(record("b"))
    assert [r.input_text for r in read_journal(path)] == ["a", "b"]
    assert "torn" in caplog.text
    assert "secret" not in caplog.text


def test_a_whole_last_line_without_its_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(record("a").to_json() + b"\n" + record("b").to_json())
    with Journal(path) as journal:
        journal.append(record("c"))
    assert [r.input_text for r in read_journal(path)] == ["a", "b", "c"]


def test_a_torn_line_longer_than_a_read_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(record("a").to_json() + b"\n" + record("x" * 300_000).to_json()[:-1])
    with Journal(path) as journal:
        assert len(journal) == 1
    assert path.read_bytes() == record("a").to_json() + b"\n" or read_journal(path)[0].input_text == "a"


@pytest.mark.parametrize("line", [b"{}", b"[]", b"garbage", b'{"key": "k"}', b""])
def test_another_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(record("a").to_json() + b"\n" + line + b"\n" + record("b").to_json() + b"\n")
    with pytest.raises(ValueError, match="line 2"):
        read_journal(path)
    with pytest.raises(ValueError, match="line 2"), Journal(path):
        pass
    path.write_bytes(record("a").to_json() + b"\n")
    with Journal(path):  # the failed one has let the lock go
        pass


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path), pytest.raises(RuntimeError, match="being written"), Journal(path):
        pass
    code = "from distill_helpers.api.journal.journal import Journal\n"
    code += f"with Journal({str(path)!r}): print('in', flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"in\n"
    with pytest.raises(RuntimeError, match="being written"), Journal(path):
        pass
    assert read_journal(path) == []  # reading is free
    child.kill()
    child.wait()
    with Journal(path):  # the lock went with its owner
        pass


def test_append_needs_an_open_journal(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="with Journal"):
        Journal(tmp_path / "j.jsonl").append(record("a"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is imitated by Linux's /dev/full")
def test_a_full_disk_is_an_error_and_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append(record("a"))
        real_write, calls = os.write, []

        class Full:
            """The journal's file, whose disk is full after 30 bytes."""

            def __init__(self, file: object) -> None:
                self.file = file

            def __getattr__(self, name: str) -> object:
                return getattr(self.file, name)

            def write(self, content: bytes) -> int:
                calls.append(len(content))
                if len(calls) == 1:
                    return real_write(self.file.fileno(), bytes(content[:30]))  # type: ignore[attr-defined]
                with open("/dev/full", "wb", buffering=0) as full:
                    return full.write(content)

        monkeypatch.setattr(journal, "_file", Full(journal._file))
        with pytest.raises(OSError, match="space"):
            journal.append(record("b"))
        monkeypatch.undo()
        assert record("b").key not in journal
        journal.append(record("c"))
    assert [r.input_text for r in read_journal(journal.path)] == ["a", "c"]


def test_records_are_on_the_disk_when_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        synced: list[int] = []
        monkeypatch.setattr(os, "fsync", lambda _: synced.append(journal.path.stat().st_size))
        journal.append(record("a"), record("b"))
        assert synced == [journal.path.stat().st_size]
        assert len(journal.path.read_bytes().splitlines()) == 2


def test_lines_are_json_that_other_tools_read(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append(record("a"))
    entry = json.loads(journal.path.read_text())
    assert entry["input_text"] == "a"
    assert entry["answer"]["usage"]["input_tokens"] == 10


@pytest.mark.alone
@pytest.mark.slow
def test_a_hundred_thousand_records_are_resumed_in_three_seconds(tmp_path: Path) -> None:
    texts = [f"message {i}: " + "the printer in the hall prints every other page twice " * 3 for i in range(100_000)]
    with Journal(tmp_path / "j.jsonl") as journal:
        for start in range(0, len(texts), 1000):
            journal.append(*(record(text) for text in texts[start : start + 1000]))
    start = time.perf_counter()
    with Journal(journal.path) as again:
        missing = [text for text in texts if request_key(question(text)) not in again]
    seconds = time.perf_counter() - start
    assert missing == []
    assert seconds < 3, f"{seconds:.1f} s"


def test_a_repr_is_one_line_without_a_text(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append(record("secret text"), record("b", Failure("X")))
        assert repr(journal) == f"Journal('{journal.path}', 2 records, open)"
    assert repr(journal).endswith("2 records, closed)")
