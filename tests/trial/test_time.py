"""How a trial spends its minutes: on scripted servers whose clock goes as fast as it is told."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from advisor.trials import trial as module
from advisor.trials.prompts import BYTES_PER_TOKEN, Prompt
from advisor.trials.trial import READING_AGAIN_S, VISIT_ORDER, Answered, Trial, plan_for

SECONDS = 900.0
CACHED = 60
"""Tokens that are read of a prompt whose beginning is in the cache."""


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Scripted:
    """A server whose length is fixed at the start. `rate`, `reading`: tokens a second; `gains`: by length."""

    adapts = False
    context_tokens = 16384

    def __init__(
        self, clock: Clock, *, start_s: float, rate: float, reading: float, gains: dict[int, float], per_request: bool
    ) -> None:
        self.clock, self.start_s, self.rate, self.reading, self.gains = clock, start_s, rate, reading, gains
        self.per_request = per_request
        self.random = random.Random(1)
        self.starts: list[int] = []
        self.read_s: list[float] = []

    @contextlib.contextmanager
    def open(self, length: int) -> Iterator[Scripted]:
        self.starts.append(length)
        self.clock.now += self.start_s
        yield self

    def ask(self, prompt: Prompt, length: int, tokens: int, *, cold: bool) -> Answered:
        depth = int(sum(len(turn["content"]) for turn in prompt.messages) / BYTES_PER_TOKEN)
        read = depth if cold else CACHED
        first = read / self.reading
        if prompt.deep and cold:
            self.read_s.append(first)
        decoding = tokens / (self.rate * self.gains.get(length, 0.5)) * self.random.gauss(1, 0.01)
        self.clock.now += first + decoding
        return Answered(
            tokens=tokens, first_s=first, seconds=first + decoding, tokens_per_s=tokens / decoding,
            depth_tokens=depth, read_tokens=read,
        )  # fmt: skip

    def memory_bytes(self) -> int | None:
        return None

    def positions(self) -> tuple[float, ...]:
        return ()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def run(server: Scripted) -> Trial:
    trial = Trial(plan_for(server, quick=False, seconds=SECONDS))
    for _ in trial.run(server):
        pass
    return trial


def test_a_slow_server_that_is_started_for_each_length_is_asked_with_few_of_them_and_each_twice(clock: Clock) -> None:
    server = Scripted(clock, start_s=20, rate=10, reading=100, gains={0: 1.0, 3: 1.6, 1: 1.3}, per_request=False)
    trial = run(server)
    counts = Counter(server.starts)
    assert 3 <= len(counts) < len(VISIT_ORDER)
    assert list(counts) == list(VISIT_ORDER[: len(counts)])
    assert counts[0] >= 2
    assert counts[3] >= 2
    assert max(server.read_s) < 1.2 * READING_AGAIN_S
    found = trial.decision()
    assert found is not None
    assert (found.verdict, found.length) == ("keep", 3)
    assert clock.now < SECONDS + 60, "what is begun is ended, no more"


def test_a_fast_one_is_asked_with_all(clock: Clock) -> None:
    gains = {length: 1 + 0.1 * length for length in range(9)}
    server = Scripted(clock, start_s=1, rate=300, reading=2000, gains=gains, per_request=False)
    trial = run(server)
    assert set(server.starts) == set(VISIT_ORDER)
    found = trial.decision()
    assert found is not None
    assert (found.verdict, found.length) == ("keep", 8)
    assert clock.now < SECONDS / 2, "it is clear long before"


def test_where_the_answer_is_that_either_will_do_it_ends_early(clock: Clock) -> None:
    gains = {length: 1 - 0.05 * (length - 1) for length in range(2, 9)} | {0: 1.0, 1: 1.012}
    server = Scripted(clock, start_s=1, rate=300, reading=2000, gains=gains, per_request=True)
    trial = run(server)
    assert trial.race.settled
    found = trial.decision()
    assert found is not None
    assert found.length in (0, 1)
    assert clock.now < SECONDS / 2
