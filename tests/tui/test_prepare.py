"""Step 5: files, loading and the first answer; cancelling, failing, and what is offered then."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot

from advisor.commands.again import order
from advisor.errors import AdvisorError, DownloadFailed, NoBackend, OutOfMemory, RuntimeFailed
from advisor.files import store
from advisor.files.store import File
from advisor.running import sessions, starting
from advisor.running.order import Order, Setup
from advisor.running.remedy import remedy
from advisor.tui import words
from advisor.tui.app import Wizard
from advisor.tui.screens.leave import Leave
from advisor.tui.services import Services
from advisor.tui.settings import Settings
from backends.base import Endpoint
from tests.fakes.hub import Fault, Hub, serve
from tests.tui import scripted
from tests.tui.drive import click, drive, press, send, settled, step, text, until
from tests.tui.scripted import Scripted
from tests.tui.world import services

FULL = os.environ.get("ADVISOR_FULL") == "1"
SMALLER = "advisor launch 12b --quant Q4_0 --context 4096"


def on(world: Services) -> Wizard:
    return Wizard(services=world, options=Settings(), remember=False)


def with_backend(backend: Scripted, **more: Any) -> Wizard:
    return on(replace(services("rtx-4090"), backend=lambda _: backend, **more))


async def begun(app: Wizard, pilot: Pilot[Any]) -> None:
    """To step 5."""
    await press(pilot, "s", "enter")
    assert step(app) == "start"


async def over(app: Wizard, pilot: Pilot[Any]) -> None:
    await until(pilot, lambda: app.started is not None and app.started.over)
    await pilot.pause(0.2)


def test_a_command_line_is_the_order_that_it_spells_out() -> None:
    found = order("advisor launch 12b --quant Q8_0 --context 4096 --no-drafter --parallel 2 --kv-type q8_0")
    wanted = Order(
        model="12b", quant="Q8_0", context=4096, use_drafter=False, parallel=2, kv_type="q8_0", detached=True
    )
    assert found == wanted


def test_it_runs_and_says_what_was_proven() -> None:
    backend = Scripted()

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await begun(app, pilot)
        await until(pilot, lambda: app.live is not None)
        await pilot.pause(0.2)
        shown = text(app)
        assert "It runs: 26b" in shown
        assert "active, 69% accepted" in shown
        assert "38.0 expected" in shown
        assert [one.status for one in sessions.everything()] == ["running"]
        app.action_end()
        await until(pilot, lambda: app.live is None)
        await settled(pilot)
        assert step(app) == "answer"

    drive(with_backend(backend), script)
    assert not backend.running
    assert not sessions.everything()


def test_short_of_memory_the_smaller_choice_is_one_key_away() -> None:
    short = OutOfMemory("the GPU has 2 GiB too little", hint="the next smaller choice takes 9 GiB", command=SMALLER)
    backend = Scripted(start=short)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await begun(app, pilot)
        await over(app, pilot)
        shown = text(app)
        assert "2 GiB too little" in shown
        assert "Take the smaller one" in shown
        assert f"$ {SMALLER}" in shown
        await press(pilot, "enter")
        await until(pilot, lambda: app.live is not None)
        assert app.started is not None
        assert (app.started.order.model, app.started.order.context) == ("12b", 4096)

    drive(with_backend(backend), script)


@pytest.mark.parametrize(
    ("error", "offer", "changed"),
    [
        (
            RuntimeFailed("the drafter mtp.gguf does not load", hint="fetch it again, or launch with --no-drafter"),
            "Without its drafter",
            {"use_drafter": False},
        ),
        (
            NoBackend("b9000 is too old for this drafter", hint="update it, or launch with --no-drafter"),
            "Without its drafter",
            {"use_drafter": False},
        ),
        (
            RuntimeFailed("does not know the architecture 'gemma4'", hint="update llama.cpp; Gemma 4 is in it"),
            "On the own engine",
            {"backend": "native"},
        ),
    ],
)
def test_the_next_choice_is_one_key_away(error: AdvisorError, offer: str, changed: dict[str, Any]) -> None:
    backend = Scripted(start=error)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await begun(app, pilot)
        await over(app, pilot)
        shown = " ".join(text(app).split())
        assert error.message in shown
        assert error.hint in shown
        assert offer in shown
        assert app.started is not None
        first = app.started.order
        await press(pilot, "enter")
        await until(pilot, lambda: app.live is not None)
        assert app.started.order == msgspec.structs.replace(first, **changed)

    drive(with_backend(backend), script)


def test_a_port_that_somebody_else_has_is_given_up() -> None:
    """A session that is started again asks for the port that it had."""
    taken = RuntimeFailed("port 8080 is used by another program", hint="give another one with --port, or none")
    found = remedy(taken, Order(model="12b", port=8080, detached=True))
    assert found is not None
    assert order(found.command) == Order(model="12b", detached=True)
    assert remedy(taken, Order(model="12b")) is None
    assert remedy(RuntimeFailed("it died", hint="its log says why"), Order(model="12b", port=8080)) is None


def test_a_drafter_that_is_useless_is_left_out_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter(["nothing of it is right"])
    monkeypatch.setattr(starting, "_drawback", lambda *_: next(found, ""))

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await begun(app, pilot)
        await until(pilot, lambda: "Mind            nothing of it is right" in text(app))
        assert "w Without drafter" in text(app)
        first = app.live
        await press(pilot, "w")
        await until(pilot, lambda: app.live is not None and app.live is not first)
        assert app.started is not None and not app.started.order.use_drafter
        await until(pilot, lambda: "It runs" in text(app))
        assert "Without drafter" not in text(app)

    drive(with_backend(Scripted()), script)


@pytest.mark.parametrize("stage", ["start", "chat", "answer"])
def test_what_fails_leaves_nothing_and_can_be_tried_again(stage: str) -> None:
    backend = Scripted(**{stage: RuntimeFailed("the server died: killed", hint="look into the log")})

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await begun(app, pilot)
        await over(app, pilot)
        shown = text(app)
        assert "the server died: killed" in shown
        assert "look into the log" in shown
        assert not sessions.everything()
        assert app.live is None
        await click(pilot, "#forward")
        await until(pilot, lambda: app.live is not None)

    drive(with_backend(backend), script)


def test_a_decision_that_fails_is_told() -> None:
    def unreachable(_: Order) -> Setup:
        raise DownloadFailed("the Hub cannot be reached", hint="check the network")

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await begun(app, pilot)
        await over(app, pilot)
        assert "the Hub cannot be reached" in text(app)
        assert "Try again" in text(app)

    drive(with_backend(Scripted(), configure=unreachable), script)


@pytest.mark.parametrize("how", ["x", "escape", "mouse", "ctrl+q", "ctrl+c"] if FULL else ["ctrl+c", "ctrl+q"])
def test_cancelled_while_it_loads(how: str) -> None:
    backend = Scripted()
    backend.load_s = 30.0

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await begun(app, pilot)
        await until(pilot, lambda: app.started is not None and app.started.loading is not None)
        await pilot.pause(0.15)
        assert "36%" in text(app)
        if how == "mouse":
            await pilot.click("#cancel")
        else:
            send(app, how)
        await until(pilot, lambda: app.started is not None and app.started.over)
        assert app.live is None

    before = time.monotonic()
    drive(with_backend(backend), script)
    assert time.monotonic() - before < 10
    assert not backend.running
    assert not sessions.everything()


class Silent(Scripted):
    """Says nothing while it loads, or nothing to the first question, until it is stopped."""

    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage

    def fail(self, stage: str, endpoint: Endpoint) -> None:
        while stage == self.stage and not self.gone(endpoint):
            time.sleep(0.01)


@pytest.mark.parametrize(("stage", "said"), [("start", "nothing has come for"), ("chat", "no answer for")])
def test_a_server_that_keeps_still_is_said_to(stage: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "SILENT_S", 0.3)
    backend = Silent(stage)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await begun(app, pilot)
        await until(pilot, lambda: said in text(app))
        assert "Esc stops it" in text(app)
        assert "advisor logs 26b --follow" in text(app)
        await press(pilot, "escape")
        await until(pilot, lambda: app.started is not None and app.started.over)
        assert step(app) == "summary"

    drive(with_backend(backend), script)
    assert not backend.running
    assert not sessions.everything()


def test_another_model_while_one_runs() -> None:
    backend = Scripted()

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await begun(app, pilot)
        await until(pilot, lambda: app.live is not None)
        first = app.live
        await press(pilot, "1", "d", "enter")
        await pilot.pause(0.2)
        assert "26b runs already" in text(app)
        assert app.live is first
        await press(pilot, "enter")
        await until(pilot, lambda: app.live is not None and app.live is not first)
        assert app.live is not None and app.live.session.model == "demo"
        assert len(sessions.everything()) == 1

    drive(with_backend(backend), script)


@pytest.mark.parametrize(("key", "left"), [("s", 0), ("l", 1)])
def test_leaving_asks_what_becomes_of_it(key: str, left: int) -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await begun(app, pilot)
        await until(pilot, lambda: app.live is not None)
        await press(pilot, "q")
        assert isinstance(app.screen, Leave)
        await press(pilot, "escape")
        assert step(app) == "start"
        await press(pilot, "q", key)
        await until(pilot, lambda: not app.is_running)

    drive(with_backend(Scripted()), script)
    assert len(sessions.everything()) == left


# ---- Downloads, from a Hub that behaves badly


MODEL, DATA = "unsloth/gemma", os.urandom(3 << 20)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    with serve(Hub()) as made:
        made.add(MODEL, **{"model.gguf": DATA})
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub" / "hub"))
        yield made


def downloading(hub: Hub) -> Wizard:
    """A wizard whose only file comes from that Hub."""
    import hashlib

    from advisor.files import shelves
    from tests.fakes.hub import COMMIT

    def configure(wanted: Order) -> Setup:
        path = shelves.repo_folder(MODEL) / "snapshots" / COMMIT / "model.gguf"
        digest = hashlib.sha256(DATA).hexdigest()
        file = File(
            role="target", repo=MODEL, file="model.gguf", size=len(DATA), path=path, source="download", sha256=digest
        )
        return msgspec.structs.replace(scripted.configure(wanted), files=(file,))

    return with_backend(Scripted(), configure=configure, fetch=lambda setup, told: store.fetch(setup.files, told))


def test_a_download_that_stalls_is_said_and_can_be_cancelled(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from advisor.tui.widgets import stages

    monkeypatch.setattr(stages, "SILENT_S", 0.3)
    hub.faults.append(Fault(cut=(1 << 20) + 1, stall=3.0))

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await begun(app, pilot)
        await until(pilot, lambda: "nothing has come for" in text(app) and "1.05 MB of 3.15 MB" in text(app))
        assert "33%" in text(app)
        await press(pilot, "x")
        await pilot.pause(0.2)
        assert "Stopping" in text(app)
        await until(pilot, lambda: app.started is not None and app.started.over)
        await pilot.pause(0.2)
        assert "What was fetched is kept" in text(app)
        await press(pilot, "enter")
        await until(pilot, lambda: app.live is not None)

    drive(downloading(hub), script)
    assert hub.asked[0][0] == 0
    assert hub.asked[-1][0] >= 1 << 20, "it goes on where it was"


def test_a_download_shows_its_rate_and_the_time_left(hub: Hub) -> None:
    hub.bytes_per_s = 4 << 20

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await begun(app, pilot)
        await until(pilot, lambda: "MB/s" in text(app))
        assert "left" in text(app)
        await until(pilot, lambda: app.live is not None)

    drive(downloading(hub), script)
