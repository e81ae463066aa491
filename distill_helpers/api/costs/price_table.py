"""A dated table of what providers charge, read from the package's `prices.toml` or from a file of your own."""

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

#: The kinds of tokens. Each kind has a price of its own.
RATES = ("input", "cached_input", "cache_write", "output")
_OPTIONAL = frozenset({"batch_discount", "max_prompt_tokens", "snapshots"})
_STALE = timedelta(days=365)


@dataclass(frozen=True)
class Price:
    """What one model costs, in US dollars per million tokens. Plain numbers become decimals.

    Attributes:
        provider: "openai", "anthropic", or the name of another provider.
        model: the model's name in requests.
        input: price of the tokens that the model reads.
        cached_input: price of the input tokens that come from the provider's prompt cache; at most `input`.
        cache_write: price of the input tokens that are written into the cache; at least `input`, and equal to it if
            writing is free.
        output: price of the tokens that the model writes.
        as_of: the day on which `source` showed the price.
        source: the address where the price was read.
        batch_discount: the part of the price that the batch API takes off, 0 to 1; None if there is no batch API.
        max_prompt_tokens: the longest prompt that has this price; None if prompts of every length have it.
        snapshots: dated names of the same model at the same price.

    Raises:
        ValueError: a rate that is not a number of 0 or more, rates that contradict the order above, a discount above 1,
            or a date that is not a date.

    Example:
        >>> from datetime import date
        >>> dh.api.Price("ours", "my-model", 0.5, 0.5, 0.5, 2, as_of=date(2026, 11, 1), source="the contract")
        Price(my-model: input 0.5, cached_input 0.5, cache_write 0.5, output 2 USD per million tokens, as of 2026-11-01)
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
                " must not fall in this order; repeat the price of input for a rate that the provider does not list"
            )
        if self.batch_discount is not None and self.batch_discount > 1:
            raise ValueError(f"{self.model}: batch_discount must be a part of 0 to 1, got {self.batch_discount}")
        if type(self.as_of) is not date:
            raise ValueError(f"{self.model}: as_of must be a date such as 2026-08-05, got {self.as_of!r}")
        object.__setattr__(self, "snapshots", tuple(self.snapshots))

    def __repr__(self) -> str:
        rates = ", ".join(f"{name} {getattr(self, name)}" for name in RATES)
        return f"Price({self.model}: {rates} USD per million tokens, as of {self.as_of})"


class PriceTable:
    """Prices by model. If a price is more than a year old, the first look-up in a table warns.

    Args:
        prices: one for each model.

    Raises:
        ValueError: two prices for one name.

    Example:
        >>> dh.api.PriceTable(price for price in dh.api.load_prices() if price.model.startswith("gpt-4o"))
        PriceTable(2 models of openai)
    """

    def __init__(self, prices: Iterable[Price]) -> None:
        self._prices: dict[str, Price] = {}
        self._warned: set[str] = set()
        for price in prices:
            for name in (price.model, *price.snapshots):
                if name in self._prices:
                    raise ValueError(f"two prices for {name!r}; keep the later one")
                self._prices[name] = price

    def __repr__(self) -> str:
        prices = list(self)
        return f"PriceTable({len(prices)} models of {', '.join(sorted({price.provider for price in prices}))})"

    def __iter__(self) -> Iterator[Price]:
        return iter(dict.fromkeys(self._prices.values()))

    def get(self, model: str) -> Price | None:
        """The price of a model, looked up by its name or by a snapshot's; None if the table has no such price."""
        price = self._prices.get(model)
        if price is not None and date.today() - price.as_of > _STALE and price.model not in self._warned:
            self._warned.add(price.model)
            warnings.warn(
                f"the price of {price.model} is of {price.as_of}, more than a year ago; look up today's price at the"
                " provider and pass your own table (load_prices)",
                stacklevel=2,
            )
        return price

    def __getitem__(self, model: str) -> Price:
        """The price of a model, looked up by its name or by a snapshot's.

        Raises:
            ValueError: the table has no such price.
        """
        price = self.get(model)
        if price is None:
            close = difflib.get_close_matches(model, self._prices, n=3) or sorted(p.model for p in self)
            raise ValueError(
                f"no price for the model {model!r}; the table has {', '.join(close)}. Add the price to a copy of"
                " prices.toml and pass prices=load_prices(path)"
            )
        return price


def load_prices(path: str | Path | None = None) -> PriceTable:
    """Read the package's price table, or one of your own.

    Args:
        path: a TOML file in the format of the package's `prices.toml`. It replaces the package's table; nothing is
            merged. Default: the package's table.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a price table; names the entry.

    Example:
        >>> price = dh.api.load_prices()["gpt-4o-mini"]
        >>> price.output / price.input  # a token of output costs four times as much as a token of input
        Decimal('4')
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
