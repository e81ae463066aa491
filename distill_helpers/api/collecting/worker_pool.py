"""Workers that ask a teacher at constant concurrency. Each writes its answer to the journal before it asks again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from tqdm.auto import tqdm

from distill_helpers.api.collecting.planned_requests import PlannedRequest
from distill_helpers.api.costs.budget import Ledger
from distill_helpers.api.costs.pricing import worst_case_usage
from distill_helpers.api.journal.journal import Journal
from distill_helpers.api.journal.records import Failure, JournalRecord
from distill_helpers.api.teachers.answers import TeacherAnswer, Usage
from distill_helpers.api.teachers.teacher import Teacher

__all__ = ["TeacherUnavailableError", "WorkerPool"]

#: No key, no permission, no such model. Every other request would fail in the same way.
_FATAL_STATUS = (401, 403, 404)

#: The least time between the starts of two calls, in seconds: about the processor time of one call. Calls that start
#: together and take equally long stay together. Their answers arrive at once, and the last one waits for all others.
_APART_S = 0.00125


class TeacherUnavailableError(RuntimeError):
    """The teacher refuses every request: status 401, 403 or 404. Earlier answers are in the journal."""


class WorkerPool:
    """The workers of one run, and what they share.

    Args:
        teacher: is asked.
        journal: open; gets a record of each request.
        ledger: the budget and what is spent of it.
        waiting: the requests that the journal has no record of. All workers draw from this iterator.
        stop_after_failures: how many failures in a row stop the run.
        bar: the progress bar, one step for each record.

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
    ) -> None:
        self.stopped: str | None = None
        self._teacher, self._journal, self._ledger, self._waiting, self._bar = teacher, journal, ledger, waiting, bar
        self._scribe = _Scribe(journal)
        self._stop_after_failures, self._failures_in_a_row = stop_after_failures, 0
        self._next_start = 0.0  # on the loop's clock

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
            most = worst_case_usage(request)
            if not await self._ledger.reserve(most):
                self.stopped = "the budget has no room for another request"
                return
            used = Usage()
            try:
                outcome = await self._ask(request)
                if isinstance(outcome, TeacherAnswer):
                    used = outcome.usage
                self._scribe.write(JournalRecord.of(request, planned.text, outcome, planned.sample))
            finally:
                await self._ledger.settle(most, used)
            self._count(outcome)

    async def _turn(self) -> None:
        """Wait until the last call started at least `_APART_S` ago."""
        now = asyncio.get_running_loop().time()
        start = max(now, self._next_start)
        self._next_start = start + _APART_S
        await asyncio.sleep(start - now)

    async def _ask(self, request: Mapping[str, Any]) -> TeacherAnswer | Failure:
        try:
            return await self._teacher.ask(request)
        except self._teacher.failures as error:
            status = getattr(error, "status_code", None)
            if status in _FATAL_STATUS:
                raise TeacherUnavailableError(
                    f"{self._teacher.model}: status {status} ({type(error).__name__}); check the key, the model's name"
                    " and the base_url, and start again: the answers so far are in the journal"
                ) from None  # the response may quote the request
            return Failure(type(error).__name__, status)

    def _count(self, outcome: TeacherAnswer | Failure) -> None:
        if isinstance(outcome, TeacherAnswer):
            self._failures_in_a_row = 0
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
