"""The last three steps, in the middle of things: nothing one does in them ends in a traceback, and nothing is cut."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from textual.pilot import Pilot

from advisor.tui.app import Wizard
from advisor.tui.step import Step
from tests.tui.drive import drive, press, send, settled, step, text
from tests.tui.scenes import MACHINE, SCENES, live
from tests.tui.world import wizard

FULL = os.environ.get("ADVISOR_FULL") == "1"
PLACES = ("start", "trial", "chat")
PRESSES = 2000 if FULL else 30
KEYS = [
    *"abcdefghijklmnoprstuvwxyz0123456789 ,.-?/", "enter", "enter", "escape", "tab", "shift+tab", "up", "down", "left",
    "right", "home", "end", "pageup", "pagedown", "f1", "ctrl+p", "backspace", "delete", "space", "ctrl+a", "ctrl+u",
    "ctrl+r", "ctrl+y", "ctrl+t", "ctrl+o", "ctrl+l", "ctrl+j", "ctrl+c",
]  # fmt: skip


async def arrive(app: Wizard, pilot: Pilot[Any], place: str) -> None:
    """At a step, with something that runs."""
    if place == "start":
        await press(pilot, "s", "enter")
    else:
        app.live = live()
        app.action_go(place)
    await settled(pilot)
    assert step(app) == place


@pytest.mark.parametrize("place", PLACES)
def test_random_keys(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wizard, "action_quit", quiet)
    monkeypatch.setattr(Wizard, "exit", lambda self, *_args, **_more: None)
    monkeypatch.setattr(Wizard, "deliver_screenshot", lambda self, *_args, **_more: None)
    chance = random.Random(place)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await arrive(app, pilot, place)
        for count in range(PRESSES):
            send(app, chance.choice(KEYS))
            if count % 10 == 0:
                await settled(pilot)
            assert app._exception is None
        await settled(pilot)
        while not isinstance(app.screen, Step):
            await press(pilot, "escape")
        assert text(app).strip()
        app.settle()

    drive(wizard(MACHINE), script)


async def quiet(_app: Wizard) -> None:
    """In place of leaving."""


@pytest.mark.parametrize("scene", ["fetching", "tried", "chat"] if FULL else ["chat"])
def test_resize_storm(scene: str) -> None:
    chance = random.Random(scene)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await SCENES[scene](app, pilot)
        before = text(app)
        for _ in range(60 if FULL else 6):
            await pilot.resize_terminal(chance.randint(20, 200), chance.randint(5, 60))
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        assert text(app).splitlines()[0] == before.splitlines()[0]
        assert "…" not in text(app)
        app.live = None

    drive(wizard(MACHINE), script)


@pytest.mark.parametrize("scene", ["fetching", "failed", "ready", "tried", "chat"] if FULL else ["tried", "chat"])
def test_nothing_is_cut_between_the_sizes(scene: str) -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await SCENES[scene](app, pilot)
        for width in range(80, 161, 8) if FULL else (80, 93, 104, 140):
            await pilot.resize_terminal(width, 24 if width < 120 else 40)
            await settled(pilot)
            shown = text(app)
            assert "…" not in shown, width
            assert not [one for one in app.screen.query("*") if one.show_horizontal_scrollbar], width
            assert "Quit" in shown.splitlines()[-1]
            assert "palette" in shown.splitlines()[-1]
        app.live = None

    drive(wizard(MACHINE), script)
