"""What every screen looks like: the wizard is walked once for a machine, a size and a theme, and each screen kept."""

from __future__ import annotations

import asyncio
import functools
from typing import Any, NamedTuple

from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input

from advisor.tui.app import Wizard
from tests.tui.drive import press, settled, text
from tests.tui.scenes import MACHINE, SCENES
from tests.tui.world import SESSION, SIZES, wizard

FIRST = {
    "answer": (),
    "palette": ("ctrl+p",),
    "help": ("f1",),
    "machine": ("m",),
    "tune": ("t",),
    "charts": ("v",),
    "details": ("v", "tab", "tab", "tab", "down", "d"),
    "backend": ("escape", "b"),
    "summary": ("s",),
    "demo": ("1", "d"),
}
"""The screens that ask nothing of a backend, each with the keys from the one before."""
DIALOGS = ("palette", "help", "machine")


class Picture(NamedTuple):
    """A screen as it is drawn, and as lines of text."""

    svg: str
    text: str


@functools.cache
def first_screens(machine: str, size: str, theme: str) -> dict[str, Picture]:
    """All screens before something runs, on that machine."""

    async def script(app: Wizard, pilot: Pilot[Any]) -> dict[str, Picture]:
        found = {}
        for name, keys in FIRST.items():
            await press(pilot, *keys)
            found[name] = await picture(app, pilot)
            if name in DIALOGS:
                await press(pilot, "escape")
        return found

    return walked(wizard(machine, theme=theme, sessions=(SESSION,) if machine == "m3-max" else ()), size, script)


@functools.cache
def last_screens(size: str, theme: str) -> dict[str, Picture]:
    """All screens while something starts and runs."""

    async def script(app: Wizard, pilot: Pilot[Any]) -> dict[str, Picture]:
        found = {}
        for name, scene in SCENES.items():
            await scene(app, pilot)
            found[name] = await picture(app, pilot)
            app.action_go("answer")
            app.live = app.tryout = app.started = None
            await settled(pilot)
        return found

    return walked(wizard(MACHINE, theme=theme), size, script)


def walked(app: Wizard, size: str, script: Any) -> dict[str, Picture]:
    async def run() -> dict[str, Picture]:
        async with app.run_test(size=SIZES[size]) as pilot:
            await settled(pilot)
            found: dict[str, Picture] = await script(app, pilot)
            return found

    return asyncio.run(run())


async def picture(app: Wizard, pilot: Pilot[Any]) -> Picture:
    for field in app.screen.query(Input):
        field.cursor_blink = False
    await settled(pilot)
    return Picture(app.export_screenshot(title="advisor"), text(app))


class Shown(App[None]):
    """In place of an app that is to be walked, for what wants one: it was walked before."""
