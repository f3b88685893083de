"""How many tokens to draft next: adapts to what decoding costs here and to how often guesses are right just now.

Three things are measured while running: the cost of decoding each number of rows (see `costs`), the cost of a drafter's
step, and how often a guess is right, by its place in the draft and by how sure the drafter was. A round yields tokens
and takes time; what is gained per round is

    tokens - rate * seconds,        rate = tokens per second of the last rounds,

and the draft is as long as that is expected to grow (a renewal process is fastest so). Whether drafting is worth it at
all is judged by rounds against plain decoding; where it is not, nothing is drafted but for a probe now and then: one
guess, which is compared with the next token of plain decoding and costs a step of the drafter, not a row more.

Exactness when sampling: whether a guess is verified is decided by the distribution that it will be drawn from, never by
the token drawn, and no drawn guess is dropped. Otherwise the guesses that remain would have another distribution.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Protocol

from backends.native.costs import LAST, Costs, follow

AUTO = -1
"""A draft length that says: adapt."""
FORGET = 0.97
"""What is left of older evidence at each new one."""
FADE, FADING = 0.985, 16
"""What is left of evidence after so many rounds, so that what was not tried lately is tried again."""
PLAIN = 8
"""Of so many plain rounds one is measured: there are many, and they are short."""
AHEAD = 8
"""Guesses that a draft looks ahead: twice the rows that kernels take together."""
CONFIDENCES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 0.995)
"""Bounds of the classes of a drafter's confidence."""
RELIABLE = 0.97
"""Share of right guesses from which on nobody asks the drafter how sure it is: a sixth of its step for a small one."""
MATCHES = (3, 4, 5, 8, 16)
"""Bounds of the classes of a repeated passage: tokens that it has in common so far."""
MATCH_PRIORS = (0.4, 0.65, 0.7, 0.8, 0.9, 0.95)
WEIGHT = 0.1
"""Of one round, in what drafting is worth."""
LEAST_WORTH, MOST_WORTH = -0.25, 1.0
"""Bounds of what is remembered of it: a task that changes must show soon."""
SHORTEST_REST, LONGEST_REST = 4, 256
"""Rounds without a draft between two probes: doubled while they do not help."""
PROBING = 0.01
"""Most of the time that probes of one answer after another may take where they never help."""


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


class Belief:
    """How often guesses of each class are right: lately, and before anything is known by `priors`."""

    def __init__(self, bounds: Sequence[float], priors: Sequence[float], weight: float = 1.5) -> None:
        self._bounds, self._priors, self._weight = bounds, priors, weight
        self._right = [0.0] * len(priors)
        self._offered = [0.0] * len(priors)

    def of(self, value: float) -> float:
        at = bisect_right(self._bounds, value)
        return (self._right[at] + self._weight * self._priors[at]) / (self._offered[at] + self._weight)

    def chain(self) -> list[float]:
        """All classes, where little is known of one as the class before it."""
        found, last = [], self._priors[0]
        for right, offered in zip(self._right, self._offered, strict=True):
            last = (right + self._weight * last) / (offered + self._weight)
            found.append(last)
        return found

    def note(self, value: float, right: float) -> None:
        at = bisect_right(self._bounds, value)
        self._right[at] = FORGET * self._right[at] + right
        self._offered[at] = FORGET * self._offered[at] + 1

    def fade(self) -> None:
        self._right = [FADE * value for value in self._right]
        self._offered = [FADE * value for value in self._offered]


class Depth:
    """Chooses draft lengths for one engine, over all its answers.

    Args:
        most: guesses that can be verified in one round.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.costs = Costs(most + 1)
        self.step = 0.0
        """Seconds of one step of the drafter; 0 while unknown."""
        middles = [(a + b) / 2 for a, b in zip((0.0, *CONFIDENCES), (*CONFIDENCES, 1.0), strict=True)]
        self.by_confidence = Belief(CONFIDENCES, middles)
        self.by_place = Belief(range(1, most), [0.8] * most, weight=1.0)
        self.places: list[float] = []
        """How often the guess at each place is right when those before it were."""
        self.by_match = Belief(MATCHES, MATCH_PRIORS)
        self.worth = MOST_WORTH
        """Tokens that a drafted round gives beyond what plain decoding would in its time."""
        self._steps = 0
        self._rest = 0
        self._gap = SHORTEST_REST
        self._tokens = self._seconds = 0.0
        self._rounds = self._plain = 0
        self.table: list[float] = []
        self.rate = 0.0

    def begin(self) -> None:
        """Another answer: whatever the last one taught, this one is probed soon."""
        self._rest = min(self._rest, self._shortest)
        self.costs.rows = 0

    @property
    def _shortest(self) -> int:
        """Rounds between probes at least."""
        return max(SHORTEST_REST, min(LONGEST_REST, int(self.step / (PROBING * self.costs.seconds[1]))))

    def look(self) -> None:
        """Before a round that may draft: what is true of it whatever is drafted."""
        self._pass()
        self.table = self.costs.table()
        self.rate = max(1 / self.costs.seconds[1], self._tokens / self._seconds if self._seconds else 0.0)

    def rests(self) -> bool:
        """Whether this is one of the rounds without a drafter that knows how sure it is."""
        if self.worth >= 0 or self._rest <= 0:
            return False
        self._rest -= 1
        return True

    def neural(self, most: int) -> Adaptive:
        """The pace of such a drafter."""
        self.places = self.by_place.chain()
        return Adaptive(self, most)

    def repeated(self, match: int, most: int) -> tuple[int, float]:
        """How many tokens of a repeated passage to verify, and the gain that this promises.

        Args:
            match: tokens that the passage has in common with the end of the text.
        """
        share = self.by_match.of(match)
        reached = total = best = 0.0
        count, reached = 0, 1.0
        for guesses in range(1, most + 1):
            reached *= share
            total += reached
            gain = total - self.rate * (self.table[guesses] - self.table[0])
            if gain > best:
                count, best = guesses, gain
        return count, best

    def ahead(self, guesses: int, most: int, reached: float) -> float:
        """What further guesses promise at best after `guesses`, which are all right with the probability `reached`.

        The time of drafting and verifying them is spent in any case.
        """
        best = gain = 0.0
        places, table, rate = self.places, self.table, self.rate
        for more in range(guesses, min(most, guesses + AHEAD)):
            reached *= places[more]
            gain += reached - rate * (self.step + table[more + 1] - table[more])
            best = max(best, gain)
        return best

    def record(self, rows: int, seconds: float, tokens: int) -> None:
        """A round is over.

        Args:
            rows: decoded, padding included.
            seconds: of all but drafting.
            tokens: that it gave.
        """
        self._rounds += 1
        costs = self.costs
        if rows == costs.rows == 1 and self._rounds % PLAIN:
            self._plain += 1
            return
        changed = rows != costs.rows
        if rows > 1 or not changed:
            # What a change takes was measured in other rounds: it cannot have been all of this one.
            costs.note(rows, seconds - min(costs.change, seconds / 2) * changed)
        if self._rounds % FADING == 0:
            self.by_confidence.fade()
            self.by_place.fade()
            self.by_match.fade()
        self._pass()
        self._tokens = FORGET * self._tokens + tokens
        self._seconds = FORGET * self._seconds + costs.of(rows)
        costs.rows = rows

    def _pass(self) -> None:
        """Count the plain rounds that were not worth a moment each."""
        if not self._plain:
            return
        left = FORGET**self._plain
        rounds, self._plain = (1 - left) / (1 - FORGET), 0
        self._tokens = left * self._tokens + rounds
        self._seconds = left * self._seconds + rounds * self.costs.seconds[1]

    def judge(self, pace: Adaptive, rows: int, accepted: int, seconds: float, *, ended: bool = False) -> None:
        """What a draft of `pace` came to.

        Args:
            seconds: that drafting took.
            ended: the answer ended in it, so that the guess after the last right one was not wrong.
        """
        steps = max(1, pace.steps)
        self._steps += 1
        # The first ones build what the later ones use again.
        early = self._steps <= LAST
        each = seconds / steps
        self.step = follow(self.step, each) if not early else min(self.step or each, each)
        self._seconds += pace.steps * self.step
        for place, confidence in enumerate(pace.taken[: accepted + (not ended)]):
            right = float(place < accepted)
            self.by_confidence.note(confidence, right)
            self.by_place.note(place, right)
        if pace.refused is not None and accepted == len(pace.taken):
            # Counted too, as believed: else only the guesses that looked good would count.
            self.by_place.note(len(pace.taken), self.by_confidence.of(pace.refused))
        plain = self.costs.seconds[1]
        worked = 0.0 if pace.probing else accepted - (self.table[rows - 1] - plain) / plain
        self._weigh(worked - steps * self.step / plain)

    def _weigh(self, gained: float) -> None:
        """Whether to go on drafting, or how long to rest."""
        rested = self.worth < 0
        self.worth = min(MOST_WORTH, max(LEAST_WORTH, self.worth + WEIGHT * (gained - self.worth)))
        if self.worth >= 0:
            self._gap = SHORTEST_REST
        elif rested:
            self._gap = max(self._gap, self._shortest)
            self._rest = self._gap
            self._gap = self._gap // 2 if gained > 0 else min(2 * self._gap, LONGEST_REST)

    def judge_repeated(self, match: int, drafted: int, accepted: int) -> None:
        """What the verification of a repeated passage came to."""
        for place in range(min(drafted, accepted + 1)):
            self.by_match.note(match, float(place < accepted))


class Adaptive:
    """Draws a draft out while that pays."""

    def __init__(self, depth: Depth, most: int) -> None:
        self._depth, self._most = depth, most
        self._reached = 1.0
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
        reached = self._reached * depth.by_confidence.of(confidence)
        more = depth.table[guesses + 1] - depth.table[guesses]
        self._promised = depth.ahead(guesses + 1, self._most, reached)
        if reached - depth.rate * more + self._promised <= 0:
            self.probing = not guesses
            if guesses:
                self.refused = confidence
                return False
        self._reached = reached
        self.taken.append(confidence)
        return True
