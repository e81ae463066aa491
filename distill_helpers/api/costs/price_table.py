"""A dated table of what providers charge: configuration, read from `prices.toml` or from a file of your own."""

from __future__ import annotations

import difflib
import functools
import tomllib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from importlib import resources
from pathlib import Path

__all__ = ["RATES", "Price", "PriceTable", "load_prices"]

#: The kinds of tokens that have a price each.
RATES = ("input", "cached_input", "cache_write", "output")
_OPTIONAL = frozenset({"batch_discount", "max_prompt_tokens", "snapshots"})
_STALE = timedelta(days=365)


@dataclass(frozen=True)
class Price:
    """What one model costs, in US dollars for a million tokens; plain numbers become decimals.

    Attributes:
        provider: "openai", "anthropic" or another one's name.
        model: as requests name it.
        input: read by the model.
        cached_input: of these, read from the provider's prompt cache; at most `input`.
        cache_write: of these, written into it; at least `input`, and the same where writing is free.
        output: written by the model.
        as_of: the day on which `source` showed the price.
        source: where the price was read, an address.
        batch_discount: the part that the batch API takes off, 0 to 1; None where there is no batch API.
        max_prompt_tokens: a longer prompt costs more than this; None where every length costs the same.
        snapshots: dated names of the same model at the same price.

    Raises:
        ValueError: a rate that is no number or out of the order above.
    """

    provider: str
    model: str
    input: Decimal
    cached_input: Decimal
    cache_write: Decimal
    output: Decimal
    as_of: date
    source: str
    batch_discount: Decimal | None = None
    max_prompt_tokens: int | None = None
    snapshots: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (*RATES, "batch_discount"):
            value = getattr(self, name)
            if name == "batch_discount" and value is None:
                continue
            try:
                rate = Decimal(str(value))
            except InvalidOperation:
                rate = Decimal("nan")
            if not (rate.is_finite() and rate >= 0):
                raise ValueError(f"{self.model}: {name} must be a number of 0 or more, got {value!r}")
            object.__setattr__(self, name, rate)
        if not self.cached_input <= self.input <= self.cache_write:
            raise ValueError(
                f"{self.model}: cached_input {self.cached_input}, input {self.input} and cache_write {self.cache_write}"
                " must not fall in this order; give the price of input for what has none of its own"
            )
        if self.batch_discount is not None and self.batch_discount > 1:
            raise ValueError(f"{self.model}: batch_discount is a part, 0 to 1, got {self.batch_discount}")
        if type(self.as_of) is not date:
            raise ValueError(f"{self.model}: as_of must be a date such as 2026-08-05, got {self.as_of!r}")
        object.__setattr__(self, "snapshots", tuple(self.snapshots))


class PriceTable:
    """Prices by model. A look-up warns, once for a price and table, of a price that is more than a year old.

    Args:
        prices: one for each model.

    Raises:
        ValueError: two prices for one name.
    """

    def __init__(self, prices: Iterable[Price]) -> None:
        self._prices: dict[str, Price] = {}
        self._warned: set[str] = set()
        for price in prices:
            for name in (price.model, *price.snapshots):
                if name in self._prices:
                    raise ValueError(f"two prices for {name!r}; keep the later one")
                self._prices[name] = price

    def __iter__(self) -> Iterator[Price]:
        return iter(dict.fromkeys(self._prices.values()))

    def get(self, model: str) -> Price | None:
        """The price of a model or of one of its snapshots; None where it has none."""
        price = self._prices.get(model)
        if price is not None and date.today() - price.as_of > _STALE and price.model not in self._warned:
            self._warned.add(price.model)
            warnings.warn(
                f"the price of {price.model} is of {price.as_of}, more than a year ago; look it up at its provider and"
                " pass your own table (load_prices)",
                stacklevel=2,
            )
        return price

    def __getitem__(self, model: str) -> Price:
        """The price of a model.

        Raises:
            ValueError: it has none.
        """
        price = self.get(model)
        if price is None:
            close = difflib.get_close_matches(model, self._prices, n=3) or sorted(p.model for p in self)
            raise ValueError(
                f"no price for the model {model!r}; known are {', '.join(close)}. Add yours to a copy of prices.toml"
                " and pass prices=load_prices(path)"
            )
        return price


def load_prices(path: str | Path | None = None) -> PriceTable:
    """The package's table, or one of your own.

    Args:
        path: a TOML file of the format of the package's `prices.toml`; it replaces that one, nothing is merged.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file; names the entry.
    """
    return _package_prices() if path is None else _read_table(Path(path).read_text(encoding="utf-8"), str(path))


@functools.cache
def _package_prices() -> PriceTable:
    source = resources.files("distill_helpers.api.costs") / "prices.toml"
    return _read_table(source.read_text(encoding="utf-8"), "prices.toml")


def _read_table(text: str, name: str) -> PriceTable:
    try:
        entries = tomllib.loads(text)["price"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise ValueError(f"{name} is not a price table ([[price]] entries in TOML): {error}") from None
    known = {field.name for field in fields(Price)}
    prices = []
    for number, entry in enumerate(entries, start=1):
        missing = known - _OPTIONAL - entry.keys()
        if missing or entry.keys() - known:
            raise ValueError(
                f"{name}, price {number} ({entry.get('model', 'no model')}): missing {sorted(missing)}, unknown"
                f" {sorted(entry.keys() - known)}"
            )
        try:
            prices.append(Price(**entry))
        except ValueError as error:
            raise ValueError(f"{name}, price {number}: {error}") from None
    return PriceTable(prices)
