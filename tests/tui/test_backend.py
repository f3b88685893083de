"""Step 3: every runtime with its version, what it would do, what it lacks, and the command that goes with it."""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot
from textual.widgets import Button, OptionList

from advisor.commands.again import order
from advisor.errors import NoBackend
from advisor.machine import Availability
from advisor.running import launching
from advisor.running.order import Order, Setup
from advisor.tui.app import Wizard
from advisor.tui.prospects import prospects
from advisor.tui.screens.confirm import Confirm
from advisor.tui.settings import Settings
from advisor.tui.state import Choice
from tests.tui import scripted
from tests.tui.drive import click, drive, press, step, text, until
from tests.tui.scripted import Scripted
from tests.tui.world import LLAMA_CPP, MACHINES, NATIVE, SIZES, VLLM, machine, services

OLLAMA = Availability(
    name="ollama", available=False, why_not="it is installed, but no server answers at http://127.0.0.1:11434",
    path="/usr/bin/ollama", hint="start it: ollama serve", mend="ollama serve",
)  # fmt: skip
MLX = Availability(
    name="mlx", available=False, reads="checkpoint", version="0.5.0", path="/opt/mlx/bin/mlx_vlm.server",
    why_not="mlx-vlm 0.5.0 is too old for Gemma's drafter: 0.6.3 is the first",
    hint="pip install mlx-vlm --upgrade", mend="pip install mlx-vlm --upgrade",
)  # fmt: skip


def missing(name: str, why: str, install: str) -> Availability:
    return Availability(name=name, available=False, reads="checkpoint", why_not=why, hint=install, mend=install)


SGLANG = missing("sglang", "not installed", "pip install sglang")
LITERT = missing("litert", "not installed", "pip install litert-lm")
TRANSFORMERS = missing(
    "transformers", "not installed: torch and transformers", "pip install 'gemma-advisor[transformers]'"
)
ALL = (LITERT, LLAMA_CPP, MLX, NATIVE, OLLAMA, SGLANG, TRANSFORMERS, VLLM)
SHOWN = ("best", "llama.cpp", "native", "vllm", "ollama", "sglang", "mlx", "litert", "transformers")
"""In the order of the list."""


def wizard(spec: str, **more: Any) -> Wizard:
    world = replace(services(spec), **{"detect": lambda: machine(MACHINES[spec], *ALL), **more})
    return Wizard(services=world, options=Settings(), remember=False)


async def at(app: Wizard, pilot: Pilot[Any], name: str) -> None:
    """In step 3, with the cursor on that backend."""
    if step(app) != "backend":
        await press(pilot, "b")
    app.screen.query_one(OptionList).highlighted = SHOWN.index(name)
    await press(pilot, "f1", "escape")


@pytest.mark.parametrize("spec", MACHINES)
@pytest.mark.parametrize("size", SIZES)
def test_all_of_them_fit_on_every_machine(spec: str, size: str) -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "b")
        lines = text(app).splitlines()
        for one in ALL:
            mine = [line for line in lines if line[2:].lstrip("●○✗ ").startswith(one.name)]
            assert len(mine) == 1, (one.name, "is in one line")
            assert (one.version or "") in mine[0]
            assert ("✗" in mine[0]) == (not one.available)
        assert any(line.strip().startswith(("Does", "Would do")) for line in lines)
        assert "Quit" in lines[-1]

    drive(wizard(spec), script, size=SIZES[size])


@pytest.mark.parametrize("spec", MACHINES)
def test_what_each_would_do_is_typed_as_it_is_said(spec: str) -> None:
    here = machine(MACHINES[spec], *ALL)
    found = {one.backend.name: one for one in prospects(Choice(), here)}
    assert tuple(found) == SHOWN[1:], "those that are ready first"
    for name, one in found.items():
        assert one.does
        if one.ready and one.command:
            wanted = order(one.command)
            assert wanted.backend == name
            assert wanted.model is not None and wanted.model.upper()[:3] in one.does.upper()
        elif not one.ready:
            assert one.command == one.backend.mend
    assert found["ollama"].serves
    assert "tok/s" in found["ollama"].does, "what it would do if its server ran"
    assert "not predicted" in found["litert"].does or "no checkpoint" in found["litert"].does


def test_on_a_described_machine_all_are_assumed() -> None:
    found = {one.backend.name: one for one in prospects(Choice(spec="M3 Max 64GB"), None)}
    assert len(found) == len(ALL)
    assert {one.state for one in found.values()} == {"assumed to be current"}
    assert "does not run on macOS" in found["vllm"].does
    assert "not predicted" in found["mlx"].does
    assert "--gpu" not in found["llama.cpp"].command


def test_its_command_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(Wizard, "copy_to_clipboard", lambda self, what: copied.append(what))

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await at(app, pilot, "transformers")
        await press(pilot, "y")
        assert copied[-1] == TRANSFORMERS.mend
        await at(app, pilot, "vllm")
        await click(pilot, "#copy")
        assert shlex.split(copied[-1])[:2] == ["advisor", "launch"]
        assert "--backend vllm" in copied[-1]

    drive(wizard("h100x8"), script)


def test_a_server_that_only_has_to_be_started_is_once_that_is_confirmed() -> None:
    served: list[str] = []

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await at(app, pilot, "sglang")
        await press(pilot, "x")
        assert step(app) == "backend", "that is not started from here"
        await at(app, pilot, "ollama")
        await press(pilot, "x")
        assert isinstance(app.screen, Confirm)
        assert "$ ollama serve" in text(app)
        await press(pilot, "escape")
        assert served == []
        await click(pilot, "#serve")
        await click(pilot, "#yes")
        await until(pilot, lambda: served == ["ollama"])
        assert step(app) == "backend"

    drive(wizard("rtx-4090", serve=served.append), script)


def test_a_server_that_does_not_come_up_is_told_with_its_hint() -> None:
    def serve(_name: str) -> None:
        raise NoBackend("ollama serve ended with code 1", hint="its log says why")

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await at(app, pilot, "ollama")
        await press(pilot, "x", "enter")
        await until(pilot, lambda: [one for one in app._notifications if "its log says why" in one.message])
        assert step(app) == "backend"

    drive(wizard("rtx-4090", serve=serve), script)


@pytest.mark.parametrize("name", ["ollama", "litert"])
def test_what_cannot_be_taken_is_not_and_the_answer_stays(name: str) -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await at(app, pilot, name)
        await press(pilot, "enter")
        assert app.choice.backend is None
        assert app.answer is not None and app.trouble is None
        assert [one for one in app._notifications if "is not taken" in one.title]

    drive(wizard("h100x8"), script)


@pytest.mark.parametrize("size", SIZES)
def test_one_that_reads_checkpoints_leads_to_its_own_summary_and_on(size: str) -> None:
    """The answer stays what it is: no speed is predicted of this one."""
    backend, ordered = Scripted(), []

    def configure(wanted: Order) -> Setup:
        ordered.append(wanted)
        return scripted.configure(wanted)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await at(app, pilot, "vllm")
        one = next(each for each in prospects(app.choice, app.detected) if each.backend.name == "vllm")
        await press(pilot, "enter")
        assert step(app) == "summary"
        shown = " ".join(text(app).split())
        assert one.does.partition(";")[0] in shown and "its speed is not predicted" in shown
        assert f"$ {one.command}" in shown
        for words in ("62.5 GB", "949 MB", "Apache-2.0", "63.4 GB from huggingface.co", "Nothing has been written yet"):
            assert words in shown, words
        await press(pilot, "escape")
        assert step(app) == "backend"
        assert ordered == [], "nothing is done before it is confirmed"
        await press(pilot, "enter", "enter")
        assert step(app) == "start"
        await until(pilot, lambda: app.live is not None)
        assert ordered == [order(one.command)]
        assert ordered[0].backend == "vllm"
        app.action_go("chat")
        await press(pilot, "'Hi", "enter")
        await until(pilot, lambda: app.live is not None and app.live.talk.said and app.live.talk.said[0].ended == "")
        app.action_end()
        await until(pilot, lambda: app.live is None)
        assert app.choice.backend is None and app.answer is not None

    drive(wizard("h100x8", configure=configure, backend=lambda _: backend), script, size=SIZES[size])
    assert not backend.running


def test_by_mouse_the_demo_on_any_of_them() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await at(app, pilot, "litert")
        assert app.screen.query_one("#demo", Button).disabled
        await press(pilot, "d")
        assert step(app) == "backend", "it has none"
        for name, line in (("vllm", "advisor launch demo --backend vllm"), ("native", "advisor launch demo")):
            await at(app, pilot, name)
            await click(pilot, "#demo")
            assert step(app) == "summary"
            assert app.errand is not None and app.errand.command == line
            assert "nothing: it is part of advisor" in text(app)
            await press(pilot, "escape")

    drive(wizard("h100x8"), script)


def test_what_is_elsewhere_is_not_started_here() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        app.choose(spec="M3 Max 64GB")
        await press(pilot, "b")
        names = [str(one.id) for one in app.screen.query_one(OptionList).options]
        app.screen.query_one(OptionList).highlighted = names.index("mlx")
        await press(pilot, "enter")
        assert step(app) == "summary"
        assert "this is another machine" in text(app)
        await press(pilot, "enter")
        assert step(app) == "summary" and app.errand is None

    drive(wizard("h100x8"), script)


def test_a_runtime_with_no_room_for_any_says_so_and_has_the_demo() -> None:
    here = msgspec.structs.replace(TRANSFORMERS, available=True, why_not=None, version="5.17.0", path="/usr/bin/python")

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "b")
        names = [str(one.id) for one in app.screen.query_one(OptionList).options]
        app.screen.query_one(OptionList).highlighted = names.index("transformers")
        await press(pilot, "enter")
        assert step(app) == "backend"
        said = " ".join(one.message for one in app._notifications)
        assert "No checkpoint that Transformers reads has room here. d tries the demo on it." in said
        await press(pilot, "d")
        assert app.errand is not None and app.errand.command == "advisor launch demo --backend transformers"

    drive(wizard("rtx-4090", detect=lambda: machine("cpu, 4GB", NATIVE, here)), script)


def test_a_server_that_runs_already_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_URL", "http://10.0.0.7:8000")
    found = {one.backend.name: one for one in prospects(Choice(), machine(MACHINES["rtx-4090"], *ALL))}["vllm"]
    assert found.command == "advisor launch --backend vllm"
    assert "http://10.0.0.7:8000" in found.does
    assert launching.configure(order(found.command), strict=False).options.server == "http://10.0.0.7:8000"


def test_it_can_be_looked_again() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        app.services = replace(app.services, detect=lambda: machine("RTX 4090, 64GB", LLAMA_CPP))
        await press(pilot, "b", "r")
        await until(pilot, lambda: app.screen.query_one(OptionList).option_count == 2)

    drive(wizard("rtx-4090"), script)
