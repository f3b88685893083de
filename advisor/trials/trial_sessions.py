"""Sessions for a trial: its own, one for each draft length where a length is fixed at the start, or one that runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import msgspec

from advisor.errors import AdvisorError, RuntimeFailed
from advisor.running import sessions
from advisor.running.client import Client, Done, Timings, joined
from advisor.running.order import Setup
from advisor.running.sessions import Session
from advisor.running.starting import open_session
from advisor.trials.decision import PLAIN
from advisor.trials.prompts import Prompt
from advisor.trials.trial import ADAPTS, TELLING_TOKENS, Answered
from backends.base import Backend, Endpoint, Stats

AUTO = "auto"
SILENCE_S = 300.0
"""Longest that a session may say nothing, five times as long as reading the longest prompt should take; and that one
that starts may get no further."""
START_S = 1800.0
"""Longest that a start may take at all: some runtimes compile for many minutes, and say nothing but how long."""


class Patience:
    """Watches a start, which `launch` leaves to whoever sits before it: ends one that gets no further."""

    def __init__(self) -> None:
        self._reached = ("", -1)
        self._begun = self._since = time.monotonic()

    def __call__(self, what: str, done: int, size: int | None) -> None:  # noqa: ARG002 - `Progress`
        """Raises: RuntimeFailed: nothing more has been read for `SILENCE_S`, or `START_S` are over."""
        now = time.monotonic()
        if what != self._reached[0] or done > self._reached[1]:
            self._reached, self._since = (what, done), now
        if now - self._since > SILENCE_S or now - self._begun > START_S:
            raise RuntimeFailed(
                f"starting came to a stand: {what}, {now - self._begun:.0f} s after it began",
                hint="`advisor doctor` looks why",
            )


class Own:
    """Sessions that the trial starts and ends itself.

    Args:
        setup: what is to be started; with the drafter, if there is one.
    """

    def __init__(self, backend: Backend, setup: Setup) -> None:
        self._backend, self._setup = backend, setup
        self.per_request = backend.drafts_per_request
        self.adapts = backend.drafts_per_request and setup.model.drafter is not None
        self.context_tokens = setup.model.context_tokens
        self._claimed: Session | None = None

    @contextlib.contextmanager
    def open(self, length: int) -> Iterator[Asking]:
        drafting = length != PLAIN and self._setup.model.drafter is not None
        model = msgspec.structs.replace(
            self._setup.model,
            drafter=self._setup.model.drafter if drafting else None,
            draft_tokens=length if drafting else 0,
        )
        options = msgspec.structs.replace(self._setup.options, detached=False)
        setup = msgspec.structs.replace(self._setup, model=model, options=options)
        session = open_session(self._backend, setup, progress=Patience(), claimed=self._claim)
        try:
            with joined(self._backend, session.endpoint) as client:
                client.await_at_most(SILENCE_S)
                yield Asking(self._backend, session.endpoint, client)
        finally:
            self._claimed = None
            sessions.end(session, self._backend)

    def _claim(self, session: Session) -> None:
        self._claimed = session

    def end(self) -> None:
        """Stop the server of the moment, from another thread: whoever waits for it wakes with an error."""
        found = sessions.as_on_record(self._claimed) if self._claimed is not None else None
        if found is not None and found.spawned:
            sessions.end(found, self._backend)


class Running:
    """A session that somebody started, and that goes on afterwards: only where lengths go with the request."""

    per_request = True
    adapts = True

    def __init__(self, backend: Backend, session: Session) -> None:
        self._backend, self._session = backend, session
        self.context_tokens = session.context_tokens

    @contextlib.contextmanager
    def open(self, length: int) -> Iterator[Asking]:  # noqa: ARG002 - the request says it
        with joined(self._backend, self._session.endpoint) as client:
            client.await_at_most(SILENCE_S)
            yield Asking(self._backend, self._session.endpoint, client)


class Asking:
    """Asks one endpoint."""

    def __init__(self, backend: Backend, endpoint: Endpoint, client: Client) -> None:
        self._backend, self._endpoint, self._client = backend, endpoint, client

    def ask(self, prompt: Prompt, length: int, tokens: int, *, cold: bool) -> Answered:
        """As `trial.Asked.ask`."""
        begun = time.perf_counter()
        first, done = 0.0, None
        drafts = {"draft_tokens": AUTO if length == ADAPTS else length} if self._backend.drafts_per_request else {}
        events = self._client.chat(prompt.messages, temperature=0, max_tokens=tokens, cache_prompt=not cold, **drafts)
        for event in events:
            first = first or time.perf_counter() - begun
            if isinstance(event, Done):
                done = event
        whole = time.perf_counter() - begun
        if done is None or not done.timings.predicted_n:
            raise RuntimeFailed("the server does not say how many tokens it generated")
        return _answered(done.timings, first, whole)

    def memory_bytes(self) -> int | None:
        found = self._stats()
        return found.memory_bytes if found else None

    def positions(self) -> tuple[float, ...]:
        found = None if self._backend.drafts_per_request else self._stats()
        return found.accepted_per_position if found else ()

    def _stats(self) -> Stats | None:
        try:
            return self._backend.stats(self._endpoint)
        except AdvisorError:
            return None


def _answered(timings: Timings, first: float, whole: float) -> Answered:
    tokens, read = timings.predicted_n or 1, timings.prompt_n or 0
    decoding = whole - first
    return Answered(
        tokens=tokens,
        first_s=first,
        seconds=whole,
        # The first token belongs to the prompt; a very short answer has no speed of its own.
        tokens_per_s=(tokens - 1) / decoding
        if tokens >= TELLING_TOKENS and decoding > 0
        else tokens / max(whole, 1e-6),
        depth_tokens=read + (timings.cache_n or 0),
        read_tokens=read,
        drafted=timings.draft_n or 0,
        accepted=timings.draft_n_accepted or 0,
        positions=timings.accepted_per_position,
        rounds=sum(timings.draft_lengths[1:]),
    )
