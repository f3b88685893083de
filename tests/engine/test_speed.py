"""How fast each draft length is here: printed, not judged, since the machine is shared; only what drafting does is.

And how often the server's event loop is woken while the engine decodes: each time it takes a core from it.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable

import pytest

from backends.native import service
from backends.native.engine import Engine
from backends.native.service import Ticket
from backends.native.tally import Tally
from backends.native.text import Piece

pytestmark = pytest.mark.engine

QUESTION = "<|turn>user\nWhich model fits 16 GB?<turn|>\n<|turn>model\n"
RUNS = 3


def once(engine: Engine, prompt: list[int], drafts: int) -> tuple[float, Tally]:
    """Tokens per second of decoding, the prompt left out."""
    tally = Tally()
    began = 0.0
    for found in engine.generate(prompt, draft_tokens=drafts, max_tokens=120):
        began = began or time.perf_counter()
        tally.add(found)
    tally.seconds = time.perf_counter() - began
    return tally.per_second, tally


def test_draft_lengths(demo: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = demo.target.model.tokenize(QUESTION, special=True, begin=True)
    speeds: dict[int, list[float]] = {drafts: [] for drafts in range(7)}
    tallies: dict[int, Tally] = {}
    for _ in range(RUNS):
        for drafts, found in speeds.items():
            speed, tallies[drafts] = once(demo, prompt, drafts)
            found.append(speed)
    plain = statistics.median(speeds[0])
    with capsys.disabled():
        print("\ndrafts  tokens/s  times plain  accepted by position")
        for drafts, found in speeds.items():
            shares = " ".join(f"{share:.0%}" for share in tallies[drafts].accepted_per_position)
            print(f"{drafts:6} {statistics.median(found):9.0f} {statistics.median(found) / plain:12.2f}  {shares}")
    assert len({tally.tokens for tally in tallies.values()}) == 1
    assert tallies[3].accepted > 0
    assert tallies[0].drafted == 0


async def woken(pieces: int, *, whole: bool) -> tuple[int, str]:
    """How often the loop is woken by so many pieces, one a millisecond from another thread, and what it heard."""
    loop, times = asyncio.get_running_loop(), 0
    wake = loop.call_soon_threadsafe
    ticket = Ticket()

    def counting(callback: Callable[..., object], *args: object) -> object:
        nonlocal times
        times += 1
        return wake(callback, *args)

    def speak() -> None:
        for number in range(pieces):
            ticket.put(Piece(f"{number} "))
            time.sleep(0.001)
        ticket.put(None)

    loop.call_soon_threadsafe = counting  # type: ignore[method-assign, assignment]
    speaker = threading.Thread(target=speak)
    speaker.start()
    heard = [event async for event in ticket.events(whole=whole)]
    found = times
    loop.call_soon_threadsafe = wake  # type: ignore[method-assign]
    speaker.join()
    return found, "".join(event.text for event in heard if isinstance(event, Piece))


@pytest.mark.parametrize("whole", [False, True])
def test_the_event_loop_sleeps_while_the_engine_decodes(whole: bool) -> None:
    pieces = 200
    began = time.monotonic()
    times, heard = asyncio.run(woken(pieces, whole=whole))
    assert heard == "".join(f"{number} " for number in range(pieces))
    assert times <= (1 if whole else (time.monotonic() - began) / service.PAUSE + 2)
