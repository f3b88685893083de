"""Which draft length is fastest, and whether the drafter pays at all: decided from noisy times, with few of them.

A cell is one kind of work at one depth, a block one visit to it: every length that is still in question answers the
same prompt, one right after the other, so that whatever drifts hits all of them and cancels. Logarithms of seconds are
explained by length and block (least squares); what is left is noise, pooled over all cells, and cut where it is a pause
of the machine.

A length is asked again as long as it might be faster than the leader by more than `TOLERANCE`, for all work together,
or, a few times, for this kind. The drafter is kept only where it is faster beyond `KEEP` confidence, and dropped where
a gain of `WORTH` is ruled out: a wrong "drop" costs a few percent, a wrong "keep" memory too. Two ways that are alike
to within what no repetition tells apart are not asked for ever: either will do, and then it is without the drafter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import exp, log
from statistics import NormalDist
from typing import Literal

import numpy as np

from advisor.machine import Record
from advisor.trials.fit import UNKNOWN_NOISE, Array, Fit, fitted

PLAIN = 0
TOLERANCE = 0.02
"""Lengths nearer to each other than this, as a logarithm of time, are alike."""
CELL_TOLERANCE = 0.05
"""The same for one kind of work, which is asked a ninth as often."""
WORTH = 0.03
"""A gain, as a logarithm, that is worth finding, and a drafter's memory."""
CELL_VISITS = 8
"""So often a cell is visited for its own sake, once all work together is clear: what a kind of work's own answer
could still change is not worth the minutes."""
DROP = 0.995
"""Confidence, of one side, with which a length is left out."""
KEEP = 0.9995
"""Confidence, of one side, with which the drafter is kept: the fastest of eight lengths, looked at several times, still
beats plain decoding by chance less than once in a hundred."""
SHOWN = 0.982
"""Confidence, of either side, of the intervals shown: a little more than the 19 of 20 that they promise, because pauses
of the machine make errors more uneven than noise does."""
FLOOR = 0.004
"""What no repetition averages out, as a logarithm: where a process's memory happens to lie."""
NEAR_FLOOR = 1.25
"""An error of so many times what repetition cannot undercut is as small as it gets."""
RESTART = 0.012
"""Standard deviation of what a start brings with it, where each length is a process of its own."""
FEW = 6
"""Degrees of freedom below which the noise within cells is hardly known."""
PAUSE = 0.25
"""What a single time may be wrong by beyond the noise, as a standard deviation."""

Verdict = Literal["keep", "drop", "unclear"]


class Standing(Record, frozen=True, kw_only=True):
    """One length against plain decoding. `gain`: how many times as fast, `low` and `high` hold in 19 of 20 cases; `n`:
    how often it was asked."""

    length: int
    gain: float
    low: float
    high: float
    n: int


class Decision(Record, frozen=True, kw_only=True):
    """For one kind of work, or all. `length`: the one to use, 0 for none. `standings`: of all lengths. `alike`: lengths
    that may be as fast. `verdict`: `unclear` where nothing is proven, and the drafter is not used then."""

    verdict: Verdict
    length: int
    gain: float
    low: float
    high: float
    alike: tuple[int, ...]
    standings: tuple[Standing, ...]
    settled: bool


class Race:
    """Lengths against each other.

    Args:
        lengths: that may be asked; plain decoding (0) is one of them.
        cells: names of what is asked.
        restarts: visits in a row to one process, where each length is a process of its own; 0 where all share one.
    """

    def __init__(self, lengths: Sequence[int], cells: Sequence[str], *, restarts: int = 0) -> None:
        if PLAIN not in lengths:
            raise ValueError("plain decoding must be one of the lengths")
        self.lengths, self.cells = tuple(lengths), tuple(cells)
        self._start = RESTART * restarts**0.5
        self._everywhere: frozenset[int] = frozenset()
        self._blocks: list[list[Array]] = [[] for _ in cells]
        self._counts = np.zeros((len(cells), len(lengths)))
        shape = (len(cells), len(lengths))
        spread = np.zeros((*shape, len(lengths)))
        self._fit = Fit(np.zeros(shape), spread, UNKNOWN_NOISE, 0.0, np.zeros(shape, dtype=bool), UNKNOWN_NOISE)

    @property
    def noise(self) -> float:
        """Standard deviation of a time, as a logarithm: .02 is 2 %."""
        return self._fit.noise

    def note(self, cell: str, seconds: Mapping[int, float]) -> None:
        """A block: what each length took. Lengths that failed are left out."""
        row = np.array([log(max(seconds[one], 1e-9)) if one in seconds else np.nan for one in self.lengths])
        self._blocks[self.cells.index(cell)].append(row)

    def look(self) -> None:
        """Reckon with all that was noted."""
        deepest = max(map(len, self._blocks), default=0)
        if not deepest:
            return
        times = np.full((len(self.cells), deepest, len(self.lengths)), np.nan)
        for place, blocks in enumerate(self._blocks):
            if blocks:
                times[place, : len(blocks)] = blocks
        there = ~np.isnan(times)
        self._counts = there.sum(axis=1).astype(np.float64)
        self._fit = fitted(times, there)
        if self._fit.freedom < FEW:
            # One visit to each cell says nothing of noise; how far cells differ in what lengths are worth bounds it.
            wide = times.reshape(1, -1, len(self.lengths))
            across = fitted(wide, ~np.isnan(wide))
            self._fit = self._fit._replace(noise=across.noise, raw=across.raw, freedom=across.freedom)
        self._everywhere = self._in_question(range(len(self.cells)), TOLERANCE)

    # ---- What is asked next

    def wanted(self, cell: str) -> tuple[int, ...]:
        """The lengths that are worth asking there once more; none where all is clear."""
        place = self.cells.index(cell)
        visited = 0 < len(self._blocks[place]) < CELL_VISITS
        here = self._in_question([place], CELL_TOLERANCE) if visited else frozenset[int]()
        asked = here | self._everywhere
        if not asked and not self._counts[place].any():
            return self.lengths
        return tuple(one for one in self.lengths if one in asked)

    @property
    def settled(self) -> bool:
        """Whether asking on would change nothing."""
        return not any(self.wanted(cell) for cell in self.cells)

    def _in_question(self, places: Iterable[int], tolerance: float) -> frozenset[int]:
        """Those that might be faster than the leader by more than the tolerance, with what they are compared to."""
        cells = list(places)
        measured = self._measured(cells)
        if len(measured) <= 1:
            return frozenset()
        differences, errors = self._against(PLAIN, cells)
        leader = min(measured, key=differences.__getitem__)
        ahead, doubt = self._against(leader, cells)
        z = self._z(DROP)
        asked = {one for one in measured if one != leader and ahead[one] - z * doubt[one] < -tolerance}
        if asked:
            asked.add(leader)
        best = min((one for one in measured if one != PLAIN), key=differences.__getitem__)
        if self._verdict(differences[best], errors[best], tolerance) == "unclear":
            asked |= {best, PLAIN}
        return frozenset(asked)

    def _verdict(self, difference: float, error: float, tolerance: float) -> Verdict:
        """What is proven of the best length against plain decoding."""
        if difference + self._z(KEEP) * error < 0:
            return "keep"
        ruled_out = difference - self._z(DROP) * error > -max(tolerance, WORTH)
        return "drop" if ruled_out or error < NEAR_FLOOR * 2**0.5 * FLOOR else "unclear"

    # ---- What came of it

    def decide(self, cell: str | None = None) -> Decision:
        """For one cell, or for all together.

        Raises:
            ValueError: plain decoding or the drafter was never asked there.
        """
        places = range(len(self.cells)) if cell is None else [self.cells.index(cell)]
        tolerance = TOLERANCE if cell is None else CELL_TOLERANCE
        cells = list(places)
        measured = self._measured(cells)
        drafted = [one for one in measured if one != PLAIN]
        if PLAIN not in measured or not drafted:
            raise ValueError("nothing to compare")
        differences, errors = self._against(PLAIN, cells)
        wide = {one: self._z(SHOWN) * errors[one] for one in measured}
        standings = tuple(
            Standing(
                length=one,
                gain=exp(-differences[one]),
                low=exp(-differences[one] - wide[one]),
                high=exp(-differences[one] + wide[one]),
                n=int(self._counts[cells, self.lengths.index(one)].sum()),
            )
            for one in measured
        )
        best = min(drafted, key=differences.__getitem__)
        verdict = self._verdict(differences[best], errors[best], tolerance)
        length = best if verdict == "keep" else PLAIN
        ahead, doubt = self._against(length, cells)
        chosen = next(one for one in standings if one.length == length)
        return Decision(
            verdict=verdict,
            length=length,
            gain=chosen.gain,
            low=chosen.low,
            high=chosen.high,
            alike=tuple(one for one in measured if abs(ahead[one]) <= max(TOLERANCE, self._z(DROP) * doubt[one])),
            standings=standings,
            settled=not self._in_question(cells, tolerance),
        )

    def _measured(self, places: Iterable[int]) -> list[int]:
        """Lengths that were asked in any of these cells."""
        asked = self._counts[list(places)].sum(axis=0)
        return [one for one, count in zip(self.lengths, asked.tolist(), strict=True) if count]

    def _against(self, other: int, places: Iterable[int]) -> tuple[dict[int, float], dict[int, float]]:
        """By length how much longer it takes than `other`, as a logarithm, and the standard error; means over the cells
        in which both were asked."""
        cells, b = list(places), self.lengths.index(other)
        counts = self._counts[cells]
        both = (counts > 0) & (counts[:, [b]] > 0)
        number = np.maximum(both.sum(axis=0), 1)
        effects, spread = self._fit.effects[cells], self._fit.spread[cells]
        own = np.einsum("kaa->ka", spread)
        variances = own + own[:, [b]] - 2 * spread[:, :, b]
        differences = (both * (effects - effects[:, [b]])).sum(axis=0) / number
        variance = (both * variances).sum(axis=0) / number**2
        suspects = self._fit.suspects[cells]
        doubtful = (both & (suspects | suspects[:, [b]])).any(axis=0)
        noise = np.where(doubtful, self._fit.raw, self._fit.noise)
        least = np.maximum(np.minimum((both * counts).sum(axis=0), (both * counts[:, [b]]).sum(axis=0)), 1)
        pause = np.where(least < 2 * number, PAUSE**2 / least, 0.0)
        starts = 2 * self._start**2 * number / least
        errors = np.sqrt(noise**2 * variance + 2 * FLOOR**2 + starts + pause)
        errors = np.where(both.any(axis=0), errors, np.inf)
        errors[b] = 0.0
        return dict(zip(self.lengths, differences.tolist(), strict=True)), dict(
            zip(self.lengths, errors.tolist(), strict=True)
        )

    def _z(self, confidence: float) -> float:
        """Standard errors of that confidence; more where little is known of the noise (first terms of t)."""
        z = NormalDist().inv_cdf(confidence)
        df = max(self._fit.freedom, 1.0)
        return z + (z**3 + z) / (4 * df) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * df * df)
