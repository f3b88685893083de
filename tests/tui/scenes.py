"""The last steps as they stand in the middle of things: the same in every picture, because nothing in them moves."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

from textual.pilot import Pilot
from textual.widgets import TextArea

from advisor.console.progress import Transfer
from advisor.errors import OutOfMemory
from advisor.pages.trial_document import KindPart
from advisor.running.order import Order
from advisor.running.processes import birth
from advisor.running.sessions import Session
from advisor.running.starting import Proof
from advisor.trials.answers import Answered
from advisor.trials.trial import Sample
from advisor.tui.app import Wizard
from advisor.tui.live import Live
from advisor.tui.screens.chat import ChatStep
from advisor.tui.screens.prepare import PrepareStep
from advisor.tui.screens.trial import TrialStep
from advisor.tui.start import Start
from advisor.tui.talk import Said
from advisor.tui.tryout import Now, Tryout
from tests.tui import scripted
from tests.tui.drive import press, settled
from tests.tui.scripted import ANSWER, GIB, POSITIONS, Scripted, timings
from tests.tui.world import wizard

MACHINE = "rtx-4090"
ORDER = Order(model="26b", quant="QAT-UD-Q4_K_XL", context=8192, detached=True)
SESSION = Session(
    name="26b", status="running", backend="llama.cpp", model="26b", pid=os.getpid(), birth=birth(os.getpid()),
    port=8080, since="2026-01-01", base_url="http://127.0.0.1:8080/v1", drafter=True, draft_tokens=3,
    context_tokens=8192, detached=True,
)  # fmt: skip
PROOF = Proof(
    active=True, drafted=48, accepted=34, acceptance=0.71, tokens_per_step=2.6, tokens_per_s=41.0,
    memory_bytes=int(14.1 * GIB), reason="", accepted_per_position=POSITIONS,
)  # fmt: skip
SPEEDS = {
    "code": ((24.1, 25.3, 24.8), (46.0, 44.7, 45.9)),
    "questions": ((25.0, 24.6, 25.1), (37.8, 36.9, 38.4)),
    "story": ((24.9, 25.2), (28.8, 29.4, 28.1)),
}
Scene = Callable[[Wizard, Pilot[Any]], Awaitable[None]]


def live() -> Live:
    """What runs in all of them."""
    return Live(session=SESSION, backend=Scripted(), setup=scripted.configure(ORDER), proof=PROOF)


class Still(Tryout):
    """A trial in which no time passes."""

    left_s = 21.0


def sample(kind: str, length: int, rate: float) -> Sample:
    answered = Answered(
        tokens=96, first_s=0.2, seconds=2.0, tokens_per_s=rate, depth_tokens=40, read_tokens=40,
        positions=POSITIONS if length else (),
    )  # fmt: skip
    return Sample(
        cell=kind,
        kind=kind,
        deep=False,
        length=length,
        answered=answered,
        seconds=2.0,
        number=1,
        elapsed_s=1.0,
        left_s=9.0,
    )


def tryout(live: Live, *, over: bool) -> Tryout:
    made = Still(live)
    made.stage = ""
    made.samples = tuple(
        sample(kind, length, rate)
        for kind, sides in SPEEDS.items()
        for length, rates in zip((0, 3), sides, strict=True)
        for rate in rates
    )
    if over:
        made.result = KindPart(
            kind=None, depth_tokens=88, verdict="keep", draft_tokens=3, gain=1.47, low=1.41, high=1.54, alike=(3,),
            settled=True, lengths=(),
        )  # fmt: skip
        made._over.set()
    else:
        made.now = Now("story", 0, time.monotonic() + 1e6)
    return made


def start(**state: Any) -> Start:
    made = Start(ORDER, wizard(MACHINE).services)
    made.setup = scripted.configure(ORDER)
    for name, value in state.items():
        setattr(made, name, value)
    return made


async def drawn(app: Wizard, pilot: Pilot[Any]) -> None:
    """As the step's own timer would draw it."""
    step = app.screen
    assert isinstance(step, PrepareStep | TrialStep | ChatStep)
    step.look()
    await settled(pilot)


async def starting(app: Wizard, pilot: Pilot[Any], made: Start) -> None:
    """Step 5 with that start in it."""

    def begin(_: Order) -> None:
        app.started = made

    app.begin = begin  # type: ignore[method-assign]
    await press(pilot, "s", "enter")
    await drawn(app, pilot)


async def fetching(app: Wizard, pilot: Pilot[Any]) -> None:
    name, size = "gemma-4-26B-A4B.gguf", 14_200_000_000
    transfer = Transfer(what=name, done=4_830_000_000, size=size, bytes_per_s=11_400_000, seconds_left=822.0)
    made = start(stage="fetching", transfers={name: transfer}, moved_at=time.monotonic() + 1e6)
    await starting(app, pilot, made)


async def failed(app: Wizard, pilot: Pilot[Any]) -> None:
    error = OutOfMemory(
        "llama-server: the GPU has too little memory: 1.2 GiB of KV cache were refused",
        hint="the next smaller choice takes 13.9 GiB in all instead of 14.6 GiB",
        command="advisor launch 26b --quant QAT-UD-Q4_K_XL --context 4096",
    )
    made = start(stage="loading", error=error)
    made._over.set()
    await starting(app, pilot, made)


async def ready(app: Wizard, pilot: Pilot[Any]) -> None:
    made = start(stage="running", proof=PROOF)
    made.live = app.live = live()
    app.asked = "advisor launch 26b --quant QAT-UD-Q4_K_XL --context 8192"
    made._over.set()
    app.started = made
    await starting(app, pilot, made)


async def trying(app: Wizard, pilot: Pilot[Any], *, over: bool = False) -> None:
    app.live = live()
    app.tryout = tryout(app.live, over=over)
    app.action_go("trial")
    await settled(pilot)
    await drawn(app, pilot)


async def tried(app: Wizard, pilot: Pilot[Any]) -> None:
    await trying(app, pilot, over=True)


async def chatting(app: Wizard, pilot: Pilot[Any]) -> None:
    made = app.live = live()
    made.talk.said = [
        Said("Which Gemma 4 fits 16 GB of memory, and what does its drafter cost?", ANSWER, thought="They want to know "
             "what fits.", thought_s=3.0, ended="", timings=timings(212)),
    ]  # fmt: skip
    made.talk.rates.extend(
        41 + 5 * math.sin(place / 5) * math.exp(-place / 40) - 18 * math.exp(-place / 3) for place in range(64)
    )
    app.action_go("chat")
    await settled(pilot)
    await drawn(app, pilot)
    for field in app.screen.query(TextArea):
        field.cursor_blink = False
    await settled(pilot)


async def address(app: Wizard, pilot: Pilot[Any]) -> None:
    await chatting(app, pilot)
    await press(pilot, "ctrl+o")


async def leaving(app: Wizard, pilot: Pilot[Any]) -> None:
    await chatting(app, pilot)
    await press(pilot, "ctrl+q")


SCENES: dict[str, Scene] = {
    "fetching": fetching,
    "failed": failed,
    "ready": ready,
    "trying": trying,
    "tried": tried,
    "chat": chatting,
    "address": address,
    "leaving": leaving,
}
