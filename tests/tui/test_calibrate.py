"""A calibration in the wizard: offered, never forced, cancelled at any moment, remembered when it is not wanted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from advisor.errors import Interrupted, RuntimeFailed
from advisor.machine import Machine
from advisor.trials import calibration
from advisor.trials.calibration import Stage
from advisor.trials.costs import Calibration, Costs
from advisor.tui.app import Wizard
from advisor.tui.screens.answer import Offer
from advisor.tui.screens.calibrate import Calibrate
from advisor.tui.settings import Settings
from tests.tui.drive import click, drive, press, send, settled, step, text, until
from tests.tui.world import services

OFFERED = "k measures for a minute"
FOUND = Calibration(
    machine="m", build="b", memory_bytes_per_s=12_300_000_000,
    costs=(Costs(model="two layers of 12b", seconds={1: 0.02, 4: 0.028}, times=5, bytes=10**8),),
)  # fmt: skip


class World:
    """A calibration that waits in its second stage until it is let go on or stopped."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.declined: list[str] = []
        self.measured = False
        self.looks = 0
        self.error: Exception | None = None

    def calibrate(self, _machine: Machine, stop: threading.Event) -> Iterator[Stage | Calibration]:
        reading, embedded, wide = calibration.stages()
        yield reading
        yield embedded
        while not self.go_on.wait(0.01):
            if stop.is_set():
                raise Interrupted("stopped")
        if self.error:
            raise self.error
        yield wide
        self.measured = True
        yield FOUND

    def detect(self) -> Machine:
        self.looks += 1
        return services("rtx-4090").detect()

    def wizard(self) -> Wizard:
        world = replace(
            services("rtx-4090"),
            detect=self.detect,
            uncalibrated=lambda _: not (self.declined or self.measured),
            calibrate=self.calibrate,
            decline=lambda machine: self.declined.append(machine.cpu.name),
        )
        return Wizard(services=world, options=Settings(), remember=False)


@pytest.fixture
def world() -> World:
    return World()


async def measuring(app: Wizard, pilot: Pilot[Any]) -> None:
    """In the middle of its second stage."""
    await press(pilot, "k", "enter")
    await until(pilot, lambda: "decoding with the embedded model" in text(app))


async def ended(app: Wizard, pilot: Pilot[Any]) -> None:
    """What was found is shown, and the button that was pressed can be pressed again."""
    await until(pilot, lambda: "read at 12.3 GB/s" in text(app))
    await until(pilot, lambda: not app.screen.query_one("#measure").has_class("-active"))


def test_measured_it_is_told_and_everything_is_reckoned_anew(world: World) -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        assert OFFERED in text(app)
        await press(pilot, "k")
        assert "$ advisor calibrate" in text(app)
        await press(pilot, "enter")
        await until(pilot, lambda: "about 0:" in text(app))
        world.go_on.set()
        await ended(app, pilot)
        assert "1.40 times as long" in text(app)
        await press(pilot, "enter")
        assert step(app) == "answer"
        assert OFFERED not in text(app)

    drive(world.wizard(), script)
    assert world.looks == 2
    assert not world.declined


def test_by_mouse(world: World) -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await click(pilot, Offer)
        await click(pilot, "#measure")
        world.go_on.set()
        await ended(app, pilot)
        await click(pilot, "#measure")
        assert step(app) == "answer"

    drive(world.wizard(), script)


def test_declined_it_is_remembered_and_the_palette_keeps_it(world: World) -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "k", "tab", "enter")
        assert step(app) == "answer"
        assert OFFERED not in text(app)
        assert "Calibrate" in [one.title for one in app.get_system_commands(app.screen)]

    drive(world.wizard(), script)
    assert len(world.declined) == 1
    assert world.looks == 1


def test_closed_it_is_offered_again(world: World) -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "k", "escape")
        assert OFFERED in text(app)

    drive(world.wizard(), script)
    assert not world.declined


@pytest.mark.parametrize("how", ["escape", "x", "mouse", "ctrl+q"])
def test_cancelled_it_ends_and_keeps_nothing(world: World, how: str) -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await measuring(app, pilot)
        if how == "mouse":
            await pilot.click("#back")
        else:
            send(app, how)
        await until(pilot, lambda: app.calibrating is not None and app.calibrating.over)
        assert app.calibrating is not None and app.calibrating.found is None
        if how == "ctrl+q":
            await until(pilot, lambda: not app.is_running)
        else:
            await settled(pilot)
            assert OFFERED in text(app)

    drive(world.wizard(), script)
    assert world.looks == 1


def test_a_failure_is_told_with_its_hint(world: World) -> None:
    world.error = RuntimeFailed("no room for a test model", hint="set TMPDIR to another folder")
    world.go_on.set()

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "k", "enter")
        await until(pilot, lambda: "no room for a test model" in text(app))
        await until(pilot, lambda: not app.screen.query_one("#measure").has_class("-active"))
        assert "set TMPDIR" in text(app)
        await press(pilot, "f1")
        assert "What advisor calibrate does" in text(app)
        await press(pilot, "escape")
        assert isinstance(app.screen, Calibrate)
        await press(pilot, "enter")
        assert OFFERED in text(app)

    drive(world.wizard(), script)


def test_of_a_machine_that_is_elsewhere_nothing_is_offered(world: World) -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        app.choose(spec="M3 Max 64GB")
        await settled(pilot)
        assert OFFERED not in text(app)

    drive(world.wizard(), script)
