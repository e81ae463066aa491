"""Collecting a teacher's answers through its API: every input is asked once, and nothing that was answered is lost.

A fixed number of workers take the next input as soon as they are free, so a slow answer holds up nobody. An answer is
written before its worker goes on, so a kill at any instant loses no more than the calls on their way; and synced to the
disk right behind, so a power cut loses no more than the answers of the last moment.
"""

from __future__ import annotations

import asyncio
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from distill_helpers.api.collecting.questions import Question, questions
from distill_helpers.api.collecting.worker_pool import TeacherUnavailableError, WorkerPool
from distill_helpers.api.costs.budget import Budget, Ledger
from distill_helpers.api.costs.pricing import PriceTable, cost_usd, load_prices, worst_case_usage
from distill_helpers.api.journal.journal import Journal, JournalRecord
from distill_helpers.api.teachers.answers import COMPLETE, TeacherAnswer, Usage
from distill_helpers.api.teachers.providers import Teacher, make_teacher

__all__ = ["APIDistillationDataCollector", "Collection", "TaskExample", "TeacherUnavailableError"]


@dataclass(frozen=True)
class TaskExample:
    """An input and what the teacher said about it.

    Attributes:
        input_text: what was asked about.
        teacher_output: the answer's text.
        metadata: key in the journal, sample, model, finish reason and date.
    """

    input_text: str
    teacher_output: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Collection:
    """What is known of the inputs when a run ends.

    Attributes:
        examples: complete answers, in the order of the inputs.
        set_aside: how many answers and failures may not be learned from, by finish reason or cause ("length",
            "refusal", "APITimeoutError", "BadRequestError 400", …); their records are in the journal.
        not_asked: inputs without a record, since the run stopped early.
        stopped: why it stopped early; None where every input has a record.
        usage: tokens of all answers in the journal.
        cost_usd: of that usage; None where the model has no price.
    """

    examples: list[TaskExample]
    set_aside: Counter[str]
    not_asked: int
    stopped: str | None
    usage: Usage
    cost_usd: float | None


class APIDistillationDataCollector:
    """Asks a teacher behind an API about texts, and keeps its answers in a journal.

    Args:
        teacher_provider: "openai" or "anthropic", or a `Teacher` that is ready, and then nothing else but `prices`.
        teacher_model: the model's name at the provider.
        system_prompt: sent with each text.
        prices: default the package's dated table. A model that is not in it has no cost, and no budget in dollars.
        **options: of `OpenAITeacher` or `AnthropicTeacher`: temperature, max_tokens, base_url, max_retries, …

    Raises:
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
                raise ValueError(f"name the model of {teacher_provider!r} that is to be asked: teacher_model=…")
            self.teacher: Teacher = make_teacher(
                teacher_provider, teacher_model, system_prompt=system_prompt, **options
            )
        elif teacher_model is not None or system_prompt or options:
            raise ValueError("a ready teacher has its model, system prompt and options already; pass them to it")
        else:
            self.teacher = teacher_provider
        self._price = (load_prices() if prices is None else prices).get(self.teacher.model)

    def collect(self, input_texts: Sequence[str], output_path: str | Path, **options: Any) -> Collection:
        """`collect_distillation_data`, waited for: the way to call it in a script or a notebook.

        An interrupt (Ctrl-C, or the notebook's stop button) ends the run as cleanly as its end does.
        """
        loop = asyncio.new_event_loop()
        job = loop.create_task(self.collect_distillation_data(input_texts, output_path, **options))
        with ThreadPoolExecutor(1) as pool:  # a notebook's own thread has a running loop, which can't wait for another
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
            input_texts: a text that comes twice is asked once.
            output_path: the journal, JSONL; a run that finds one goes on with it.
            max_concurrent: calls at a time, all the time.
            n_samples: answers to each text; more than one at a temperature above 0 only.
            budget: for all runs with this journal; the run stops before it could be passed.
            retry_failed: ask again where the journal has a failure.
            stop_after_failures: in a row, without an answer between them: the teacher is down then, and the run stops.
            progress: show a progress bar with the cost so far.

        Returns:
            Examples, and what became of the other inputs. A run that stopped early warns, and says why in `stopped`.

        Raises:
            ValueError: no text, an empty one or one that is not Unicode (with its row), a number outside its range,
                samples at temperature 0, a budget in dollars for a model without a price or for prompts that may be
                longer than its price is for.
            TeacherUnavailableError: status 401, 403 or 404.
            RuntimeError: another process writes to this journal.
            OSError: the disk takes no more.
        """
        budget = budget or Budget()
        self._check(max_concurrent, budget, stop_after_failures)
        asked = questions(self.teacher, input_texts, n_samples)
        self._check_prompts(asked, budget)
        with Journal(output_path) as journal:
            waiting = [q for q in asked if not (journal.has_answer(q.key) if retry_failed else q.key in journal)]
            ledger = self._ledger(budget, journal)
            with tqdm(total=len(waiting), desc="Teacher", unit="answer", disable=not progress) as bar:
                pool = WorkerPool(self.teacher, journal, ledger, iter(waiting), stop_after_failures, bar)
                try:
                    await pool.run(min(max_concurrent, len(waiting)))
                finally:
                    await self.teacher.close()
            if pool.stopped is not None:
                warnings.warn(f"the collection stopped early: {pool.stopped}", stacklevel=1)
            return _collection(journal, asked, ledger, pool.stopped)

    def _ledger(self, budget: Budget, journal: Journal) -> Ledger:
        price = self._price
        if price is None:
            return Ledger(budget, journal.usage(), None)
        discount_usd = 0.0  # where the table has none it does not say what the batch cost: the safe side
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
                f"no price for {self.teacher.model!r}, so a budget in dollars can't be kept: pass prices=… or give the"
                " budget in tokens"
            )

    def _check_prompts(self, asked: list[Question], budget: Budget) -> None:
        limit = None if self._price is None else self._price.max_prompt_tokens
        if budget.usd is None or limit is None:
            return
        longest = max(asked, key=lambda question: len(question.text))
        most = worst_case_usage(self.teacher.request(longest.text)).input_tokens
        if most > limit:
            raise ValueError(
                f"the longest text makes a prompt of up to {most} tokens, and the price of {self.teacher.model} is for"
                f" prompts of up to {limit}: shorten it, or add the price for longer prompts to a copy of prices.toml"
            )


def _run_to_end(loop: asyncio.AbstractEventLoop, job: asyncio.Task[Collection]) -> Collection:
    try:
        return loop.run_until_complete(job)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _collection(journal: Journal, asked: list[Question], ledger: Ledger, stopped: str | None) -> Collection:
    examples, set_aside, not_asked = [], Counter[str](), 0
    for question in asked:
        record = journal.get(question.key)
        if record is None:
            not_asked += 1
        elif record.failure is not None:
            set_aside[record.failure.name] += 1
        elif record.answer is not None and not record.answer.usable:
            reason = record.answer.finish_reason
            set_aside["empty" if reason == COMPLETE else reason] += 1
        elif record.answer is not None:
            examples.append(_example(record, record.answer))
    return Collection(examples, set_aside, not_asked, stopped, ledger.usage, ledger.cost_usd)


def _example(record: JournalRecord, answer: TeacherAnswer) -> TaskExample:
    metadata = {
        "key": record.key,
        "sample": record.sample,
        "model": answer.model,
        "finish_reason": answer.finish_reason,
        "date": record.date,
    }
    return TaskExample(record.input_text, answer.text, metadata)
