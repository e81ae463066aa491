"""An append-only journal of a teacher's answers: one JSON object a line.

A record's key is the hash of what was asked, so a rerun knows which answers it has. A process may be killed at any
instant. At worst this tears the last line, and the next opening for writing repairs that line. One process writes at a
time, by whatever name it opens the file: a symbolic link and a second hard link lead to the same lock.
"""

from __future__ import annotations

import dataclasses
import errno
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
from filelock import BaseFileLock, FileLock, Timeout

from distill_helpers.api.journal.append_only_file import append_lines, numbered_lines, private_file, repair_last_line
from distill_helpers.api.journal.records import JournalRecord, is_interruption, read_quickly
from distill_helpers.api.teachers.answers import Usage

__all__ = ["Journal", "read_journal"]

_LOG = logging.getLogger(__name__)
_COUNTS = tuple(field.name for field in dataclasses.fields(Usage))
_Read = TypeVar("_Read")
#: What the system says where nobody may write: a read-only mount, or another owner's folder.
_NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


def read_journal(path: str | Path) -> list[JournalRecord]:
    """Read the latest record of each key, in the order in which the keys first appear.

    The journal may be read while another process writes to it. Calls that an interrupt cut off are left out: their
    lines only say what a budget is charged for them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not a whole record; names the line's number, what is wrong, and the way back.

    Example:
        >>> from distill_helpers.api import Journal, JournalRecord, TeacherAnswer, read_journal
        >>> with Journal("answers.jsonl") as journal:
        ...     for text, said in [("no sound", "PC"), ("the dock is gone", "Mac")]:
        ...         journal.append(JournalRecord.of({"messages": [text]}, text, TeacherAnswer(said, "stop", "m")))
        >>> {record.input_text: record.answer.text for record in read_journal("answers.jsonl")}
        {'no sound': 'PC', 'the dock is gone': 'Mac'}
    """
    records = (record for record, _ in _read_lines(Path(path), JournalRecord.from_json))
    return list({record.key: record for record in records if not is_interruption(record)}.values())


def _read_lines(path: Path, read: Callable[[bytes], _Read]) -> Iterator[tuple[_Read, bytes]]:
    """Each whole line, read and as it is."""
    for number, line in numbered_lines(path, read):
        try:
            record = read(line)
        except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError, and would quote the line
            why = str(error) if isinstance(error, msgspec.MsgspecError) else "it is not UTF-8, or is nested too deeply"
            raise ValueError(
                f"line {number} of {path} is not a record ({why}); restore the file from a copy, or delete the line:"
                " then its request will be asked again"
            ) from None
        yield record, line


class Journal:
    """A journal that is opened for writing. Use it as a context manager.

    Args:
        path: the file; it is made, with its folder, if it does not exist, and only its owner may read it. `path.lock`
            beside it belongs to the writer. A file that may only be read is opened for reading; then `append` raises.

    Raises:
        RuntimeError: on entering, if another process or object is writing to the file.
        ValueError: on entering, if a line is not a whole record, see `read_journal`.

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
        self._lock: BaseFileLock | None = None
        self._file: IO[bytes] | None = None
        self._refusal: OSError | None = None  # why the file can only be read
        self._lines: dict[str, bytes] = {}  # the latest line of each key, decoded when somebody asks for the record
        self._answered: set[str] = set()
        # What all records are charged with, by whether they came in a batch; a `Usage` a record would take as long as
        # reading the record.
        self._charged = {False: [0] * len(_COUNTS), True: [0] * len(_COUNTS)}

    def __enter__(self) -> Journal:
        try:
            self._open()
            if self._file is not None:
                # A whole last line stays, since its answer is paid for.
                cut = repair_last_line(self._file, JournalRecord.from_json)
                if cut:
                    _LOG.warning("%s: a torn last line of %d bytes was cut off", self.path.name, cut)
            for record, line in _read_lines(self.path, read_quickly):
                self._remember(record, line)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _open(self) -> None:
        path = self.path.resolve()  # a link's own name would lead to another lock
        existed = path.exists()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(f"{path}.lock")
            self._lock.acquire(timeout=0)
            self._file = open(path, "a+b", buffering=0, opener=private_file)  # noqa: SIM115 (closed in __exit__)
            _lock_file(self._file)
        except (Timeout, BlockingIOError):
            raise RuntimeError(f"{self.path} is being written by another collection; wait until it ends") from None
        except OSError as error:
            if error.errno not in _NOT_WRITABLE or not existed:
                raise
            self._refusal = error
        if not existed:
            _sync_folder(path.parent)

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self._refusal = None

    def __repr__(self) -> str:
        records = "1 record" if len(self) == 1 else f"{len(self)} records"
        state = "closed" if self._file is None else "open"
        if self._lock is not None and self._refusal is not None:
            state = "open for reading"
        return f"Journal({str(self.path)!r}, {records}, {state})"

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
        return key in self._answered

    def usage(self, *, batch: bool | None = None) -> Usage:
        """The tokens that all records are charged with, including those that later records have superseded.

        Args:
            batch: None counts all records, True only those that came in a batch, False only the others.
        """
        kinds = (False, True) if batch is None else (batch,)
        return sum((Usage(*self._charged[kind]) for kind in kinds), Usage())

    def check_writable(self) -> None:
        """Check that records can be appended, before an answer is paid for.

        Raises:
            RuntimeError: the journal is not open.
            OSError: the file may only be read.
        """
        self._open_file()

    def append(self, *records: JournalRecord, sync: bool = True) -> None:
        """Write records. Once this returns, no kill of this process can take the records away.

        Args:
            *records: a line each.
            sync: wait until the records are on the disk, so that no power cut can take them away either. False leaves
                that to `sync`, since a disk may take longer to sync than a teacher takes to answer.

        Raises:
            RuntimeError: the journal is not open.
            UnreadableRecordError: a record could not be read again. None of the records is in the journal then.
            OSError: the disk refuses the records, for instance because it is full, or because the file may only be
                read. None of them is in the journal then, unless it was the sync that failed.
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
        if self._refusal is not None:
            raise type(self._refusal)(
                self._refusal.errno,
                f"this journal may only be read ({self._refusal.strerror}); copy it to a folder in which you may write",
                str(self.path),
            )
        if self._file is None:
            raise RuntimeError("open the journal first: with Journal(path) as journal: …")
        return self._file

    def _remember(self, record: Any, line: bytes) -> None:
        """Note a `JournalRecord`, or what `read_quickly` makes of its line."""
        if self._lines.get(record.key) == line:
            return  # the same line twice, as after a copy, is one answer
        self._charge(record.lost_usage, self._charged[record.batch])
        if is_interruption(record):
            return  # paid for, perhaps, but still to be asked
        self._lines[record.key] = line
        if record.answer is None:
            self._answered.discard(record.key)
        else:
            self._answered.add(record.key)
            self._charge(record.answer.usage, self._charged[record.batch])

    @staticmethod
    def _charge(usage: Any, charged: list[int]) -> None:
        if usage.input_tokens or usage.output_tokens:
            for index, name in enumerate(_COUNTS):
                charged[index] += getattr(usage, name)


def _lock_file(file: IO[bytes]) -> None:
    """Lock the file itself, by whatever name it was opened; the lock ends when the file is closed.

    Raises:
        BlockingIOError: somebody else holds the lock.
    """
    if importlib.util.find_spec("fcntl") is not None:  # Windows has none, and there the lock beside the file must do
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync_folder(folder: Path) -> None:
    """Make a new file's name survive a power cut. On Windows, where a folder can't be opened, the system does this."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
