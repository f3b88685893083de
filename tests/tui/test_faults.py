"""Every step with everything that can go wrong in it: it fails with a reason, it fails oddly, it hangs. The user reads
why and what to do next, Escape goes back, leaving leaves, nothing is left over, and the step can be done again.

Of what hangs, each step with one way out of it, and with all of them where ADVISOR_FULL=1. With the real engine:
`test_whole_walk`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from textual.pilot import Pilot

from advisor.errors import RuntimeFailed
from advisor.running import sessions
from advisor.running.order import Order, Setup
from advisor.tui import host, words
from advisor.tui import tryout as tryouts
from advisor.tui.app import Wizard
from advisor.tui.screens import answer as answer_step
from advisor.tui.screens.chat import ChatStep
from advisor.tui.screens.leave import Leave
from advisor.tui.settings import Settings
from advisor.tui.step import Step
from advisor.tui.widgets.forward import Forward
from advisor.tui.widgets.question import Question
from backends.base import Endpoint, Stats
from tests.tui import scripted
from tests.tui.drive import send, text, until
from tests.tui.scripted import Script, Scripted
from tests.tui.world import services

FULL = os.environ.get("ADVISOR_FULL") == "1"
REASON, HINT = "the server died: killed", "look into the log"
LONGEST_S = 120.0
"""What hangs is let go by the test; after so long it was waited for."""
Kind = Literal["told", "odd", "hangs"]
Way = Literal["escape", "quit", "ctrl+c", "late", "late-error"]
WAYS: tuple[Way, ...] = ("escape", "quit", "ctrl+c", "late", "late-error")


class Fault:
    """What a step does instead of its work, the first time that it comes by once it is `armed`."""

    def __init__(self, stage: str, kind: Kind) -> None:
        self.stage, self.kind = stage, kind
        self.armed = False
        self.reached = threading.Event()
        self.released = threading.Event()
        self.error_afterwards = False
        self.was_waited_for = False

    def pass_by(self, stage: str, lost: Callable[[], bool] = lambda: False) -> None:
        """`lost`: whether what would answer was stopped."""
        if not self.armed or stage != self.stage:
            return
        self.armed = False
        self.reached.set()
        if self.kind == "told":
            raise RuntimeFailed(REASON, hint=HINT)
        if self.kind == "odd":
            raise ZeroDivisionError("a defect of a plugin")
        for _ in range(int(LONGEST_S / 0.02)):
            if self.released.wait(0.02):
                break
            if lost():
                raise RuntimeFailed("the connection was lost")
        else:
            self.was_waited_for = True
        if self.error_afterwards:
            raise RuntimeFailed(REASON, hint=HINT)


class Faulty(Scripted):
    """Goes wrong where it is told to, and cleans nothing up itself."""

    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault
        self.pause_s = 0.0005

    def fail(self, stage: str, endpoint: Endpoint) -> None:
        name = {"start": "load", "answer": "answer"}.get(stage, stage)
        self.fault.pass_by(name, lambda: self.gone(endpoint))

    def client(self, endpoint: Endpoint) -> Script:
        return Script(self, endpoint)

    def stats(self, endpoint: Endpoint) -> Stats:
        self.fault.pass_by("stats")
        return super().stats(endpoint)

    def stop(self, endpoint: Endpoint) -> None:
        self.fault.pass_by("stop")
        super().stop(endpoint)


def configured(wanted: Order) -> Setup:
    """With files that are here: what is measured is kept with what identifies them."""
    setup = scripted.configure(wanted)
    model = msgspec.structs.replace(setup.model, target=Path(__file__), drafter=Path(scripted.__file__))
    return msgspec.structs.replace(setup, model=model)


@dataclass
class Stand:
    """One run: the wizard, what goes wrong in it, and what it runs on."""

    fault: Fault
    backend: Faulty = field(init=False)
    app: Wizard = field(init=False)
    pilot: Pilot[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.backend = Faulty(self.fault)
        usual = services("rtx-4090")

        def faulty(stage: str, work: Callable[..., Any]) -> Callable[..., Any]:
            def call(*given: Any) -> Any:
                self.fault.pass_by(stage)
                return work(*given)

            return call

        world = replace(
            usual,
            detect=faulty("detect", usual.detect),
            sessions=faulty("sessions", sessions.living),
            files_here=faulty("files", usual.files_here),
            configure=faulty("decide", configured),
            fetch=faulty("fetch", usual.fetch),
            backend=lambda _: self.backend,
            each_s=0.1,
        )
        self.app = Wizard(services=world, options=Settings(), remember=False)

    async def until(self, what: Callable[[], object]) -> None:
        await until(self.pilot, what)

    async def press(self, key: str) -> None:
        """A key, and a moment: whatever hangs, no key waits for it."""
        send(self.app, key)
        await self.pilot.pause(0.03)

    async def at(self, step: str) -> None:
        await self.until(lambda: isinstance(self.app.screen, Step) and self.app.screen.STEP == step)  # noqa: SIM300
        # A key that comes while one screen goes and another comes is nobody's.
        await self.pilot.pause(0.1)

    async def go_on(self) -> None:
        """The first button, once it can be pressed."""
        await self.until(lambda: self.app.screen.query(Forward) and not self.app.screen.query_one(Forward).disabled)
        await self.press("enter")

    @property
    def shown(self) -> str:
        said = " ".join(one.message for one in self.app._notifications)
        return " ".join(text(self.app).split()) + " " + said

    @property
    def chat(self) -> ChatStep:
        assert isinstance(self.app.screen, ChatStep)
        return self.app.screen


Doing = Callable[[Stand], Awaitable[None]]


# ---- The way to each step


async def nowhere(_: Stand) -> None:
    """It is there already."""


async def to_summary(stand: Stand) -> None:
    await stand.until(lambda: stand.app.answer is not None)
    await stand.press("s")
    await stand.at("summary")


async def to_start(stand: Stand) -> None:
    await to_summary(stand)
    await stand.until(lambda: stand.app.errand is not None)
    await stand.go_on()
    await stand.at("start")


async def running(stand: Stand) -> None:
    await to_start(stand)
    await stand.until(lambda: stand.app.live is not None)


async def to_trial(stand: Stand) -> None:
    await running(stand)
    stand.fault.armed = True
    stand.app.action_go("trial")
    await stand.at("trial")


async def to_chat(stand: Stand) -> None:
    await running(stand)
    stand.app.action_go("chat")
    await stand.at("chat")
    stand.fault.armed = True


async def ask(stand: Stand) -> None:
    await to_chat(stand)
    await stand.until(lambda: isinstance(stand.app.focused, Question))
    await stand.press("a")
    await stand.press("enter")


async def stop(stand: Stand) -> None:
    await to_chat(stand)
    stand.app.action_end()


def key(*keys: str) -> Doing:
    async def pressed(stand: Stand) -> None:
        for each in keys:
            await stand.press(each)

    return pressed


async def on(stand: Stand) -> None:
    await stand.go_on()


async def on_and_again(stand: Stand) -> None:
    stand.app.action_go("trial")
    await stand.at("trial")
    await stand.until(lambda: stand.app.tryout is not None and not stand.app.tryout.in_the_way)
    await stand.press("r")


async def end(stand: Stand) -> None:
    stand.app.action_end()


async def to_chat_again(stand: Stand) -> None:
    stand.app.action_go("chat")
    await stand.at("chat")


# ---- The steps


def started(stand: Stand) -> bool:
    return stand.app.live is not None


def tried(stand: Stand) -> bool:
    tryout = stand.app.tryout
    return tryout is not None and tryout.over and tryout.error is None and len(tryout.samples) > 0


def answered(stand: Stand) -> bool:
    live = stand.app.live
    return live is not None and bool(live.talk.said) and live.talk.said[-1].ended == ""


def counted(stand: Stand) -> bool:
    return isinstance(stand.app.screen, ChatStep) and stand.chat.stats is not None and not stand.chat.trouble


@dataclass(frozen=True)
class Place:
    """A step. `reach`: the way to what goes wrong. `offers`: what is said to be possible then. `again`: does it.
    `back`: where Escape leads; `resume`: does it from there. `fine`: whether it went well. `early`: it goes wrong from
    the start, otherwise once the way to it is done."""

    stage: str
    reach: Doing
    offers: str
    again: Doing
    back: str
    resume: Doing
    fine: Callable[[Stand], bool]
    early: bool = True
    per_request: bool = True


def reckoned(stand: Stand) -> bool:
    return stand.app.answer is not None


PLACES = {
    "detect": Place("detect", nowhere, "r looks again", key("r"), "answer", key("r"), reckoned),
    "background": Place("sessions", nowhere, REASON, key("r"), "answer", key("r"), reckoned),
    "summary": Place("files", to_summary, "r looks for them again", key("r"), "answer", key("s"),
                     lambda s: s.app.errand is not None),
    "decide": Place("decide", to_start, "Try again", on, "summary", on, started),
    "download": Place("fetch", to_start, "Try again", on, "summary", on, started),
    "load": Place("load", to_start, "Try again", on, "summary", on, started),
    "proof": Place("chat", to_start, "Try again", on, "summary", on, started),
    "trial": Place("chat", to_trial, "Again", key("r"), "start", on_and_again, tried, early=False),
    "trial of its own": Place("chat", to_trial, "Again", nowhere, "start", nowhere, lambda s: s.app.live is not None,
                              early=False, per_request=False),
    "answering": Place("answer", ask, "Retry", key("ctrl+r"), "chat", key("ctrl+r"), answered, early=False),
    "idle": Place("stats", to_chat, REASON, nowhere, "start", to_chat_again, counted, early=False),
    "stop": Place("stop", stop, REASON, end, "start", end, lambda s: s.app.live is None, early=False),
}  # fmt: skip
ALL = [(place, way) for place in PLACES for way in WAYS]
QUICK = [(place, WAYS[number % len(WAYS)]) for number, place in enumerate(PLACES)]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said after seconds is said at once here."""
    monkeypatch.setattr(host, "PATIENCE_S", 0.5)
    monkeypatch.setattr(tryouts, "SILENT_S", 0.2)
    monkeypatch.setattr(words, "SILENT_S", 0.3)
    monkeypatch.setattr(answer_step, "LONG_S", 0.3)


@pytest.fixture
def watched() -> Iterator[list[Stand]]:
    """Runs that are looked after when they are over: no server, nobody waited for what hung."""
    stands: list[Stand] = []
    yield stands
    for stand in stands:
        stand.fault.released.set()


def run(stand: Stand, script: Doing) -> None:
    async def all_of_it() -> None:
        async with stand.app.run_test(size=(80, 24)) as pilot:
            stand.pilot = pilot
            await script(stand)

    asyncio.run(all_of_it())
    assert not stand.fault.was_waited_for


def set_up(name: str, kind: Kind, watched: list[Stand]) -> tuple[Place, Stand]:
    place = PLACES[name]
    stand = Stand(Fault(place.stage, kind))
    stand.backend.drafts_per_request = place.per_request
    stand.fault.armed = place.early
    watched.append(stand)
    return place, stand


async def leave_nothing(stand: Stand) -> None:
    """Stop what runs."""
    if stand.app.live is not None:
        stand.app.action_end()
        await stand.until(lambda: stand.app.live is None)


def nothing_is_left(stand: Stand) -> None:
    assert not stand.backend.running
    assert not sessions.everything()


@pytest.mark.parametrize("kind", ["told", "odd"])
@pytest.mark.parametrize("name", PLACES)
def test_it_fails(name: str, kind: Kind, watched: list[Stand]) -> None:
    """The reason and the next choice are on the screen, and that choice works."""
    place, stand = set_up(name, kind, watched)
    reason = (REASON, HINT) if kind == "told" else ("a defect of a plugin", "this is a defect of advisor")

    async def script(stand: Stand) -> None:
        await place.reach(stand)
        await stand.until(stand.fault.reached.is_set)
        await stand.until(lambda: reason[0] in stand.shown)
        if place.stage != "stats":  # in a narrow terminal, a line
            await stand.until(lambda: reason[1] in stand.shown)
        await stand.until(lambda: place.offers.replace(REASON, reason[0]) in stand.shown)
        assert "Traceback" not in stand.shown
        await place.again(stand)
        await stand.until(lambda: place.fine(stand))
        await leave_nothing(stand)

    run(stand, script)
    nothing_is_left(stand)


@pytest.mark.parametrize(("name", "way"), ALL if FULL else QUICK)
def test_it_hangs(name: str, way: Way, watched: list[Stand]) -> None:
    """Keys go on working, and what comes of it after all, or never, changes nothing."""
    place, stand = set_up(name, "hangs", watched)
    stand.fault.error_afterwards = way == "late-error"

    async def script(stand: Stand) -> None:
        await place.reach(stand)
        await stand.until(stand.fault.reached.is_set)
        before = stand.app.screen
        if way == "quit":
            await left(stand)
            return
        if way == "ctrl+c":
            await stand.press("ctrl+c")
            assert stand.app.is_running and stand.app.screen is before
        if way != "ctrl+c" or place.back != "chat":  # where ctrl-c has stopped it, as Escape does
            await stand.press("escape")
        await stand.at(place.back)
        if way.startswith("late"):
            stand.fault.released.set()
            await stand.pilot.pause(0.1)
        if stand.app.live is None and place.stage == "stop":
            return  # it was stopped after all
        await place.resume(stand)
        await stand.until(lambda: place.fine(stand))
        stand.fault.released.set()
        await leave_nothing(stand)

    run(stand, script)
    stand.fault.released.set()
    for session in sessions.living():  # those that were left to run
        sessions.end(session, stand.backend)
    nothing_is_left(stand)


async def left(stand: Stand) -> None:
    """Quit, and stop what runs; where that hangs, leave it."""
    await stand.press("ctrl+q")
    if isinstance(stand.app.screen, Leave):
        await stand.press("l" if stand.fault.stage == "stop" else "s")
    await stand.until(lambda: not stand.app.is_running)


def test_a_start_that_hangs_does_not_end_the_next_one(watched: list[Stand]) -> None:
    """It is still told to end while another server loads: that one is not its own."""
    _, stand = set_up("decide", "hangs", watched)
    stand.backend.load_s = 0.6

    async def script(stand: Stand) -> None:
        await to_start(stand)
        await stand.until(stand.fault.reached.is_set)
        await stand.press("escape")
        await stand.at("summary")
        first = stand.app.started
        await stand.go_on()
        await stand.until(lambda: stand.app.live is not None)
        assert first is not None and first.under_way and first.cancelled
        assert stand.app.started is not first and stand.app.started is not None and stand.app.started.error is None
        await leave_nothing(stand)

    run(stand, script)
    nothing_is_left(stand)


def test_an_answer_that_stalls_says_for_how_long(watched: list[Stand]) -> None:
    _, stand = set_up("answering", "hangs", watched)

    async def script(stand: Stand) -> None:
        await ask(stand)
        await stand.until(lambda: "Esc stops it" in stand.shown)
        assert "nothing has come for" in stand.shown
        await stand.press("escape")
        await stand.until(lambda: not stand.chat.answering)
        assert "stopped" in stand.shown and stand.chat.live is not None
        assert stand.chat.live.talk.said[0].answer, "what came is kept"
        await leave_nothing(stand)

    run(stand, script)
    nothing_is_left(stand)


def test_a_trial_that_stalls_says_for_how_long(watched: list[Stand]) -> None:
    _, stand = set_up("trial", "hangs", watched)

    async def script(stand: Stand) -> None:
        await to_trial(stand)
        await stand.until(lambda: "no answer for" in stand.shown and "x ends the trial" in stand.shown)
        await stand.press("ctrl+c")
        await stand.until(lambda: stand.app.tryout is not None and stand.app.tryout.cancelled)
        stand.fault.released.set()
        await stand.until(lambda: "Not enough was measured to say." in stand.shown)
        await leave_nothing(stand)

    run(stand, script)
    nothing_is_left(stand)


def test_looking_at_a_machine_that_hangs_says_so(watched: list[Stand]) -> None:
    _, stand = set_up("detect", "hangs", watched)

    async def script(stand: Stand) -> None:
        await stand.until(lambda: "Still looking at this machine" in stand.shown)
        assert "r looks again, m describes a machine, d tries the demo" in stand.shown
        await stand.press("d")
        await stand.at("summary")
        await stand.until(lambda: "advisor launch demo" in stand.shown)

    run(stand, script)


def test_a_server_that_does_not_say_what_it_counted_is_asked_once(watched: list[Stand]) -> None:
    """Threads that wait for it do not pile up."""
    _, stand = set_up("idle", "hangs", watched)

    async def script(stand: Stand) -> None:
        await to_chat(stand)
        await stand.until(stand.fault.reached.is_set)
        threads = threading.active_count()
        for _ in range(5):
            stand.chat.look()
            await stand.pilot.pause(0.02)
        assert threading.active_count() <= threads
        stand.fault.released.set()
        await leave_nothing(stand)

    run(stand, script)
    nothing_is_left(stand)
