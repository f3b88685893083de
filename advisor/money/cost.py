"""Money per million tokens, from a price per hour or from watts, beside what hosted services ask."""

from __future__ import annotations

import functools
import re
from importlib.resources import files
from typing import Annotated

import msgspec

from advisor.errors import UsageError
from advisor.knowledge.catalog import convert, read
from advisor.knowledge.profile import Text
from advisor.machine import Record

SECONDS_PER_HOUR = 3600
MILLION = 1_000_000
HIGHEST = 1e6
"""Money per hour, watts, or money per kWh above this is a slip of the pen."""

Money = Annotated[float, msgspec.Meta(ge=0)]


class Price(Record, frozen=True, kw_only=True):
    """What the machine costs while it works. `per_hour`: in `currency`; `said`: how that came about, in words."""

    per_hour: float
    currency: str
    said: str


class HostedPrice(Record, frozen=True, kw_only=True):
    """What a service asks per million tokens, as `source` stated it on `date`."""

    model: Text
    provider: Text
    input: Money
    output: Money
    currency: Text
    date: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\d$")]
    source: Text


class HostedPrices(Record, frozen=True, kw_only=True):
    prices: tuple[HostedPrice, ...]


class Cost(Record, frozen=True, kw_only=True):
    """Per million tokens, in `currency`: of answers (`per_million_tokens`) and of prompts."""

    per_million_tokens: float
    per_million_prompt_tokens: float
    currency: str
    assumptions: tuple[str, ...]
    hosted: tuple[HostedPrice, ...]


def price(
    per_hour: float | None,
    watts: float | None,
    per_kwh: float | None,
    currency: str | None = None,
    *,
    command: str = "advisor recommend",
) -> Price | None:
    """The price of an hour from what was given; None where nothing was.

    Args:
        command: which was asked, for what to type instead.

    Raises:
        UsageError: half of a pair, both ways at once, or an impossible number.
    """
    given = {"--price-per-hour": per_hour, "--watts": watts, "--price-per-kwh": per_kwh}
    for option, value in given.items():
        if value is not None and not 0 <= value <= HIGHEST:
            raise UsageError(f"{option} {value:g} is not possible", command=f"{command} --help")
    if currency is not None and not re.fullmatch(r"[A-Za-z]{3}", currency):
        raise UsageError(f"--currency {currency!r}: three letters are expected", hint="such as USD or EUR")
    money = (currency or "USD").upper()
    if per_hour is not None and watts is None and per_kwh is None:
        return Price(per_hour=per_hour, currency=money, said=f"{per_hour:g} {money} per hour")
    if per_hour is None and watts is not None and per_kwh is not None:
        hour = watts / 1000 * per_kwh
        return Price(per_hour=hour, currency=money, said=f"{watts:g} W at {per_kwh:g} {money} per kWh, no hardware")
    if per_hour is None and watts is None and per_kwh is None:
        if currency is not None:
            raise UsageError("--currency alone says no price", command=f"{command} --price-per-hour 0.60")
        return None
    raise UsageError(
        "a cost needs --price-per-hour alone, or --watts with --price-per-kwh",
        command=f"{command} --price-per-hour 0.60",
    )


def cost(asked: Price, model: str, decode: float, prefill: float, depth_tokens: int) -> Cost:
    """What a million tokens cost on this machine.

    Args:
        asked: what an hour costs.
        model: its id, for the hosted prices.
        decode: tokens per second of an answer, one user.
        prefill: tokens per second of a prompt.
        depth_tokens: at which `decode` holds.
    """
    return Cost(
        per_million_tokens=per_million(asked.per_hour, decode),
        per_million_prompt_tokens=per_million(asked.per_hour, prefill),
        currency=asked.currency,
        assumptions=(
            asked.said,
            f"one user, {decode:.0f} tok/s at {depth_tokens:,} tokens of context, busy all the time",
            "answers only: prompts are read at their own price, waiting costs too",
        ),
        hosted=tuple(each for each in hosted_prices() if each.model == model),
    )


def per_million(per_hour: float, tokens_per_s: float) -> float:
    return per_hour / SECONDS_PER_HOUR / max(tokens_per_s, 1e-6) * MILLION


@functools.lru_cache(maxsize=1)
def hosted_prices() -> tuple[HostedPrice, ...]:
    """The prices of `profiles/hosted_prices.yaml`, the cheapest answers of each model first.

    Raises:
        ProfileError: naming the key that is wrong.
    """
    where = "profiles/hosted_prices.yaml"
    found = convert(read(files("profiles") / "hosted_prices.yaml", where), HostedPrices, where).prices
    return tuple(sorted(found, key=lambda each: (each.model, each.output)))
