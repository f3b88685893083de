"""The way through the wizard, by keyboard and by mouse."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from click.testing import CliRunner
from textual.pilot import Pilot

from advisor.cli import cli
from advisor.commands.again import order
from advisor.hardware import detection
from advisor.knowledge.catalog import load
from advisor.running.launching import configure
from advisor.tui.app import Wizard
from advisor.tui.screens.details import Details
from advisor.tui.screens.help import Help
from advisor.tui.screens.machine import MachineDialog
from advisor.tui.state import Choice, answer
from advisor.tui.widgets.candidate_table import CandidateTable
from advisor.tui.widgets.forward import Forward
from advisor.tui.widgets.stepper import Arrow
from tests.tui.drive import click, drive, press, step, text
from tests.tui.world import LLAMA_CPP, SESSION, SIZES, machine, wizard

LAUNCH = ("launch", "26b", "--quant", "QAT-UD-Q4_K_XL", "--context", "8192")


@pytest.fixture
def confirmed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What the summary confirmed, in place of starting it."""
    found: list[tuple[str, ...]] = []
    monkeypatch.setattr(Wizard, "action_start", lambda app: found.append(app.errand.argv))
    return found


def test_enter_enter_runs_the_answer(confirmed: list[tuple[str, ...]]) -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        assert step(app) == "answer"
        await press(pilot, "enter")
        assert step(app) == "summary"
        assert confirmed == []
        await press(pilot, "enter")

    drive(wizard("rtx-4090"), script)
    assert confirmed == [LAUNCH]


def test_the_same_by_mouse(confirmed: list[tuple[str, ...]]) -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await click(pilot, Forward)
        assert step(app) == "summary"
        await click(pilot, Forward)

    drive(wizard("rtx-4090"), script)
    assert confirmed == [LAUNCH]


def test_every_step_and_back_by_keyboard() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        for key, name in (("t", "tune"), ("b", "backend"), ("s", "summary")):
            await press(pilot, key)
            assert step(app) == name
        for name in ("backend", "tune", "answer", "answer"):
            await press(pilot, "escape")
            assert step(app) == name
        await press(pilot, "f1")
        assert isinstance(app.screen, Help)
        await press(pilot, "escape", "m")
        assert isinstance(app.screen, MachineDialog)
        await press(pilot, "escape")
        assert step(app) == "answer"
        await press(pilot, "q")

    assert drive(wizard("rtx-4060"), script).return_value is None


def test_every_step_by_mouse() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        for offset, name in (((25, 0), "tune"), ((33, 0), "backend"), ((45, 0), "summary"), ((14, 0), "answer")):
            assert await pilot.click(offset=offset)
            await press(pilot)
            await pilot.pause()
            assert step(app) == name
        assert len(app.screen_stack) == 2

    drive(wizard("rtx-4060"), script)


def test_tune_changes_the_answer_and_the_line() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "t", "right", "tab", "home", "right", "right", "tab", "right")
        assert app.choice.line == "advisor recommend --use-case coding --context 8192 --prefer quality"
        assert "advisor recommend --use-case coding" in text(app)
        assert app.answer is not None
        assert app.answer.document.request.context_tokens == 8192

    drive(wizard("rtx-4090"), script)


def test_tune_by_mouse() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "t")
        right = list(app.screen.query(Arrow))[1]
        await pilot.click(right)
        await press(pilot)
        await pilot.pause(0.2)
        assert app.choice.use_case == "coding"

    drive(wizard("rtx-4090"), script)


def test_another_file_and_back_to_the_pick() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "t", "tab", "tab", "tab")
        assert isinstance(app.focused, CandidateTable)
        await press(pilot, "down", "enter")
        assert app.choice.quant is not None
        row = app.screen.query_one(CandidateTable).row
        assert row is not None and (row.model, row.quant) == (app.choice.model, app.choice.quant)
        assert app.answer is not None and app.answer.pick.quant == app.choice.quant
        assert f"--quant {app.choice.quant}" in app.answer.pick.command
        await press(pilot, "d")
        assert isinstance(app.screen, Details)
        await press(pilot, "escape", "u")
        assert app.choice.model is None

    drive(wizard("rtx-4090"), script)


def test_a_rejected_file_says_why() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "t", "tab", "tab", "tab", "end", "enter")
        assert isinstance(app.screen, Details)
        assert "It does not run here" in text(app)
        assert app.choice.model is None

    drive(wizard("pi"), script)


@pytest.mark.parametrize("size", SIZES)
def test_details_are_those_of_their_shell_line(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed, it says the same of the same file; of one that does not run, what it would take."""
    copied: list[str] = []
    monkeypatch.setattr(Wizard, "copy_to_clipboard", lambda self, what: copied.append(what))

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "t", "tab", "tab", "tab", "down", "down", "d", "c")
        details = app.screen
        assert isinstance(details, Details) and details.answer is not None
        assert f"$ {copied[-1]}"[:40] in text(app)
        pick, told = details.answer.pick, said(copied[-1])["recommendations"][0]
        assert (told["model"], told["quant"]) == (details.row.model, details.row.quant)
        assert told["memory"]["total_bytes"] == pick.memory.total_bytes
        assert told["speed"]["decode_tokens_per_s"] == pick.speed.decode_tokens_per_s
        assert (told["reasons"], told["warnings"]) == (list(pick.reasons), list(pick.warnings))
        await press(pilot, "escape", "end", "d", "c")
        assert isinstance(app.screen, Details) and app.answer is not None
        row = app.screen.row
        assert row.candidate is None and copied[-1].startswith(f"advisor estimate {row.model} --quant {row.quant} ")
        told = said(copied[-1])
        assert (told["model"]["model"], told["model"]["quant"]) == (row.model, row.quant)
        assert told["request"]["context_tokens"] == app.answer.document.request.context_tokens

    drive(wizard("pi", choice=Choice(spec="RTX 4060 8GB, 32GB", use_case="coding")), script, size=SIZES[size])


def said(line: str) -> Any:
    """What a command line answers, as JSON."""
    done = CliRunner().invoke(cli, [*shlex.split(line)[1:], "--json"])
    return json.loads(done.stdout)


@pytest.mark.parametrize("clicks", [4, 8])
def test_sorting_keeps_what_does_not_run_below(clicks: int) -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "t", "tab", "tab", "tab", *["o"] * clicks)
        runs = [row.candidate is not None for row in app.screen.query_one(CandidateTable).rows_shown]
        assert runs == sorted(runs, reverse=True)

    drive(wizard("rtx-4060"), script)


def test_another_backend() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "b", "down", "down", "enter")
        assert app.choice.backend == "native"
        assert app.answer is not None and app.answer.pick.backend == "native"
        assert "--backend native" in text(app)

    drive(wizard("rtx-4060"), script)


def test_a_backend_that_is_not_there_any_more_leaves_no_answer() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        assert app.trouble is not None
        assert "no server answers" in app.trouble.message
        assert "ollama serve" in text(app)
        await press(pilot, "b", "home", "enter")
        assert app.trouble is None

    drive(wizard("rtx-4060", choice=Choice(backend="ollama")), script, size=(120, 36))


def test_a_corrected_machine() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "m", "'RTX 3060", "tab", "'16GB", "enter")
        assert step(app) == "answer"
        assert app.choice.line == "advisor recommend --gpu 'RTX 3060' --memory 16GB"
        assert app.machine is not None and app.machine.gpus[0].name == "GeForce RTX 3060"
        assert "corrected by you" in text(app)
        await press(pilot, "s")
        assert app.errand is not None
        assert app.errand.command.endswith("--gpu 'RTX 3060' --memory 16GB")
        wanted = order(app.errand.command)
        assert (wanted.gpu, wanted.memory) == ("RTX 3060", "16GB"), "what is started is what was reckoned"

    drive(wizard("no-gpu"), script)


def test_a_corrected_machine_is_planned_for_as_it_was_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed, the command line gives the memory and the placement of the screen."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    here = machine("cpu, 16GB", LLAMA_CPP)
    monkeypatch.setattr(detection, "detect", lambda *_args, **_options: here)
    found = answer(Choice(gpu="RTX 3060", memory="12GB"), here, load())
    setup = configure(order(found.pick.command), strict=False)
    assert setup.estimate is not None
    assert setup.estimate.machine.gpus[0].name == "GeForce RTX 3060"
    assert setup.estimate.placement.gpu_layers == found.pick.placement.gpu_layers > 0
    assert setup.expected_bytes == found.pick.memory.total_bytes


def test_a_machine_that_is_not_here_cannot_be_started(confirmed: list[tuple[str, ...]]) -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "m", "tab", "tab", "'M3 Max 64GB", "enter")
        assert app.choice.spec == "M3 Max 64GB"
        await press(pilot, "s", "enter")
        assert step(app) == "summary"
        assert "another machine" in text(app)

    drive(wizard("no-gpu"), script)
    assert confirmed == []


def test_nonsense_is_not_taken() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "m", "'RTX 409O", "enter")
        assert isinstance(app.screen, MachineDialog)
        assert "did you mean" in text(app)

    drive(wizard("no-gpu"), script)


def test_nothing_fits_is_said_with_what_helps() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        assert app.trouble is not None
        assert "No answer" in text(app)
        await press(pilot, "enter", "s", "t")
        assert step(app) == "answer", "there is nothing to sum up"
        await press(pilot, "m", "tab", "tab", "'cpu, 16GB", "enter")
        assert app.trouble is None

    drive(wizard("cpu, 1GB"), script)


def test_what_runs_already_is_shown() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        assert "demo on native, http://127.0.0.1:8080/v1" in text(app)

    drive(wizard("rtx-4090", sessions=(SESSION,)), script)


@pytest.mark.parametrize("name", ["rtx-4060", "m3-max", "pi"])
def test_every_number_is_that_of_the_shell_line(name: str) -> None:
    """The screen's answer is the core's answer to the choice that its line spells out."""

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        assert app.answer is not None
        from advisor.pages.terminal import rate

        again = answer(app.choice, app.detected, load()).pick
        shown = text(app)
        assert again.name in shown
        assert f"{rate(again.speed.decode_tokens_per_s)} tok/s" in shown

    drive(wizard(name), script)
