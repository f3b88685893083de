"""Sizes and rates: read what is written, refuse the rest with the one typed error."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.errors import UsageError
from advisor.units import LARGEST, format_bytes, format_file_size, format_rate, parse_bytes, parse_rate

sizes = st.integers(min_value=1, max_value=LARGEST // 2)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24 GiB", 24 * 2**30),
        ("24GiB", 24 * 2**30),
        ("64GB", 64 * 10**9),
        ("9.31 GB", 9_310_000_000),
        (".5 MiB", 2**19),
        (" 1.5 tib ", 3 * 2**39),
        ("97.81 MB", 97_810_000),
        ("12345", 12345),
        ("7 B", 7),
        (2_620_370_976, 2_620_370_976),
        ("1152921504606846976", LARGEST),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(("text", "rate"), [("1008 GB/s", 1008 * 10**9), ("3.35 TB/s", 3_350_000_000_000), (5, 5)])
def test_rates(text: str | int, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "GiB", "24 GB/s", "24 gibi", "0", "0 GB", "-1", "-3 GiB", "1e9", "nan", "inf", "1,5 GB", "1 2 GB"),
        *("24 GiB GiB", "9" * 400, "9999999 TB", "٣ GB", "0.0000000001 kB", True, False, None, 1.5, 0, -5, 2**70),
    ],
)
def test_what_is_not_a_size(text: object) -> None:
    with pytest.raises(UsageError) as caught:
        parse_bytes(text)  # type: ignore[arg-type]
    assert caught.value.hint
    assert len(caught.value.message) < 120


@pytest.mark.parametrize("text", ["1008 GB", "1008 GiB", "1008 Gb/s", "fast", "0 GB/s", 0])
def test_what_is_not_a_rate(text: str | int) -> None:
    if text == "1008 Gb/s":  # case is forgiven: nobody writes bits of memory bandwidth
        assert parse_rate(text) == 1008 * 10**9
        return
    with pytest.raises(UsageError):
        parse_rate(text)


@pytest.mark.parametrize(
    ("size", "binary", "decimal"),
    [
        (0, "0 B", "0 B"),
        (512, "512 B", "512 B"),
        (1023, "1023 B", "1.02 kB"),
        (24 * 2**30, "24 GiB", "25.8 GB"),
        (14_249_047_104, "13.3 GiB", "14.2 GB"),
        (251_939_328, "240 MiB", "252 MB"),
        (2**30 - 1, "1 GiB", "1.07 GB"),
        (999_999_999, "954 MiB", "1 GB"),
        (-(2**30), "-1 GiB", "-1.07 GB"),
    ],
)
def test_formats(size: int, binary: str, decimal: str) -> None:
    assert format_bytes(size) == binary
    assert format_file_size(size) == decimal


def test_format_of_rates() -> None:
    assert format_rate(1008 * 10**9) == "1.01 TB/s"
    assert format_rate(936 * 10**9) == "936 GB/s"
    assert format_rate(68_300_000_000) == "68.3 GB/s"


@given(sizes)
def test_a_formatted_size_reads_back_within_rounding(size: int) -> None:
    assert parse_bytes(format_bytes(size)) == pytest.approx(size, rel=0.006)
    assert parse_bytes(format_file_size(size)) == pytest.approx(size, rel=0.006)
    assert parse_rate(format_rate(size)) == pytest.approx(size, rel=0.006)


@given(sizes)
def test_plain_bytes_are_exact(size: int) -> None:
    assert parse_bytes(str(size)) == parse_bytes(size) == size


@given(st.integers(min_value=-(2**49), max_value=2**49))
def test_formats_are_short(size: int) -> None:
    assert len(format_bytes(size)) <= 10


@given(st.text() | st.from_regex(r"[0-9.]{0,30} ?[kKMGTi]{0,2}B?(/s)?") | st.integers() | st.floats() | st.none())
def test_garbage_raises_only_the_typed_error(garbage: object) -> None:
    for parse in (parse_bytes, parse_rate):
        with contextlib.suppress(UsageError):
            assert 0 < parse(garbage) <= LARGEST  # type: ignore[arg-type]
