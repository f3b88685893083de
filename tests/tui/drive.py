"""The wizard without a terminal: run it, wait for it, press keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from textual.events import Key
from textual.keys import _character_to_key
from textual.pilot import Pilot
from textual.widgets._footer import FooterKey

from advisor.tui.app import Wizard
from advisor.tui.step import Step

TURNS = 25
"""Of the event loop, between two looks whether all is quiet."""

Script = Callable[[Wizard, Pilot[Any]], Awaitable[None]]


def drive(app: Wizard, script: Script, size: tuple[int, int] = (80, 24)) -> Wizard:
    """Run the app, and the script with it once the answer is there."""

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await settled(pilot)
            await script(app, pilot)

    asyncio.run(run())
    return app


async def settled(pilot: Pilot[Any]) -> None:
    """Until nothing is pending: no debounced change, no worker, no message. Quicker than the pilot's own waiting, which
    watches the processor."""
    app = pilot.app
    assert isinstance(app, Wizard)
    quiet = 0
    while quiet < 3 and app.is_running:
        await pilot.pause(0.005)
        for _ in range(TURNS):
            # On a busy machine little happens in any time; turns of the loop are what a message needs.
            await asyncio.sleep(0)
        working = any(worker.is_running or worker.state.name == "PENDING" for worker in app.workers)
        if app.busy or working or not_drawn(app):
            quiet = 0
            await asyncio.sleep(0.005)
        else:
            quiet += 1


async def until(pilot: Pilot[Any], what: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for what a thread does."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, text(pilot.app)  # type: ignore[arg-type]
        await pilot.pause(0.01)
    await pilot.pause(0.01)


def not_drawn(app: Wizard) -> bool:
    """The footer is composed after everything else."""
    keys = list(app.screen.query(FooterKey))
    return isinstance(app.screen, Step) and not (keys and all(key.size.width for key in keys))


def send(app: Wizard, key: str) -> None:
    """A key as the terminal sends it."""
    character = key if len(key) == 1 else {"space": " ", "comma": ","}.get(key)
    app.post_message(Key(_character_to_key(key) if len(key) == 1 else key, character))


async def press(pilot: Pilot[Any], *keys: str) -> None:
    """Keys, each with all that follows from it; `'words` are typed at once."""
    app = pilot.app
    assert isinstance(app, Wizard)
    for key in keys:
        for each in key[1:] if key.startswith("'") and len(key) > 1 else (key,):
            send(app, each)
        await settled(pilot)


async def click(pilot: Pilot[Any], target: str | type[Any]) -> None:
    """A click on the middle of a widget, with all that follows."""
    assert await pilot.click(target)
    await settled(pilot)


def step(app: Wizard) -> str:
    """The step on top."""
    assert isinstance(app.screen, Step), app.screen
    return app.screen.STEP


def text(app: Wizard) -> str:
    """All that is on the screen, as lines of text."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)
