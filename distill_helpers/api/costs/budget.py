"""A limit in dollars or tokens that a running collection never exceeds, however many calls are under way at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from distill_helpers.api.teachers.answers import Usage

__all__ = ["Budget", "Ledger"]


@dataclass(frozen=True)
class Budget:
    """What all runs with one journal may cost together.

    An interrupt counts the calls that it cuts off. A kill (SIGKILL, a power cut) cannot: the provider may charge for up
    to `max_concurrent` calls that no journal knows of.

    Attributes:
        usd: limit in US dollars; None for no limit.
        tokens: limit of input and output tokens together; None for no limit.

    Raises:
        ValueError: a limit that is not above 0.

    Example:
        >>> dh.api.Budget(usd=5, tokens=2_000_000)  # the limit that is reached first ends the collection
        Budget(usd=5, tokens=2000000)
    """

    usd: float | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        for name, limit in (("usd", self.usd), ("tokens", self.tokens)):
            if limit is not None and not limit > 0:
                raise ValueError(f"the budget's {name} must be above 0 or None, got {limit}")


class Ledger:
    """The tokens that are spent so far, and those that are reserved for calls under way.

    Before each attempt at a call, the most that the attempt may cost is reserved. After the call, its real cost
    replaces the reservation. That is why the limit holds for any number of calls at once. An attempt whose answer was
    lost is charged in full.

    Args:
        budget: the limit.
        spent: the tokens that earlier runs used.
        cost_usd: computes the cost of a usage; None if the model has no price. Then there is no limit in dollars.
        discount_usd: what the batch discount takes off the cost of `spent`, if a part of it came in batches.
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
        self._reserved, self._calls_under_way = Usage(), 0
        self._changed = asyncio.Condition()

    @property
    def cost_usd(self) -> float | None:
        """The cost of all answers and lost attempts so far, in US dollars; None if the model has no price."""
        return None if self._cost_usd is None else self._cost_usd(self.usage) - self._discount_usd

    async def reserve(self, most: Usage) -> bool:
        """Reserve the most that a call may use.

        Returns:
            False if the budget has no room for the call and will never have any.
        """
        async with self._changed:
            while not self._fits(most):
                if self._calls_under_way == 0:
                    return False
                await self._changed.wait()  # a call under way may use less than what is reserved for it
            self._reserved += most
            self._calls_under_way += 1
            return True

    async def reserve_retry(self, most: Usage) -> bool:
        """Reserve the most that another attempt at a call under way may use, because the last attempt was lost.

        Returns:
            False if there is no room now. The call does not wait for other calls, which may be waiting likewise.
        """
        async with self._changed:
            fits = self._fits(most)
            if fits:
                self._reserved += most
            return fits

    async def settle(self, most: Usage, used: Usage) -> None:
        """Release what was reserved for a call that has ended, and count what the call used as spent."""
        async with self._changed:
            self._reserved -= most
            self._calls_under_way -= 1
            self.usage += used
            self._changed.notify_all()

    def _fits(self, most: Usage) -> bool:
        worst = self.usage + self._reserved + most
        if self._budget.tokens is not None and worst.input_tokens + worst.output_tokens > self._budget.tokens:
            return False
        if self._budget.usd is None or self._cost_usd is None:
            return True
        return self._cost_usd(worst) - self._discount_usd <= self._budget.usd
