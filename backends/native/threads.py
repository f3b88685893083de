"""How many threads decode: all cores, or fewer while other programs keep them busy.

llama.cpp's threads wait for each other some thousand times per token. When one of them has to share its core, all wait
for it: on 2 cores with two busy neighbours, two threads decoded 20 tokens/s where one decoded 900. Such steps are
ragged, some fast and some many times slower, and that is what is looked for; steps on a quiet machine are even.

The price: from 512 cells on, llama.cpp adds a single row up in as many parts as there are threads, so that a near-tie
between two tokens may fall otherwise after a change.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW = 8
"""Steps that are looked at together."""
RAGGED = 2.0
"""Mean over fastest of the last steps from which on fewer threads are tried. The slowest is left out: it may
have been a pause of the machine."""
TRIAL = 4
"""Steps that must be known before a trial, and that it lasts; one that is far slower ends it at once."""
HOLD, LONGEST_HOLD = 0.5, 30.0
"""Seconds between trials: doubled while they do not help, so that they cost next to nothing."""


class Threads:
    """Chooses the number of threads from the time that each step took.

    Args:
        cores: the most that are used, and used at first.
        clock: seconds that only grow.
    """

    def __init__(self, cores: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = self.cores = cores
        self._clock = clock
        self._rows = self._others = 0
        """Of the steps that are looked at; steps of other sizes since a trial began."""
        self._times: deque[float] = deque(maxlen=WINDOW)
        self._before: tuple[int, float] | None = None
        """During a trial: the count and the mean seconds to beat."""
        self._hold, self._until = HOLD, 0.0

    def record(self, rows: int, seconds: float) -> int:
        """Note that a step of `rows` rows took `seconds`; returns the count for the next."""
        if rows != self._rows:
            self._others += 1
            if self._before and self._others < TRIAL:
                return self.count  # a step of another size says nothing in a trial
            self._resize(rows)
        self._times.append(seconds)
        if self._before:
            self._judge(*self._before, seconds)
        elif self._clock() >= self._until:
            self._consider()
        return self.count

    def _resize(self, rows: int) -> None:
        """Steps of another size from now on. A trial that they overtook is given up."""
        if self._before:
            self.count = self._before[0]
            self._before = None
        self._rows = rows
        self._times.clear()

    def _consider(self) -> None:
        """Begin a trial: of fewer threads where steps are ragged, else of more where there are more."""
        if len(self._times) < TRIAL:
            return
        even = (sum(self._times) - max(self._times)) / (len(self._times) - 1)
        if self.count > 1 and even > RAGGED * min(self._times):
            self._begin(self.count // 2)
        elif self.count < self.cores:
            self._begin(min(self.cores, 2 * self.count))

    @property
    def _mean(self) -> float:
        return sum(self._times) / len(self._times)

    def _begin(self, count: int) -> None:
        self._before = (self.count, self._mean)
        self.count = count
        self._others = 0
        self._times.clear()

    def _judge(self, count: int, mean: float, seconds: float) -> None:
        """End the trial once it is clear: back to `count` unless the new one is faster than `mean`."""
        if seconds <= RAGGED * mean and len(self._times) < TRIAL:
            return
        if self._mean < mean:
            self._hold = HOLD
        else:
            self.count = count
            self._hold = min(2 * self._hold, LONGEST_HOLD)
        self._before = None
        self._until = self._clock() + self._hold
        self._times.clear()
