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
from advisor.trials.answers import ADAPTS, TELLING_TOKENS, Answered
from advisor.trials.decision import PLAIN
from advisor.trials.prompts import Prompt
from backends.base import Backend, Endpoint, Stats
from backends.counting import FASTEST

AUTO = "auto"
SILENCE_S = 300.0
"""Longest that a session may say nothing, five times as long as reading the longest prompt should take; and that one
that starts may get no further."""
START_S = 1800.0
"""Longest that a start may take at all: some runtimes compile for many minutes, and say nothing but how long."""
TRIES = 3
"""How often an answer is asked for that comes without a time of its own."""


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
        """As `Asked.ask`: asked again where the answer came in one piece, and nobody knows how long it took."""
        for tries in range(1, TRIES + 1):
            timings, first, whole = self._answer(prompt, length, tokens, cold=cold)
            seconds = decoding_s(timings, first, whole)
            if seconds is not None:
                return _answered(timings, min(first, whole - seconds), whole, seconds, tries)
        raise RuntimeFailed(
            f"answers come in one piece, {TRIES} times in a row, and the server does not say how long they took",
            hint="is there a proxy in front of it that keeps answers back?",
        )

    def _answer(self, prompt: Prompt, length: int, tokens: int, *, cold: bool) -> tuple[Timings, float, float]:
        """What was counted, and seconds until the first token and the last, as they came."""
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
        return done.timings, first, whole

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


def decoding_s(timings: Timings, first: float, whole: float) -> float | None:
    """Seconds in which all tokens but the first, which belongs to the prompt, were decoded: as the server says, where
    it times its answers; else as they came. None where that cannot be: what was kept back on its way comes at once. A
    very short answer has no speed of its own, and may.

    Args:
        first, whole: seconds until the first token and the last, as they came.
    """
    later = (timings.predicted_n or 0) - 1
    if timings.predicted_ms:
        told = timings.predicted_ms / 1000
    else:
        told = later / timings.predicted_per_second if timings.predicted_per_second else 0.0
    if 0 < told <= whole:
        return told
    came = whole - first
    return came if later < max(TELLING_TOKENS - 1, FASTEST * came) else None


def _answered(timings: Timings, first: float, whole: float, decoding: float, tries: int) -> Answered:
    tokens, read = timings.predicted_n or 1, timings.prompt_n or 0
    telling = tokens >= TELLING_TOKENS and decoding > 0
    return Answered(
        tokens=tokens,
        first_s=first,
        seconds=whole,
        tokens_per_s=(tokens - 1) / decoding if telling else tokens / max(whole, 1e-6),
        depth_tokens=read + (timings.cache_n or 0),
        read_tokens=read,
        drafted=timings.draft_n or 0,
        accepted=timings.draft_n_accepted or 0,
        positions=timings.accepted_per_position,
        rounds=sum(timings.draft_lengths[1:]),
        tries=tries,
    )
