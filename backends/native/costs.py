"""What decoding so many rows costs here: any curve, because kernels work on groups of rows.

llama.cpp builds its graph anew when a decode has another number of rows than the one before. For a large model that is
nothing, for a small one a third of a token: the price of a change is measured too, and lengths change where it pays.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right

MIXING = 0.15
"""How fast a value follows what is measured."""
STEP = 0.3
"""Most that one measurement differs, as a logarithm: a pause of the machine is no cost."""
NOISE, COMMON = 0.01, 0.002
"""Variances, of logarithms: of one measurement, and of what may have changed all costs alike since the one before. What
changes costs while running is most often a neighbour, which slows all of them."""
DOUBT, STALENESS = 0.01, 1e-5
"""Most of a row count's own variance, and what each measurement adds to all of them."""
LAST = 3
"""First measurements of a row count, of which the least counts."""
WORTH_PADDING = 0.97
"""Rows are padded where the larger count costs at most this share."""


def change(value: float, seconds: float) -> float:
    """By how much what was just measured differs from `value`, as a logarithm, within reason."""
    return max(-STEP, min(STEP, math.log(max(seconds, 1e-9) / value)))


def follow(value: float, seconds: float) -> float:
    """`value`, a little nearer to what was just measured."""
    return value * math.exp(MIXING * change(value, seconds))


class Costs:
    """Seconds of a round by the number of rows that are decoded, in a range up to `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.seconds = [1.0 + 0.25 * rows for rows in range(most + 1)]
        """By rows, where the round before had as many; between those measured a line, beyond them the last slope."""
        self.seen = [0] * (most + 1)
        self.change = 0.0
        """Seconds more where the round before had another number."""
        self.rows = 0
        """Of the round before."""
        self.home = 0
        """The rows that pay best in the long run; 0: none said."""
        self._doubt = [DOUBT / LAST] * (most + 1)
        """By rows: the variance of what this count costs beside the others."""
        self._changes: list[float] = []

    def of(self, rows: int) -> float:
        """Seconds of a round of `rows` rows now."""
        return self.seconds[rows] + (self.change if rows != self.rows else 0.0)

    def note(self, rows: int, seconds: float) -> None:
        """A round of `rows` rows took so long; the change of the number, where it was one, is left out already.

        What differs from what was believed is divided, as a Kalman filter would: a count not seen lately was believed
        wrongly, one in steady use shows that all have changed.
        """
        self.seen[rows] += 1
        if self.seen[rows] <= LAST:
            self.seconds[rows] = min(seconds, self.seconds[rows]) if self.seen[rows] > 1 else seconds
            self._fill()
            return
        by, doubt = change(self.seconds[rows], seconds), self._doubt
        total = doubt[rows] + COMMON + NOISE
        own, others = math.exp(by * doubt[rows] / total), math.exp(by * COMMON / total)
        doubt[rows] *= 1 - doubt[rows] / total
        self._doubt = [min(DOUBT, variance + STALENESS) for variance in doubt]
        self.seconds = [value * others for value in self.seconds]
        self.seconds[rows] *= own
        self.change *= others

    def note_change(self, seconds: float) -> None:
        """A round took so much longer than the next one, of the same rows."""
        self._changes.append(seconds)
        self.change = max(0.0, statistics.median(self._changes))

    def _fill(self) -> None:
        """Guess the costs of counts that were not measured."""
        known = [rows for rows in range(1, self.most + 1) if self.seen[rows]]
        for rows in range(1, self.most + 1):
            if self.seen[rows]:
                continue
            # The two nearest that enclose it, or the two last, or the two first.
            last = min(max(bisect_right(known, rows), 1), len(known) - 1)
            low, high = known[last - 1], known[last]
            slope = (self.seconds[high] - self.seconds[low]) / (high - low) if low < high else 0.25 * self.seconds[low]
            self.seconds[rows] = max(0.1 * self.seconds[low], self.seconds[low] + slope * (rows - low))

    def padded(self, rows: int, most: int) -> int:
        """The cheapest number of rows that holds `rows`; not more than `most`, and only counts that were measured."""
        best, least = rows, self.of(rows) * WORTH_PADDING
        for more in range(rows + 1, min(most, self.most) + 1):
            if self.seconds[more] < least and self.seen[more] and self.of(more) < least:
                best, least = more, self.of(more)
        return best

    def table(self) -> list[float]:
        """Seconds by the number of guesses (one row less), padding used."""
        found = [seconds + self.change for seconds in self.seconds[1:]]
        for free in {self.rows, self.home} - {0}:
            found[free - 1] -= self.change
        for guesses in range(self.most - 2, 0, -1):
            if found[guesses + 1] < found[guesses] * WORTH_PADDING:
                found[guesses] = found[guesses + 1]
        return found
