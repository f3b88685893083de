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

from backends.native.belief import FORGET, Belief
from backends.native.costs import LAST, Costs, follow
from backends.native.pace import Adaptive

AUTO = -1
"""A draft length that says: adapt."""
FADING = 16
"""Rounds after which evidence fades."""
MEASURED = 8
"""Of so many rounds alike one is measured, and planned for anew: there are many, and they are short."""
AHEAD = 8
"""Guesses that a draft looks ahead: twice the rows that kernels take together."""
CONFIDENCES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98, 0.995)
"""Bounds of the classes of a drafter's confidence."""
MATCHES = (3, 4, 5, 8, 16)
"""Bounds of the classes of a repeated passage: tokens that it has in common so far."""
MATCH_PRIORS = (0.4, 0.65, 0.7, 0.8, 0.9, 0.95)
WEIGHT = 0.1
"""Of one round, in what drafting is worth."""
LEAST_WORTH, MOST_WORTH = -0.25, 1.0
"""Bounds of what is remembered of it: a task that changes must show soon."""
SHORTEST_REST, LONGEST_REST = 4, 256
"""Rounds without a draft between two probes."""
PROBING = 0.01
"""Share of the time that probes may take: it says how many rounds lie between two. Twice as many after each that was
wrong, half as many after each that was right, within a `PATIENCE`th and `PATIENCE` times: the task may have changed."""
PATIENCE = 4


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
        self.probe = 0.0
        """Seconds of a step where none was made in the rounds before, and the caches hold other things."""
        middles = [(a + b) / 2 for a, b in zip((0.0, *CONFIDENCES), (*CONFIDENCES, 1.0), strict=True)]
        self.by_confidence = Belief(CONFIDENCES, middles)
        self.by_place = Belief(range(1, most), [0.8] * most, weight=1.0)
        self.places = self.by_place.chain()
        """How often the guess at each place is right when those before it were."""
        self.by_match = Belief(MATCHES, MATCH_PRIORS)
        self.worth = MOST_WORTH
        """Tokens that a drafted round gives beyond what plain decoding would in its time."""
        self._steps = 0
        self._rest = 0
        self._gap = SHORTEST_REST
        self._tokens = self._seconds = 0.0
        self._rounds = self._plain = 0
        self._stale = True
        """What is planned from must be found anew."""
        self._repeats: dict[int, tuple[int, float]] = {}
        """By the class of a repeated passage: as `repeated`."""
        self.table: list[float] = []
        self.rate = 0.0

    def begin(self) -> None:
        """Another answer: what the last ones taught counts for little, and this one is probed soon."""
        self.by_place.begin()
        self._rest = min(self._rest, max(self._gap, self._usual) // 2)
        self.costs.rows, self._stale = 0, True

    @property
    def _usual(self) -> int:
        """Rounds between two probes of which nothing is known."""
        return max(SHORTEST_REST, min(LONGEST_REST, int(self.probe / (PROBING * self.costs.seconds[1]))))

    def look(self) -> None:
        """Before a round that may draft: what is true of it whatever is drafted."""
        if not self._stale:
            return
        self._pass()
        self._repeats.clear()
        costs, self._stale = self.costs, False
        if self.step:
            self.places = self.by_place.chain()
            costs.home = 1 if self._resting else self._home()
        self.table = costs.table()
        self.rate = max(1 / costs.seconds[1], self._tokens / self._seconds if self._seconds else 0.0)

    def rests(self) -> bool:
        """Whether this is one of the rounds without a drafter that knows how sure it is."""
        if self._resting:
            self._rest -= 1
            return True
        # What was planned for resting holds no longer.
        self._stale |= self.worth < 0
        return False

    @property
    def _resting(self) -> bool:
        return self.worth < 0 and self._rest > 0

    def _home(self) -> int:
        """Rows of the length that would give the most tokens per second, were it used from now on."""
        costs = self.costs
        seconds, step = costs.seconds, self.step
        tokens = reached = 1.0
        best, rate = 1, 1 / seconds[1]
        for guesses, share in enumerate(self.places, 1):
            reached *= share
            tokens += reached
            found = tokens / (seconds[guesses + 1] + guesses * step)
            if found > rate:
                best, rate = guesses + 1, found
        return best

    def repeated(self, match: int, most: int) -> tuple[int, float]:
        """How many tokens of a repeated passage to verify, and the gain that this promises.

        Args:
            match: tokens that the passage has in common with the end of the text.
        """
        at = self.by_match.at(match)
        found = self._repeats.get(at)
        if found is None or found[0] > most:
            # From plain decoding it is a way there and back: a passage ends soon.
            back = self.rate * self.costs.change if self.costs.rows == self.costs.home == 1 else 0.0
            found = self._repeats[at] = self._longest([self.by_match.of(match)] * most, 0.0, gain=-back)
        return found

    def ahead(self, guesses: int, most: int, reached: float) -> tuple[int, float]:
        """How long a draft of `guesses`, which are all right with the probability `reached`, becomes at best, and the
        gain that this promises.

        The time of drafting and verifying is spent in any case.
        """
        return self._longest(self.places[guesses : min(most, guesses + AHEAD)], self.step, guesses, reached)

    def _longest(
        self, shares: list[float], step: float, guesses: int = 0, reached: float = 1.0, gain: float = 0.0
    ) -> tuple[int, float]:
        """The same for guesses after these that are right with the probabilities `shares` and take `step` each."""
        count, best, table, rate = guesses, 0.0, self.table, self.rate
        for more, share in enumerate(shares, guesses + 1):
            reached *= share
            gain += reached - rate * (step + table[more] - table[more - 1])
            if gain > best:
                count, best = more, gain
        return count, best

    def record(self, rows: int, seconds: float, tokens: int) -> None:
        """A round is over.

        Args:
            rows: decoded, padding included.
            seconds: of all but drafting.
            tokens: that it gave.
        """
        self._rounds += 1
        costs = self.costs
        changed = rows != costs.rows
        if changed or self._rounds % MEASURED == 0:
            self._measure(rows, seconds, changed=changed)
        elif rows == 1:
            self._plain += 1
            return
        self._pass()
        self._tokens = FORGET * self._tokens + tokens
        self._seconds = FORGET * self._seconds + costs.of(rows)
        costs.rows = rows

    def _measure(self, rows: int, seconds: float, *, changed: bool) -> None:
        """One of the rounds that count for those like it."""
        self._stale = True
        if rows > 1 or not changed:
            # What a change takes was measured in other rounds: it cannot have been all of this one.
            self.costs.note(rows, seconds - min(self.costs.change, seconds / 2) * changed)
        if self._rounds % FADING == 0:
            for belief in (self.by_confidence, self.by_place, self.by_match):
                belief.fade()

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
        if pace.probing:
            self.probe = follow(self.probe, seconds) if self.probe else seconds
            spent = self.probe
        else:
            steps = max(1, pace.steps)  # what is looked up takes none
            self.stepped(steps, seconds)
            spent = steps * self.step
        self._seconds += spent
        self._stale |= accepted < len(pace.taken)
        for place, confidence in enumerate(pace.taken[: accepted + (not ended)]):
            right = float(place < accepted)
            self.by_confidence.note(confidence, right)
            self.by_place.note(place, right)
        if pace.refused is not None and accepted == len(pace.taken):
            # Counted too, as believed: else only the guesses that looked good would count.
            self.by_place.note(len(pace.taken), self.by_confidence.of(pace.refused))
        self.by_place.untried(len(pace.taken) + (pace.refused is not None))
        plain = self.costs.seconds[1]
        worked = 0.0 if pace.probing else accepted - (self.table[rows - 1] - plain) / plain
        self._weigh(worked - spent / plain, right=accepted > 0, tried=not pace.probing)

    def stepped(self, steps: int, seconds: float) -> None:
        """So many steps of the drafter took so long."""
        self._steps += 1
        each = seconds / steps
        # The first ones build what the later ones use again.
        self.step = follow(self.step, each) if self._steps > LAST else min(self.step or each, each)

    def _weigh(self, gained: float, *, right: bool, tried: bool) -> None:
        """Whether to go on drafting, or how long to rest after a draft of which the first guess was `right`.

        After one that was `tried` too the next goes on: another number of rows has a price that one would bear alone.
        """
        rested = self.worth < 0
        self.worth = min(MOST_WORTH, max(LEAST_WORTH, self.worth + WEIGHT * (gained - self.worth)))
        usual = self._usual
        if self.worth >= 0:
            self._gap = usual
        elif rested:
            wrong = min(max(2 * self._gap, usual), PATIENCE * usual)
            self._gap = max(self._gap // 2, usual // PATIENCE) if right else wrong
            self._rest = 0 if right and tried else self._gap

    def judge_repeated(self, match: int, drafted: int, accepted: int) -> None:
        """What the verification of a repeated passage came to."""
        self._stale = True
        for place in range(min(drafted, accepted + 1)):
            self.by_match.note(match, float(place < accepted))
