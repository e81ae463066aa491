"""An append-only journal of a teacher's answers: one JSON object a line.

A record's key is the hash of what was asked, so a rerun knows what it has. A process may be killed at any instant: at
worst the last line is torn, and opening the journal for writing repairs it. One process writes at a time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
from filelock import FileLock, Timeout

from distill_helpers.api.journal.append_only import repair_last_line, write_lines
from distill_helpers.api.teachers.answers import TeacherAnswer, Usage

__all__ = ["Failure", "Journal", "JournalRecord", "read_journal", "request_key"]

_LOG = logging.getLogger(__name__)
_Read = TypeVar("_Read")
#: Left out of a record: the first holds the input again, both are in the key.
_PROMPT = ("messages", "system")


def request_key(request: Mapping[str, Any], sample: int = 0) -> str:
    """SHA-256 (64 hexadecimal digits) of a request's JSON (model, parameters and messages) and the sample's number."""
    canonical = json.dumps(request, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{canonical}#{sample}".encode()).hexdigest()


@dataclass(frozen=True)
class Failure:
    """Why a request got no answer.

    Attributes:
        cause: the name of the exception.
        status: the HTTP status; None where there was no response.
    """

    cause: str
    status: int | None = None

    @property
    def name(self) -> str:
        """Both in one: "RateLimitError 429"."""
        return self.cause if self.status is None else f"{self.cause} {self.status}"


@dataclass(frozen=True)
class JournalRecord:
    """What became of one request: an answer or a failure.

    Attributes:
        key: `request_key` of the request and the sample.
        input_text: what was asked about.
        sample: 0, 1, … where several answers to one input were asked for.
        parameters: the request without messages and system prompt.
        date: UTC, ISO 8601, to the second.
        answer: the teacher's; None after a failure.
        failure: None after an answer.
        batch: it came through the provider's batch API, at that price.
    """

    key: str
    input_text: str
    sample: int
    parameters: Mapping[str, Any]
    date: str
    answer: TeacherAnswer | None = None
    failure: Failure | None = None
    batch: bool = False

    def __post_init__(self) -> None:
        if (self.answer is None) == (self.failure is None):
            raise ValueError("a record holds either an answer or a failure")

    @classmethod
    def of(
        cls,
        request: Mapping[str, Any],
        input_text: str,
        outcome: TeacherAnswer | Failure,
        sample: int = 0,
        *,
        batch: bool = False,
    ) -> JournalRecord:
        """The record of a request that has just ended."""
        return cls(
            key=request_key(request, sample),
            input_text=input_text,
            sample=sample,
            parameters={name: value for name, value in request.items() if name not in _PROMPT},
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            answer=outcome if isinstance(outcome, TeacherAnswer) else None,
            failure=outcome if isinstance(outcome, Failure) else None,
            batch=batch,
        )

    def to_json(self) -> bytes:
        """One line without its end."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, line: str | bytes) -> JournalRecord:
        """Read a line of `to_json`.

        Raises:
            ValueError: anything else.
        """
        return _RECORDS.decode(line)


class _AnswerHead(msgspec.Struct):
    usage: Usage


class _Head(msgspec.Struct):
    """What a rerun must know of a record; the rest of the line is checked to be JSON and left unread."""

    key: str
    answer: _AnswerHead | None
    failure: Failure | None
    batch: bool = False


_RECORDS, _HEADS = msgspec.json.Decoder(JournalRecord), msgspec.json.Decoder(_Head)


def read_journal(path: str | Path) -> list[JournalRecord]:
    """The latest record of each key, in the order in which the keys came first. Another process may be writing.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line in the middle that is not a record, with its number.
    """
    path = Path(path)
    return list({record.key: record for record, _ in _read_lines(path, _RECORDS)}.values())


def _read_lines(path: Path, decoder: msgspec.json.Decoder[_Read]) -> Iterator[tuple[_Read, bytes]]:
    """Each line decoded, and itself. A last line without its end is being written, or is torn: it is not there yet."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break
            try:
                yield decoder.decode(line), line
            except ValueError:
                raise ValueError(
                    f"line {number} of {path} is not a record; take the line out (its request is then asked again)"
                ) from None


class Journal:
    """A journal opened for writing; use it as a context manager.

    Args:
        path: the file; made with its folder where it does not exist. `path.lock` beside it belongs to the writer.

    Raises:
        RuntimeError: on entering, another process or object is writing to it.
        ValueError: on entering, a line in the middle is not a record.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = FileLock(f"{self.path}.lock")
        self._file: IO[bytes] | None = None
        self._lines: dict[str, bytes] = {}  # the latest of each key; a record is made of it when somebody asks
        self._usage: dict[str, tuple[Usage, bool]] = {}  # of the answers, and whether they came in a batch

    def __enter__(self) -> Journal:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RuntimeError(f"{self.path} is being written by another collection; wait for its end") from None
        try:
            existed = self.path.exists()
            self._file = self.path.open("a+b", buffering=0)
            if not existed:
                _sync_folder(self.path.parent)
            cut = repair_last_line(self._file, JournalRecord.from_json)  # a whole line is kept: it is paid for
            if cut:
                _LOG.warning("%s: a torn last line of %d bytes was cut off", self.path.name, cut)
            for head, line in _read_lines(self.path, _HEADS):
                self._remember(head, line)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._lock.release()

    def __contains__(self, key: str) -> bool:
        return key in self._lines

    def __iter__(self) -> Iterator[JournalRecord]:
        return map(JournalRecord.from_json, self._lines.values())

    def __len__(self) -> int:
        return len(self._lines)

    def get(self, key: str) -> JournalRecord | None:
        """The latest record of a key; None where there is none."""
        return JournalRecord.from_json(self._lines[key]) if key in self._lines else None

    def has_answer(self, key: str) -> bool:
        """Whether the latest record of a key is an answer."""
        return key in self._usage

    def usage(self, *, batch: bool | None = None) -> Usage:
        """Tokens of the answers in the journal: of all, or of those alone that came in a batch (or did not)."""
        return sum((usage for usage, batched in self._usage.values() if batch in (None, batched)), Usage())

    def append(self, *records: JournalRecord, sync: bool = True) -> None:
        """Write records: no kill of this process takes them away again.

        Args:
            *records: a line each.
            sync: have them on the disk when this returns, so that no power cut does either; False leaves that to
                `sync`, since a disk may take longer for it than a teacher for an answer.

        Raises:
            RuntimeError: the journal is not open.
            OSError: the disk does not take them, say because it is full; none of them is in the journal then, unless
                it is the sync that fails.
        """
        lines = [record.to_json() for record in records]
        write_lines(self._open_file(), *lines)
        if sync:
            self.sync()
        for record, line in zip(records, lines, strict=True):
            self._remember(record, line)

    def sync(self) -> None:
        """Have on the disk what has been written.

        Raises:
            RuntimeError: the journal is not open.
            OSError: the disk fails.
        """
        os.fsync(self._open_file().fileno())

    def _open_file(self) -> IO[bytes]:
        if self._file is None:
            raise RuntimeError("open the journal first: with Journal(path) as journal: …")
        return self._file

    def _remember(self, record: JournalRecord | _Head, line: bytes) -> None:
        self._lines[record.key] = line
        if record.answer is None:
            self._usage.pop(record.key, None)
        else:
            self._usage[record.key] = record.answer.usage, record.batch


def _sync_folder(folder: Path) -> None:
    """Make a new file's name survive a power cut; where a folder can't be opened (Windows), the system does it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
