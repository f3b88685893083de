"""One answer: the engine's rounds as text, with the reason it ended and its timings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from backends.native.decoder import Decoder
from backends.native.sampling import Sampling
from backends.native.tally import Tally, Timings
from backends.native.text import Form, Piece, Reader
from backends.native.tools import Call

PAUSE = 0.01
"""Seconds between two pieces at least: nobody reads faster, and each costs a moment of a core that could decode."""


class Job(NamedTuple):
    """What is to be answered. `prompt`: tokens; `max_tokens` None: what fits; `form`: what to look for.

    `reuse`: keep what the cache holds of the prompt; `sampling`: how tokens are chosen.
    """

    prompt: Sequence[int]
    draft_tokens: int
    max_tokens: int | None = None
    form: Form = Form()
    reuse: bool = False
    sampling: Sampling = Sampling()


class Final(NamedTuple):
    """The end of an answer. `reason`: `stop` (by itself or at a stop string), `tool_calls`, `length` or `cancelled`."""

    reason: str
    timings: Timings
    tally: Tally


def answer(
    engine: Decoder, job: Job, stopped: Callable[[], bool] = lambda: False, tally: Tally | None = None
) -> Iterator[Piece | Call | Final]:
    """Generate pieces of text and, last, a `Final`.

    Args:
        tally: what is counted goes there, so that others see it while it grows.

    Raises:
        ContextFull, UsageError: as `Decoder.generate`, before the first piece.
    """
    reader, tally = Reader(job.form), tally or Tally()
    reason = "length"
    piece, end, watches = engine.target.model.piece, engine.end, reader.watches
    began = time.perf_counter()
    first, read = began, 0.0
    unread: list[int] = []
    rounds = engine.generate(
        job.prompt,
        draft_tokens=job.draft_tokens,
        max_tokens=job.max_tokens,
        stopped=stopped,
        reuse=job.reuse,
        sampling=job.sampling,
    )
    for found in rounds:
        now = time.perf_counter()
        if not tally.tokens:
            first = now
        tally.seconds = now - first
        tally.add(found)
        if found.tokens[-1] in end:
            reason = "stop"
        unread += found.tokens
        if now - read < PAUSE and not watches:
            continue
        read = now
        yield from reader.feed(b"".join(map(piece, unread)))
        unread.clear()
        if reader.stopped:
            reason = "stop"
            break
    if reason == "length" and stopped():
        reason = "cancelled"
    yield from reader.feed(b"".join(map(piece, unread)), final=True)
    if reader.calls and reason == "stop":
        reason = "tool_calls"
    drafts = job.draft_tokens if engine.has_drafter else 0
    cached = engine.target.cached
    timings = tally.timings(
        prompt=len(job.prompt) - cached, prompt_seconds=first - began, draft_tokens=drafts, cached=cached
    )
    yield Final(reason, timings, tally)
