"""Does the drafter pay on this machine, for this work, and with how many tokens? Measured, and decided by `decision`.

`Trial.run` asks and yields what happens as it happens; `Trial.decision` says what came of it, at any time. A trial that
is broken off has measured what it has measured. What is judged is the whole answer: reading the prompt, and writing as
much as is usual for this kind of work.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Iterator, Mapping, Sequence

from advisor.errors import RuntimeFailed
from advisor.machine import Record
from advisor.trials import prompts
from advisor.trials.answers import TELLING_TOKENS, Answered, Asked, Opener
from advisor.trials.decision import PLAIN, Decision, Race
from advisor.trials.prompts import BYTES_PER_TOKEN, Prompt, prompt_set
from advisor.trials.schedule import LEAST_LENGTHS, USUAL, Plan, Price, Schedule, ordered, scheduled

FEWEST_TOKENS, MOST_TOKENS = 24, 192
"""Of an answer that is measured."""
READING, READING_AGAIN = 1 / 15, 1 / 60
"""Shares of all time that reading the text in front of deep prompts may take, once or with each start; else it is
shorter."""
LEAST_DEPTH = 256
NEARLY_ONE = 0.9
"""Of a visit: what has begun is not given up because it took a little longer than planned."""


class Sample(Record, frozen=True, kw_only=True):
    """One answer that counts. `seconds`: what is judged; `number`: which it is; `left_s`: the most that remains."""

    cell: str
    kind: str
    deep: bool
    length: int
    answered: Answered
    seconds: float
    number: int
    elapsed_s: float
    left_s: float


class Look(Record, frozen=True, kw_only=True):
    """What the samples so far amount to. `cell`: the one that was just visited; `overall`: None while there is nothing
    to compare."""

    cell: str
    overall: Decision | None
    here: Decision | None
    noise: float


class Stage(Record, frozen=True, kw_only=True):
    """What begins, in words."""

    what: str


class Outlook(Record, frozen=True, kw_only=True):
    """What there is time for, known once a session has started and answered. `lengths`, `cells`: that are left out."""

    schedule: Schedule
    lengths: tuple[int, ...]
    cells: tuple[str, ...]


Event = Stage | Outlook | Sample | Look


class Trial:
    """One trial: what was measured, and what it amounts to.

    Args:
        seed: of the order in which lengths take turns.
    """

    def __init__(self, plan: Plan, *, seed: int = 1) -> None:
        self.plan = plan
        self.samples: list[Sample] = []
        self.prompts: dict[str, tuple[Prompt, ...]] = {}
        self.memory: dict[int, int] = {}
        self.positions: dict[int, tuple[float, ...]] = {}
        self.reading: dict[bool, Answered] = {}
        """Of the text before deep prompts, without and with a drafter."""
        self.tokens = 0
        self.finished = False
        self.outlook: Outlook | None = None
        self.race = Race(plan.lengths if PLAIN in plan.lengths else (PLAIN, *plan.lengths), ())
        self._random = random.Random(seed)  # noqa: S311 - an order, no secret
        self._begun = 0.0
        self._seconds = plan.seconds

    # ---- Asking

    def run(self, opener: Opener) -> Generator[Event, None, None]:
        """Measure; ends when all is clear, or when the time is up. Nothing runs any more when it ends or is closed.

        Raises:
            RuntimeFailed: a session cannot be started, or failed.
        """
        self._begun = time.monotonic()
        yield from self._at_request(opener) if opener.per_request else self._at_start(opener)
        self.finished = True

    def _at_request(self, opener: Opener) -> Iterator[Event]:
        drafting = max(self.plan.lengths, key=lambda one: (one == USUAL, one != PLAIN, one))
        yield Stage(what="starting")
        with opener.open(drafting) as session:
            # The time that there is to measure in is not that of reading a model of many gigabytes.
            self._begun = time.monotonic()
            yield Stage(what="warming up")
            yield from self._prepare(session, opener, drafting, start_s=None)
            for number in range(self.plan.passes):
                for cell in self.race.cells:
                    wanted = list(self.race.wanted(cell))
                    self._random.shuffle(wanted)
                    times: dict[int, float] = {}
                    for length in wanted:
                        sample = self._sample(session, cell, length, number)
                        times[length] = sample.seconds
                        yield sample
                        if self._late:
                            break
                    if times:
                        yield self._noted(cell, times)
                    self._remember(session, drafting)
                    if self._late:
                        return
                if self.race.settled:
                    return

    def _at_start(self, opener: Opener) -> Iterator[Event]:
        order = ordered(self.plan.lengths)
        for number in range(self.plan.passes):
            times: dict[tuple[str, int], dict[int, float]] = {}
            # There and back again: what drifts from visit to visit cancels.
            for length in order if number % 2 == 0 else order[::-1]:
                if self._has_time_for(length, NEARLY_ONE if times or not number else LEAST_LENGTHS):
                    yield from self._visit(opener, length, number, times)
            for (cell, _), found in times.items():
                yield self._noted(cell, found)
            if not times or self.race.settled:
                return

    def _has_time_for(self, length: int, visits: float) -> bool:
        """Whether a visit is wanted, and as many as tell something may begin: the first, without which there is nothing
        to compare, always may."""
        if self.outlook is None:
            return True
        schedule = self.outlook.schedule
        wanted = sum(length in self.race.wanted(cell) for cell in self.race.cells)
        if length not in schedule.lengths or not wanted:
            return False
        needed = ordered(schedule.lengths)[:LEAST_LENGTHS]
        there = {each.length for each in self.samples}
        return not there.issuperset(needed) or self._left_s >= visits * schedule.visit_s(wanted)

    def _visit(
        self, opener: Opener, length: int, number: int, times: dict[tuple[str, int], dict[int, float]]
    ) -> Iterator[Event]:
        """One start, asked all for which its length is still in question."""
        yield Stage(what=f"starting with {length} drafted" if length else "starting without the drafter")
        begun = time.monotonic()
        with opener.open(length) as session:
            if self.outlook is None:
                yield from self._prepare(session, opener, length, start_s=time.monotonic() - begun)
            else:
                self._warm(session, length)
            assert self.outlook is not None  # noqa: S101 - prepared
            turns = self.outlook.schedule.turns
            for turn in range(turns):
                for cell in self.race.cells:
                    if length in self.race.wanted(cell):
                        sample = self._sample(session, cell, length, number * turns + turn)
                        times.setdefault((cell, turn), {})[length] = sample.seconds
                        yield sample
                if self._late:
                    break
            self._remember(session, length)

    def _prepare(self, session: Asked, opener: Opener, length: int, *, start_s: float | None) -> Iterator[Event]:
        """Warm the session up, and decide what there is time for: how long answers and the text before deep ones are,
        how many lengths and kinds of work."""
        begun = time.monotonic()
        kinds = [each for each in prompt_set().kinds if each.kind in self.plan.kinds]
        found = {prompt.cell: prompts.prompts(kind) for kind in kinds for prompt in prompts.prompts(kind)}
        first = next(iter(found.values()))[0]
        other = max((each[0] for each in found.values()), key=lambda each: abs(each.size - first.size))
        read = session.ask(other, length, FEWEST_TOKENS, cold=True)
        usual = session.ask(first, length, FEWEST_TOKENS, cold=True)
        plain = session.ask(first, PLAIN, FEWEST_TOKENS, cold=True) if opener.per_request else usual
        rate = max(each.tokens_per_s for each in (read, usual, plain))
        self.tokens = max(FEWEST_TOKENS, min(MOST_TOKENS, int(rate * self.plan.answer_s)))
        depth = self._depth(opener, usual)
        if depth >= LEAST_DEPTH:
            # Vocabularies differ: what is prose for one is single letters for another.
            more = read.depth_tokens - usual.depth_tokens
            size = (other.size - first.size) / more if more else BYTES_PER_TOKEN
            deep = [prompts.prompts(kind, depth_tokens=depth, bytes_per_token=size) for kind in kinds]
            found |= {each[0].cell: each for each in deep}
        self.prompts = found
        yield from self._warm_deep(session, length, opener)
        again_s = usual.seconds + sum(each.seconds for each in self.reading.values())
        price = Price(
            start_s=start_s,
            warm_s=time.monotonic() - begun if start_s is None else again_s,
            answer_s=max(1e-3, plain.first_s + self.tokens / rate),
        )
        yield self._planned(scheduled(self.plan, tuple(found), price))

    def _depth(self, opener: Opener, usual: Answered) -> int:
        """Tokens of text for the reading of which there is room and time."""
        rate = usual.read_tokens / max(usual.first_s, 1e-3)
        room = opener.context_tokens - self.tokens - LEAST_DEPTH
        reading_s = self.plan.seconds * (READING if opener.per_request else READING_AGAIN)
        return min(self.plan.depth_tokens, room, int(rate * reading_s))

    def _planned(self, schedule: Schedule) -> Outlook:
        self._seconds = schedule.seconds
        self.outlook = Outlook(
            schedule=schedule,
            lengths=tuple(one for one in self.plan.lengths if one not in schedule.lengths),
            cells=tuple(cell for cell in self.prompts if cell not in schedule.cells),
        )
        self.prompts = {cell: self.prompts[cell] for cell in schedule.cells}
        restarts = 0 if schedule.price.start_s is None else schedule.turns
        lengths = tuple(one for one in self.race.lengths if one not in self.outlook.lengths)
        self.race = Race(lengths, schedule.cells, restarts=restarts)
        return self.outlook

    def _warm_deep(self, session: Asked, length: int, opener: Opener) -> Iterator[Event]:
        deep = next((each[0] for each in self.prompts.values() if each[0].deep), None)
        if deep is None:
            return
        yield Stage(what="reading the long text")
        for one in {length, PLAIN} if opener.per_request else {length}:
            self.reading[one != PLAIN] = session.ask(deep, one, FEWEST_TOKENS, cold=True)

    def _warm(self, session: Asked, length: int) -> None:
        """A server of its own begins cold: read once what all deep prompts begin with."""
        session.ask(next(iter(self.prompts.values()))[0], length, FEWEST_TOKENS, cold=True)
        deep = next((each[0] for each in self.prompts.values() if each[0].deep), None)
        if deep is not None:
            found = session.ask(deep, length, FEWEST_TOKENS, cold=True)
            self.reading.setdefault(length != PLAIN, found)

    def _sample(self, session: Asked, cell: str, length: int, number: int) -> Sample:
        choice = self.prompts[cell]
        prompt = choice[number % len(choice)]
        answered = session.ask(prompt, length, self.tokens, cold=not prompt.deep)
        sample = Sample(
            cell=cell,
            kind=prompt.kind,
            deep=prompt.deep,
            length=length,
            answered=answered,
            seconds=self._whole(answered, prompt, length),
            number=len(self.samples) + 1,
            elapsed_s=time.monotonic() - self._begun,
            left_s=max(0.0, self._left_s),
        )
        self.samples.append(sample)
        return sample

    def _whole(self, answered: Answered, prompt: Prompt, length: int) -> float:
        """Seconds of an answer of the usual length, the whole prompt read. One that is very short has no speed to tell
        the usual length by: it is taken as it is."""
        first = answered.first_s
        if prompt.deep:  # read from the cache here, but not the first time that somebody asks
            cold = self.reading.get(length != PLAIN) or next(iter(self.reading.values()))
            first = max(first, cold.first_s)
        if answered.tokens < TELLING_TOKENS:
            return first + answered.seconds - answered.first_s
        return first + (prompt.answer_tokens - 1) / answered.tokens_per_s

    def _noted(self, cell: str, times: Mapping[int, float]) -> Look:
        self.race.note(cell, times)
        self.race.look()
        return Look(cell=cell, overall=self.decision(), here=self.decision(cell), noise=self.race.noise)

    def _remember(self, session: Asked, length: int) -> None:
        held = session.memory_bytes()
        if held:
            self.memory[length] = max(held, self.memory.get(length, 0))
        if shares := session.positions():
            self.positions[length] = shares

    @property
    def _left_s(self) -> float:
        return self._begun + self._seconds - time.monotonic()

    @property
    def _late(self) -> bool:
        return self._left_s < 0

    # ---- What came of it

    def decision(self, cell: str | None = None) -> Decision | None:
        """For a cell, or all; None while there is nothing to compare."""
        try:
            return self.race.decide(cell)
        except ValueError:
            return None

    def of(self, cell: str, length: int) -> Sequence[Sample]:
        """The samples of one length in one cell."""
        return [each for each in self.samples if each.cell == cell and each.length == length]

    def check(self) -> None:
        """Raises RuntimeFailed where nothing was measured."""
        if not self.samples:
            raise RuntimeFailed("nothing was measured", hint="the session answered nothing; `advisor logs` shows why")
