"""The engine as a service: a queue, and one thread that answers in turn.

All of llama.cpp runs on that thread, because OpenMP starts a new team of threads for every thread that calls it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from advisor.errors import AdvisorError, RuntimeFailed, UsageError
from backends.native.answer import PAUSE, Final, Job, answer
from backends.native.decoder import Decoder
from backends.native.depth import AUTO
from backends.native.prompt import Prompt
from backends.native.request import Body
from backends.native.tally import Tally
from backends.native.text import Piece, merged
from backends.native.tools import Call

Event = Piece | Call | Final | AdvisorError
QUEUE = 32
"""Requests that may wait, where nobody says otherwise."""
LONGEST_RETRY = 60


class Busy(AdvisorError):
    """The queue is full. `retry`: seconds after which it is worth asking again."""

    code = "rate_limit_exceeded"

    def __init__(self, waiting: int, retry: int) -> None:
        super().__init__(f"{waiting} requests are waiting already: ask again in {retry} s")
        self.retry = retry


class Stopping(AdvisorError):
    """The server is being stopped."""

    code = "stopping"


class UnknownModel(UsageError):
    code = "model_not_found"


class Ticket:
    """One request on its way: what the engine said so far, and whether anyone still listens."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        """Asks the engine to end the answer here."""
        self.begun = False
        self.tally = Tally()
        """What the engine counted for it so far."""
        self._left = False
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._listens = self._patient = False
        self._events: deque[Event | None] = deque()

    def put(self, event: Event | None) -> None:
        """Add an event, None for the last; from any thread."""
        self._events.append(event)
        # To wake the loop costs a core that decodes: not where it is awake, or has asked for the last event only.
        if self._listens and self._due:
            self._listens = False
            with contextlib.suppress(RuntimeError):  # the loop has gone: nobody listens any more
                self._loop.call_soon_threadsafe(self._ready.set)

    @property
    def _due(self) -> bool:
        """Whether there is what the listener waits for."""
        return bool(self._events) and (self._events[-1] is None or not self._patient)

    def leave(self) -> None:
        """Nobody listens any more."""
        self._left = True
        self.cancelled.set()
        self._ready.set()

    async def events(self, *, whole: bool) -> AsyncIterator[Event]:
        """What the engine says until its last word, pieces that came together joined.

        Args:
            whole: nothing is wanted before the last word.
        """
        self._patient = whole
        while not self._left:
            self._ready.clear()
            self._listens = True  # before looking: what comes after the look wakes us
            if not self._due:
                await self._ready.wait()
            self._listens = False
            for event in _joined(self._events):
                if event is None:
                    return
                yield event
            await asyncio.sleep(PAUSE)


@dataclass
class Counters:
    """Since the start; what was generated is in a `Tally`."""

    requests: int = 0
    cancelled: int = 0
    failed: int = 0
    refused: int = 0
    """With 429."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    seconds: float = 0.0
    """The engine worked."""


@dataclass
class Service:
    """The engine with its one thread and its queue.

    `name`: the model's, as clients see it; `aliases`: other names that are meant for it. `queue`: how many may wait.
    """

    name: str
    draft_tokens: int
    aliases: tuple[str, ...] = ()
    queue: int = QUEUE
    thinking: bool = False
    engine: Decoder = field(init=False)
    prompt: Prompt = field(init=False)
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "engine"))
    tally: Tally = field(default_factory=Tally)
    counters: Counters = field(default_factory=Counters)
    tickets: list[Ticket] = field(default_factory=list)
    closing: bool = False
    progress: float = field(default_factory=time.monotonic)
    """When the engine last showed that it gets on."""

    def load(self, make: Callable[[], Decoder]) -> None:
        """Make the engine on its thread.

        Raises:
            RuntimeFailed: what it makes does not load.
        """
        self.engine = self.thread.submit(make).result()
        self.thread.submit(self.engine.warm, self.draft_tokens).result()
        self.prompt = Prompt(self.engine.target.model)

    @property
    def waiting(self) -> int:
        return sum(not ticket.begun for ticket in self.tickets)

    @property
    def working(self) -> bool:
        return any(ticket.begun for ticket in self.tickets)

    def known(self, name: str) -> None:
        """Raises UnknownModel unless `name` means the model that is served."""
        if name not in (self.name, *self.aliases):
            raise UnknownModel(f"the model {name[:80]!r} does not exist; this server has {self.name!r}")

    def job(self, body: Body, *, chat: bool) -> Job:
        """The job that a request asks for. Slow for a long prompt: not for the event loop.

        Raises:
            UnknownModel: it is meant for another model.
            UsageError: it asks for something impossible.
        """
        if body.model:
            self.known(body.model)
        body.check(chat=chat)
        model = self.engine.target.model
        sampling = body.sampling(model.size)
        form = body.form(chat=chat)
        if chat:
            tokens = self.prompt.chat(
                body.messages or [],
                begun=form.begun,
                thinking=body.thinking(self.thinking),
                tools=body.tools if body.may_call else None,
                options=body.chat_template_kwargs,
            )
        else:
            tokens = self.prompt.plain(body.text())
        asked = self.draft_tokens if body.draft_tokens is None else body.draft_tokens
        drafts = AUTO if asked == "auto" else asked
        return Job(tokens, drafts, body.limit, form, reuse=body.cache_prompt is not False, sampling=sampling)

    def enter(self, job: Job) -> Ticket:
        """Queue a job; first come, first served.

        Raises:
            Busy: too many wait.
            Stopping: it would never be answered.
        """
        if self.closing:
            raise Stopping("the server is being stopped")
        if self.waiting >= self.queue + (not self.working):
            self.counters.refused += 1
            raise Busy(self.waiting, self._retry())
        ticket = Ticket()
        self.tickets.append(ticket)
        self.thread.submit(self._work, job, ticket)
        return ticket

    def _retry(self) -> int:
        """Seconds until a place is likely to be free: what one answer took so far."""
        counters = self.counters
        return max(1, min(LONGEST_RETRY, math.ceil(counters.seconds / max(1, counters.requests))))

    def leave(self, ticket: Ticket) -> None:
        """Its client has all it wants, or is gone: out of the queue, and the engine goes on to the next."""
        ticket.leave()
        if ticket in self.tickets:
            self.tickets.remove(ticket)

    def close(self) -> None:
        """Take no more requests, and send home those that wait."""
        self.closing = True
        for ticket in self.tickets:
            if not ticket.begun:
                ticket.cancelled.set()
                ticket.put(Stopping("the server is being stopped"))
                ticket.put(None)

    def cancel(self) -> None:
        """End the answer that is being given: its client gets what there is."""
        for ticket in self.tickets:
            ticket.cancelled.set()

    def _work(self, job: Job, ticket: Ticket) -> None:
        """On the engine's thread."""
        if ticket.cancelled.is_set():
            self.counters.cancelled += 1
            ticket.put(None)
            return
        ticket.begun = True
        began = self.progress = time.monotonic()

        def stopped() -> bool:
            self.progress = time.monotonic()
            return ticket.cancelled.is_set()

        try:
            for event in answer(self.engine, job, stopped, ticket.tally):
                if isinstance(event, Final):
                    self._count(event, time.monotonic() - began)
                ticket.put(event)
        except AdvisorError as error:
            self.counters.failed += 1
            ticket.put(error)
        except Exception as error:  # noqa: BLE001 - the thread must answer, whatever happened
            self.counters.failed += 1
            ticket.put(RuntimeFailed(f"the engine failed: {error!r}"))
        finally:
            self.progress = time.monotonic()
            ticket.put(None)

    def _count(self, final: Final, seconds: float) -> None:
        self.tally.merge(final.tally)
        counters = self.counters
        counters.requests += 1
        counters.cancelled += final.reason == "cancelled"
        counters.prompt_tokens += final.timings.prompt_n
        counters.cached_tokens += final.timings.cache_n
        counters.seconds += seconds


def _joined(events: deque[Event | None]) -> Iterator[Event | None]:
    """Empty the queue; neighbouring pieces of one kind become one, so that a slow reader is not sent crumbs."""
    last: Piece | Call | None = None
    while events:
        event = events.popleft()
        if isinstance(event, Piece | Call):
            both = merged(last, event) if last else None
            if last and not both:
                yield last
            last = both or event
            continue
        if last:
            yield last
            last = None
        yield event
    if last:
        yield last
