"""A trial of servers that start slowly: the time that there is to measure in is not theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from advisor.trials import trial as measuring
from advisor.trials.prompts import Prompt
from advisor.trials.trial import Answered, Sample, Trial, plan_for

START_S, ANSWER_S = 100.0, 0.01


class Clock:
    """Goes on only when somebody says so."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class Answers:
    """Answers at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def ask(self, _prompt: Prompt, length: int, tokens: int, *, cold: bool) -> Answered:
        self._clock.now += ANSWER_S
        return Answered(
            tokens=tokens, first_s=0.001, seconds=0.01, tokens_per_s=1000.0, depth_tokens=10, read_tokens=10 * cold,
            drafted=length, accepted=0, positions=(), rounds=1,
        )  # fmt: skip

    def memory_bytes(self) -> int | None:
        return None

    def positions(self) -> tuple[float, ...]:
        return ()


class Slow:
    """Starts a server for each length, and takes longer for it than the whole trial may last."""

    per_request = adapts = False
    context_tokens = 2048

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @contextlib.contextmanager
    def open(self, length: int) -> Iterator[Answers]:
        assert length >= 0
        self._clock.now += START_S
        yield Answers(self._clock)


def test_every_length_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(measuring, "time", SimpleNamespace(monotonic=clock.monotonic))
    plan = plan_for(Slow(clock), quick=True, seconds=START_S / 2)
    trial = Trial(plan)
    found = {event.length for event in trial.run(Slow(clock)) if isinstance(event, Sample)}
    assert found == set(plan.lengths)
    assert len(found) == 3
