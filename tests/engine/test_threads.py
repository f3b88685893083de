"""Fewer threads while the cores are busy, all of them when they are not."""

from __future__ import annotations

import random
from collections.abc import Callable

from backends.native.threads import Threads


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(threads: Threads, clock: Clock, cost: Callable[[int], float], seconds: float) -> list[int]:
    """Decode for so long; the counts that were used, step by step."""
    counts = []
    until = clock.now + seconds
    while clock.now < until:
        counts.append(threads.count)
        took = cost(threads.count)
        clock.now += took
        threads.record(4, took)
    return counts


def quiet(rng: random.Random) -> Callable[[int], float]:
    return lambda count: 0.004 / count * rng.uniform(0.9, 1.3)


def busy(rng: random.Random) -> Callable[[int], float]:
    """A thread more than one waits for its core, now and then for long."""
    return lambda count: 0.004 * rng.uniform(0.9, 1.3) / count + (rng.choice((0, 0.02, 0.06)) if count > 1 else 0)


def test_a_quiet_machine_is_used_whole() -> None:
    clock = Clock()
    assert set(run(Threads(8, clock), clock, quiet(random.Random(1)), 60)) == {8}


def test_busy_cores_are_left_alone_and_taken_back() -> None:
    clock, rng = Clock(), random.Random(2)
    threads = Threads(2, clock)
    counts = run(threads, clock, busy(rng), 30)
    assert counts[30:].count(1) > 0.95 * len(counts[30:])
    assert set(run(threads, clock, quiet(rng), 60)[-50:]) == {2}


def test_one_core_stays_one() -> None:
    clock = Clock()
    assert set(run(Threads(1, clock), clock, busy(random.Random(3)), 5)) == {1}


def test_steps_of_changing_size_are_not_compared() -> None:
    clock, threads = Clock(), Threads(4)
    for step in range(200):
        clock.now += 0.01
        assert threads.record(1 + step % 7, 0.001 * (1 + step % 7)) == 4


def test_a_pause_is_not_a_busy_core() -> None:
    threads = Threads(2)
    for _ in range(20):
        for took in (0.001, 0.001, 0.001, 0.05, 0.001, 0.001, 0.001, 0.001):
            assert threads.record(4, took) == 2


def test_a_trial_ends_where_steps_change_their_size_for_good() -> None:
    """Four rows at a time were decoded when it began, and only single ones after it."""
    clock = Clock()
    threads = Threads(2, clock)
    for took in (0.001, 0.02, 0.05, 0.02):
        threads.record(4, took)
    assert threads.count == 1
    assert [threads.record(1, 0.001) for _ in range(8)][-1] == 2
