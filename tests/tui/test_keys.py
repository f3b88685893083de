"""Two thousand keys in no order at each screen: nothing of it ends in a traceback, and Escape leads out."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from textual.pilot import Pilot

from advisor.tui.app import Wizard
from advisor.tui.route import ROUTE
from advisor.tui.step import Step
from tests.tui.drive import drive, press, send, settled, step, text
from tests.tui.scenes import MACHINE, live
from tests.tui.world import wizard

PLACES = [place.id for place in ROUTE]
PRESSES = 2000 if os.environ.get("ADVISOR_FULL") == "1" else 40
EVERY = 10
"""Keys between two looks whether all is well."""
KEYS = [
    *"abcdefghijklmnoprstuvwxyz0123456789 ,.-?/", "enter", "enter", "escape", "tab", "shift+tab", "up", "down", "left",
    "right", "home", "end", "pageup", "pagedown", "f1", "ctrl+p", "backspace", "delete", "space", "ctrl+a", "ctrl+u",
    "ctrl+r", "ctrl+y", "ctrl+t", "ctrl+o", "ctrl+l", "ctrl+j", "ctrl+c", "ctrl+n",
]  # fmt: skip
"""All but `q`, which leaves."""


@pytest.fixture(autouse=True)
def _stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves the wizard, and no picture of it is written."""

    async def quiet(_app: Wizard) -> None:
        """In place of leaving."""

    monkeypatch.setattr(Wizard, "action_quit", quiet)
    # Nor does it heed whoever ends the tests, which could not end them then.
    monkeypatch.setattr(Wizard, "heed_signals", lambda self: None)
    monkeypatch.setattr(Wizard, "exit", lambda self, *_args, **_more: None)
    monkeypatch.setattr(Wizard, "deliver_screenshot", lambda self, *_args, **_more: None)


async def arrive(app: Wizard, pilot: Pilot[Any], place: str) -> None:
    """At a step, with something that runs where it needs that."""
    if place == "start":
        await press(pilot, "s", "enter")
    elif place in ("trial", "chat"):
        app.live = live()
    app.action_go(place)
    await settled(pilot)
    assert step(app) == place


@pytest.mark.parametrize("place", PLACES)
def test_random_keys(place: str) -> None:
    chance = random.Random(place)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await arrive(app, pilot, place)
        for count in range(PRESSES):
            send(app, chance.choice(KEYS))
            if count % EVERY == 0:
                await settled(pilot)
            assert app._exception is None
        await settled(pilot)
        while not isinstance(app.screen, Step):
            await press(pilot, "escape")
        assert text(app).strip()
        app.settle()

    drive(wizard(MACHINE), script)
