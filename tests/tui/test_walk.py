"""The way through the wizard, by keyboard and by mouse."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from textual.pilot import Pilot

from advisor.tui.app import Wizard
from advisor.tui.step import Step
from tests.tui.world import wizard

Script = Callable[[Wizard, Pilot[Any]], Awaitable[None]]


def drive(app: Wizard, script: Script, size: tuple[int, int] = (80, 24)) -> None:
    """Run the app without a terminal, and the script with it once the answer is there."""

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            await settled(app, pilot)
            await script(app, pilot)

    asyncio.run(run())


async def settled(app: Wizard, pilot: Pilot[Any]) -> None:
    """Until all workers are done and everything is drawn."""
    for _ in range(3):
        await pilot.pause(0.08)
        await app.workers.wait_for_complete()
    await pilot.pause()


def step(app: Wizard) -> str:
    assert isinstance(app.screen, Step)
    return app.screen.STEP


def test_enter_enter_runs_the_answer() -> None:
    app = wizard("rtx-4090")

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        assert step(app) == "answer"
        await pilot.press("enter")
        await settled(app, pilot)
        assert step(app) == "summary"
        await pilot.press("enter")
        await pilot.pause()

    drive(app, script)
    assert app.return_value == ("launch", "26b", "--quant", "QAT-UD-Q4_K_XL", "--context", "8192")
