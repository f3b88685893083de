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
PLAIN = 8
"""Of so many plain rounds one is measured: there are many, and they are short."""
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
wrong, up to `PATIENCE` times; a `HOPE`th after one that was right, since the task may have changed."""
PATIENCE, HOPE = 4, 4


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
        self.table: list[float] = []
        self.rate = 0.0

    def begin(self) -> None:
        """Another answer: what the last ones taught counts for little, and this one is probed soon."""
        self.by_place.begin()
        self._gap = self._usual
        self._rest = min(self._rest, self._gap // 2)
        self.costs.rows = 0

    @property
    def _usual(self) -> int:
        """Rounds between two probes of which nothing is known."""
        return max(SHORTEST_REST, min(LONGEST_REST, int(self.probe / (PROBING * self.costs.seconds[1]))))

    def look(self) -> None:
        """Before a round that may draft: what is true of it whatever is drafted."""
        self._pass()
        if self.step:
            self.places = self.by_place.chain()
            self.costs.home = self._home()
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
        return Adaptive(self, most)

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

    def ahead(self, guesses: int, most: int, reached: float) -> tuple[int, float]:
        """How long a draft of `guesses`, which are all right with the probability `reached`, becomes at best, and the
        gain that this promises.

        The time of drafting and verifying is spent in any case.
        """
        count, best, gain = guesses, 0.0, 0.0
        places, table, rate = self.places, self.table, self.rate
        for more in range(guesses, min(most, guesses + AHEAD)):
            reached *= places[more]
            gain += reached - rate * (self.step + table[more + 1] - table[more])
            if gain > best:
                count, best = more + 1, gain
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
        if pace.probing:
            self.probe = follow(self.probe, seconds) if self.probe else seconds
            spent = self.probe
        else:
            steps = max(1, pace.steps)  # what is looked up takes none
            self.stepped(steps, seconds)
            spent = steps * self.step
        self._seconds += spent
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
        self._weigh(worked - spent / plain, right=accepted > 0)

    def stepped(self, steps: int, seconds: float) -> None:
        """So many steps of the drafter took so long."""
        self._steps += 1
        each = seconds / steps
        # The first ones build what the later ones use again.
        self.step = follow(self.step, each) if self._steps > LAST else min(self.step or each, each)

    def _weigh(self, gained: float, *, right: bool) -> None:
        """Whether to go on drafting, or how long to rest after a draft of which the first guess was `right`."""
        rested = self.worth < 0
        self.worth = min(MOST_WORTH, max(LEAST_WORTH, self.worth + WEIGHT * (gained - self.worth)))
        usual = self._usual
        if self.worth >= 0:
            self._gap = usual
        elif rested:
            wrong = min(max(2 * self._gap, usual), PATIENCE * usual, LONGEST_REST)
            self._rest = self._gap = usual // HOPE if right else wrong

    def judge_repeated(self, match: int, drafted: int, accepted: int) -> None:
        """What the verification of a repeated passage came to."""
        for place in range(min(drafted, accepted + 1)):
            self.by_match.note(match, float(place < accepted))
