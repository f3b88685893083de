"""Two curves in the terminal: braille for the pick, dots for what it is compared with.

Drawn here and not by a plotting library, because those bring colours of their own: here every colour is a token of the
theme, and the curves differ in their pattern where there is no colour.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

from textual.content import Content
from textual.geometry import Size
from textual.reactive import reactive
from textual.widget import Widget

from advisor.choice.curves import Curve

DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Of a braille character: column, then row."""
BRAILLE = 0x2800
MARGIN = 11
"""Columns of the figures on the left."""


class Line(NamedTuple):
    """A named curve."""

    name: str
    points: Curve


class Chart(Widget):
    """A title with what the lines are, the curves, and figures at the ends of both axes.

    Args:
        title: what is drawn, with its unit.
        x, y: how figures of the axes are written.
    """

    DEFAULT_CSS = "Chart { width: 1fr; height: 1fr; min-height: 6; }"
    HELP = "The pick (solid) against the file under the cursor, or the runner-up (dotted)."

    lines: reactive[tuple[Line, ...]] = reactive(())

    def __init__(self, title: str, x: Callable[[float], str], y: Callable[[float], str], *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.title = title
        self.x, self.y = x, y

    def render(self) -> Content:
        return draw(self, self.content_size)


def draw(chart: Chart, size: Size) -> Content:
    """The whole chart in so many cells."""
    points = [point for line in chart.lines for point in line.points]
    heading = Content.styled(chart.title, "bold").truncate(size.width, ellipsis=True)
    if not points or size.width < MARGIN + 8 or size.height < 6:  # noqa: PLR2004 - nothing to be seen in less
        return heading
    width, height = size.width - MARGIN, size.height - 2 - len(chart.lines)
    right = max(x for x, _ in points) or 1.0
    top = 1.05 * max(y for _, y in points) or 1.0
    grids = [
        plotted(line.points, right, top, width, height, dotted=index > 0) for index, line in enumerate(chart.lines)
    ]
    figures = {0: chart.y(top), height - 1: "0"}
    body = [Content.assemble(margin(figures.get(row, "")), merged(grids, row)) for row in range(height)]
    first, last = "0", chart.x(right)
    axis = f"{' ' * (MARGIN - 1)}{first}{last:>{max(1, width - len(first) + 1)}}"
    return Content("\n").join(
        [heading, *legend(chart, size.width), *body, Content.styled(axis[: size.width], "$foreground-muted")]
    )


def margin(figure: str) -> Content:
    """What is left of a row."""
    return Content.assemble((f"{figure:>{MARGIN - 2}} ", "$foreground-muted"), ("│", "$foreground-disabled"))


def legend(chart: Chart, width: int) -> list[Content]:
    """Which line is which."""
    keys = (("━━", "$success"), ("╍╍", "$accent"))
    entries = [Content.assemble(key, f" {line.name}") for key, line in zip(keys, chart.lines, strict=False)]
    return [entry.truncate(width, ellipsis=True) for entry in entries]


def plotted(points: Curve, right: float, top: float, width: int, height: int, *, dotted: bool) -> list[list[int]]:
    """The dots of each cell of a curve, drawn column by column between its points."""
    cells = [[0] * width for _ in range(height)]
    columns, rows = 2 * width, 4 * height
    before: int | None = None
    for column in range(columns):
        value = between(points, right * column / max(1, columns - 1))
        if value is None:
            before = None
            continue
        row = min(rows - 1, max(0, round((1 - value / top) * (rows - 1))))
        span = range(min(row, before), max(row, before) + 1) if before is not None and not dotted else (row,)
        if not dotted or column % 4 < 2:  # noqa: PLR2004 - two on, two off
            for each in span:
                cells[each // 4][column // 2] |= DOTS[column % 2][each % 4]
        before = row
    return cells


def between(points: Curve, x: float) -> float | None:
    """The curve at x, None beside it."""
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 <= x <= x1:
            return y0 + (y1 - y0) * ((x - x0) / (x1 - x0) if x1 > x0 else 0)
    return None


def merged(grids: list[list[list[int]]], row: int) -> Content:
    """One row of both curves; where they meet, the dots of both in the colour of the first."""
    parts = []
    for style, cells in itertools.groupby(
        zip(grids[0][row], grids[-1][row], strict=True), key=lambda cell: cell_style(*cell)
    ):
        parts.append(("".join(chr(BRAILLE + (first | second)) if style else " " for first, second in cells), style))
    return Content.assemble(*parts)


def cell_style(first: int, second: int) -> str:
    return "$success" if first else "$accent" if second else ""
