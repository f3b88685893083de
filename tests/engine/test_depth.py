"""Draft lengths that adapt, on simulated machines: near the best fixed length, never behind plain decoding."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import pytest

from backends.native.belief import Belief
from backends.native.costs import Costs
from backends.native.depth import Depth
from backends.native.pace import Adaptive

MOST = 15
LINEAR = tuple(0.26 + 0.40 * rows for rows in range(17))
"""Milliseconds by rows: a processor that is bound by arithmetic."""
BANDWIDTH = tuple(0.95 + 0.05 * rows for rows in range(17))
FOURS = tuple({0: 0, 1: 1.0, 2: 1.37, 3: 1.7}.get(rows, 1.21 + 0.2 * (-(-rows // 4) - 1) * 4) for rows in range(17))
"""Kernels that take rows by fours and fall back to single ones below."""
CURVES = {"linear": LINEAR, "bandwidth": BANDWIDTH, "fours": FOURS}


class Text(NamedTuple):
    """How often a guess is right, and how much the drafter's confidence says about that (0 to 1)."""

    right: float
    knows: float = 0.5
    sure: float | None = None
    """How sure the drafter is whatever is true; None: as sure as it is right."""
    places: tuple[float, ...] = ()
    """Where it depends on the place in the draft: of each place."""


class World:
    """A machine and a text that changes, in simulated seconds."""

    def __init__(
        self, costs: tuple[float, ...], step: float, change: float = 0.0, noise: float = 0.1, seed: int = 0
    ) -> None:
        self.costs, self.step, self.change, self.noise = costs, step, change, noise
        self.rows = 0
        self.random = random.Random(seed)
        self.depth = Depth(MOST)
        self.seconds = 0.0
        self.tokens = 0
        self.lengths: list[int] = []
        for rows in (1, 2, 4, 3, 6, 8, 16):
            for _ in range(4):
                self.depth.costs.note(rows, self.took(costs[rows]))
                self.depth.costs.note_change(self.took(costs[rows] + change) - self.took(costs[rows]))

    def took(self, cost: float) -> float:
        """With noise, and now and then a pause."""
        pause = 20 * cost if self.random.random() < 0.002 else 0
        return cost * self.random.uniform(1 - self.noise, 1 + self.noise) + pause

    def guess(self, text: Text) -> tuple[bool, float]:
        """Whether the next guess is right, and how sure the drafter is."""
        odds = text.right
        if text.knows:
            spread = min(odds, 1 - odds) * text.knows
            odds += self.random.choice((-spread, spread))
        return self.random.random() < odds, odds if text.sure is None else text.sure

    def round(self, text: Text) -> None:
        depth = self.depth
        depth.look()
        pace = None if depth.rests() else Adaptive(depth, MOST)
        accepted, drafting, alive = 0, 0.0, True
        while pace is not None and pace.goes_on():
            drafting += self.took(self.step)
            right, sure = self.guess(text)
            if not pace.takes(sure):
                break
            alive = alive and right
            accepted += alive
        probing = pace is not None and pace.probing
        drafted = len(pace.taken) if pace and not probing else 0
        rows = depth.costs.padded(drafted + 1, MOST + 1) if drafted else 1
        cost = self.costs[rows] + (self.change if rows != self.rows else 0)
        tokens = 1 if probing else accepted + 1
        depth.record(rows, self.took(cost), tokens)
        if pace is not None:
            depth.judge(pace, rows, accepted, drafting)
        self.seconds += cost + (pace.steps * self.step if pace else 0)
        self.tokens += tokens
        self.rows = rows
        self.lengths.append(drafted)

    def run(self, text: Text, rounds: int) -> float:
        """Tokens a second over so many rounds."""
        tokens, seconds = self.tokens, self.seconds
        for _ in range(rounds):
            self.round(text)
        return (self.tokens - tokens) / (self.seconds - seconds)


def fixed(costs: tuple[float, ...], step: float, right: float | tuple[float, ...]) -> list[float]:
    """Tokens a second of each fixed length; `right`: share of right guesses, or those of all places."""
    tokens = reached = 1.0
    speeds = [1 / costs[1]]
    for count, share in enumerate((right,) * MOST if isinstance(right, float) else right, 1):
        reached *= share
        tokens += reached
        speeds.append(tokens / (costs[count + 1] + count * step))
    return speeds


def curve(*eight: float) -> tuple[float, ...]:
    """Costs of up to eight rows, and as much again for each row beyond."""
    return (0.0, *eight, *(eight[-1] + (eight[-1] - eight[0]) / 7 * more for more in range(1, 9)))


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("right", [0.0, 0.3, 0.6, 0.8, 0.9, 0.97, 1.0])
@pytest.mark.parametrize("step", [0.02, 0.12])
def test_near_the_best_fixed_length(curve: str, right: float, step: float) -> None:
    """Without any help from the drafter's confidence, which says nothing here."""
    world = World(CURVES[curve], step)
    text = Text(right, knows=0, sure=0.7)
    world.run(text, 150)
    speeds = fixed(world.costs, step, right)
    best = max(speeds)
    assert world.run(text, 2000) > 0.88 * best, (speeds.index(best), world.lengths[-50:])


@pytest.mark.parametrize("curve", CURVES)
def test_confidence_beats_every_fixed_length(curve: str) -> None:
    world = World(CURVES[curve], 0.03)
    text = Text(0.6, knows=0.9)
    world.run(text, 150)
    # Where rows come by fours, three guesses are nearly free, and there is little left to know better.
    assert world.run(text, 2000) > (0.95 if curve == "fours" else 1) * max(fixed(world.costs, 0.03, 0.6))


@pytest.mark.parametrize("sure", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("curve", CURVES)
def test_never_right_costs_next_to_nothing(curve: str, sure: float) -> None:
    world = World(CURVES[curve], 0.12)
    assert world.run(Text(0.0, 0, sure), 100) > 0.85 / world.costs[1]
    assert world.run(Text(0.0, 0, sure), 3000) > 0.98 / world.costs[1]


@pytest.mark.parametrize("curve", CURVES)
def test_a_task_that_changes(curve: str) -> None:
    """From prose to code and back: within a hundred rounds it is as fast as it gets."""
    world = World(CURVES[curve], 0.05)
    prose, code = Text(0.1, 0.3), Text(0.97, 0.5)
    for text in (prose, code, prose, code):
        world.run(text, 130)
        speed = world.run(text, 400)
        assert speed > 0.93 * max(fixed(world.costs, 0.05, text.right)), text


class Scripted(World):
    """A text whose guesses are right as often as its list says, place by place, as they were for the demo pair."""

    def guess(self, text: Text) -> tuple[bool, float]:
        place = len(self.taken)
        self.taken.append(place)
        return super().guess(text._replace(right=text.places[place]))

    def round(self, text: Text) -> None:
        self.taken: list[int] = []
        super().round(text)

    def answer(self, text: Text, tokens: int = 96) -> float:
        """Its speed, as a share of the best fixed length's."""
        self.depth.begin()
        before, since = self.tokens, self.seconds
        while self.tokens < before + tokens:
            self.round(text)
        best = max(fixed(self.costs, self.step, text.places))
        return (self.tokens - before) / (self.seconds - since) / best


QUESTION = Text(1, 0.6, places=(0.99, 1, 1, 0.99, 1, 0.94, 0.95, 0.88) + (0.8,) * 7)
PROSE = Text(0, 0.6, places=(0.46, 0.63, 0.7, 0.7) + (0.6,) * 11)
MEASURED = {
    "two cores": (curve(0.66, 1.02, 1.32, 1.60, 2.04, 2.38, 2.86, 2.87), 0.085, 0.22),
    "others beside it": (curve(1.5, 2.35, 3.5, 3.6, 5.2, 5.9, 6.7, 7.0), 0.2, 0.35),
}
"""Milliseconds by rows, of a drafter's step, and of another number of rows: the demo pair on two machines."""


@pytest.mark.parametrize("machine", MEASURED)
def test_each_answer_is_another_task(machine: str) -> None:
    """What was learned of prose does not hold questions up for longer than an answer, nor the other way about."""
    costs, step, change = MEASURED[machine]
    first, later, prose = [], [], []
    for seed in range(12):
        world = Scripted(costs, step, change, seed=seed)
        prose += [world.answer(PROSE) for _ in range(3)]
        first.append(world.answer(QUESTION))
        later += [world.answer(QUESTION) for _ in range(4)]
        prose += [world.answer(PROSE) for _ in range(2)]
    assert sum(first) / len(first) > 0.8
    assert sum(later) / len(later) > 0.93
    assert sum(prose) / len(prose) > 0.95


@pytest.mark.parametrize("machine", MEASURED)
def test_guesses_that_hardly_pay(machine: str) -> None:
    """Near the share of right guesses from which on drafting pays, neither probes nor tries cost much."""
    costs, step, change = MEASURED[machine]
    for share in (0.7, 0.75, 0.8, 0.85):
        text = Text(share, 0.6, places=(share,) * MOST)
        found = []
        for seed in range(6):
            world = Scripted(costs, step, change, seed=seed)
            world.answer(text)
            found += [world.answer(text) for _ in range(8)]
        assert sum(found) / len(found) > 0.965, share


def test_a_drafter_that_is_never_right_is_asked_once_an_answer() -> None:
    costs, step, change = MEASURED["two cores"]
    world = Scripted(costs, 3 * step, change)
    text = Text(0, 0, sure=0.5, places=(0.0,) * MOST)
    for _ in range(4):
        world.answer(text)
    asked = 0
    for _ in range(20):
        world.depth.begin()
        for _ in range(95):
            world.round(text)
            asked += bool(world.taken)
    assert 5 <= asked <= 21


def test_a_slow_neighbour_changes_all_costs_alike() -> None:
    """The machine is three times slower: soon the lengths are what pays again, those not tried meanwhile included."""
    shares = []
    for seed in range(6):
        world = World(LINEAR, 0.08, seed=seed)
        text = Text(0.97, 0.3)
        world.run(text, 300)
        world.costs = tuple(3 * cost for cost in LINEAR)
        world.step *= 3
        world.run(text, 100)
        shares.append(world.run(text, 200) / max(fixed(world.costs, world.step, text.right)))
    assert sum(shares) / len(shares) > 0.96


CHANGE = 0.4
"""Of a plain round: what another number of rows costs with a very small model."""


@pytest.mark.parametrize("right", [0.0, 0.5, 0.97])
def test_where_another_number_of_rows_costs_more(right: float) -> None:
    """Fixed lengths never change theirs, and yet they are not far ahead."""
    world = World(LINEAR, 0.08, change=CHANGE)
    text = Text(right, 0.3)
    world.run(text, 150)
    assert world.depth.costs.change == pytest.approx(CHANGE, rel=0.5)
    assert world.run(text, 2000) > 0.93 * max(fixed(world.costs, 0.08, right))


def test_a_change_of_rows_has_its_price() -> None:
    costs = Costs(4)
    for rows in range(1, 5):
        costs.note(rows, float(rows))
    costs.note_change(5.0)
    costs.rows = 3
    assert [costs.of(rows) for rows in (1, 2, 3, 4)] == [6, 7, 3, 9]
    assert costs.padded(2, 4) == 3
    assert costs.table() == [6, 3, 3, 9]


def test_home_is_free() -> None:
    """The change to what pays best in the long run is paid once: it keeps nobody from going there."""
    costs = Costs(4)
    for rows in range(1, 5):
        costs.note(rows, float(rows))
    costs.note_change(5.0)
    costs.rows, costs.home = 1, 4
    assert costs.table()[0] == 1
    assert costs.table()[3] == 4


def test_a_count_measured_wrongly_is_no_slower_machine() -> None:
    """Used in turn with another, it moves alone; where all have become slower, those not used move too."""
    costs = Costs(8)
    for rows in range(1, 9):
        for _ in range(4):
            costs.note(rows, 1.0 + 0.3 * rows if rows != 4 else 1.6)
    for _ in range(150):
        costs.note(4, 2.2)
        costs.note(1, 1.3)
    assert costs.seconds[4] / costs.seconds[1] == pytest.approx(2.2 / 1.3, rel=0.02)
    assert costs.seconds[8] / costs.seconds[1] == pytest.approx(3.4 / 1.3, rel=0.12)
    for _ in range(150):
        costs.note(4, 2 * 2.2)
    assert costs.seconds[8] == pytest.approx(2 * 3.4, rel=0.2)


def test_a_change_that_was_measured_too_high() -> None:
    """A pause of the machine while measuring: no cost falls to nothing or below."""
    depth = Depth(MOST)
    depth.costs.note(1, 1.0)
    depth.costs.note_change(50.0)
    for _ in range(20):
        for rows in (4, 1):
            depth.record(rows, 1.0, 1)
    assert min(depth.costs.seconds[1:]) > 0


def test_a_hopeless_guess_is_compared_and_not_verified() -> None:
    world = World(LINEAR, 0.12)
    world.run(Text(0.0, 0, sure=0.01), 400)
    world.depth.look()
    pace = Adaptive(world.depth, MOST)
    assert pace.goes_on()
    assert pace.takes(0.01)
    assert pace.probing
    assert not pace.goes_on()


def test_rows_are_padded_where_more_cost_less() -> None:
    costs = Costs(16)
    for rows in range(1, 9):
        costs.note(rows, FOURS[rows])
    assert [costs.padded(rows, 16) for rows in (1, 2, 3, 4, 5)] == [1, 4, 4, 4, 5]
    assert costs.padded(3, 3) == 3
    table = costs.table()
    assert table[:4] == [1.0, 1.21, 1.21, 1.21]
    assert table[4] == table[7] == FOURS[8]


def test_costs_between_and_beyond_those_measured() -> None:
    costs = Costs(16)
    costs.note(2, 2.0)
    assert costs.seconds[1] < 2.0 < costs.seconds[3]
    costs.note(4, 3.0)
    assert costs.seconds[3] == pytest.approx(2.5)
    assert costs.seconds[1] == pytest.approx(1.5)
    assert costs.seconds[16] == pytest.approx(9.0)


def test_a_pause_is_no_cost() -> None:
    costs = Costs(4)
    for _ in range(50):
        costs.note(1, 1.0)
    costs.note(1, 500.0)
    assert costs.seconds[1] < 1.1


def test_beliefs() -> None:
    belief = Belief((0.5,), (0.2, 0.9))
    assert (belief.of(0.4), belief.of(0.5)) == pytest.approx((0.2, 0.9))
    for _ in range(200):
        belief.note(0.9, 0.0)
    assert belief.of(0.9) < 0.1
    assert belief.of(0.1) == pytest.approx(0.2)
    for _ in range(400):
        belief.fade()
    assert belief.of(0.9) > 0.8


def repeats(right: Callable[[int], bool], rounds: int) -> list[int]:
    """How many tokens of a repeated passage are verified, round by round."""
    depth, counts = Depth(MOST), []
    for rows in range(1, 17):
        depth.costs.note(rows, LINEAR[rows])
    for index in range(rounds):
        depth.look()
        count, _ = depth.repeated(4, MOST)
        accepted = next((i for i in range(count) if not right(index)), count)
        depth.record(count + 1, LINEAR[count + 1], accepted + 1)
        if count:
            depth.judge_repeated(4, count, accepted)
        counts.append(count)
    return counts


def test_repeated_passages() -> None:
    assert min(repeats(lambda _: True, 100)[30:]) >= 6
    assert sum(repeats(lambda _: False, 300)) < 60
