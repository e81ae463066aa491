"""The budget: limits that make sense."""

import pytest

from distill_helpers.api.costs.budget import Budget


@pytest.mark.parametrize("limits", [{"usd": 0.0}, {"tokens": -1}, {"usd": float("nan")}])
def test_a_budget_is_above_zero(limits: dict) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Budget(**limits)
