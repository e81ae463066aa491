"""The journal: what was written is there, whatever happened in between."""

from __future__ import annotations

import errno
import json
import math
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill_helpers.api.journal import journal as module
from distill_helpers.api.journal.append_only_file import repair_last_line
from distill_helpers.api.journal.journal import Journal, read_journal
from distill_helpers.api.journal.records import Failure, JournalRecord, UnreadableRecordError, request_key
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


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_another_name_of_the_file_has_the_same_lock(tmp_path: Path, link: str) -> None:
    path, other = tmp_path / "j.jsonl", tmp_path / "elsewhere" / "link.jsonl"
    other.parent.mkdir()
    with Journal(path) as journal:
        journal.append(record("a"))
        if link == "symbolic":
            other.symlink_to(path)
        else:
            other.hardlink_to(path)
        with pytest.raises(RuntimeError, match="being written"), Journal(other):
            pass
    with Journal(other) as journal, pytest.raises(RuntimeError, match="being written"), Journal(path):
        pass
    with Journal(other) as journal:
        journal.append(record("b"))
    assert [r.input_text for r in read_journal(path)] == ["a", "b"]


def test_a_link_to_a_file_that_does_not_exist_yet_makes_that_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "new" / "j.jsonl")
    with Journal(tmp_path / "link") as journal:
        journal.append(record("a"))
    assert len(read_journal(tmp_path / "new" / "j.jsonl")) == 1


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
def test_a_new_journal_belongs_to_its_owner_alone(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.jsonl"):
        pass
    assert stat.S_IMODE((tmp_path / "j.jsonl").stat().st_mode) == 0o600


def forbid_writing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """As on a read-only mount, also for a superuser."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module.FileLock, "acquire", refuse)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_journal_that_may_only_be_read_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(record("a").to_json() + b"\n" + record("b").to_json()[:-5])
    before = path.read_bytes()
    forbid_writing(monkeypatch, number)
    with Journal(path) as journal:
        assert journal.has_answer(record("a").key)
        assert len(journal) == 1
        for change in (lambda: journal.append(record("b")), journal.check_writable):
            with pytest.raises(OSError, match=r"may only be read .*; copy it") as error:
                change()
            assert error.value.errno == number
    assert path.read_bytes() == before
    with pytest.raises(OSError, match=os.strerror(number)), Journal(tmp_path / "new.jsonl"):
        pass


def test_another_error_of_the_disk_is_not_taken_for_a_read_only_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "j.jsonl").touch()
    forbid_writing(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), Journal(tmp_path / "j.jsonl"):
        pass


#: Lines that are no record, although their key and usage can be read; and what the error says.
NO_RECORDS = {
    "no date": ('"date":"', '"dat":"', "missing required field `date`"),
    "no text": ('"input_text":', '"text":', "missing required field `input_text`"),
    "no sample": ('"sample":0,', "", "missing required field `sample`"),
    "no parameters": ('"parameters":{"model":"m"},', "", "missing required field `parameters`"),
    "no model of the answer": ('"model":"m-1",', "", r"missing required field `model` - at `\$\.answer`"),
    "a text that is null": ('"text":"about a"', '"text":null', r"got `null` - at `\$\.answer\.text`"),
    "a sample below 0": ('"sample":0', '"sample":-1', "0 or more"),
    "a negative count": ('"output_tokens":2', '"output_tokens":-2', "0 or more"),
    "a count that is a text": ('"output_tokens":2', '"output_tokens":"2"', "Expected `int`"),
    "neither answer nor failure": ('"answer":{', '"nothing":{', "an answer or a failure"),
    "not UTF-8": ("about a", "about \udcff", "not UTF-8"),
    "nested too deeply": ('"parameters":{"model":"m"}', '"parameters":' + '{"a":' * 20_000, "nested too deeply"),
}


@pytest.mark.parametrize("kind", NO_RECORDS)
@pytest.mark.parametrize("last", [False, True])
def test_whole_records_are_checked_on_opening(tmp_path: Path, kind: str, last: bool) -> None:
    """The same by both readers: nothing is asked, and paid for, beside a line that could not be read later."""
    old, new, why = NO_RECORDS[kind]
    whole = record("a").to_json().decode()
    assert whole.count(old) == 1
    bad, path = whole.replace(old, new).encode(errors="surrogateescape"), tmp_path / "j.jsonl"
    path.write_bytes(b"\n".join([record("x").to_json(), bad, *([] if last else [record("b").to_json()])]) + b"\n")
    for read in (lambda: read_journal(path), lambda: Journal(path).__enter__()):
        with pytest.raises(ValueError, match=f"line 2 of .*j.jsonl is not a record .*{why}.*delete the line") as error:
            read()
        assert error.value.__suppress_context__
    with Journal(tmp_path / "j2.jsonl"):
        pass


def test_both_readers_agree_on_a_last_line_without_its_end(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_bytes(record("a").to_json() + b"\n" + record("b").to_json())
    assert [r.input_text for r in read_journal(path)] == ["a", "b"]
    with Journal(path) as journal:
        assert [r.input_text for r in journal] == ["a", "b"]


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    bad = [
        TeacherAnswer("half \ud800", "stop", "m"),
        TeacherAnswer("x", None, "m"),  # type: ignore[arg-type]
        TeacherAnswer(["x"], "stop", "m"),  # type: ignore[arg-type]
        TeacherAnswer("x", "stop", object()),  # type: ignore[arg-type]
        TeacherAnswer("x", "stop", "m", Usage(1.5, 1)),  # type: ignore[arg-type]
        TeacherAnswer("x", "stop", "m", top_logprobs=((TokenLogprob("x", math.nan, (1,)),),)),
        TeacherAnswer("x", "stop", "m", top_logprobs=((TokenLogprob("x", -math.inf, (1,)),),)),
    ]
    with Journal(tmp_path / "j.jsonl") as journal:
        for answer in bad:
            with pytest.raises(UnreadableRecordError, match="could not be read again") as error:
                journal.append(record("a"), record("secret", answer))
            assert "secret" not in str(error.value)
            assert error.value.__suppress_context__
        assert len(journal) == 0
        journal.append(record("b"))
    assert [r.input_text for r in read_journal(journal.path)] == ["b"]


def test_what_was_lost_and_what_was_superseded_is_charged_and_a_copied_line_is_not(tmp_path: Path) -> None:
    lost = JournalRecord.of(question("a"), "a", Failure("APITimeoutError"), lost_usage=Usage(100, 50))
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append(lost, record("a"), JournalRecord.of(question("b"), "b", Failure("X"), lost_usage=Usage(7, 1)))
        assert journal.usage() == Usage(117, 53, 4, 1)
    path = tmp_path / "copied.jsonl"
    lines = journal.path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, lines[-1]]))
    with Journal(path) as again:
        assert again.usage() == Usage(117, 53, 4, 1)
        assert again.has_answer(record("a").key)


def test_a_journal_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    entry = json.loads(record("a").to_json())
    del entry["lost_usage"], entry["answer"]["usage_reported"]
    (tmp_path / "j.jsonl").write_text(json.dumps(entry) + "\n")
    assert read_journal(tmp_path / "j.jsonl")[0].answer == record("a").answer


def test_a_new_files_name_is_synced_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(module, "_sync_folder", synced.append)
    for _ in range(2):
        with Journal(tmp_path / "j.jsonl"):
            pass
    assert synced == [tmp_path]


@pytest.mark.skipif(os.name != "posix", reason="Windows does this by itself")
def test_a_folder_is_synced_by_a_descriptor_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: folders.append(os.fstat(descriptor).st_ino))
    module._sync_folder(tmp_path)
    assert folders == [tmp_path.stat().st_ino]


def test_a_failed_sync_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "the disk fails")

    with Journal(tmp_path / "j.jsonl") as journal:
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="the disk fails"):
            journal.append(record("a"))
        with pytest.raises(OSError, match="the disk fails"):
            journal.sync()


@pytest.mark.parametrize("size", [70_000, 300_000])
def test_a_torn_line_of_several_reads_is_cut_off_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "j.jsonl"
    whole = record("a").to_json() + b"\n"
    path.write_bytes(whole + record("x" * size).to_json()[:-1])
    with path.open("r+b", buffering=0) as file:
        assert repair_last_line(file, JournalRecord.from_json) > size
    assert path.read_bytes() == whole


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
