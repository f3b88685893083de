"""Money: reckoned by hand for one case, consistent for all, and honest about what is assumed."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from advisor.pages.cost_page import compared
from tests.launch.conftest import advisor, ask

H100 = ("--simulate", "H100, 64GB")


def test_plain_arithmetic() -> None:
    found = ask("cost", "31b", *H100, "--price-per-hour", "3.60")
    alone = next(each for each in found["lines"] if each["drafting"] == "plain" and each["users"] == 1)
    # 3.60 an hour are .001 a second: a million tokens take 1e6 / rate seconds.
    assert alone["per_million_out"] == pytest.approx(1000 / alone["tokens_per_s"])
    assert alone["per_million_in"] == pytest.approx(1000 / alone["prompt_tokens_per_s"])
    assert alone["basis"] == "formula"


def test_the_drafter_saves_what_it_gains() -> None:
    found = ask("cost", "31b", *H100, "--price-per-hour", "3.60")
    plain, drafted = (
        next(each for each in found["lines"] if each["drafting"] == kind and each["users"] == 1)
        for kind in ("plain", "drafted")
    )
    assert found["saving"] == pytest.approx(1 - plain["tokens_per_s"] / drafted["tokens_per_s"])
    assert found["saving"] > 0.3


def test_with_many_users_the_drafter_gains_less() -> None:
    found = ask("cost", "31b", *H100, "--price-per-hour", "3.60")
    rates = {(each["drafting"], each["users"]): each["tokens_per_s"] for each in found["lines"]}
    gains = [rates["drafted", users] / rates["plain", users] for users in (1, 2, 4, 8, 16)]
    assert gains == sorted(gains, reverse=True)
    together = [rates["plain", users] for users in (1, 2, 4, 8, 16)]
    assert together == sorted(together)
    assert all(each["basis"] == "assumed" for each in found["lines"] if each["users"] > 1)


def test_the_break_even_is_where_both_cost_the_same() -> None:
    found = ask("cost", "31b", *H100, "--price-per-hour", "2.10")
    lines = {each["drafting"]: each for each in found["lines"] if each["users"] == 1}
    reached = [each for each in found["break_even"] if each["hours"] is not None]
    assert reached
    for each in reached:
        line = lines[each["drafting"]]
        seconds = 0.25 / line["tokens_per_s"] + 0.75 / line["prompt_tokens_per_s"]
        tokens = each["hours"] * 3600 / seconds
        theirs = tokens / 1e6 * (0.25 * each["price"]["output"] + 0.75 * each["price"]["input"])
        assert theirs == pytest.approx(24 * 2.10)
    assert all(each["busy_ratio"] < 1 for each in found["break_even"] if each["hours"] is None)


@pytest.mark.parametrize(("per_hour", "reached"), [("0.10", True), ("500", False)])
def test_what_a_day_is_too_short_for_is_never_reached(per_hour: str, reached: bool) -> None:
    even = ask("cost", "31b", *H100, "--price-per-hour", per_hour)["break_even"]
    assert even
    assert all((each["hours"] is not None) == reached for each in even)
    assert all(0 < each["hours"] <= 24 for each in even if reached)


def test_electricity_alone_costs_nothing_while_nothing_is_asked() -> None:
    found = ask("cost", "26b", "--simulate", "RTX 4090, 64GB", "--watts", "350", "--price-per-kwh", "0.30")
    assert found["price_per_hour"] == pytest.approx(0.105)
    assert {each["hours"] for each in found["break_even"]} <= {0.0, None}


def test_one_user_where_the_backend_does_not_batch() -> None:
    found = ask("cost", "e2b", "--backend", "native", "--simulate", "cpu, 16GB", "--price-per-hour", "0.1")
    assert {each["users"] for each in found["lines"]} == {1}


def test_no_price_in_another_currency_is_compared() -> None:
    found = ask("cost", "31b", *H100, "--price-per-hour", "2.10", "--currency", "EUR")
    assert found["break_even"] == []
    assert any("no hosted price" in each for each in found["notes"])


def test_without_a_model_it_is_the_recommendation() -> None:
    found = ask("cost", *H100, "--price-per-hour", "2.10")
    assert found["model"] in ("26b", "31b")


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1.0, "1.0x cheaper"),
        (3.04, "3.0x cheaper"),
        (0.5, "2.0x dearer"),
        (1 / 1743, "1,700x dearer"),
        (0, "free there"),
    ],
)
def test_many_times_as_dear_is_told_in_plain_figures(ratio: float, words: str) -> None:
    assert compared(ratio) == words


def test_the_chart_is_a_picture(tmp_path: Path) -> None:
    file = tmp_path / "cost.svg"
    assert advisor("cost", "31b", *H100, "--price-per-hour", "2.10", "--plot", str(file)).returncode == 0
    root = ET.parse(file).getroot()
    assert root.tag.endswith("svg")
    words = "".join(root.itertext())
    assert "Cerebras" in words
    assert "USD per million" in words


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["31b"], 2),
        (["31b", "--watts", "3"], 2),
        (["31b", "--price-per-hour", "-1"], 2),
        (["40b", "--price-per-hour", "1"], 2),
        (["31b", "--price-per-hour", "1", "--simulate", "cpu, 8GB"], 3),
        (["31b", "--price-per-hour", "1", "--plot", "x.doc"], 2),
    ],
)
def test_wrong_usage_is_told(words: list[str], code: int) -> None:
    done = advisor("cost", *words, "--json")
    assert done.returncode == code
    assert json.loads(done.stdout)["error"]["message"]
