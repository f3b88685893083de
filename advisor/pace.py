"""What a processor's steps were timed at here: by `advisor calibrate`, with layers as wide as a real model's.

The formula knows a processor by its cores and its memory; a virtual machine, a laptop on battery or another build of
the runtime is known by its pace. How dear several rows at once are, which a drafter's gain rests on, is known of few
processors at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, log
from statistics import median
from typing import TYPE_CHECKING

from advisor.machine import Record

if TYPE_CHECKING:
    from advisor.measurements import Measurement

RUNTIME, WIDE, LAYERS = "native", "two layers of 12b", 2
"""What is timed, and which of its models is like a real one."""
MOST_OFF = log(3)
"""Beyond, something else is wrong than the formula."""
DISTURBED = 1.3
"""Where steps usually took so many times as long as the quickest, something else was at work: nothing is believed."""
PROCESSOR = "CPU"
"""The build of the runtime that is timed: others compute elsewhere."""
LEAST_SHARE = 0.5
"""Of a timed step that reading weights is taken for at least, whatever its fixed time is said to be."""


class Pace(Record, frozen=True, kw_only=True):
    """A step's seconds with one row, through so many layers and bytes of weights, all of them repacked; `rows`: what 1,
    2, ... rows cost, in such steps. `trust`: how much of it is believed, as a share of logarithms: less of another
    runtime."""

    seconds: float
    bytes: int
    layers: int
    rows: tuple[float, ...]
    date: str
    trust: float = 1.0

    def factor(self, layer_s: float, weights_per_s: float) -> float:
        """How many times as fast weights go by as the formula says.

        Args:
            layer_s: fixed time of a layer, by the formula.
            weights_per_s: bytes, by the formula.
        """
        reading = max(self.seconds - self.layers * layer_s, LEAST_SHARE * self.seconds)
        off = log(self.bytes / reading / weights_per_s)
        return exp(self.trust * max(-MOST_OFF, min(MOST_OFF, off)))

    def cost(self, rows: int, assumed: float) -> float:
        """Of so many rows, in plain steps; beyond what was timed, in proportion.

        Args:
            assumed: what is said where nothing was timed.
        """
        last = len(self.rows)
        timed = self.rows[rows - 1] if rows <= last else self.rows[-1] * rows / last
        return float(timed**self.trust * assumed ** (1 - self.trust))


def pace_of(calibrations: Iterable[Measurement]) -> Pace | None:
    """What the last calibration says, the oldest first; None where there is none, or it is not whole, or the machine
    was at work on something else."""
    found = [one for one in calibrations if one.model == WIDE and one.backend == RUNTIME]
    last = {one.draft_tokens + 1: one for one in found if one.date == found[-1].date}
    seconds = [rows / last[rows].tokens_per_s for rows in sorted(last) if last[rows].tokens_per_s > 0]
    if not seconds or sorted(last) != list(range(1, len(seconds) + 1)):
        return None
    disturbed = median([one.tokens_per_s / one.low for one in last.values() if one.low] or [1.0])
    if disturbed > DISTURBED or PROCESSOR not in last[1].build.split():
        return None
    return Pace(
        seconds=seconds[0],
        bytes=last[1].target.size,
        layers=LAYERS,
        rows=tuple(one / seconds[0] for one in seconds),
        date=last[1].date,
    )
