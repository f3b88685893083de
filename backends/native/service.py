"""The engine as a service: what a request may ask for, and one thread that answers in turn.

All of llama.cpp runs on that thread, because OpenMP starts a new team of threads for every thread that calls it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import msgspec

from advisor.errors import AdvisorError, RuntimeFailed, UsageError
from backends.native.answer import Final, Job, answer
from backends.native.engine import Engine
from backends.native.prompt import Prompt
from backends.native.tally import Tally
from backends.native.target import MAX_DRAFT
from backends.native.text import Piece

Event = Piece | Final | AdvisorError
PAUSE = 0.01
"""Seconds between two pieces at least: nobody reads faster, and each costs a moment of a core that could decode."""


class Body(msgspec.Struct, kw_only=True):
    """What a request may say; fields of OpenAI's that are not here are ignored."""

    messages: list[dict[str, Any]] | None = None
    prompt: str | list[str] | None = None
    model: str | None = None
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int | None = None
    draft_tokens: int | None = None
    """Ours: tokens drafted per round in this request, 0 for plain decoding."""
    chat_template_kwargs: dict[str, Any] | None = None

    def check(self) -> None:
        """Raises UsageError for what this engine does not do."""
        if self.temperature:
            raise UsageError(f"temperature is {self.temperature}; this engine samples greedily only (temperature 0)")
        if self.n not in (None, 1):
            raise UsageError(f"n is {self.n}; one answer per request")
        limit = self.limit
        if limit is not None and limit < 1:
            raise UsageError(f"max_tokens is {limit}, not at least 1")
        if self.draft_tokens is not None and not 0 <= self.draft_tokens <= MAX_DRAFT:
            raise UsageError(f"draft_tokens is {self.draft_tokens}, not between 0 and {MAX_DRAFT}")

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


@dataclass
class Service:
    """The engine with its one thread, and what it counted. `name`: the model's, as clients see it."""

    name: str
    draft_tokens: int
    engine: Engine = field(init=False)
    prompt: Prompt = field(init=False)
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "engine"))
    tally: Tally = field(default_factory=Tally)
    requests: int = 0
    busy: int = 0

    def load(self, make: Callable[[], Engine]) -> None:
        """Make the engine on its thread.

        Raises:
            RuntimeFailed: as `Engine`.
        """
        self.engine = self.thread.submit(make).result()
        self.thread.submit(self.engine.warm, self.draft_tokens).result()
        self.prompt = Prompt(self.engine.target.model)

    def job(self, body: Body, *, chat: bool) -> Job:
        """The job that a request asks for.

        Raises:
            UsageError: it asks for something impossible.
        """
        body.check()
        if chat:
            if body.messages is None:
                raise UsageError("messages is missing")
            options = body.chat_template_kwargs or {}
            tokens = self.prompt.chat(body.messages, thinking=bool(options.get("enable_thinking")))
        else:
            texts = [body.prompt] if isinstance(body.prompt, str) else body.prompt or []
            if len(texts) != 1:
                raise UsageError("prompt must be one text")
            tokens = self.prompt.plain(texts[0])
        drafts = self.draft_tokens if body.draft_tokens is None else body.draft_tokens
        return Job(tokens, drafts, body.limit, body.stops, thoughts=chat)

    async def run(self, job: Job, cancelled: threading.Event) -> AsyncIterator[Event]:
        """The events of one answer, pieces that came together joined. Setting `cancelled` ends it."""
        loop, ready, events = asyncio.get_running_loop(), asyncio.Event(), deque[Event | None]()

        def put(event: Event | None) -> None:
            events.append(event)
            with contextlib.suppress(RuntimeError):  # the loop has gone: nobody listens any more
                loop.call_soon_threadsafe(ready.set)

        self.thread.submit(self._work, job, cancelled, put)
        self.busy += 1
        try:
            while True:
                await ready.wait()
                ready.clear()
                for event in _joined(events):
                    if event is None:
                        return
                    yield event
                await asyncio.sleep(PAUSE)
        finally:
            self.busy -= 1
            cancelled.set()

    def _work(self, job: Job, cancelled: threading.Event, put: Callable[[Event | None], None]) -> None:
        """On the engine's thread."""
        try:
            if cancelled.is_set():
                return
            for event in answer(self.engine, job, cancelled.is_set):
                if isinstance(event, Final):
                    self.tally.merge(event.tally)
                    self.requests += 1
                put(event)
        except AdvisorError as error:
            put(error)
        except Exception as error:  # noqa: BLE001 - the thread must answer, whatever happened
            put(RuntimeFailed(f"the engine failed: {error!r}"))
        finally:
            put(None)


def _joined(events: deque[Event | None]) -> Iterator[Event | None]:
    """Empty the queue; neighbouring pieces of one kind become one, so that a slow reader is not sent crumbs."""
    last: Piece | None = None
    while events:
        event = events.popleft()
        if isinstance(event, Piece):
            if last and last.thought == event.thought:
                last = Piece(last.text + event.text, event.thought)
                continue
            last, event = event, last
            if event is None:
                continue
        elif last:
            yield last
            last = None
        yield event
    if last:
        yield last
