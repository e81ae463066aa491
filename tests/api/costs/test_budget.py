"""The budget: limits that make sense, and what fits into them."""

import asyncio
from functools import partial

import pytest
from api_prices import price

from distill_helpers.api.costs.budget import Budget, Ledger
from distill_helpers.api.costs.pricing import cost_usd
from distill_helpers.api.teachers.answers import Usage


@pytest.mark.parametrize("limits", [{"usd": 0.0}, {"tokens": -1}, {"usd": float("nan")}])
def test_a_budget_is_above_zero(limits: dict) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Budget(**limits)


def fits(budget: Budget, spent: Usage, most: Usage, **options: float) -> bool:
    ledger = Ledger(budget, spent, partial(cost_usd, price=price()), **options)
    return asyncio.run(ledger.reserve(most))


def test_what_fits_exactly_fits() -> None:
    assert fits(Budget(tokens=100), Usage(40, 10), Usage(45, 5))
    assert not fits(Budget(tokens=100), Usage(40, 10), Usage(45, 6))
    # 1,000 tokens of input at 3 and 100 of output at 15 are 4,500 millionths
    assert fits(Budget(usd=0.0045), Usage(500, 100), Usage(500, 0))
    assert not fits(Budget(usd=0.0045), Usage(500, 100), Usage(501, 0))


def test_what_fits_only_by_the_discount_of_batches_fits() -> None:
    spent, most = Usage(1000, 100), Usage(100, 0)
    assert not fits(Budget(usd=0.004), spent, most)
    assert fits(Budget(usd=0.004), spent, most, discount_usd=0.0008)  # 4,500 - 800 + 300 = 4,000 millionths
    assert not fits(Budget(usd=0.004), spent, most, discount_usd=0.0007)


def test_a_retry_needs_room_of_its_own_and_waits_for_nobody() -> None:
    async def run() -> list[bool]:
        ledger = Ledger(Budget(tokens=100), Usage(), None)
        most = Usage(30, 10)
        granted = [await ledger.reserve(most), await ledger.reserve_retry(most), await ledger.reserve_retry(most)]
        await ledger.settle(most + most, most + Usage(5, 1))
        assert ledger.usage == Usage(35, 11)
        return [*granted, await ledger.reserve(most)]

    assert asyncio.run(asyncio.wait_for(run(), 5)) == [True, True, False, True]
