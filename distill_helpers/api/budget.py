"""A limit in money or tokens that a collection never passes, however many calls are on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from distill_helpers.api.teacher_answers import Usage

__all__ = ["Budget", "Ledger"]

_NOTHING = Usage()


@dataclass(frozen=True)
class Budget:
    """What a whole job may cost, all its runs with one journal together.

    Attributes:
        usd: in US dollars; None for no limit.
        tokens: input and output together; None for no limit.

    Raises:
        ValueError: a limit that is not above 0.
    """

    usd: float | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        for name, limit in (("usd", self.usd), ("tokens", self.tokens)):
            if limit is not None and not limit > 0:
                raise ValueError(f"the budget's {name} must be above 0 or None, got {limit}")


class Ledger:
    """Spent so far, and set aside for calls on their way.

    Before a call the most that it may cost is set aside, and afterwards replaced by what it did cost: so the limit
    holds for any number of calls at once.

    Args:
        budget: the limit.
        spent: by earlier runs.
        cost_usd: of a usage; None where there are no prices, and then there is no limit in dollars either.
        batched: what came of `spent` through the provider's batch API, at its discount.
        batch_cost_usd: of that; default `cost_usd`.
    """

    def __init__(
        self,
        budget: Budget,
        spent: Usage,
        cost_usd: Callable[[Usage], float] | None,
        *,
        batched: Usage = _NOTHING,
        batch_cost_usd: Callable[[Usage], float] | None = None,
    ) -> None:
        self.usage = spent
        self._budget, self._cost_usd = budget, cost_usd
        self._batched, self._batch_cost_usd = batched, batch_cost_usd or cost_usd
        self._reserved, self._on_their_way = Usage(), 0
        self._changed = asyncio.Condition()

    @property
    def cost_usd(self) -> float | None:
        """Of the answers so far; None without prices."""
        return self._cost_of(self.usage)

    async def reserve(self, most: Usage) -> bool:
        """Set aside the most that a call may use. False when the budget has no room for it and never will."""
        async with self._changed:
            while not self._fits(most):
                if self._on_their_way == 0:
                    return False
                await self._changed.wait()  # a call on its way may turn out cheaper than what is set aside for it
            self._reserved += most
            self._on_their_way += 1
            return True

    async def settle(self, most: Usage, used: Usage) -> None:
        """A call has ended: what was set aside for it is free, what it used is spent."""
        async with self._changed:
            self._reserved -= most
            self._on_their_way -= 1
            self.usage += used
            self._changed.notify_all()

    def _fits(self, most: Usage) -> bool:
        worst = self.usage + self._reserved + most
        if self._budget.tokens is not None and worst.input_tokens + worst.output_tokens > self._budget.tokens:
            return False
        cost = self._cost_of(worst)
        return self._budget.usd is None or cost is None or cost <= self._budget.usd

    def _cost_of(self, usage: Usage) -> float | None:
        if self._cost_usd is None or self._batch_cost_usd is None:
            return None
        return self._cost_usd(usage - self._batched) + self._batch_cost_usd(self._batched)
