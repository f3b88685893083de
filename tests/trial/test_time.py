"""How a trial spends its minutes, and keeps to what it promised: on scripted servers whose clock goes as it is told."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Iterator
from unittest import mock

import pytest

from advisor.commands.trial import _watch
from advisor.pages.trial_document import _warnings
from advisor.pages.trial_words import left_out_line, outlook_line
from advisor.trials import trial as module
from advisor.trials.answers import ADAPTS, Answered
from advisor.trials.decision import Race
from advisor.trials.prompts import BYTES_PER_TOKEN, Prompt
from advisor.trials.schedule import FULL_S, ORDER, plan_for
from advisor.trials.trial import READING_AGAIN, Outlook, Trial

MINUTE = 60.0
FIXED = [length for length in ORDER if length != ADAPTS]
TEMPLATE = 12
"""Tokens around a prompt."""
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
    bytes_per_token = BYTES_PER_TOKEN

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
        depth = TEMPLATE + int(prompt.size / self.bytes_per_token)
        assert depth + tokens <= self.context_tokens, "a real server refuses that"
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


def run(server: Scripted, *, quick: bool = False) -> Trial:
    trial = Trial(plan_for(server, quick=quick))
    for _ in trial.run(server):
        pass
    return trial


GAINS = {length: 1 + 0.2 * length for length in range(9)}


@pytest.mark.parametrize("rate", [1000, 100, 20, 5])
def test_quick_keeps_to_a_minute_where_requests_say_the_length(clock: Clock, rate: float) -> None:
    """However slow the model is, down to where eight answers alone take that long; its start is not counted."""
    server = Scripted(clock, start_s=0, rate=rate, reading=20 * rate, gains=GAINS | {ADAPTS: 1.5}, per_request=True)
    server.adapts = True
    trial = run(server, quick=True)
    assert clock.now < MINUTE + 24 / rate
    found = trial.decision()
    assert found is not None
    assert {0, 3} <= {each.length for each in found.standings}
    if rate >= 100:
        assert (found.verdict, found.length) == ("keep", 5)
        assert trial.outlook is not None
        assert not left_out_line(trial.outlook)


@pytest.mark.parametrize(
    ("start_s", "starts", "most_s"),
    [(1, {0: 2, 3: 2, 1: 1}, MINUTE), (8, {0: 1, 3: 1, 1: 0}, MINUTE), (50, {0: 1, 3: 1, 1: 0}, 150)],
)
def test_quick_starts_a_server_as_often_as_its_time_allows(
    clock: Clock, start_s: float, starts: dict[int, int], most_s: float
) -> None:
    """At least twice; what it says after the first start holds to a tenth."""
    server = Scripted(clock, start_s=start_s, rate=100, reading=2000, gains=GAINS, per_request=False)
    trial = Trial(plan_for(server, quick=True))
    told = ""
    for event in trial.run(server):
        if isinstance(event, Outlook):
            assert server.starts == [0], "said after the first start"
            told = outlook_line(event, trial.plan.seconds)
    counts = Counter(server.starts)
    assert all(counts[length] >= least for length, least in starts.items()), counts
    assert trial.outlook is not None
    assert clock.now < most_s
    assert clock.now < 1.1 * trial.outlook.schedule.seconds
    assert set(counts) == set(trial.outlook.schedule.lengths), "nothing is started that was left out"
    assert f"start of {start_s:.1f} s" in told or f"start of {start_s:.0f} s" in told
    found = trial.decision()
    assert found is not None
    assert (found.verdict, found.length) == ("keep", 3)


@pytest.mark.parametrize("size", [1.0, 2.5, 4.5, 6.0])
def test_deep_prompts_are_as_deep_as_planned_whatever_a_token_is(clock: Clock, size: float) -> None:
    """A vocabulary of single letters once made a text of four times the tokens, which no context held."""
    server = Scripted(clock, start_s=1, rate=100, reading=2000, gains=GAINS, per_request=True)
    server.context_tokens, server.bytes_per_token = 8192, size
    trial = run(server)
    depth = next(each.answered.depth_tokens for each in trial.samples if each.deep)
    assert depth == pytest.approx(trial.plan.depth_tokens, rel=0.2)


def test_a_slow_start_is_asked_more_often_than_once(clock: Clock) -> None:
    """Another question costs a second, another start a minute; and what is left out is said."""
    server = Scripted(clock, start_s=60, rate=100, reading=2000, gains=GAINS, per_request=False)
    trial = run(server, quick=True)
    assert server.starts == [0, 3]
    assert all(len(trial.of(cell, length)) == 3 for cell in trial.race.cells for length in (0, 3))
    assert trial.outlook is not None
    assert outlook_line(trial.outlook, trial.plan.seconds) == (
        "each draft length takes a start of 60 s: plain and 3 take about 2 minutes; left out: length 1"
    )
    assert "no time for length 1" in left_out_line(trial.outlook)
    assert any("no time for length 1" in line for line in _warnings(trial))


@pytest.mark.parametrize(("per_request", "said"), [(False, 1), (True, 0)])
def test_the_command_says_it_before_anything_else(
    clock: Clock, capsys: pytest.CaptureFixture[str], per_request: bool, said: int
) -> None:
    """On standard error, as a line that stays; where all is as it was promised, nothing."""
    server = Scripted(clock, start_s=60, rate=100, reading=2000, gains=GAINS, per_request=per_request)
    trial = Trial(plan_for(server, quick=True))
    _watch(trial.run(server), trial.plan)
    found = capsys.readouterr()
    assert not found.out
    assert found.err.count("each draft length takes a start of 60 s: plain and 3 take about 2 minutes") == said


def test_where_answers_are_slow_few_kinds_of_work_are_asked_and_the_rest_is_counted(clock: Clock) -> None:
    server = Scripted(clock, start_s=0, rate=2, reading=50, gains=GAINS, per_request=True)
    trial = Trial(plan_for(server, quick=False, seconds=300))
    for _ in trial.run(server):
        pass
    assert trial.outlook is not None
    assert len(trial.race.cells) < 9
    assert "lengths 1, 2, 4, 5, 6, 7 and 8; 11 of 18 kinds of work" in left_out_line(trial.outlook)
    assert clock.now < 320


@pytest.mark.parametrize("start_s", range(2, 200, 7))
def test_no_start_is_begun_for_which_there_is_no_time(clock: Clock, start_s: int) -> None:
    """Nor a second pass that could only begin: one length alone compares nothing."""
    gains = dict.fromkeys(range(9), 1.0)
    server = Scripted(clock, start_s=start_s, rate=50, reading=500, gains=gains, per_request=False)
    trial = Trial(plan_for(server, quick=True, seconds=300))
    with mock.patch.object(Race, "note", autospec=True, side_effect=Race.note) as noted:
        for _ in trial.run(server):
            pass
    assert trial.outlook is not None
    assert clock.now < 1.05 * trial.outlook.schedule.seconds
    assert all(len(call.args[2]) >= 2 for call in noted.call_args_list)


def test_a_slow_server_that_is_started_for_each_length_is_asked_with_few_of_them_and_each_twice(clock: Clock) -> None:
    server = Scripted(clock, start_s=20, rate=10, reading=100, gains={0: 1.0, 3: 1.6, 1: 1.3}, per_request=False)
    trial = run(server)
    counts = Counter(server.starts)
    assert 3 <= len(counts) < len(FIXED)
    assert list(counts) == FIXED[: len(counts)]
    assert counts[0] >= 2
    assert counts[3] >= 2
    assert max(server.read_s) < 1.2 * READING_AGAIN * FULL_S
    found = trial.decision()
    assert found is not None
    assert (found.verdict, found.length) == ("keep", 3)
    assert clock.now < FULL_S + 60, "what is begun is ended, no more"


def test_a_fast_one_is_asked_with_all(clock: Clock) -> None:
    gains = {length: 1 + 0.1 * length for length in range(9)}
    server = Scripted(clock, start_s=1, rate=300, reading=2000, gains=gains, per_request=False)
    trial = run(server)
    assert set(server.starts) == set(FIXED)
    found = trial.decision()
    assert found is not None
    assert (found.verdict, found.length) == ("keep", 8)
    assert clock.now < FULL_S / 2, "it is clear long before"


def test_where_the_answer_is_that_either_will_do_it_ends_early(clock: Clock) -> None:
    gains = {length: 1 - 0.05 * (length - 1) for length in range(2, 9)} | {0: 1.0, 1: 1.012}
    server = Scripted(clock, start_s=1, rate=300, reading=2000, gains=gains, per_request=True)
    trial = run(server)
    assert trial.race.settled
    found = trial.decision()
    assert found is not None
    assert found.length in (0, 1)
    assert clock.now < FULL_S / 2
