"""Step 6: measured side by side, decided, kept and remembered; skipped, cancelled, broken off."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from textual.pilot import Pilot

from advisor.errors import RuntimeFailed
from advisor.running.order import Order, Setup
from advisor.tui.app import Wizard
from advisor.tui.settings import Settings
from advisor.tui.tryout import KINDS
from advisor.tui.widgets.forward import Forward
from tests.tui import scripted
from tests.tui.drive import drive, press, step, text, until
from tests.tui.scripted import Scripted
from tests.tui.world import services


def wizard(backend: Scripted, *, each_s: float = 0.1, drafter: bool = True) -> Wizard:
    def configure(order: Order) -> Setup:
        import msgspec

        return scripted.configure(order if drafter else msgspec.structs.replace(order, use_drafter=False))

    world = replace(services("rtx-4090"), backend=lambda _: backend, configure=configure, each_s=each_s)
    return Wizard(services=world, options=Settings(), remember=False)


async def running(app: Wizard, pilot: Pilot[Any]) -> None:
    await press(pilot, "s", "enter")
    await until(pilot, lambda: app.live is not None and not app.screen.query_one(Forward).disabled)


async def over(app: Wizard, pilot: Pilot[Any]) -> None:
    await until(pilot, lambda: app.tryout is not None and app.tryout.over)
    await pilot.pause(0.2)


def tried(app: Wizard) -> set[tuple[str, bool]]:
    """Kinds of prompt, each without or with the drafter, that were answered."""
    return {(one.kind, one.length != 0) for one in app.tryout.samples} if app.tryout else set()


def test_both_sides_are_asked_in_turn() -> None:
    backend = Scripted()
    backend.pause_s = 0.0005

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await running(app, pilot)
        backend.asked.clear()
        await press(pilot, "enter")
        assert step(app) == "trial"
        both = {(kind, drafting) for kind in KINDS for drafting in (False, True)}
        await until(pilot, lambda: tried(app) == both, 60)
        await press(pilot, "x")
        await over(app, pilot)
        shown = text(app)
        for word in ("Code", "Questions", "Story", "plain", "drafted", "86%", "71%", "55%"):
            assert word in shown
        assert {one["draft_tokens"] for one in backend.asked} == {0, 3}
        await press(pilot, "enter")
        assert step(app) == "chat"

    drive(wizard(backend, each_s=30.0), script)


def test_skipped_it_decides_with_what_it_has() -> None:
    backend = Scripted()
    backend.pause_s = 0.0005

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await running(app, pilot)
        await press(pilot, "enter")
        await until(pilot, lambda: app.tryout is not None and len(app.tryout.samples) >= 2)
        await press(pilot, "enter")
        assert step(app) == "chat"
        await until(pilot, lambda: app.tryout is not None and app.tryout.over)
        assert app.tryout is not None and app.tryout.cancelled

    drive(wizard(backend, each_s=30.0), script)


def test_cancelled_and_once_more() -> None:
    backend = Scripted()
    backend.pause_s = 0.0005

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await running(app, pilot)
        await press(pilot, "enter")
        await until(pilot, lambda: app.tryout is not None and app.tryout.samples)
        first = app.tryout
        await press(pilot, "x")
        await over(app, pilot)
        await press(pilot, "r")
        assert app.tryout is not first
        await press(pilot, "escape")
        assert step(app) == "start"
        await over(app, pilot)

    drive(wizard(backend, each_s=30.0), script)


def test_without_a_drafter_there_is_nothing_to_try() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await running(app, pilot)
        await press(pilot, "enter")
        assert "Nothing to try" in text(app)
        await press(pilot, "enter")
        assert step(app) == "chat"

    drive(wizard(Scripted(), drafter=False), script)


def test_a_server_that_dies_is_told() -> None:
    backend = Scripted()

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await running(app, pilot)
        backend.fails["chat"] = RuntimeFailed("the server died: killed", hint="look into the log")
        await press(pilot, "enter")
        await over(app, pilot)
        assert "the server died: killed" in text(app)

    drive(wizard(backend), script)


def test_where_the_length_is_fixed_at_the_start_each_is_a_server_of_its_own() -> None:
    """The one that ran is ended first, so that two never share the memory, and the better one runs afterwards."""
    backend = Scripted()
    backend.drafts_per_request = False
    started: list[int] = []
    plan = backend.plan

    def planned(model: Any, options: Any) -> Any:
        started.append(model.draft_tokens)
        return plan(model, options)

    backend.plan = planned  # type: ignore[method-assign]

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await running(app, pilot)
        assert app.live is not None
        first = app.live.session
        await press(pilot, "enter")
        await over(app, pilot)
        assert len(backend.running) == 1
        assert {0, 3} <= set(started)
        assert app.live.session.since != first.since
        assert backend.running == {app.live.session.base_url}

    drive(wizard(backend, each_s=0.3), script)
