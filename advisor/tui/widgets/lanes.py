"""With and without the drafter, side by side: for each kind of prompt two bars on one scale, as they are measured."""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

from textual.content import Content
from textual.reactive import reactive

from advisor.pages.terminal import rate
from advisor.tui.widgets.drawn import LABEL, Drawn
from advisor.tui.widgets.shares import side_by_side

SIDE = 10
FIGURE = 12


class Lane(NamedTuple):
    """One kind, one way. Tokens per second, the newest last. `positions`: shares of guesses that were right."""

    rates: tuple[float, ...] = ()
    asking: bool = False
    positions: tuple[float, ...] = ()

    @property
    def usual(self) -> float:
        return median(self.rates) if self.rates else 0.0


class Kind(NamedTuple):
    """A kind of prompt, without the drafter and with it."""

    name: str
    plain: Lane
    drafted: Lane

    @property
    def gain(self) -> str:
        """`1.74 times`, once both were measured."""
        if not (self.plain.usual and self.drafted.usual):
            return ""
        return f"{self.drafted.usual / self.plain.usual:.2f} times"


class Lanes(Drawn):
    """Two bars for each kind."""

    HELP = """
Tokens per second of the same answers, **plain** and with the drafter (**drafted**), in turn, so that a busy moment hits
both. The bars are medians on one scale; `●` is what is being asked now. *Accepted*: how often the first guess of a
round was right, the second, and so on.
"""

    kinds: reactive[tuple[Kind, ...]] = reactive((), layout=True)

    def draw(self, width: int) -> Content:
        top = max((lane.usual for kind in self.kinds for lane in (kind.plain, kind.drafted)), default=0.0)
        lines: list[Content] = []
        for kind in self.kinds:
            lines += [
                line(kind.name.capitalize(), "plain", kind.plain, "", top=top, width=width),
                line("", "drafted", kind.drafted, kind.gain, top=top, width=width),
                accepted(kind.drafted, width),
            ]
            if self.screen.has_class("-tall"):
                lines.append(Content(""))
        return Content("\n").join(lines)


def line(name: str, side: str, lane: Lane, gain: str, *, top: float, width: int) -> Content:
    """`Code   drafted  ━━━━━━━━━━━━   78.2 tok/s  1.74 times`."""
    space = max(6, width - LABEL - SIDE - FIGURE - 13)
    full = round(space * lane.usual / top) if top else 0
    full = max(1, full) if lane.usual else 0
    colour = "$success" if side == "drafted" else "$primary"
    said = f"{rate(lane.usual)} tok/s" if lane.usual else ""
    return Content.assemble(
        (f"{name:<{LABEL}}", "bold"),
        ("●" if lane.asking else " ", "$accent"),
        (f" {side:<{SIDE - 2}}", "$foreground-muted"),
        ("━" * full, colour),
        (" " * (space - full)),
        f" {said:>{FIGURE}}",
        (f"  {gain}", "bold"),
    )


def accepted(lane: Lane, width: int) -> Content:
    """How often each guess of a round was right."""
    drawn = side_by_side(lane.positions, width - LABEL - SIDE)
    if not drawn:
        return Content("")
    return Content.assemble(" " * (LABEL + 1), (f"{'accepted':<{SIDE - 1}}", "$foreground-muted"), drawn)
