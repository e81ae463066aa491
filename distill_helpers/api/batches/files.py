"""Large jobs through the providers' batch APIs, at half the price and within a day: request files and their results.

A file holds exactly the requests that a live collection would send, named by their keys in the journal. Results arrive
in any order and go into the same journal, so live and batch runs continue each other. `submit_batch` and
`fetch_batch_results` carry the files to the provider and back.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from distill_helpers.api.batches.dialects import ENVELOPE, BatchDialect, NotAsked, batch_dialect
from distill_helpers.api.collecting.planned_requests import PlannedRequest, plan_requests
from distill_helpers.api.costs.pricing import with_charged_usage, worst_case_usage
from distill_helpers.api.journal.append_only_file import private_file
from distill_helpers.api.journal.journal import Journal, read_journal
from distill_helpers.api.journal.records import Failure, JournalRecord, UnreadableRecordError, request_key
from distill_helpers.api.teachers.answers import TeacherAnswer, Usage
from distill_helpers.api.teachers.connection import MalformedAnswerError
from distill_helpers.api.teachers.teacher import Teacher

__all__ = ["BatchFiles", "MergedBatch", "merge_batch_results", "write_batch_requests"]

_Paths = str | Path | Sequence[str | Path]
_MOST_SAMPLES = 10_000
_RECORDS_AT_A_TIME = 500


@dataclass(frozen=True)
class BatchFiles:
    """What `write_batch_requests` wrote.

    Attributes:
        paths: the files, one for each batch; empty if the journal knows every request.
        n_requests: number of requests in all files.
        n_known: number of requests that were left out because the journal has a record of them.
    """

    paths: tuple[Path, ...]
    n_requests: int
    n_known: int


@dataclass(frozen=True)
class MergedBatch:
    """What `merge_batch_results` found.

    Attributes:
        answers: number of answers that were appended to the journal.
        failures: number of failures that were appended to the journal.
        known: number of results that the journal had already.
        not_asked: number of "expired" and of "canceled" requests. They are not in the journal, so the next batch or
            live run asks them.
        missing: number of requests without any result, neither in these files nor in the journal.
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
    """Write the requests that the journal has no record of as a provider's batch requests, a line each.

        files = write_batch_requests(teacher, texts, "requests.jsonl", journal_path="answers.jsonl")
        batch_id = submit_batch(openai.OpenAI(), files.paths[0])

    The journal learns of a batch only when its results are merged. Until then, nobody else should ask about the same
    texts.

    Args:
        teacher: an `OpenAITeacher` or an `AnthropicTeacher`; nothing is sent to the provider.
        texts: the inputs. A text that is listed twice is asked once.
        path: the file (JSONL). If the requests exceed the provider's limits for one batch, further files end in -2, -3,
            …
        n_samples: answers to each text; more than one only at a temperature above 0.
        journal_path: the job's journal; a file that does not exist yet has no records.
        retry_failed: write a request again if the journal has a failure of it.

    Raises:
        ValueError: no texts, an empty text, or a text whose request alone exceeds the provider's limit, with its row;
            several samples at temperature 0; another kind of teacher.
        FileExistsError: there is a file of this name. Its batch may be under way, and the journal does not know of that
            batch yet.
    """
    dialect = batch_dialect(teacher)
    planned = plan_requests(teacher, texts, n_samples)
    known: set[str] = set()
    if journal_path is not None and Path(journal_path).exists():
        records = read_journal(journal_path)
        known = {record.key for record in records if record.answer is not None or not retry_failed}
    waiting = [request for request in planned if request.key not in known]
    paths: list[Path] = []
    try:
        for part in _parts(_lines(teacher, dialect, waiting, texts), dialect):
            target = Path(path) if not paths else Path(path).with_stem(f"{Path(path).stem}-{len(paths) + 1}")
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                file = open(target, "xb", opener=private_file)  # noqa: SIM115 (closed below)
            except FileExistsError:
                raise FileExistsError(
                    f"{target} exists: merge the results of its batch, then delete the file or choose another name;"
                    " otherwise its requests might be asked twice"
                ) from None
            paths.append(target)
            with file:
                file.writelines(part)
    except BaseException:  # half a job would look like a whole one
        for written in paths:
            written.unlink()
        raise
    return BatchFiles(tuple(paths), n_requests=len(waiting), n_known=len(planned) - len(waiting))


def _lines(
    teacher: Teacher, dialect: BatchDialect, waiting: Iterable[PlannedRequest], texts: Sequence[str]
) -> Iterator[bytes]:
    for text, _, key in waiting:
        line = json.dumps(dialect.line(key, teacher.request(text))).encode() + b"\n"
        if ENVELOPE + len(line) + 1 > dialect.max_bytes:
            raise ValueError(
                f"texts[{texts.index(text)}] makes a request of {len(line)} bytes; the provider takes"
                f" {dialect.max_bytes}: shorten the text or leave it out"
            )
        yield line


def _parts(lines: Iterable[bytes], dialect: BatchDialect) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = ENVELOPE
    for line in lines:
        sent = len(line) + 1  # if the requests are sent as one list, ", " stands in the place of the line's end
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
    """Append a batch's results to the journal. Results that the journal has are left out: merging twice adds nothing.

        paths = fetch_batch_results(openai.OpenAI(), batch_id, "results")
        merge_batch_results(teacher, paths, "answers.jsonl", "requests.jsonl")

    An answer supersedes an earlier failure, but a failure never supersedes an answer. The budget of a later collection
    counts these answers at the batch price; a malformed answer, and one without usage, counts at its upper bound. If a
    student may not learn from most results, the function warns.

    Args:
        teacher: a teacher of the provider for which the requests were written.
        results_path: the provider's file or files in any order, for instance OpenAI's output and error file.
        journal_path: the journal; the file is made if it does not exist.
        requests_path: the file or files of `write_batch_requests`, unchanged.

    Raises:
        ValueError: a result whose request is in none of the files, with its custom_id; a line that is not a result or
            not a request, with its number; a request that was changed.
        FileNotFoundError: there is no such file.
        RuntimeError: another process writes to this journal.
    """
    dialect = batch_dialect(teacher)
    requests = _Requests(_as_paths(requests_path), dialect)
    counts, not_asked, has_result = Counter[str](), Counter[str](), set[str]()
    unusable = Counter[str]()
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
                record = gathered[key] = requests.record(key, outcome)
                counts["failures" if record.answer is None else "answers"] += 1
                if record.failure is not None:
                    unusable[record.failure.name] += 1
                elif record.answer is not None and not record.answer.usable:
                    unusable[record.answer.set_aside_reason] += 1
        journal.append(*gathered.values())
        missing = sum(key not in has_result and key not in journal for key in requests)
    if 2 * unusable.total() > counts["answers"] + counts["failures"]:
        reasons = ", ".join(f"{count} × {reason}" for reason, count in unusable.most_common())
        warnings.warn(
            f"a student may not learn from {unusable.total()} of {counts['answers'] + counts['failures']} results:"
            f" {reasons}",
            stacklevel=2,
        )
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
                    key = str(result["custom_id"])
                    outcome = dialect.outcome(result, teacher, requests.body(key) if key in requests else {})
                except (ValueError, KeyError, TypeError, RecursionError):  # the cause would carry the line
                    raise ValueError(
                        f"line {number} of {path} is not a result of this provider's batch API; download the file again"
                    ) from None
                if key not in requests:
                    raise ValueError(
                        f"line {number} of {path}: none of the requests has the custom_id {key[:64]!r}; pass the"
                        " request files from which this batch was made"
                    )
                yield key, outcome


class _CustomId(msgspec.Struct):
    custom_id: str


class _Requests:
    """The place of each request in its file. The requests stay on the disk, since they may exceed the memory."""

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
                            f"line {number} of {path} is not a batch request; pass the file as it was written"
                        ) from None
                    self._places[key] = path, start
                    start += len(line)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def body(self, key: str) -> Mapping[str, Any]:
        """The body of a request."""
        path, start = self._places[key]
        with path.open("rb") as file:
            file.seek(start)
            body = json.loads(file.readline()).get(self._body)
        return body if isinstance(body, Mapping) else {}

    def record(self, key: str, outcome: TeacherAnswer | Failure) -> JournalRecord:
        body = self.body(key)
        # Only the key holds the sample's number. Finding the number also checks that the request is unchanged.
        sample = next((sample for sample in range(_MOST_SAMPLES) if request_key(body, sample) == key), None)
        if sample is None:
            raise ValueError(
                f"the request {key} in {self._places[key][0]} is not as it was written, and its answer can't be"
                " assigned; restore the file"
            )
        text = body["messages"][-1]["content"]
        malformed = isinstance(outcome, Failure) and outcome.cause == MalformedAnswerError.__name__
        bound = _bound(body)
        if isinstance(outcome, TeacherAnswer):
            outcome = with_charged_usage(outcome, bound)
        record = JournalRecord.of(body, text, outcome, sample, batch=True, lost_usage=bound if malformed else Usage())
        try:
            record.to_json()
        except UnreadableRecordError:  # it has been paid for
            failure = Failure(MalformedAnswerError.__name__)
            record = JournalRecord.of(body, text, failure, sample, batch=True, lost_usage=bound)
        return record


def _bound(body: Mapping[str, Any]) -> Usage:
    """The most that a request may have used; nothing is known of a request without a limit of output."""
    try:
        return worst_case_usage(body)
    except ValueError:
        return Usage()
