"""What every screen looks like: at three sizes, on six machines, dark and light.

The quick set has each screen, size, machine and theme at least once; `ADVISOR_FULL=1` takes every combination and
compares its text. After a change that is meant: `ADVISOR_FULL=1 pytest tests/tui --snapshot-update` (without FULL the
texts would be deleted as unused), and look at the pictures.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import textual
from textual.pilot import Pilot
from textual.widgets import Input

from tests.tui.drive import drive, press, settled, text
from tests.tui.world import MACHINES, SESSION, SIZES, wizard

FULL = os.environ.get("ADVISOR_FULL") == "1"
THEMES = ("advisor-dark", "advisor-light")
SCREENS = {
    "answer": (),
    "tune": ("t",),
    "charts": ("t", "v"),
    "details": ("t", "tab", "tab", "tab", "down", "d"),
    "backend": ("b",),
    "summary": ("s",),
    "machine": ("m",),
    "help": ("f1",),
}
QUICK = [
    ("answer", "80x24", "rtx-4060", "advisor-dark"),
    ("answer", "120x36", "m3-max", "advisor-light"),
    ("answer", "160x45", "h100x8", "advisor-dark"),
    ("answer", "80x24", "pi", "advisor-light"),
    ("answer", "80x24", "no-gpu", "ansi-dark"),
    ("tune", "80x24", "no-gpu", "ansi-light"),
    ("tune", "80x24", "rtx-4090", "advisor-dark"),
    ("tune", "120x36", "pi", "advisor-light"),
    ("tune", "160x45", "rtx-4060", "advisor-dark"),
    ("charts", "80x24", "m3-max", "advisor-dark"),
    ("details", "80x24", "h100x8", "advisor-light"),
    ("backend", "80x24", "rtx-4060", "advisor-light"),
    ("backend", "120x36", "no-gpu", "advisor-dark"),
    ("summary", "80x24", "rtx-4060", "advisor-dark"),
    ("summary", "160x45", "rtx-4090", "advisor-light"),
    ("machine", "80x24", "rtx-4090", "advisor-dark"),
    ("help", "80x24", "pi", "advisor-dark"),
]
"""Screen, size, machine, theme."""

pytestmark = pytest.mark.skipif(
    not textual.__version__.startswith("8."), reason="Textual draws a little differently from one major to the next"
)


@pytest.mark.parametrize(("screen", "size", "machine", "theme"), QUICK)
def test_picture(snap_compare: Any, screen: str, size: str, machine: str, theme: str) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await settled(pilot)
        await press(pilot, *SCREENS[screen])
        for field in pilot.app.screen.query(Input):
            field.cursor_blink = False
        await settled(pilot)

    sessions = (SESSION,) if machine == "m3-max" else ()
    app = wizard(machine, theme=theme, sessions=sessions)
    assert snap_compare(app, terminal_size=SIZES[size], run_before=before)


@pytest.mark.skipif(not FULL, reason="ADVISOR_FULL=1 looks at every screen on every machine")
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("screen", SCREENS)
def test_text(snapshot: Any, screen: str, size: str, machine: str) -> None:
    shown = []
    for theme in THEMES if size == "80x24" else THEMES[:1]:

        async def script(app: Any, pilot: Pilot[Any]) -> None:
            await press(pilot, *SCREENS[screen])
            shown.append(text(app))

        drive(wizard(machine, theme=theme), script, size=SIZES[size])
    assert shown[0] == shown[-1], "a theme changes colours only"
    assert shown[0] == snapshot
