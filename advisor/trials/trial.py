"""Does the drafter pay on this machine, for this work, and with how many tokens? Measured, and decided by `decision`.

`Trial.run` asks and yields what happens as it happens; `Trial.decision` says what came of it, at any time. A trial that
is broken off has measured what it has measured. What is judged is the whole answer: reading the prompt, and writing as
much as is usual for this kind of work.
"""

from __future__ import annotations

import random
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from advisor.errors import RuntimeFailed
from advisor.machine import Record
from advisor.trials import prompts
from advisor.trials.decision import PLAIN, Decision, Race
from advisor.trials.prompts import Prompt, prompt_set

ADAPTS = -1
"""A length that the backend chooses from round to round."""
LONGEST = 8
USUAL = 3
FEWEST_TOKENS, MOST_TOKENS = 24, 192
"""Of an answer that is measured."""
TELLING_TOKENS = 16
"""Of an answer, from which on its speed means something: several may come at once."""
READING_S, READING_AGAIN_S = 60.0, 15.0
"""Longest that reading the text in front of deep prompts may take, once or with each start; else it is shorter."""
PASSES_WANTED, FEWEST_LENGTHS = 2, 3
"""Where each length is a start, so many rounds through all lengths must fit into the time, or there are fewer lengths:
what was asked once proves little."""
LEAST_DEPTH = 256
VISIT_ORDER = (0, 3, 1, 5, 2, 4, 6, 8, 7)
"""Where each length is a start of its own: the most telling ones first."""


class Answered(Record, frozen=True, kw_only=True):
    """One answer as it came. `tokens`: as the server counts them; `first_s`: until the first of them; `seconds`: until
    the last; `depth_tokens`: of the prompt; `read_tokens`: those of it that were not in a cache. `positions`: shares of
    guesses that were right, by place; `rounds`: in which anything was drafted, where known."""

    tokens: int
    first_s: float
    seconds: float
    tokens_per_s: float
    depth_tokens: int
    read_tokens: int
    drafted: int = 0
    accepted: int = 0
    positions: tuple[float, ...] = ()
    rounds: int = 0


class Asked(Protocol):
    """A session that answers."""

    def ask(self, prompt: Prompt, length: int, tokens: int, *, cold: bool) -> Answered:
        """One greedy answer of at most so many tokens. `cold`: nothing of the prompt may come from a cache.

        Raises:
            RuntimeFailed: the server failed.
        """
        ...

    def memory_bytes(self) -> int | None:
        """What its process holds."""
        ...

    def positions(self) -> tuple[float, ...]:
        """Acceptance by position since the start, where answers do not tell."""
        ...


class Opener(Protocol):
    """Where sessions are from. `per_request`: the length can change from one answer to the next; `adapts`: the backend
    has lengths of its own choice."""

    per_request: bool
    adapts: bool
    context_tokens: int

    def open(self, length: int) -> AbstractContextManager[Asked]:
        """A session that drafts so many tokens, where they are fixed at the start; ended with the block."""
        ...


class Plan(Record, frozen=True, kw_only=True):
    """What to measure at most. `passes`: rounds through all kinds of work; `seconds`: when to end; `answer_s`: how long
    an answer should take; `depth_tokens`: of the text before deep prompts, 0 for none."""

    lengths: tuple[int, ...]
    kinds: tuple[str, ...]
    depth_tokens: int
    passes: int
    seconds: float
    answer_s: float
    quick: bool


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


Event = Stage | Sample | Look


def plan_for(opener: Opener, *, quick: bool, drafter: bool = True, seconds: float | None = None) -> Plan:
    """The plan of `advisor trial`, or of its `--quick`."""
    kinds = tuple(each.kind for each in prompt_set().kinds)
    if not opener.per_request:
        lengths: tuple[int, ...] = VISIT_ORDER[:3] if quick else VISIT_ORDER
    else:
        lengths = (0, 1, 2, 3, 5) if quick else tuple(range(LONGEST + 1))
    if opener.adapts:
        lengths = (*lengths, ADAPTS)
    return Plan(
        lengths=lengths if drafter else (PLAIN,),
        kinds=("code", "questions", "summary", "story") if quick else kinds,
        depth_tokens=0 if quick else min(4096, opener.context_tokens // 2),
        passes=8 if quick else 100,
        seconds=seconds or (45.0 if quick else 900.0),
        answer_s=2.0 if opener.per_request and not quick else 1.0,
        quick=quick,
    )


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
        self.race = Race(plan.lengths if PLAIN in plan.lengths else (PLAIN, *plan.lengths), ())
        self._random = random.Random(seed)  # noqa: S311 - an order, no secret
        self._begun = 0.0
        self._starting = 0.0
        """Seconds that starts took which do not count."""

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
            yield Stage(what="warming up")
            yield from self._prepare(session, opener, drafting)
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
        order = [one for one in VISIT_ORDER if one in self.plan.lengths]
        for number in range(self.plan.passes):
            times: dict[str, dict[int, float]] = {}
            # There and back again: what drifts from visit to visit cancels.
            for visited, length in enumerate(order if number % 2 == 0 else order[::-1]):
                if number == 0 and visited >= max(FEWEST_LENGTHS, self._fitting(visited)):
                    order = order[:visited]
                    break
                yield from self._visit(opener, length, number, times)
                if self._late:
                    break
            for cell, found in times.items():
                yield self._noted(cell, found)
            if self._late or not times or self.race.settled:
                return

    def _fitting(self, visited: int) -> int:
        """Lengths for which there is time enough, by what the ones visited so far took, their starts included."""
        each = (time.monotonic() - self._begun + self._starting) / max(1, visited)
        return int(self.plan.seconds / (PASSES_WANTED * max(each, 1e-3)))

    def _visit(self, opener: Opener, length: int, number: int, times: dict[str, dict[int, float]]) -> Iterator[Event]:
        """One start, asked all for which its length is still in question."""
        first = not self.race.cells
        cells = [cell for cell in self.race.cells if length in self.race.wanted(cell)]
        if not (first or cells):
            return
        yield Stage(what=f"starting with {length} drafted" if length else "starting without the drafter")
        begun = time.monotonic()
        with opener.open(length) as session:
            if number == 0:
                # Some servers take minutes to start: time would be up before there is anything to compare.
                starting = time.monotonic() - begun
                self._begun, self._starting = self._begun + starting, self._starting + starting
            if first:
                yield from self._prepare(session, opener, length)
                cells = list(self.race.cells)
            else:
                self._warm(session, length)
            for cell in cells:
                sample = self._sample(session, cell, length, number)
                times.setdefault(cell, {})[length] = sample.seconds
                yield sample
                if self._late:
                    break
            self._remember(session, length)

    def _prepare(self, session: Asked, opener: Opener, length: int) -> Iterator[Event]:
        """Warm the session up, and decide how long answers and the text before deep ones are."""
        kinds = [each for each in prompt_set().kinds if each.kind in self.plan.kinds]
        first = prompts.prompts(kinds[0])[0]
        session.ask(first, length, FEWEST_TOKENS, cold=True)
        usual = session.ask(first, length, FEWEST_TOKENS, cold=True)
        if opener.per_request:
            session.ask(first, PLAIN, FEWEST_TOKENS, cold=True)
        self.tokens = max(FEWEST_TOKENS, min(MOST_TOKENS, int(usual.tokens_per_s * self.plan.answer_s)))
        rate = usual.read_tokens / max(usual.first_s, 1e-3)
        room = opener.context_tokens - self.tokens - LEAST_DEPTH
        reading_s = READING_S if opener.per_request else READING_AGAIN_S
        depth = min(self.plan.depth_tokens, room, int(rate * reading_s))
        found = {prompt.cell: prompts.prompts(kind) for kind in kinds for prompt in prompts.prompts(kind)}
        if depth >= LEAST_DEPTH:
            deep = {kind.kind: prompts.prompts(kind, depth_tokens=depth) for kind in kinds}
            found |= {each[0].cell: each for each in deep.values()}
        self.prompts = found
        self.race = Race(self.race.lengths, tuple(found), restarts=not opener.per_request)
        yield from self._warm_deep(session, length, opener)

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
            left_s=max(0.0, self.plan.seconds - (time.monotonic() - self._begun)),
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
    def _late(self) -> bool:
        return time.monotonic() - self._begun > self.plan.seconds

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
