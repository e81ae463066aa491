"""A limit in money or tokens that a collection never passes, however many calls are on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from distill_helpers.api.teachers.answers import Usage

__all__ = ["Budget", "Ledger"]


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
        discount_usd: taken off what `spent` costs, since a part of it came through the provider's batch API.
    """

    def __init__(
        self,
        budget: Budget,
        spent: Usage,
        cost_usd: Callable[[Usage], float] | None,
        *,
        discount_usd: float = 0.0,
    ) -> None:
        self.usage = spent
        self._budget, self._cost_usd, self._discount_usd = budget, cost_usd, discount_usd
        self._reserved, self._on_their_way = Usage(), 0
        self._changed = asyncio.Condition()

    @property
    def cost_usd(self) -> float | None:
        """Of the answers so far; None without prices."""
        return None if self._cost_usd is None else self._cost_usd(self.usage) - self._discount_usd

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
        if self._budget.usd is None or self._cost_usd is None:
            return True
        return self._cost_usd(worst) - self._discount_usd <= self._budget.usd
