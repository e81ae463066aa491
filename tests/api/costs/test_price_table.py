"""The price table: exact rates, look-ups by name, files of one's own, and prices that are old."""

import re
import warnings
from datetime import date, timedelta
from decimal import Decimal
from importlib import resources

import pytest
from api_prices import price

from distill_helpers.api.costs.price_table import PriceTable, load_prices
from distill_helpers.api.costs.pricing import estimate_api_distillation_cost


def test_the_package_table_holds_what_each_source_showed():
    table = load_prices()
    assert 6 <= len(list(table)) <= 12
    assert {entry.provider for entry in table} == {"openai", "anthropic"}
    for entry in table:
        assert re.match(r"https://\S+$", entry.source)
        assert date(2024, 8, 1) < entry.as_of <= date.today()
    # Two rows written out again, so that a slip of the pen in the table shows.
    gpt_4o = table["gpt-4o"]
    assert (gpt_4o.input, gpt_4o.cached_input, gpt_4o.output) == (Decimal("2.5"), Decimal("1.25"), Decimal(10))
    haiku = table["claude-haiku-4-5"]
    assert (haiku.input, haiku.cached_input, haiku.cache_write, haiku.output) == (1, Decimal("0.1"), Decimal("1.25"), 5)


def test_rates_are_exact_decimals():
    assert load_prices()["gpt-4o-mini"].cached_input == Decimal("0.075")
    assert price(input=0.1, cached_input=0.1).input == Decimal("0.1")


def test_a_snapshot_has_the_price_of_its_model_and_other_names_have_none():
    table = load_prices()
    assert table["gpt-4o-2024-08-06"] is table["gpt-4o"]
    assert table.get("gpt-4o-2024-05-13") is None  # it costs twice as much


def test_an_unknown_model_names_its_neighbours_and_the_remedy():
    with pytest.raises(ValueError, match=r"'gpt-4o-minni'; the table has gpt-4o-mini\b.*load_prices\(path\)"):
        load_prices()["gpt-4o-minni"]
    with pytest.raises(ValueError, match=r"'zzz'; the table has claude-.*gpt-4o-mini"):
        load_prices()["zzz"]


def test_your_own_table_replaces_the_package_one(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text((resources.files("distill_helpers.api.costs") / "prices.toml").read_text().replace("2.50", "2.75"))
    assert load_prices(path)["gpt-4o"].input == Decimal("2.75")
    assert load_prices()["gpt-4o"].input == Decimal("2.5")
    result = estimate_api_distillation_cost(1000, 1000, 0, "gpt-4o", prices=load_prices(path))
    assert result["total_cost_usd"] == 2.75  # 1,000,000 tokens


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[price]]\nmodel = 'm'\n", r"price 1 \(m\): missing \['as_of', 'cache_write', .*unknown \[\]"),
        ("[[prices]]\n", "not a price table"),
        ("[[price", "not a price table"),
        ("ENTRY\nextra = 1", r"price 1 \(m\): missing \[\], unknown \['extra'\]"),
        ("ENTRY\ninput = 'much'", "price 1: m: input must be a number of 0 or more, got 'much'"),
        ("ENTRY\ninput = -1", "input must be a number of 0 or more, got -1"),
        ("ENTRY\ninput = nan", "input must be a number"),
        ("ENTRY\ninput = 0.1", r"cached_input 0\.3, input 0\.1 and cache_write 4 must not fall"),
        ("ENTRY\ncache_write = 2", r"cached_input 0\.3, input 3 and cache_write 2 must not fall"),
        ("ENTRY\nbatch_discount = 50", "batch_discount must be a part of 0 to 1, got 50"),
        ("ENTRY\nas_of = '2026-08-05'", "as_of must be a date such as 2026-08-05, got '2026-08-05'"),
        ("ENTRY\nENTRY", "two prices for 'm'"),
        ("ENTRY\nsnapshots = ['m']", "two prices for 'm'"),
    ],
)
def test_a_table_that_is_none_names_its_entry(tmp_path, content, message):
    entry = {
        "provider": "'p'",
        "model": "'m'",
        "input": "3",
        "cached_input": "0.3",
        "cache_write": "4",
        "output": "15",
        "as_of": "2026-08-05",
        "source": "'s'",
    }
    lines = []
    for line in content.splitlines():
        if line != "ENTRY":
            name, _, value = line.partition(" = ")
            if f"{name} = {entry.get(name)}" in lines:
                lines.remove(f"{name} = {entry[name]}")
            lines.append(f"{name} = {value}" if value else line)
        else:
            lines += ["[[price]]", *(f"{name} = {value}" for name, value in entry.items())]
    path = tmp_path / "mine.toml"
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        load_prices(path)


def test_an_old_price_warns_once_with_its_date():
    old, fresh = date.today() - timedelta(366), date.today() - timedelta(365)
    table = PriceTable([price("old", as_of=old, snapshots=["old-1"]), price("fresh", as_of=fresh)])
    with pytest.warns(UserWarning, match=f"price of old is of {old.isoformat()}.*load_prices") as caught:
        table.get("old")
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table.get("old")
        table.get("old-1")
        table.get("fresh")


def test_a_repr_is_one_line():
    assert repr(PriceTable([price("a"), price("b", provider="q"), price("c")])) == "PriceTable(3 models of p, q)"
    rates = "input 3, cached_input 0.3, cache_write 3.75, output 15"
    assert repr(price("a")) == f"Price(a: {rates} USD per million tokens, as of {date.today()})"
