"""The whole way on the demo pair with the real engine: answer, summary, start, trial, chat, stop."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from textual.pilot import Pilot
from textual.widgets import Button

from advisor.prediction.measurements import recall
from advisor.running import launching, sessions
from advisor.running.order import Order, Setup
from advisor.tui.app import Wizard
from advisor.tui.screens.chat import ChatStep
from advisor.tui.services import Services
from advisor.tui.settings import Settings
from advisor.tui.widgets.forward import Forward
from tests.tui.drive import click, drive, press, send, settled, step, text, until
from tests.tui.world import services

FULL = os.environ.get("ADVISOR_FULL") == "1"
LONGEST_FRAME_S = 0.1
ROUNDS = 8
"""Other programs take the processor away now and then: what blocks does so in each round."""
QUESTIONS = ("Which model fits 16 GB?", "Write a Python function that adds two numbers", "How do I run the 26B?")
pytestmark = pytest.mark.engine


def one_thread(order: Order) -> Setup:
    """The demo pair on one core: the other one draws."""
    return launching.configure(msgspec.structs.replace(order, threads=1))


def real(each_s: float = 0.5) -> Wizard:
    """A wizard that starts real engines."""
    own = Services()
    world = replace(
        services("rtx-4060"),
        configure=one_thread,
        fetch=own.fetch,
        backend=own.backend,
        sessions=own.sessions,
        each_s=10.0 if FULL else each_s,
    )
    return Wizard(services=world, options=Settings(), remember=False)


def kept_waiting() -> float:
    """Seconds that this thread could have run and did not, because others had the processor; 0 where nobody counts."""
    counted = Path("/proc/thread-self/schedstat")
    return int(counted.read_text().split()[1]) / 1e9 if counted.exists() else 0.0


async def ready(app: Wizard, pilot: Pilot[Any]) -> None:
    """Until the button to go on with can be pressed."""
    await until(pilot, lambda: isinstance(app.screen.query(Forward).first(), Button), 60)
    await until(pilot, lambda: not app.screen.query_one(Forward).disabled, 60)
    await settled(pilot)


def chat(app: Wizard) -> ChatStep:
    assert isinstance(app.screen, ChatStep)
    return app.screen


async def ask(app: Wizard, pilot: Pilot[Any], question: str) -> None:
    for letter in question:
        send(app, "space" if letter == " " else letter)
    await settled(pilot)
    send(app, "enter")
    await until(pilot, lambda: chat(app).answering)


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if "backends.native" in line(one)]


def line(process: psutil.Process) -> str:
    """Its command line; nothing of one that has ended, collected or not."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_by_keyboard() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "d")
        assert step(app) == "summary"
        assert "demo-drafter.gguf" in text(app)
        await ready(app, pilot)
        await press(pilot, "enter")
        assert step(app) == "start"
        await until(pilot, lambda: app.live is not None, 60)
        await ready(app, pilot)
        assert "It runs: demo" in text(app)
        assert "accepted" in text(app)
        await press(pilot, "enter")
        assert step(app) == "trial"
        await until(pilot, lambda: app.tryout is not None and app.tryout.over, 120)
        await pilot.pause(0.2)
        assert "drafter" in text(app)
        await press(pilot, "enter")
        assert step(app) == "chat"
        await ask(app, pilot, "Which model fits 16 GB?")
        await until(pilot, lambda: not chat(app).answering, 60)
        await pilot.pause(0.2)
        assert "For 16 GB take Gemma 4 12B" in " ".join(text(app).split())
        assert app.live is not None and app.live.talk.said[0].ended == ""
        for name in ("trial", "start", "summary", "answer"):
            await press(pilot, "escape")
            assert step(app) == name
        assert "demo on native, http://127.0.0.1:" in text(app)
        await press(pilot, "7")
        assert step(app) == "chat"
        await click(pilot, "#end")
        await until(pilot, lambda: app.live is None)
        await settled(pilot)
        assert step(app) == "answer"
        assert "Running" not in text(app)
        await press(pilot, "q")

    drive(real(), script)
    assert not children()
    assert not sessions.everything()
    assert {one.source for one in recall()} == {"trial"}, "what was measured is remembered"


def test_by_mouse() -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await click(pilot, "#demo")
        await ready(app, pilot)
        await click(pilot, Forward)
        assert step(app) == "start"
        await until(pilot, lambda: app.live is not None, 60)
        await ready(app, pilot)
        await click(pilot, Forward)
        assert step(app) == "trial"
        await until(pilot, lambda: app.tryout is not None and app.tryout.samples, 60)
        await click(pilot, Forward)
        assert step(app) == "chat"
        await click(pilot, "#question")
        await until(pilot, lambda: app.tryout is not None and app.tryout.over, 60)
        for letter in "Hello":
            send(app, letter)
        await settled(pilot)
        await click(pilot, Forward)
        await until(pilot, lambda: app.live is not None and app.live.talk.said and not chat(app).answering, 60)
        await pilot.click("#end")
        await until(pilot, lambda: app.live is None)

    drive(real(each_s=5.0), script)
    assert not children()
    assert not sessions.everything()


@pytest.mark.parametrize("stage", ["loading", "asking", "trial", "chat"] if FULL else ["loading", "chat"])
def test_killed_at_each_step(stage: str) -> None:
    """The message says so, nothing is left, and it can be started again."""

    def kill(app: Wizard) -> None:
        for one in children():
            os.kill(one.pid, signal.SIGKILL)

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "d")
        await ready(app, pilot)
        await press(pilot, "enter")
        if stage in ("loading", "asking"):
            await until(pilot, lambda: app.started is not None and app.started.stage == stage and children(), 60)
            kill(app)
            await until(pilot, lambda: app.started is not None and app.started.over, 60)
            await pilot.pause(0.2)
            assert app.started is not None and app.started.error is not None
            assert "That did not work: demo" in text(app)
            assert not sessions.everything()
            await press(pilot, "enter")
        await until(pilot, lambda: app.live is not None, 60)
        await ready(app, pilot)
        if stage == "trial":
            await press(pilot, "enter")
            await until(pilot, lambda: app.tryout is not None and app.tryout.samples, 60)
            kill(app)
            await until(pilot, lambda: app.tryout is not None and app.tryout.over, 60)
            await pilot.pause(0.2)
            assert app.tryout is not None and app.tryout.error is not None
            assert app.tryout.error.message.split()[0] in text(app)
        app.action_go("chat")
        await settled(pilot)
        if stage == "chat":
            await ask(app, pilot, "Write a long story")
            kill(app)
            await until(pilot, lambda: not chat(app).answering, 60)
        if stage in ("trial", "chat"):
            await until(pilot, lambda: chat(app).dead, 20)
            await pilot.pause(0.2)
            assert "Start again" in text(app)
            await click(pilot, Forward)
            await until(pilot, lambda: app.live is not None and step(app) == "start", 60)
        app.action_end()
        await until(pilot, lambda: app.live is None)

    drive(real(each_s=5.0), script)
    assert not children()
    assert not sessions.everything()


@pytest.mark.parametrize("stage", ["deciding", "loading", "asking"] if FULL else ["loading"])
def test_cancelled_at_each_stage_leaves_nothing(stage: str) -> None:
    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "d")
        await ready(app, pilot)
        send(app, "enter")
        order = ("deciding", "fetching", "loading", "asking", "running")
        await until(pilot, lambda: app.started is not None and order.index(app.started.stage) >= order.index(stage), 60)
        send(app, "escape")
        await until(pilot, lambda: app.started is not None and app.started.over, 60)
        await settled(pilot)
        if app.live is not None:  # it was quicker than the key
            app.action_end()
            await until(pilot, lambda: app.live is None)

    drive(real(), script)
    assert not children()
    assert not sessions.everything()


def test_no_frame_blocks_while_it_generates(record_property: Any) -> None:
    """A timer that is due every 5 ms is never late by more than a tenth of a second, while answers stream in; what
    other programs take does not count."""
    lags: list[float] = []

    async def script(app: Wizard, pilot: Pilot[Any]) -> None:
        await press(pilot, "d")
        await ready(app, pilot)
        await press(pilot, "enter")
        await until(pilot, lambda: app.live is not None, 60)
        app.action_go("chat")
        await settled(pilot)
        measuring = asyncio.create_task(watch())
        for _ in range(ROUNDS):
            lags.clear()
            for question in QUESTIONS * (10 if FULL else 1):
                await ask(app, pilot, question)
                await until(pilot, lambda: not chat(app).answering, 60)
            if max(lags) < LONGEST_FRAME_S:
                break
        measuring.cancel()
        app.action_end()
        await until(pilot, lambda: app.live is None)

    async def watch() -> None:
        while True:
            before, waited = time.perf_counter(), kept_waiting()
            await asyncio.sleep(0.005)
            lags.append(time.perf_counter() - before - 0.005 - (kept_waiting() - waited))

    drive(real(), script, size=(120, 36))
    longest = sorted(lags)
    print(f"longest frame {longest[-1] * 1000:.0f} ms, 99th of 100 {longest[int(len(longest) * 0.99)] * 1000:.0f} ms")
    assert longest[-1] < LONGEST_FRAME_S
