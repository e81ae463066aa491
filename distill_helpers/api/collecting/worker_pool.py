"""Workers that ask a teacher at constant concurrency. Each writes its answer to the journal before it asks again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from tqdm.auto import tqdm

from distill_helpers.api.collecting.planned_requests import PlannedRequest
from distill_helpers.api.costs.budget import Ledger
from distill_helpers.api.costs.pricing import with_charged_usage
from distill_helpers.api.journal.journal import Journal
from distill_helpers.api.journal.records import INTERRUPTED, Failure, JournalRecord, UnreadableRecordError
from distill_helpers.api.teachers.answers import TeacherAnswer, Usage
from distill_helpers.api.teachers.connection import ATTEMPTS, Attempts, MalformedAnswerError, NoBudgetForRetryError
from distill_helpers.api.teachers.server_reasons import server_reason
from distill_helpers.api.teachers.teacher import Teacher

__all__ = ["TeacherUnavailableError", "WorkerPool"]

#: No key, no money, no permission, no such model. Every other request would fail in the same way.
_FATAL_STATUS = (401, 402, 403, 404)
#: The same, said by a code.
_FATAL_CODES = frozenset(
    {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "invalid_api_key", "model_not_found"}
)
#: A parameter that no request may have, or a value that it may not have, whatever the text.
_PARAMETER_CODES = frozenset(
    {"unsupported_parameter", "unknown_parameter", "unsupported_value", "invalid_type", "extra_forbidden"}
)
#: The fields in which requests differ.
_OWN_FIELDS = frozenset({"messages", "system"})
#: A request that is refused as it is.
_REFUSED_STATUS = (400, 422)

#: The least time between the starts of two calls, in seconds: about the processor time of one call. Calls that start
#: together and take equally long stay together. Their answers arrive at once, and the last one waits for all others.
_APART_S = 0.00125


class TeacherUnavailableError(RuntimeError):
    """The teacher refuses every request, and would refuse all others alike. Earlier answers are in the journal.

    The status is 401, 402, 403 or 404; or the server's code says that there is no quota, key or model; or the server
    refuses a parameter that all requests share.
    """


class WorkerPool:
    """The workers of one run, and what they share.

    Args:
        teacher: is asked.
        journal: open; gets a record of each request.
        ledger: the budget and what is spent of it.
        waiting: the requests that the journal has no record of. All workers draw from this iterator.
        stop_after_failures: how many failures in a row stop the run.
        bar: the progress bar, one step for each record.
        bound: the most that one attempt at a request may use.

    Attributes:
        stopped: why the run stopped early; None if it did not.
    """

    def __init__(
        self,
        teacher: Teacher,
        journal: Journal,
        ledger: Ledger,
        waiting: Iterator[PlannedRequest],
        stop_after_failures: int,
        bar: tqdm,
        bound: Callable[[Mapping[str, Any]], Usage],
    ) -> None:
        self.stopped: str | None = None
        self._teacher, self._journal, self._ledger, self._waiting, self._bar = teacher, journal, ledger, waiting, bar
        self._scribe = _Scribe(journal)
        self._stop_after_failures, self._failures_in_a_row = stop_after_failures, 0
        self._bound = bound
        self._next_start = 0.0  # on the loop's clock
        self._answered = False
        self._refusals: dict[Failure, str] = {}  # and the key of the first request that was refused like this

    async def run(self, n: int) -> None:
        """Let n workers ask until no request is left or the run has to stop.

        Raises:
            TeacherUnavailableError: the teacher refuses every request.
            OSError: the disk refuses a record.
        """
        workers = [asyncio.create_task(self._work()) for _ in range(n)]
        try:
            await asyncio.gather(*workers)
        finally:  # after an error or an interrupt, the answers so far still get to the disk
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await self._scribe.finish()

    async def _work(self) -> None:
        for planned in self._waiting:
            await self._turn()
            if self.stopped is not None:
                return
            request = self._teacher.request(planned.text)
            most = self._bound(request)
            if not await self._ledger.reserve(most):
                self.stopped = "the budget has no room for another request"
                return
            reserved, used = most, Usage()

            async def reserve_retry(most: Usage = most) -> bool:
                nonlocal reserved
                fits = await self._ledger.reserve_retry(most)
                reserved += most if fits else Usage()
                return fits

            attempts = Attempts(reserve_retry)
            ATTEMPTS.set(attempts)
            try:
                record = partial(JournalRecord.of, request, planned.text, sample=planned.sample)
                try:
                    outcome, lost = await self._ask(request, planned, attempts)
                except BaseException as error:  # an interrupt, or another worker's error, which cancels this one
                    # A teacher that does not count its attempts may have sent one.
                    lost = attempts.lost or int(attempts.sent == 0 and isinstance(error, asyncio.CancelledError))
                    used = sum([most] * lost, Usage())
                    if lost:
                        self._scribe.write(record(Failure(INTERRUPTED), lost_usage=used))
                    raise
                if isinstance(outcome, TeacherAnswer):
                    outcome = with_charged_usage(outcome, most)
                    used = outcome.usage
                lost_usage = sum([most] * lost, Usage())
                try:
                    self._scribe.write(record(outcome, lost_usage=lost_usage))
                except UnreadableRecordError:  # a teacher of another dialect let it pass; it has been paid for
                    lost_usage += most  # the answer's own counts may be what can't be read
                    outcome, used = Failure(MalformedAnswerError.__name__), Usage()
                    self._scribe.write(record(outcome, lost_usage=lost_usage))
                used += lost_usage
            finally:
                await self._ledger.settle(reserved, used)
            self._count(outcome)

    async def _turn(self) -> None:
        """Wait until the last call started at least `_APART_S` ago."""
        now = asyncio.get_running_loop().time()
        start = max(now, self._next_start)
        self._next_start = start + _APART_S
        await asyncio.sleep(start - now)

    async def _ask(
        self, request: Mapping[str, Any], planned: PlannedRequest, attempts: Attempts
    ) -> tuple[TeacherAnswer | Failure, int]:
        """The outcome of a request, and the number of attempts that may be charged although they brought nothing."""
        try:
            return await self._teacher.ask(request), attempts.lost
        except self._teacher.failures as error:
            status = getattr(error, "status_code", None)
            reason = server_reason(getattr(error, "body", None), request)
            failure = Failure(type(error).__name__, status, reason.code, reason.param)
            self._raise_if_fatal(failure, request, planned.key)
            malformed = isinstance(error, MalformedAnswerError)
            if attempts.sent == 0 and not isinstance(error, NoBudgetForRetryError):
                return failure, int(status is None)  # a teacher that does not count its attempts
            return failure, attempts.lost + malformed

    def _raise_if_fatal(self, failure: Failure, request: Mapping[str, Any], key: str) -> None:
        """Raise TeacherUnavailableError if every other request would fail like this one.

        A parameter that the server names may still depend on the text (a limit of tokens that a long text leaves no
        room for). Only if two requests were refused alike, and none was answered, is the parameter to blame.
        """
        fatal = failure.status in _FATAL_STATUS or failure.code in _FATAL_CODES
        remedy = "check the key, the account, the model's name and the base_url"
        shared = failure.param is not None and failure.param.split(".")[0].split("[")[0] in request.keys() - _OWN_FIELDS
        if not fatal and failure.status in _REFUSED_STATUS and shared:
            fatal = failure.code in _PARAMETER_CODES
            fatal = fatal or (not self._answered and self._refusals.setdefault(failure, key) != key)
            remedy = (
                f"all requests have the parameter {failure.param}; rename it or leave it out, for instance with"
                f" parameters={{{failure.param!r}: None}}"
            )
        if fatal:
            raise TeacherUnavailableError(
                f"{self._teacher.model}: {failure.name}; {remedy}, and start again: the answers so far are in the"
                " journal"
            ) from None  # the response may quote the request

    def _count(self, outcome: TeacherAnswer | Failure) -> None:
        if isinstance(outcome, TeacherAnswer):
            self._failures_in_a_row, self._answered = 0, True
        else:
            self._failures_in_a_row += 1
            if self._failures_in_a_row == self._stop_after_failures and self.stopped is None:
                self.stopped = f"{self._failures_in_a_row} failures in a row, the last one {outcome.name}"
        cost = self._ledger.cost_usd
        self._bar.set_postfix_str("" if cost is None else f"${cost:.2f}", refresh=False)
        self._bar.update()


class _Scribe:
    """Writes each record at once, and syncs in groups: a sync covers all records written during the sync before it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._unsynced = False
        self._syncing: asyncio.Task[None] | None = None

    def write(self, record: JournalRecord) -> None:
        if self._syncing is not None and self._syncing.done():
            self._syncing.result()  # a sync that failed ends the run
            self._syncing = None
        self._journal.append(record, sync=False)
        self._unsynced = True
        if self._syncing is None:
            self._syncing = asyncio.create_task(self._sync())

    async def finish(self) -> None:
        if self._syncing is not None:
            await self._syncing

    async def _sync(self) -> None:
        while self._unsynced:
            self._unsynced = False
            await asyncio.to_thread(self._journal.sync)
