"""Nothing that a user or a terminal does ends in a traceback: resizing, every theme, slow worlds."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from advisor.errors import AdvisorError, DownloadFailed
from advisor.machine import Machine
from advisor.tui.app import Wizard
from advisor.tui.dialog import Dialog
from advisor.tui.settings import Settings
from advisor.tui.themes import OWN
from tests.tui.drive import drive, press, settled, step, text
from tests.tui.world import machine, services, wizard

FULL = os.environ.get("ADVISOR_FULL") == "1"
STEPS = ("answer", "tune", "backend", "summary")


@pytest.mark.parametrize("place", STEPS if FULL else ["tune"])
def test_resize_storm(place: str) -> None:
    chance = random.Random(place)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        app.action_go(place)
        for _ in range(60 if FULL else 6):
            await pilot.resize_terminal(chance.randint(20, 200), chance.randint(5, 60))
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        assert step(app) == place
        before = text(app)
        await pilot.resize_terminal(160, 45)
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        assert text(app) == before

    drive(wizard("h100x8"), script)


@pytest.mark.parametrize("place", STEPS)
def test_nothing_is_cut_between_the_sizes(place: str) -> None:
    """No label gives way to the edge of the terminal; the keys in the footer are all there."""

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        app.action_go(place)
        for width in range(80, 161, 8) if FULL else (80, 93, 104, 140):
            await pilot.resize_terminal(width, 24 if width < 120 else 40)
            await settled(pilot)
            shown = text(app)
            assert "…" not in shown, width
            assert not [one for one in app.screen.query("*") if one.show_horizontal_scrollbar], width
            assert "Quit" in shown.splitlines()[-1]
            assert "palette" in shown.splitlines()[-1]

    drive(wizard("rtx-4060"), script)


def test_every_theme() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        for name in app.available_themes if FULL else ("ansi-light", "nord"):
            app.theme = name
            await settled(pilot)
            for place in ("tune", "answer"):
                app.action_go(place)
                await settled(pilot)
                assert "advisor" in text(app)

    drive(wizard("rtx-4060"), script)


def test_own_themes_are_there() -> None:
    assert {theme.name for theme in OWN} == {"advisor-dark", "advisor-light"}
    assert Settings().theme == "advisor-dark"


def test_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown: list[str] = []

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        shown.append(text(app))

        styles = [segment.style for strip in app.screen._compositor.render_strips() for segment in strip]
        for style in styles:
            for colour in (style.color, style.bgcolor) if style else ():
                assert colour is None or colour.is_default, "no greys either"
        app.theme = "nord"
        await settled(pilot)

    app = drive(wizard("rtx-4060"), script)
    assert app.options.theme == "advisor-dark", "what is taken without colours is not what is wanted with them"
    for glyph in "█▓▒▞":
        assert glyph in shown[0], "the parts of the bar differ in more than colour"


def test_a_dialog_that_is_covered_while_it_closes_can_still_be_closed() -> None:
    """Found by random keys: a choice is a message, and a key that opens the palette may overtake it."""

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "m")
        dialog = app.screen
        assert isinstance(dialog, Dialog)
        await press(pilot, "ctrl+p")
        dialog.leave()
        await press(pilot, "escape")
        assert app.screen is dialog
        await press(pilot, "escape")
        assert step(app) == "answer"

    drive(wizard("rtx-4060"), script)


# ---- A world that is slow, or fails


def test_detection_blocks_nothing() -> None:
    """While the machine is looked at, keys work and the screen is there; the answer comes when it comes."""
    release = threading.Event()

    def slow() -> Machine:
        assert release.wait(60)
        return machine("RTX 4090, 64GB")

    app = Wizard(services=replace(services("rtx-4090"), detect=slow), options=Settings(), remember=False)

    async def run() -> None:
        async with app.run_test() as pilot:
            await pilot.pause(0)
            assert "Looking at this machine" in text(app)
            await pilot.press("f1")
            assert "The answer for this machine" in text(app)
            await pilot.press("escape")
            assert app.answer is None
            release.set()
            await settled(pilot)
            assert app.answer is not None

    asyncio.run(run())


def test_a_world_that_fails_is_told_with_its_hint() -> None:
    def broken() -> Machine:
        raise AdvisorError("the probes are gone", hint="Look for them.")

    app = Wizard(services=replace(services("rtx-4090"), detect=broken), options=Settings(), remember=False)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        assert "the probes are gone" in text(app)
        assert "Look for them." in text(app)

    drive(app, script)


def test_any_other_failure_is_no_traceback() -> None:
    def broken() -> list[Any]:
        raise ZeroDivisionError("oops")

    app = Wizard(services=replace(services("rtx-4090"), sessions=broken), options=Settings(), remember=False)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        assert [one.message for one in app._notifications]
        assert step(app) == "answer"
        assert "Gemma 4" in text(app)

    drive(app, script)


def test_no_network_leaves_the_summary() -> None:
    def unreachable(_wanted: Any) -> Any:
        raise DownloadFailed("the Hub cannot be reached", hint="check the network")

    app = Wizard(services=replace(services("rtx-4090"), files_there=unreachable), options=Settings(), remember=False)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "s")
        assert "not asked: the Hub cannot be reached" in " ".join(text(app).split())
        assert app.errand is not None

    drive(app, script)


def test_a_full_disk_is_in_the_way() -> None:
    app = Wizard(services=replace(services("rtx-4090"), free_disk=lambda: 10**9), options=Settings(), remember=False)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "s", "enter")
        assert "the disk lacks" in text(app)
        assert step(app) == "summary"

    assert drive(app, script).return_value is None
