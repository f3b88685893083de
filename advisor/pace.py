"""What a processor's steps were timed at here: by `advisor calibrate`, with layers as wide as a real model's.

The formula knows a processor by its cores and its memory; a virtual machine, a laptop on battery or another build of
the runtime is known by its pace. How dear several rows at once are, which a drafter's gain rests on, is known of few
processors at all.
"""

from __future__ import annotations

from math import exp, log

from advisor.machine import Record

MOST_OFF = log(3)
"""Beyond, something else is wrong than the formula."""
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
