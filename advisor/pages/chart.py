"""A bar chart with intervals as SVG: written here, because a plotting library would be the largest dependency."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from html import escape
from math import ceil, log10
from pathlib import Path
from typing import Any

from advisor.errors import RuntimeFailed, UsageError
from advisor.machine import Record

WIDTH, ROW, LABEL, RIGHT, TOP, BOTTOM = 760, 20, 184, 150, 58, 34
GAP, EDGE, VALUE = 10, 14, 40
"""Between groups; at the left and the right; of the values' column, right of the bars."""
WIDEST = 1.5
"""Times the largest value: intervals beyond are cut off."""
LONG_TITLE, LONG_LINE = 74, 112
"""Characters beyond which a title becomes smaller, and a line is cut."""
INK, FAINT, BAR, BEST, LINE = "#1b1f24", "#6b7280", "#9db4d0", "#2f6fb5", "#d4d8de"
TICKS = 5


class Bar(Record, frozen=True, kw_only=True):
    """A value with its interval; `strong`: the one to look at."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    strong: bool = False


class Group(Record, frozen=True, kw_only=True):
    """Bars that belong together."""

    label: str
    bars: tuple[Bar, ...]


def svg(title: str, subtitle: str, groups: Sequence[Group], *, unit: str, mark: float | None = None) -> str:
    """The chart. `mark`: a value with a line of its own, such as 1.0 for "as fast as plain decoding"."""
    bars = [bar for group in groups for bar in group.bars]
    values = max((bar.value for bar in bars), default=1.0)
    most = min(max((bar.high or bar.value for bar in bars), default=1.0), WIDEST * values)
    step = nice(max(most, mark or 0.0) / TICKS)
    end = step * ceil(max(most, mark or 0.0, step) / step)
    scale = (WIDTH - LABEL - RIGHT) / end
    rows = sum(len(group.bars) for group in groups)
    height = TOP + (rows + len(groups)) * ROW + len(groups) * GAP + BOTTOM
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
            f'font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="{escape(title)}">'
        ),
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(EDGE, 24, cut(title), size=16 if len(title) <= LONG_TITLE else 12, weight="bold"),
        text(EDGE, 43, cut(subtitle), colour=FAINT),
    ]
    ticks = [step * number for number in range(round(end / step) + 1)]
    parts += [axis(LABEL + tick * scale, height - BOTTOM, f"{tick:g}") for tick in ticks]
    if mark is not None:
        x = LABEL + mark * scale
        parts.append(f'<line x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{height - BOTTOM}" stroke="{INK}"/>')
    y = float(TOP)
    for group in groups:
        parts.append(text(EDGE, y + ROW * 0.7, group.label, weight="bold"))
        y += ROW
        for bar in group.bars:
            parts += drawn(bar, y, scale)
            y += ROW
        y += GAP
    parts += [text(WIDTH - RIGHT, height - 8, unit, colour=FAINT, anchor="end"), "</svg>"]
    return "\n".join(parts) + "\n"


def drawn(bar: Bar, y: float, scale: float) -> list[str]:
    """One bar with its label, interval and value."""
    middle, width = y + ROW / 2 - 2, bar.value * scale
    found = [
        text(LABEL - 8, y + ROW * 0.7, bar.label, anchor="end", colour=INK if bar.strong else FAINT),
        (
            f'<rect x="{LABEL}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{ROW - 4}" '
            f'fill="{BEST if bar.strong else BAR}"/>'
        ),
    ]
    if bar.low is not None and bar.high is not None:
        low, high = (LABEL + min(value * scale, WIDTH - LABEL - RIGHT) for value in (bar.low, bar.high))
        found.append(
            f'<path d="M{low:.1f} {middle:.1f}H{high:.1f}M{low:.1f} {middle - 4:.1f}v8M{high:.1f} {middle - 4:.1f}v8" '
            f'stroke="{INK}" fill="none"/>'
        )
    weight, level = "bold" if bar.strong else "normal", y + ROW * 0.7
    value = f"{bar.value:.2f}" if bar.value >= 0.1 else f"{bar.value:.2g}"  # noqa: PLR2004 - two digits either way
    found.append(text(WIDTH - RIGHT + VALUE, level, value, anchor="end", weight=weight))
    return [*found, text(WIDTH - EDGE, level, bar.note, anchor="end", colour=FAINT)]


def cut(line: str) -> str:
    return line if len(line) <= LONG_LINE else f"{line[: LONG_LINE - 1]}…"


def axis(x: float, bottom: float, label: str) -> str:
    return f'<line x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{bottom}" stroke="{LINE}"/>' + text(
        x, bottom + 14, label, anchor="middle", colour=FAINT
    )


def text(
    x: float, y: float, words: str, *, size: int = 12, weight: str = "normal", anchor: str = "start", colour: str = INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(words)}</text>'
    )


def nice(step: float) -> float:
    """The next of 1, 2, 2.5, 5 and their tenfolds."""
    power = 10.0 ** ceil(log10(max(step, 1e-9)) - 1)
    return float(next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= step * 0.999999))


def check(path: Path) -> None:
    """Raise what writing there would raise, before anything is measured.

    Raises:
        UsageError: neither SVG nor PNG, or no folder.
        RuntimeFailed: PNG, without what makes one.
    """
    if path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"--plot {path}: a file ending in .svg or .png is expected")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {path.parent}")
    if path.suffix.lower() == ".png":
        _png()


def write(path: Path, picture: str) -> None:
    """Write an SVG, or where the name says so a PNG of it.

    Raises:
        UsageError, RuntimeFailed: as `check`, and where the file cannot be written.
    """
    check(path)
    try:
        if path.suffix.lower() == ".png":
            _png().svg2png(bytestring=picture.encode(), write_to=str(path), scale=2)
        else:
            path.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise RuntimeFailed(f"{path} cannot be written: {error.strerror or error}") from None


def _png() -> Any:
    instead = "or write an SVG, which browsers show"
    try:
        return importlib.import_module("cairosvg")
    except ImportError:
        raise RuntimeFailed(
            "a PNG needs the package cairosvg", hint=instead, command=f'"{sys.executable}" -m pip install cairosvg'
        ) from None
    except OSError:
        raise RuntimeFailed(
            "cairosvg is here, but not the Cairo library that it draws with",
            hint=f"`apt install libcairo2`, `brew install cairo`, {instead}",
        ) from None
