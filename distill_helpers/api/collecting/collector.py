"""Collecting a teacher's answers through its API: each input is asked once, and no answer is lost.

A fixed number of workers take the next input as soon as they are free, so a slow answer holds up nobody. A worker
writes its answer to the journal before it goes on. So a kill at any instant loses at most the calls that are under way.
The journal is synced to the disk right after each write, so a power cut loses at most the answers of the last moment.
"""

from __future__ import annotations

import asyncio
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from distill_helpers.api.collecting.planned_requests import PlannedRequest, plan_requests
from distill_helpers.api.collecting.worker_pool import WorkerPool
from distill_helpers.api.costs.budget import Budget, Ledger
from distill_helpers.api.costs.price_table import PriceTable, load_prices
from distill_helpers.api.costs.pricing import cost_usd, worst_case_usage
from distill_helpers.api.journal.journal import Journal
from distill_helpers.api.journal.records import JournalRecord
from distill_helpers.api.teachers.answers import TeacherAnswer, Usage
from distill_helpers.api.teachers.providers import make_teacher
from distill_helpers.api.teachers.teacher import Teacher

__all__ = ["APIDistillationDataCollector", "Collection", "TaskExample"]


@dataclass(frozen=True)
class TaskExample:
    """An input and the teacher's answer to it.

    Attributes:
        input_text: the text that the teacher was asked about.
        teacher_output: the answer's text.
        metadata: key in the journal, sample, model, finish reason and date.
    """

    input_text: str
    teacher_output: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"TaskExample({len(self.input_text)} characters, answer of {len(self.teacher_output)} characters)"


@dataclass(frozen=True)
class Collection:
    """What is known about the inputs when a run ends.

    Attributes:
        examples: the complete answers, in the order of the inputs.
        set_aside: how many answers and failures a student may not learn from, by finish reason or cause ("length",
            "refusal", "APITimeoutError", "BadRequestError 400 (unsupported_parameter: max_tokens)", …). Their records
            are in the journal.
        not_asked: number of requests without a record, because the run stopped early.
        stopped: why the run stopped early; None if every request has a record.
        usage: the tokens of all records in the journal: of answers, and an upper bound of what lost attempts and
            malformed answers may have used.
        cost_usd: the cost of that usage, in US dollars; None if the model has no price.
        usage_not_reported: how many of the answers are in `usage` with their upper bound, because the server did not
            say how many tokens it used.
    """

    examples: list[TaskExample]
    set_aside: Counter[str]
    not_asked: int
    stopped: str | None
    usage: Usage
    cost_usd: float | None
    usage_not_reported: int = 0

    def __repr__(self) -> str:
        parts = [f"{len(self.examples)} examples", f"set aside: {dict(self.set_aside)}", f"{self.not_asked} not asked"]
        parts += [] if self.stopped is None else [f"stopped: {self.stopped}"]
        parts += [] if self.cost_usd is None else [f"${self.cost_usd:.4f}"]
        if self.usage_not_reported:
            parts.append(f"{self.usage_not_reported} without a reported usage, counted at its upper bound")
        return f"Collection({', '.join(parts)})"


class APIDistillationDataCollector:
    """Asks a teacher behind an API about texts, and keeps its answers in a journal.

        collector = APIDistillationDataCollector("openai", "gpt-4o-mini", "Name the queue.", max_tokens=20)
        collection = collector.collect(texts, "answers.jsonl", max_concurrent=20, budget=Budget(usd=5))

    Args:
        teacher_provider: "openai" or "anthropic", together with the arguments below; or a `Teacher` that is ready, and
            then only `prices` may be given besides.
        teacher_model: the model's name at the provider.
        system_prompt: sent with each text.
        prices: default the package's dated table. A model that is not in the table has no cost, and no budget in
            dollars.
        **options: further arguments of `OpenAITeacher` or `AnthropicTeacher`: temperature, max_tokens, base_url,
            max_retries, …

    Raises:
        ModuleNotFoundError: the provider's SDK is not installed.
        ValueError: an unknown provider, no model, options beside a ready teacher, or a number outside its range.
    """

    def __init__(
        self,
        teacher_provider: str | Teacher,
        teacher_model: str | None = None,
        system_prompt: str = "",
        *,
        prices: PriceTable | None = None,
        **options: Any,
    ) -> None:
        if isinstance(teacher_provider, str):
            if teacher_model is None:
                raise ValueError(f"name the model of {teacher_provider!r} that you want to ask: teacher_model=…")
            self.teacher: Teacher = make_teacher(
                teacher_provider, teacher_model, system_prompt=system_prompt, **options
            )
        elif teacher_model is not None or system_prompt or options:
            raise ValueError(
                "a ready teacher already has its model, system prompt and options; pass these to the teacher instead"
            )
        else:
            self.teacher = teacher_provider
        self._price = (load_prices() if prices is None else prices).get(self.teacher.model)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.teacher!r})"

    def collect(self, input_texts: Sequence[str], output_path: str | Path, **options: Any) -> Collection:
        """Run `collect_distillation_data` and wait for its end. Call this one from a script or a notebook.

        An interrupt (Ctrl-C, or the notebook's stop button) ends the run cleanly: all answers so far are on the disk.
        The provider may charge for the calls that were under way. The journal charges them to the budget at their
        upper bound, and the next run asks them again.

        Args:
            input_texts: see `collect_distillation_data`.
            output_path: see `collect_distillation_data`.
            **options: the further arguments of `collect_distillation_data`.
        """
        loop = asyncio.new_event_loop()
        job = loop.create_task(self.collect_distillation_data(input_texts, output_path, **options))
        with ThreadPoolExecutor(1) as pool:  # a notebook's own thread runs a loop already, and can't run a second one
            done = pool.submit(_run_to_end, loop, job)
            try:
                return done.result()
            except KeyboardInterrupt:
                loop.call_soon_threadsafe(job.cancel)
                raise

    async def collect_distillation_data(
        self,
        input_texts: Sequence[str],
        output_path: str | Path,
        max_concurrent: int = 5,
        *,
        n_samples: int = 1,
        budget: Budget | None = None,
        retry_failed: bool = False,
        stop_after_failures: int = 50,
        progress: bool = True,
    ) -> Collection:
        """Ask about each text that the journal has no record of.

        Args:
            input_texts: the inputs. A text that is listed twice is asked once.
            output_path: the journal (JSONL). If the file exists, the run continues it.
            max_concurrent: how many calls are under way at a time, throughout the run.
            n_samples: answers to each text; more than one only at a temperature above 0.
            budget: the limit of all runs with this journal together. The run stops before a call could exceed it. What
                the server does not report is counted at its upper bound (`worst_case_usage`): answers without usage,
                malformed answers, and attempts that were cut off, by an interrupt too.
            retry_failed: ask again wherever the journal has a failure.
            stop_after_failures: how many failures in a row, without an answer between them, mean that the teacher is
                down. Then the run stops.
            progress: show a progress bar with the cost so far.

        Returns:
            The examples, and what became of the other inputs. A run that stopped early warns, and says why in
            `stopped`. A run also warns if most answers were set aside, with the reasons.

        Raises:
            ValueError: no texts, a text that is empty or not Unicode (with its row), a number outside its range,
                several samples at temperature 0, or a budget that can't be kept: the model has no price, a prompt may
                be longer than the price covers, or the requests have no limit of output.
            TeacherUnavailableError: the teacher refuses every request, for instance with status 401, 403 or 404, or
                because of a parameter that all requests share. The message has the server's reason.
            RuntimeError: another process writes to this journal.
            OSError: the disk refuses a record, or the journal may only be read and answers are missing.
        """
        budget = budget or Budget()
        self._check(max_concurrent, budget, stop_after_failures)
        planned = plan_requests(self.teacher, input_texts, n_samples)
        self._check_prompts(planned, budget)
        bound = _bound_of(self.teacher.request(planned[0].text), budget)
        with Journal(output_path) as journal:
            waiting = [p for p in planned if not (journal.has_answer(p.key) if retry_failed else p.key in journal)]
            if waiting:
                journal.check_writable()  # before an answer is paid for that can't be kept
            ledger = self._ledger(budget, journal)
            with tqdm(total=len(waiting), desc="Teacher", unit="answer", disable=not progress) as bar:
                pool = WorkerPool(self.teacher, journal, ledger, iter(waiting), stop_after_failures, bar, bound)
                try:
                    await pool.run(min(max_concurrent, len(waiting)))
                finally:
                    await self.teacher.close()
            if pool.stopped is not None:
                warnings.warn(f"the collection stopped early: {pool.stopped}", stacklevel=1)
            collection = _collection(journal, planned, ledger, pool.stopped)
        n_set_aside, n_examples = collection.set_aside.total(), len(collection.examples)
        if n_set_aside > n_examples:
            reasons = ", ".join(f"{count} × {reason}" for reason, count in collection.set_aside.most_common())
            warnings.warn(
                f"{n_set_aside} of {n_set_aside + n_examples} records were set aside, and only {n_examples} answers are"
                f" left to learn from: {reasons}",
                stacklevel=1,
            )
        return collection

    def _ledger(self, budget: Budget, journal: Journal) -> Ledger:
        price = self._price
        if price is None:
            return Ledger(budget, journal.usage(), None)
        discount_usd = 0.0  # without a discount in the table, batches are counted at the full price, to be safe
        if price.batch_discount is not None:
            batched = journal.usage(batch=True)
            discount_usd = cost_usd(batched, price) - cost_usd(batched, price, batch=True)
        return Ledger(budget, journal.usage(), partial(cost_usd, price=price), discount_usd=discount_usd)

    def _check(self, max_concurrent: int, budget: Budget, stop_after_failures: int) -> None:
        for name, number in {"max_concurrent": max_concurrent, "stop_after_failures": stop_after_failures}.items():
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        if budget.usd is not None and self._price is None:
            raise ValueError(
                f"no price for {self.teacher.model!r}, so a budget in dollars can't be kept: pass prices=… or set the"
                " budget in tokens"
            )

    def _check_prompts(self, planned: list[PlannedRequest], budget: Budget) -> None:
        limit = None if self._price is None else self._price.max_prompt_tokens
        if budget.usd is None or limit is None:
            return
        longest = max((request.text for request in planned), key=len)
        most = worst_case_usage(self.teacher.request(longest)).input_tokens
        if most > limit:
            raise ValueError(
                f"the longest text makes a prompt of up to {most} tokens, but the price of {self.teacher.model} is for"
                f" prompts of up to {limit}: shorten the text, or add the price for longer prompts to a copy of"
                " prices.toml"
            )


def _bound_of(request: Mapping[str, Any], budget: Budget) -> Callable[[Mapping[str, Any]], Usage]:
    """How the most that a request may use is computed. Without a limit of output and without a budget, it is unknown.

    Raises:
        ValueError: a budget that can't be kept, since the requests have no limit of output.
    """
    try:
        worst_case_usage(request)
    except ValueError as error:
        if budget.usd is not None or budget.tokens is not None:
            raise ValueError(f"this budget can't be kept: {error}") from None
        return lambda _: Usage()
    return worst_case_usage


def _run_to_end(loop: asyncio.AbstractEventLoop, job: asyncio.Task[Collection]) -> Collection:
    try:
        return loop.run_until_complete(job)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _collection(journal: Journal, planned: list[PlannedRequest], ledger: Ledger, stopped: str | None) -> Collection:
    examples, set_aside, not_asked, not_reported = [], Counter[str](), 0, 0
    for request in planned:
        record = journal.get(request.key)
        if record is None:
            not_asked += 1
        elif record.failure is not None:
            set_aside[record.failure.name] += 1
        elif record.answer is not None and not record.answer.usable:
            set_aside[record.answer.set_aside_reason] += 1
        elif record.answer is not None:
            examples.append(_example(record, record.answer))
        if record is not None and record.answer is not None:
            not_reported += not record.answer.usage_reported
    return Collection(examples, set_aside, not_asked, stopped, ledger.usage, ledger.cost_usd, not_reported)


def _example(record: JournalRecord, answer: TeacherAnswer) -> TaskExample:
    metadata = {
        "key": record.key,
        "sample": record.sample,
        "model": answer.model,
        "finish_reason": answer.finish_reason,
        "date": record.date,
    }
    return TaskExample(record.input_text, answer.text, metadata)
