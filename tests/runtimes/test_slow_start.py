"""A trial of servers that start slowly: there are as few starts as tell something."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from advisor.trials import trial as measuring
from advisor.trials.answers import Answered
from advisor.trials.prompts import Prompt
from advisor.trials.schedule import plan_for
from advisor.trials.trial import Outlook, Sample, Trial

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


def test_what_there_is_to_compare_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain decoding and one length, whatever a start takes; and no further start."""
    clock = Clock()
    monkeypatch.setattr(measuring, "time", SimpleNamespace(monotonic=clock.monotonic))
    plan = plan_for(Slow(clock), quick=True, seconds=START_S / 2)
    trial = Trial(plan)
    events = list(trial.run(Slow(clock)))
    assert {event.length for event in events if isinstance(event, Sample)} == {0, 3}
    (outlook,) = (event for event in events if isinstance(event, Outlook))
    assert outlook.lengths == (1,)
    assert outlook.schedule.seconds == pytest.approx(clock.now, rel=0.05)
    assert clock.now < 2.5 * START_S
