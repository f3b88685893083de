"""Who says how long a draft becomes, asked while it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from backends.native.depth import Depth

RELIABLE = 0.97
"""Share of right guesses from which on nobody asks the drafter how sure it is: a sixth of its step for a small one."""


class Pace(Protocol):
    """Asked while a draft is made."""

    @property
    def unsure(self) -> bool:
        """Whether it wants to know how sure the drafter is; to find out costs a moment."""
        ...

    def goes_on(self) -> bool:
        """Whether one more step of the drafter is worth its time."""
        ...

    def takes(self, confidence: float) -> bool:
        """Whether the next guess will be verified; if not, the draft ends before it."""
        ...


class Fixed:
    """Always so many."""

    unsure = False

    def __init__(self, count: int) -> None:
        self.left = count

    def goes_on(self) -> bool:
        return self.left > 0

    def takes(self, confidence: float) -> bool:  # noqa: ARG002 - part of the protocol
        self.left -= 1
        return True


class Adaptive:
    """Draws a draft out while that pays."""

    def __init__(self, depth: Depth, most: int) -> None:
        self._depth, self._most = depth, most
        self._planned, _ = depth.ahead(0, most, 1.0)
        self._expected = self._reached = 1.0
        """How likely all guesses so far are right, as planned and with what the drafter says."""
        self._promised = 1.0
        """By the guesses after those taken."""
        self.taken: list[float] = []
        """How sure the drafter was of each guess."""
        self.probing = False
        """The first guess does not promise enough to be verified. It is compared: what is believed may be wrong."""
        self.refused: float | None = None
        self.steps = 0

    @property
    def unsure(self) -> bool:
        """Whether to ask how sure the drafter is: not where its guesses are right nearly always."""
        return self._depth.places[len(self.taken)] < RELIABLE

    def goes_on(self) -> bool:
        guesses = len(self.taken)
        if guesses >= self._most or self.probing or self.refused is not None:
            return False
        # The first step of a round is worth it whenever drafting is: that was judged by rounds.
        if self._promised <= 0:
            return False
        self.steps += 1
        return True

    def takes(self, confidence: float) -> bool:
        depth, guesses = self._depth, len(self.taken)
        self._expected *= depth.places[guesses]
        reached = self._reached * depth.by_confidence.of(confidence)
        # As planned, or better: then what was planned still pays.
        if guesses + 1 >= self._planned or reached < self._expected:
            more = depth.table[guesses + 1] - depth.table[guesses]
            _, self._promised = depth.ahead(guesses + 1, self._most, reached)
            if reached - depth.rate * more + self._promised <= 0:
                self.probing = not guesses
                if guesses:
                    self.refused = confidence
                    return False
        self._reached = reached
        self.taken.append(confidence)
        return True
