"""What ran before the wizard: listed on the first step, talked to, tried, started again and stopped from there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot

from advisor.commands.again import again, order
from advisor.running import sessions, starting
from advisor.running.order import Order, Setup
from advisor.running.sessions import Session
from advisor.tui.app import Wizard
from advisor.tui.screens.chat import ChatStep
from advisor.tui.screens.visit import Visit
from advisor.tui.settings import Settings
from advisor.tui.widgets.forward import Forward
from advisor.tui.widgets.session_list import SessionList
from backends import base
from tests.tui import scripted
from tests.tui.drive import click, drive, press, settled, step, text, until
from tests.tui.scripted import Scripted
from tests.tui.world import services

ORDER = Order(model="26b", quant="QAT-UD-Q4_K_XL", context=8192, detached=True)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    made = Scripted()
    made.pause_s = 0.0005
    monkeypatch.setattr(base, "load", lambda _: made)
    monkeypatch.setattr(sessions, "load", lambda _: made)
    return made


def begun(backend: Scripted, wanted: Order = ORDER) -> Session:
    """As `advisor launch --detach` begins it."""
    return starting.open_session(backend, scripted.configure(wanted))


def opened(backend: Scripted, ordered: list[Order] | None = None) -> Wizard:
    """A wizard that knows nothing but what is on record. `ordered`: gets what is started again."""

    def configure(wanted: Order) -> Setup:
        setup = scripted.configure(wanted)
        if ordered is not None:
            ordered.append(wanted)
        # What is measured is kept with what identifies the files.
        here = msgspec.structs.replace(setup.model, target=Path(__file__), drafter=Path(scripted.__file__))
        return msgspec.structs.replace(setup, model=here)

    world = replace(
        services("rtx-4090"), sessions=sessions.living, backend=lambda _: backend, configure=configure, each_s=0.2
    )
    return Wizard(services=world, options=Settings(), remember=False)


async def visiting(app: Wizard, pilot: Pilot[Any]) -> None:
    await press(pilot, "shift+tab")
    while not isinstance(app.focused, SessionList):
        await press(pilot, "shift+tab")
    await press(pilot, "enter")
    assert isinstance(app.screen, Visit)


def test_a_session_says_what_starts_it_again(backend: Scripted, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.gguf").write_bytes(b"GGUF")
    wanted = Order(model="mine.gguf", context=4096, parallel=2, gpu="RTX 3060", api_key="secret", extra=("--mlock",))
    session = begun(backend, wanted)
    assert "secret" not in session.command
    found = order(session.command)
    assert found.model == str(tmp_path / "mine.gguf"), "in any folder"
    assert (found.context, found.parallel, found.gpu, found.extra) == (4096, 2, "RTX 3060", ("--mlock",))
    same = again(msgspec.structs.replace(session, api_key="secret"))
    assert (same.port, same.api_key, same.draft_tokens) == (session.port, "secret", 3)


def test_it_is_talked_to(backend: Scripted) -> None:
    session = begun(backend)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        assert session.base_url in text(app)
        await visiting(app, pilot)
        assert "26b on llama.cpp, with its drafter" in text(app)
        assert "advisor launch 26b" in text(app)
        await press(pilot, "c")
        assert step(app) == "chat"
        await press(pilot, "'Hello", "enter")
        await until(pilot, lambda: "it needs about 9.3 GB" in text(app))

    drive(opened(backend), script)
    assert [one.name for one in sessions.living()] == ["26b"], "it goes on when the wizard is left"


@pytest.mark.parametrize("per_request", [True, False])
def test_its_drafter_is_tried(backend: Scripted, per_request: bool) -> None:
    """Where the length is fixed at the start it is ended, and started again as it was."""
    backend.drafts_per_request = per_request
    session = begun(backend)
    ordered: list[Order] = []

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await visiting(app, pilot)
        await press(pilot, "t")
        assert step(app) == "trial"
        await until(pilot, lambda: app.tryout is not None and app.tryout.over)
        await settled(pilot)
        assert app.tryout is not None and app.tryout.error is None
        assert {one.length for one in app.tryout.samples} == {0, 3}
        await press(pilot, "enter")
        assert step(app) == "chat"

    drive(opened(backend, ordered), script)
    assert [(one.model, one.context, one.port) for one in ordered] == [("26b", 8192, session.port)]
    (left,) = sessions.living()
    assert left.port == session.port, "whoever uses its address goes on"
    assert (left.since == session.since) == per_request
    assert backend.running == {left.base_url}


def test_by_mouse(backend: Scripted) -> None:
    begun(backend)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await click(pilot, SessionList)
        await click(pilot, "#trial")
        assert step(app) == "trial"
        await until(pilot, lambda: app.tryout is not None and app.tryout.over)
        app.action_go("answer")
        await settled(pilot)
        await click(pilot, SessionList)
        await click(pilot, "#stop")
        await until(pilot, lambda: not app.screen.query_one(SessionList).display)

    drive(opened(backend), script)
    assert not sessions.living()
    assert not backend.running


def test_with_the_last_one_stopped_enter_runs_the_answer_again(backend: Scripted) -> None:
    begun(backend)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await visiting(app, pilot)
        await press(pilot, "s")
        await until(pilot, lambda: not app.sessions)
        await settled(pilot)
        assert isinstance(app.focused, Forward)
        assert "Go on" in text(app).splitlines()[-1]

    drive(opened(backend), script)


def test_one_of_two_is_stopped_and_the_other_goes_on(backend: Scripted) -> None:
    begun(backend)
    begun(backend)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "7")
        assert app.live is not None and app.live.session.name == "26b"
        await press(pilot, "escape")
        await visiting(app, pilot)
        await press(pilot, "escape", "down", "enter", "s")
        await until(pilot, lambda: [one.name for one in sessions.living()] == ["26b"])
        assert step(app) == "answer"
        assert app.live is not None

    drive(opened(backend), script)


def test_what_cannot_be_tried_says_why(backend: Scripted) -> None:
    backend.drafts_per_request = False
    session = begun(backend, msgspec.structs.replace(ORDER, detached=False))

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await visiting(app, pilot)
        await press(pilot, "t")
        assert "belongs to the terminal that started it" in " ".join(text(app).split())
        await press(pilot, "enter")
        assert step(app) == "chat"

    drive(opened(backend), script)
    assert backend.running == {session.base_url}


def test_lost_it_is_started_again_and_the_conversation_goes_on(backend: Scripted) -> None:
    session = begun(backend)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "7", "'Hello", "enter")
        await until(pilot, lambda: app.live is not None and app.live.talk.said and app.live.talk.said[0].ended == "")
        backend.running.clear()
        sessions._write(msgspec.structs.replace(session, pid=0))
        app.live.session = msgspec.structs.replace(session, pid=0)  # type: ignore[union-attr]
        await until(pilot, lambda: isinstance(app.screen, ChatStep) and app.screen.dead)
        await pilot.pause(0.1)
        assert "Start again" in text(app)
        await click(pilot, Forward)
        await until(pilot, lambda: app.live is not None and step(app) == "start")
        assert [said.question for said in app.live.talk.said] == ["Hello"]  # type: ignore[union-attr]

    drive(opened(backend), script)
    assert len(backend.running) == 1


def test_of_which_nothing_is_known_it_is_talked_to_and_not_tried(backend: Scripted) -> None:
    """As an older advisor has left it on record."""
    sessions._write(msgspec.structs.replace(begun(backend), command=""))

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "6")
        assert "nothing is known of how 26b was started" in text(app)
        await press(pilot, "enter")
        assert step(app) == "chat"

    drive(opened(backend), script)
