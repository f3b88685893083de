"""Speed with and without the drafter: the figure, and the range in which four of five measurements lie."""

from __future__ import annotations

from typing import NamedTuple

from textual.content import Content
from textual.reactive import reactive

from advisor.pages.terminal import rate
from advisor.tui.widgets.drawn import LABEL, Drawn

FIGURE = 11
RANGE = 13


class Pace(NamedTuple):
    """Tokens per second."""

    name: str
    low: float
    usual: float
    high: float


class SpeedBar(Drawn):
    """One line for each way to decode, on one scale."""

    HELP = """
Tokens per second of an answer, with the **drafter** and without it. The dot is the estimate, the line the range in
which four of five measurements on such machines lie. Both are stated at a depth: the fuller the context, the slower.
"""

    paces: reactive[tuple[Pace, ...]] = reactive((), layout=True)

    def draw(self, width: int) -> Content:
        top = max((pace.high for pace in self.paces), default=1.0)
        return Content("\n").join([line(pace, top, width) for pace in self.paces])


def line(pace: Pace, top: float, width: int) -> Content:
    """A label, the figure, the range drawn and in words."""
    words = f"{rate(pace.low)} to {rate(pace.high)}"
    space = max(10, width - LABEL - FIGURE - RANGE - 2)
    return Content.assemble(
        (f"{pace.name:<{LABEL}}", "$foreground-muted"),
        (f"{rate(pace.usual) + ' tok/s':<{FIGURE}}", "bold"),
        " ",
        drawn(pace, top, space),
        f" {words:>{RANGE}}",
    )


def drawn(pace: Pace, top: float, width: int) -> Content:
    """`   ├────●──────┤  ` on a scale from 0 to `top`."""
    low, usual, high = (min(width - 1, round(value / top * (width - 1))) for value in (pace.low, pace.usual, pace.high))
    cells = [" "] * width
    cells[low : high + 1] = "─" * (high + 1 - low)
    cells[low], cells[high], cells[usual] = "├", "┤", "●"
    return Content.assemble(
        "".join(cells[:usual]), (cells[usual], "$success"), "".join(cells[usual + 1 :])
    ).stylize_before("$foreground-muted")
