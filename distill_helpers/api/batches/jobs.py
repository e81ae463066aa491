"""Large jobs through the providers' batch APIs, at half the price and within a day: request files, and their results.

A file holds exactly the requests that a live collection would send, named by their keys in the journal. Results come
in any order and go into the same journal, so that live and batch runs continue each other. `batch_submission` carries
the files to the provider and back.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from distill_helpers.api.batches.dialects import ENVELOPE, BatchDialect, NotAsked, batch_dialect
from distill_helpers.api.collecting.questions import Question, questions
from distill_helpers.api.journal.journal import Failure, Journal, JournalRecord, read_journal, request_key
from distill_helpers.api.teachers.answers import TeacherAnswer
from distill_helpers.api.teachers.providers import Teacher

__all__ = ["BatchFiles", "MergedBatch", "merge_batch_results", "write_batch_requests"]

_Paths = str | Path | Sequence[str | Path]
_MOST_SAMPLES = 10_000
_RECORDS_AT_A_TIME = 500


@dataclass(frozen=True)
class BatchFiles:
    """What `write_batch_requests` wrote.

    Attributes:
        paths: a batch each; none where the journal has everything.
        n_requests: in all files.
        n_known: left out, since the journal has them.
    """

    paths: tuple[Path, ...]
    n_requests: int
    n_known: int


@dataclass(frozen=True)
class MergedBatch:
    """What `merge_batch_results` found.

    Attributes:
        answers: appended to the journal.
        failures: appended to the journal.
        known: results that the journal has already.
        not_asked: "expired" and "canceled" requests. They are not in the journal: the next batch or live run asks them.
        missing: requests without any result, neither in these files nor in the journal.
    """

    answers: int = 0
    failures: int = 0
    known: int = 0
    not_asked: Counter[str] = field(default_factory=Counter)
    missing: int = 0


def write_batch_requests(
    teacher: Teacher,
    texts: Sequence[str],
    path: str | Path,
    *,
    n_samples: int = 1,
    journal_path: str | Path | None = None,
    retry_failed: bool = False,
) -> BatchFiles:
    """Write what the journal has no record of as a provider's batch requests, a line each.

    The journal knows of a batch when its results are merged: until then, have nobody else ask about the same texts.

    Args:
        teacher: an `OpenAITeacher` or an `AnthropicTeacher`; nothing is asked of it.
        texts: a text that comes twice is asked once.
        path: the file, JSONL; further ones for what is over the provider's limits end in -2, -3, …
        n_samples: answers to each text.
        journal_path: of the job; a file that does not exist yet has no record.
        retry_failed: write the requests again where the journal has a failure.

    Raises:
        ValueError: no text, an empty one, or one that alone is over the provider's limit, with its row; several
            samples at temperature 0; another kind of teacher.
        FileExistsError: a file of this name. Its batch may be on its way, and the journal does not know of it yet.
    """
    dialect = batch_dialect(teacher)
    asked = questions(teacher, texts, n_samples)
    known: set[str] = set()
    if journal_path is not None and Path(journal_path).exists():
        records = read_journal(journal_path)
        known = {record.key for record in records if record.answer is not None or not retry_failed}
    waiting = [question for question in asked if question.key not in known]
    paths: list[Path] = []
    try:
        for part in _parts(_lines(teacher, dialect, waiting, texts), dialect):
            target = Path(path) if not paths else Path(path).with_stem(f"{Path(path).stem}-{len(paths) + 1}")
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = target.open("xb")
            except FileExistsError:
                raise FileExistsError(
                    f"{target} exists: merge the results of its batch, then delete it or choose another name; what is"
                    " in it might be asked twice otherwise"
                ) from None
            paths.append(target)
            with file:
                file.writelines(part)
    except BaseException:  # half a job is worse than none: it looks whole
        for written in paths:
            written.unlink()
        raise
    return BatchFiles(tuple(paths), n_requests=len(waiting), n_known=len(asked) - len(waiting))


def _lines(
    teacher: Teacher, dialect: BatchDialect, waiting: Iterable[Question], texts: Sequence[str]
) -> Iterator[bytes]:
    for text, _, key in waiting:
        line = json.dumps(dialect.line(key, teacher.request(text))).encode() + b"\n"
        if ENVELOPE + len(line) + 1 > dialect.max_bytes:
            raise ValueError(
                f"texts[{texts.index(text)}] makes a request of {len(line)} bytes; the provider takes"
                f" {dialect.max_bytes}: shorten it or leave it out"
            )
        yield line


def _parts(lines: Iterable[bytes], dialect: BatchDialect) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = ENVELOPE
    for line in lines:
        sent = len(line) + 1  # as a member of a list there is ", " where the line ends
        if len(part) == dialect.max_requests or size + sent > dialect.max_bytes:
            yield part
            part, size = [], ENVELOPE
        part.append(line)
        size += sent
    if part:
        yield part


def merge_batch_results(
    teacher: Teacher, results_path: _Paths, journal_path: str | Path, requests_path: _Paths
) -> MergedBatch:
    """Append a batch's results to the journal. What is there already is left alone, so merging twice adds nothing.

    An answer supersedes an earlier failure, never the other way round. A later collection's budget counts a batch's
    answers at the batch price.

    Args:
        teacher: of the same provider as the one that wrote the requests.
        results_path: the provider's file or files, OpenAI's output and error file for instance, in any order.
        journal_path: made where it does not exist.
        requests_path: the file or files of `write_batch_requests`, unchanged.

    Raises:
        ValueError: a result of a request that is in none of the files, with its custom_id; a line that is no result or
            no request, with its number; a request that was changed.
        FileNotFoundError: no such file.
        RuntimeError: another process writes to this journal.
    """
    dialect = batch_dialect(teacher)
    requests = _Requests(_as_paths(requests_path), dialect)
    counts, not_asked, has_result = Counter[str](), Counter[str](), set[str]()
    gathered: dict[str, JournalRecord] = {}
    with Journal(journal_path) as journal:
        for key, outcome in _results(_as_paths(results_path), dialect, teacher, requests):
            has_result.add(key)
            if key in gathered or len(gathered) == _RECORDS_AT_A_TIME:
                journal.append(*gathered.values())
                gathered.clear()
            if journal.has_answer(key) or (key in journal and not isinstance(outcome, TeacherAnswer)):
                counts["known"] += 1
            elif isinstance(outcome, NotAsked):
                not_asked[outcome.why] += 1
            else:
                counts["answers" if isinstance(outcome, TeacherAnswer) else "failures"] += 1
                gathered[key] = requests.record(key, outcome)
        journal.append(*gathered.values())
        missing = sum(key not in has_result and key not in journal for key in requests)
    return MergedBatch(**counts, not_asked=not_asked, missing=missing)


def _as_paths(paths: _Paths) -> list[Path]:
    return [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]


def _results(
    paths: Iterable[Path], dialect: BatchDialect, teacher: Teacher, requests: _Requests
) -> Iterator[tuple[str, TeacherAnswer | Failure | NotAsked]]:
    for path in paths:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    result = json.loads(line)
                    key, outcome = str(result["custom_id"]), dialect.outcome(result, teacher)
                except (ValueError, KeyError, TypeError):  # the cause would carry the line
                    raise ValueError(
                        f"line {number} of {path} is no result of this provider's batch API; download the file again"
                    ) from None
                if key not in requests:
                    raise ValueError(
                        f"line {number} of {path}: none of the requests has the custom_id {key[:64]!r}; pass the files"
                        " of requests that this batch was made from"
                    )
                yield key, outcome


class _CustomId(msgspec.Struct):
    custom_id: str


class _Requests:
    """Where the requests are in their files: a job's files may be larger than the memory."""

    def __init__(self, paths: Iterable[Path], dialect: BatchDialect) -> None:
        self._body = dialect.body
        self._places: dict[str, tuple[Path, int]] = {}
        for path in paths:
            with path.open("rb") as file:
                start = 0
                for number, line in enumerate(file, start=1):
                    try:
                        key = msgspec.json.decode(line, type=_CustomId).custom_id
                    except msgspec.DecodeError:
                        raise ValueError(
                            f"line {number} of {path} is no batch request; pass the file as it was written"
                        ) from None
                    self._places[key] = path, start
                    start += len(line)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def record(self, key: str, outcome: TeacherAnswer | Failure) -> JournalRecord:
        path, start = self._places[key]
        with path.open("rb") as file:
            file.seek(start)
            body = json.loads(file.readline()).get(self._body, {})
        # The sample is in the key alone; to find it is to check that the request is the one that was written.
        sample = next((sample for sample in range(_MOST_SAMPLES) if request_key(body, sample) == key), None)
        if sample is None:
            raise ValueError(f"the request {key} in {path} is not as it was written; its answer can't be assigned")
        return JournalRecord.of(body, body["messages"][-1]["content"], outcome, sample, batch=True)
