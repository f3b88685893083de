"""The last three steps, in the middle of things: nothing one does in them ends in a traceback, and nothing is cut."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from textual.pilot import Pilot

from advisor.tui.app import Wizard
from tests.tui.drive import drive, settled, text
from tests.tui.scenes import MACHINE, SCENES
from tests.tui.world import wizard

FULL = os.environ.get("ADVISOR_FULL") == "1"


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
            assert "Quit" in shown.splitlines()[-1]
            assert "palette" in shown.splitlines()[-1]
        app.live = None

    drive(wizard(MACHINE), script)
