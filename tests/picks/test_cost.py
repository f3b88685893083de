"""Money per million tokens."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from advisor.errors import UsageError
from advisor.knowledge.catalog import load
from advisor.money.cost import cost, hosted_prices, price


def test_a_price_per_hour() -> None:
    asked = price(0.60, None, None)
    assert asked is not None
    found = cost(asked, "26b", decode=100.0, prefill=3000.0, depth_tokens=2048)
    assert found.per_million_tokens == pytest.approx(0.60 / 3600 / 100 * 1e6)
    assert found.per_million_prompt_tokens == pytest.approx(0.60 / 3600 / 3000 * 1e6)
    assert any("100 tok/s" in line for line in found.assumptions)
    assert {each.model for each in found.hosted} == {"26b"}


def test_watts_and_a_price_for_power() -> None:
    asked = price(None, 350, 0.30, "eur")
    assert asked is not None
    assert asked.per_hour == pytest.approx(0.105)
    assert asked.currency == "EUR"


def test_no_price_no_cost() -> None:
    assert price(None, None, None) is None


@pytest.mark.parametrize(
    ("arguments"),
    [
        (None, 350, None),
        (None, None, 0.3),
        (0.6, 350, 0.3),
        (0.6, 350, None),
        (-1, None, None),
        (float("nan"), None, None),
        (float("inf"), None, None),
        (None, -5, 0.3),
        (None, None, None, "USD"),
        (0.6, None, None, "dollars"),
    ],
)
def test_half_a_price_or_an_impossible_one(arguments: tuple[float | None, ...]) -> None:
    with pytest.raises(UsageError):
        price(*arguments)  # type: ignore[arg-type]


def test_a_price_of_nothing_costs_nothing() -> None:
    asked = price(0, None, None)
    assert asked is not None
    assert cost(asked, "e2b", 10, 100, 2048).per_million_tokens == 0


def test_hosted_prices_have_a_date_a_source_and_a_model() -> None:
    for each in hosted_prices():
        assert each.model in load().models
        assert each.source.startswith("https://")
        assert each.date >= "2026-04-02"
        assert each.input <= each.output


def test_on_the_command_line() -> None:
    from advisor.cli import cli

    words = ["recommend", "--simulate", "A10G, 64GB", "--price-per-hour", "0.60", "--json"]
    result = CliRunner().invoke(cli, words)
    assert '"currency":"USD"' in result.stdout
    assert '"hosted":[{' in result.stdout
