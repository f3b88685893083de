"""Sizes and rates as people write them: `24 GiB`, `1008 GB/s`. Bytes and bytes per second inside, always integers.

Decimal and binary units are told apart (GB is 10^9 bytes, GiB is 2^30), because 24 GiB of VRAM and a 24 GB file differ
by 7 %. A bare number is a number of bytes.
"""

from __future__ import annotations

import re

from advisor.errors import UsageError

SIZES = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
RATES = {f"{unit}/s": factor for unit, factor in SIZES.items()}
LARGEST = 2**60
"""No size or rate of a machine comes near: what is above is a slip of the pen."""

NUMBER = re.compile(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?|\.[0-9]{1,20})\s*([A-Za-z/]*)\s*", re.ASCII)


def parse_bytes(text: str | int) -> int:
    """A size in bytes from `24 GiB`, `9.31 GB`, `64GB` or plain bytes.

    Raises:
        UsageError: not a number, no unit of size (`GB/s`), zero, negative, or absurdly large.
    """
    return _parse(text, SIZES, "size", "24 GiB or 9.31 GB")


def parse_rate(text: str | int) -> int:
    """Bytes per second from `1008 GB/s`, `3.35 TB/s` or plain bytes per second.

    Raises:
        UsageError: not a number, no unit of rate (`GB`), zero, negative, or absurdly large.
    """
    return _parse(text, RATES, "bandwidth", "1008 GB/s or 3.35 TB/s")


def _parse(text: str | int, units: dict[str, int], what: str, example: str) -> int:
    if isinstance(text, bool) or not isinstance(text, (str, int)):
        raise UsageError(f"{text!r} is not a {what}", hint=f"write it like {example}")
    value = text if isinstance(text, int) else _value(text, units, what, example)
    if value <= 0:
        raise UsageError(f"a {what} must be above zero, not {_short(text)}", hint=f"write it like {example}")
    if value > LARGEST:
        raise UsageError(f"a {what} of {_short(text)} is too large", hint=f"write it like {example}")
    return value


def _value(text: str, units: dict[str, int], what: str, example: str) -> int:
    match = NUMBER.fullmatch(text)
    if match is None:
        raise UsageError(f"{_short(text)} is not a {what}", hint=f"write it like {example}")
    number, unit = match.groups()
    factor = units.get(unit.lower()) if unit else 1
    if factor is None:
        raise UsageError(f"{unit!r} is not a unit of {what}, in {_short(text)}", hint=f"write it like {example}")
    # Integers stay exact: only a fraction goes through floating point.
    return round(float(number) * factor) if "." in number else int(number) * factor


def _short(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 40 else shown[:37] + "..."  # noqa: PLR2004 - a line of a terminal


def format_bytes(size: int) -> str:
    """A size for people in binary units, three digits: `24 GiB`, `1.62 GiB`, `812 MiB`."""
    return _format(size, (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)), "B")


def format_file_size(size: int) -> str:
    """A size for people in decimal units, as download pages give it: `14.2 GB`, `252 MB`."""
    return _format(size, (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)), "B")


def format_rate(rate: int) -> str:
    """A rate for people, in decimal units as spec sheets give it: `1.01 TB/s`, `936 GB/s`."""
    return _format(rate, (("TB/s", 10**12), ("GB/s", 10**9), ("MB/s", 10**6), ("kB/s", 10**3)), "B/s")


def _format(value: int, units: tuple[tuple[str, int], ...], smallest: str) -> str:
    sign, value = ("-", -value) if value < 0 else ("", value)
    for unit, factor in units:
        # 999.5 would round to a fourth digit: it belongs to the next unit up.
        if value >= factor * 0.9995:
            return f"{sign}{_three_digits(value / factor)} {unit}"
    return f"{sign}{value} {smallest}"


def _three_digits(number: float) -> str:
    if number >= 99.95:  # noqa: PLR2004 - from here on three digits need no decimals
        return f"{number:.0f}"
    text = f"{number:.2f}" if number < 9.995 else f"{number:.1f}"  # noqa: PLR2004
    return text.rstrip("0").rstrip(".")
