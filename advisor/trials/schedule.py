"""What a trial has time for: how many draft lengths and kinds of work, how often, and how long that takes.

Planned with what the first start and the first answers took: where a length is fixed at the start, each visit to it
costs a start, and there are as few as tell something. What there is no time for is left out, and said to be.
"""

from __future__ import annotations

from collections.abc import Sequence

from advisor.machine import Record
from advisor.trials.answers import ADAPTS, Opener
from advisor.trials.decision import PLAIN
from advisor.trials.prompts import prompt_set

LONGEST = 8
USUAL = 3
QUICK_S, FULL_S = 50.0, 900.0
ORDER = (PLAIN, USUAL, ADAPTS, 1, 5, 2, 4, 6, 8, 7)
"""Of lengths: the most telling ones first."""
QUICK_LENGTHS = (PLAIN, 1, 2, USUAL, 5)
QUICK_KINDS = ("code", "questions", "summary", "story")
PASSES_WANTED = 2
"""Where each length is a start: what was asked once proves little."""
ROUNDS_WANTED = 1.5
"""Where it is not: the slower lengths are soon left out."""
MOST_TURNS = 3
"""Of questions within one start: with three, one sees which of them met a pause of the machine."""
LEAST_LENGTHS, LEAST_CELLS = 2, 2


class Plan(Record, frozen=True, kw_only=True):
    """What to measure at most. `passes`: rounds through all kinds of work; `seconds`: when to end, starts included
    where each length is one; `answer_s`: how long an answer should take; `depth_tokens`: of the text before deep
    prompts, 0 for none."""

    lengths: tuple[int, ...]
    kinds: tuple[str, ...]
    depth_tokens: int
    passes: int
    seconds: float
    answer_s: float
    quick: bool


class Price(Record, frozen=True, kw_only=True):
    """What things take here, in seconds. `start_s`: of a start; None where all lengths share one, which is over by
    then. `warm_s`: before anything counts, after each start; `answer_s`: of one that counts."""

    start_s: float | None
    warm_s: float
    answer_s: float


class Schedule(Record, frozen=True, kw_only=True):
    """What there is time for. `turns`: how often each visit asks everything; `seconds`: about how long all takes."""

    lengths: tuple[int, ...]
    cells: tuple[str, ...]
    turns: int
    seconds: float
    price: Price

    def visit_s(self, cells: int) -> float:
        """Of a start that is asked so many."""
        return (self.price.start_s or 0.0) + self.price.warm_s + cells * self.turns * self.price.answer_s


def plan_for(opener: Opener, *, quick: bool, drafter: bool = True, seconds: float | None = None) -> Plan:
    """The plan of `advisor trial`, or of its `--quick`."""
    kinds = tuple(each.kind for each in prompt_set().kinds)
    lengths = tuple(range(LONGEST + 1))
    if quick:
        lengths = QUICK_LENGTHS if opener.per_request else (PLAIN, 1, USUAL)
    if opener.adapts:
        lengths = (*lengths, ADAPTS)
    return Plan(
        lengths=lengths if drafter else (PLAIN,),
        kinds=QUICK_KINDS if quick else kinds,
        depth_tokens=0 if quick else min(4096, opener.context_tokens // 2),
        passes=8 if quick else 100,
        seconds=seconds or (QUICK_S if quick else FULL_S),
        answer_s=2.0 if opener.per_request and not quick else 1.0,
        quick=quick,
    )


def ordered(lengths: Sequence[int]) -> tuple[int, ...]:
    """The most telling ones first."""
    return tuple(sorted(lengths, key=lambda one: ORDER.index(one) if one in ORDER else len(ORDER)))


def scheduled(plan: Plan, cells: Sequence[str], price: Price) -> Schedule:
    """As much of the plan as its time allows; never less than plain decoding and one length, and two kinds of work."""
    return _at_request(plan, cells, price) if price.start_s is None else _at_start(plan, cells, price)


def _at_request(plan: Plan, cells: Sequence[str], price: Price) -> Schedule:
    answers = max(0.0, plan.seconds - price.warm_s) / price.answer_s / ROUNDS_WANTED
    count = _within(answers / len(cells), LEAST_LENGTHS, len(plan.lengths))
    number = _within(answers / count, LEAST_CELLS, len(cells))
    return Schedule(
        lengths=_first(plan.lengths, count), cells=spread(cells, number), turns=1, seconds=plan.seconds, price=price
    )


def _at_start(plan: Plan, cells: Sequence[str], price: Price) -> Schedule:
    start = (price.start_s or 0.0) + price.warm_s
    room = max(plan.seconds / LEAST_LENGTHS - start, plan.seconds / 4)
    number = _within(room / price.answer_s, LEAST_CELLS, len(cells))
    # A start that takes long is asked more often, since another one would cost more.
    turns = _within(min(start, room) / (number * price.answer_s), 1, MOST_TURNS)
    visit = start + number * turns * price.answer_s
    passes = 1 if turns > 1 else PASSES_WANTED
    count = _within(plan.seconds / (visit * passes), LEAST_LENGTHS, len(plan.lengths))
    return Schedule(
        lengths=_first(plan.lengths, count),
        cells=spread(cells, number),
        turns=turns,
        seconds=max(plan.seconds, visit * min(count, LEAST_LENGTHS)),
        price=price,
    )


def _within(value: float, least: int, most: int) -> int:
    return min(most, max(least, int(value)))


def _first(lengths: Sequence[int], count: int) -> tuple[int, ...]:
    """So many of the most telling ones, in their own order."""
    return tuple(one for one in lengths if one in ordered(lengths)[:count])


def spread(cells: Sequence[str], number: int) -> tuple[str, ...]:
    """So many of them, evenly from the first to the last."""
    if number >= len(cells):
        return tuple(cells)
    places = {round(place * (len(cells) - 1) / max(1, number - 1)) for place in range(number)}
    return tuple(cells[place] for place in sorted(places))
