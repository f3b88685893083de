"""A client for servers that count elsewhere than llama-server does, or that do not time their answers."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from advisor.errors import AdvisorError
from advisor.running.client import Client, Done, Text, Timings
from backends.base import Endpoint, Stats

if TYPE_CHECKING:
    from backends.served import Served

FASTEST = 10_000
"""Tokens per second that one answer may seem to have."""


class CountingClient(Client):
    """Drafts by what the reply says, or by how the server's counters grew meanwhile; unknown where neither tells.

    Args:
        backend: of the endpoint; it knows its fields and counters.
    """

    counts_live = False

    def __init__(self, backend: Served, endpoint: Endpoint) -> None:
        cause = functools.partial(backend.cause, endpoint)
        super().__init__(endpoint.base_url, endpoint.model, cause=cause, key=endpoint.api_key)
        self._backend, self._endpoint = backend, endpoint
        self._told: tuple[int, int] | None = None

    def noticed(self, chunk: Mapping[str, Any]) -> None:
        self._told = self._backend.counted(chunk) or self._told

    def _stream(self, path: str, what: Mapping[str, Any], options: Mapping[str, Any]) -> Iterator[Text | Done]:
        self._told = None
        before = self._stats()
        first = last = 0.0
        for event in super()._stream(path, what, {**self._backend.fields(self._endpoint, options), **options}):
            if isinstance(event, Text):
                last = time.perf_counter()
                first = first or last
                yield event
            else:
                drafts = self._told or self._grown(before, self._stats(), event.timings)
                yield Done(reason=event.reason, timings=_completed(event.timings, drafts, last - first))

    def _stats(self) -> Stats | None:
        if not self._endpoint.drafter:
            return None
        with contextlib.suppress(AdvisorError):
            return self._backend.stats(self._endpoint)
        return None

    def _grown(self, before: Stats | None, after: Stats | None, timings: Timings) -> tuple[int, int] | None:
        """How the counters grew. A server that is not ours answers others meanwhile: then nobody can tell whose they
        are."""
        grown = _growth(before, after)
        if grown is None or self._endpoint.pid or before is None or after is None:
            return grown
        alone = after.predicted_tokens - before.predicted_tokens == timings.predicted_n
        return grown if alone else None


def _growth(before: Stats | None, after: Stats | None) -> tuple[int, int] | None:
    if before is None or after is None or before.unknown or after.unknown:
        return None
    return after.drafted - before.drafted, after.accepted - before.accepted


def _completed(timings: Timings, drafts: tuple[int, int] | None, seconds: float) -> Timings:
    """The timings with what the server left out. The first token belongs to the prompt."""
    if timings.draft_n is None and drafts is not None:
        timings = msgspec.structs.replace(timings, draft_n=drafts[0], draft_n_accepted=drafts[1])
    later = (timings.predicted_n or 0) - 1
    # What a busy machine hands over in one piece says nothing of the speed at which it was made.
    if timings.predicted_per_second is None and 0 < later < FASTEST * seconds:
        timings = msgspec.structs.replace(timings, predicted_per_second=later / seconds)
    return timings
