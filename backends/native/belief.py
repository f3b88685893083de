"""How often guesses of a class are right, as far as lately seen."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

FORGET = 0.97
"""What is left of older evidence at each new one."""
UNTRIED = 0.9
"""What is left of it at each draft that ended before: what the next place is worth is found out by going there."""
FADE = 0.985
"""What is left of all evidence after some rounds, so that what was not tried lately is tried again."""
CARRIED = 2.0
"""Guesses that what was seen of other answers counts as much as: an answer is soon known by its own."""
SINKING = 0.97
"""How often a guess is right, as a share of the one before it, as long as nobody tried."""


class Belief:
    """How often guesses of each class are right: lately, and before anything is known by `priors`."""

    def __init__(self, bounds: Sequence[float], priors: Sequence[float], weight: float = 1.5) -> None:
        self._bounds, self._priors, self._weight = bounds, priors, weight
        self._right = [0.0] * len(priors)
        self._offered = [0.0] * len(priors)

    def at(self, value: float) -> int:
        """The class of `value`."""
        return bisect_right(self._bounds, value)

    def of(self, value: float) -> float:
        at = self.at(value)
        return (self._right[at] + self._weight * self._priors[at]) / (self._offered[at] + self._weight)

    def chain(self) -> list[float]:
        """All classes, where little is known of one as the class before it, or somewhat less."""
        found, last = [], self._priors[0] / SINKING
        for right, offered in zip(self._right, self._offered, strict=True):
            last = (right + self._weight * SINKING * last) / (offered + self._weight)
            found.append(last)
        return found

    def note(self, value: float, right: float) -> None:
        at = self.at(value)
        self._right[at] = FORGET * self._right[at] + right
        self._offered[at] = FORGET * self._offered[at] + 1

    def untried(self, first: int) -> None:
        """A draft ended before the class `first`."""
        self._right[first:] = [UNTRIED * value for value in self._right[first:]]
        self._offered[first:] = [UNTRIED * value for value in self._offered[first:]]

    def begin(self) -> None:
        """Another answer."""
        shares = [min(1.0, CARRIED / offered) if offered else 1.0 for offered in self._offered]
        self._right = [value * share for value, share in zip(self._right, shares, strict=True)]
        self._offered = [value * share for value, share in zip(self._offered, shares, strict=True)]

    def fade(self) -> None:
        self._right = [FADE * value for value in self._right]
        self._offered = [FADE * value for value in self._offered]
