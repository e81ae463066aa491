"""An append-only journal of a teacher's answers: one JSON object a line.

A record's key is the hash of what was asked, so a rerun knows which answers it has. A process may be killed at any
instant. At worst this tears the last line, and the next opening for writing repairs that line. One process writes at a
time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

import msgspec
from filelock import FileLock, Timeout

from distill_helpers.api.journal.append_only_file import append_lines, numbered_lines, repair_last_line
from distill_helpers.api.journal.records import Failure, JournalRecord
from distill_helpers.api.teachers.answers import Usage

__all__ = ["Journal", "read_journal"]

_LOG = logging.getLogger(__name__)
_Read = TypeVar("_Read")


class _AnswerHead(msgspec.Struct):
    usage: Usage


class _Head(msgspec.Struct):
    """What a rerun must know of a record. The rest of the line is only checked to be JSON."""

    key: str
    answer: _AnswerHead | None
    failure: Failure | None
    batch: bool = False


_read_head = msgspec.json.Decoder(_Head).decode


def read_journal(path: str | Path) -> list[JournalRecord]:
    """Read the latest record of each key, in the order in which the keys first appear.

    The journal may be read while another process writes to it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line in the middle is not a record; names the line's number.

    Example:
        >>> from distill_helpers.api import Journal, JournalRecord, TeacherAnswer, read_journal
        >>> with Journal("answers.jsonl") as journal:
        ...     for text, said in [("no sound", "PC"), ("the dock is gone", "Mac")]:
        ...         journal.append(JournalRecord.of({"messages": [text]}, text, TeacherAnswer(said, "stop", "m")))
        >>> {record.input_text: record.answer.text for record in read_journal("answers.jsonl")}
        {'no sound': 'PC', 'the dock is gone': 'Mac'}
    """
    return list({record.key: record for record, _ in _read_lines(Path(path), JournalRecord.from_json)}.values())


def _read_lines(path: Path, read: Callable[[bytes], _Read]) -> Iterator[tuple[_Read, bytes]]:
    """Each whole line, read and as it is."""
    for number, line in numbered_lines(path):
        try:
            yield read(line), line
        except ValueError:
            raise ValueError(
                f"line {number} of {path} is not a record; delete the line, and its request will be asked again"
            ) from None


class Journal:
    """A journal that is opened for writing. Use it as a context manager.

    Args:
        path: the file; it is made, with its folder, if it does not exist. `path.lock` beside it belongs to the writer.

    Raises:
        RuntimeError: on entering, if another process or object is writing to the file.
        ValueError: on entering, if a line in the middle is not a record.

    Example:
        >>> from distill_helpers.api import Journal, JournalRecord, TeacherAnswer
        >>> record = JournalRecord.of({"messages": ["no sound"]}, "no sound", TeacherAnswer("PC", "stop", "m"))
        >>> with Journal("answers.jsonl") as journal:
        ...     journal.append(record)
        ...     journal.has_answer(record.key)
        True
        >>> journal
        Journal('answers.jsonl', 1 record, closed)
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = FileLock(f"{self.path}.lock")
        self._file: IO[bytes] | None = None
        self._lines: dict[str, bytes] = {}  # the latest line of each key, decoded when somebody asks for the record
        self._usage: dict[str, tuple[Usage, bool]] = {}  # of each answer, and whether the answer came in a batch

    def __enter__(self) -> Journal:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RuntimeError(f"{self.path} is being written by another collection; wait until it ends") from None
        try:
            existed = self.path.exists()
            self._file = self.path.open("a+b", buffering=0)
            if not existed:
                _sync_folder(self.path.parent)
            cut = repair_last_line(self._file, JournalRecord.from_json)  # a whole line is kept: its answer is paid for
            if cut:
                _LOG.warning("%s: a torn last line of %d bytes was cut off", self.path.name, cut)
            for head, line in _read_lines(self.path, _read_head):
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

    def __repr__(self) -> str:
        records = "1 record" if len(self) == 1 else f"{len(self)} records"
        return f"Journal({str(self.path)!r}, {records}, {'closed' if self._file is None else 'open'})"

    def __contains__(self, key: str) -> bool:
        return key in self._lines

    def __iter__(self) -> Iterator[JournalRecord]:
        return map(JournalRecord.from_json, self._lines.values())

    def __len__(self) -> int:
        return len(self._lines)

    def get(self, key: str) -> JournalRecord | None:
        """The latest record of a key; None if the journal has no record of it."""
        return JournalRecord.from_json(self._lines[key]) if key in self._lines else None

    def has_answer(self, key: str) -> bool:
        """Whether the latest record of a key is an answer."""
        return key in self._usage

    def usage(self, *, batch: bool | None = None) -> Usage:
        """The tokens of the answers in the journal.

        Args:
            batch: None counts all answers, True only those that came in a batch, False only the others.
        """
        return sum((usage for usage, batched in self._usage.values() if batch in (None, batched)), Usage())

    def append(self, *records: JournalRecord, sync: bool = True) -> None:
        """Write records. Once this returns, no kill of this process can take the records away.

        Args:
            *records: a line each.
            sync: wait until the records are on the disk, so that no power cut can take them away either. False leaves
                that to `sync`, since a disk may take longer to sync than a teacher takes to answer.

        Raises:
            RuntimeError: the journal is not open.
            OSError: the disk refuses the records, for instance because it is full. None of them is in the journal then,
                unless it was the sync that failed.
        """
        lines = [record.to_json() for record in records]
        append_lines(self._open_file(), *lines)
        if sync:
            self.sync()
        for record, line in zip(records, lines, strict=True):
            self._remember(record, line)

    def sync(self) -> None:
        """Wait until everything that was written is on the disk.

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
    """Make a new file's name survive a power cut. On Windows, where a folder can't be opened, the system does this."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
