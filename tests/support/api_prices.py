"""Prices for the tests of costs."""

from datetime import date

from distill_helpers.api.costs.price_table import Price


def price(model="m", **changes):
    """A price of today, whose rates differ so much that no two of them can be confused."""
    rates = {"input": 3, "cached_input": 0.3, "cache_write": 3.75, "output": 15, "batch_discount": 0.5}
    return Price(**({"provider": "p", "model": model, "as_of": date.today(), "source": "a contract"} | rates | changes))
