"""What is shown beside a conversation: what the server counted, of the present answer where it tells, else of all."""

from __future__ import annotations

from typing import NamedTuple

from advisor.errors import AdvisorError
from advisor.running import sessions
from advisor.running.client import Timings
from advisor.tui.live import Live, drafts_in_words
from backends.base import Stats


class Figures(NamedTuple):
    """`rate`: tokens per second, now or of the last answer; `rates`: as they came. `drafts`: in words. Memory in bytes,
    context in tokens. `expected_*`: as predicted. `trouble`: why nothing is known any more."""

    rate: float | None = None
    rates: tuple[float, ...] = ()
    expected_rate: float | None = None
    positions: tuple[float, ...] = ()
    accepted: float | None = None
    drafts: str = ""
    drafting: float | None = None
    memory: int | None = None
    expected_memory: int | None = None
    context: int = 0
    context_size: int = 0
    trouble: str = ""
    name: str = ""


class Gone(NamedTuple):
    """It does not run any more."""

    cause: AdvisorError


def counted(live: Live) -> Stats | Gone:
    """What the server counted.

    Raises:
        AdvisorError: it does not answer.
    """
    try:
        if sessions.is_alive(live.session):
            return live.backend.stats(live.session.endpoint)
    except AdvisorError as error:
        if sessions.is_alive(live.session):
            raise
        return Gone(error)
    return Gone(live.backend.cause(live.session.endpoint))


def figures(live: Live, timings: Timings | None, stats: Stats | None, trouble: str) -> Figures:
    """All that is shown beside the conversation: of the present answer where it tells, else of all of them."""
    positions, accepted = accepted_of(timings, stats)
    rates = tuple(live.talk.rates)
    used = sum(value or 0 for value in (timings.cache_n, timings.prompt_n, timings.predicted_n)) if timings else 0
    lengths = timings.draft_lengths if timings else ()
    rounds = sum(lengths)
    return Figures(
        rate=(timings.predicted_per_second if timings else None) or (rates[-1] if rates else None),
        rates=rates,
        expected_rate=live.expected_tokens_per_s,
        positions=positions,
        accepted=accepted,
        drafts=drafts_in_words(live.talk.drafts) if live.can_choose_drafts else "",
        drafting=sum(index * count for index, count in enumerate(lengths)) / rounds if rounds else None,
        memory=stats.memory_bytes if stats else None,
        expected_memory=live.expected_bytes,
        context=used,
        context_size=live.session.context_tokens,
        trouble=trouble,
        name=f"{live.session.model} on {live.session.backend}",
    )


def accepted_of(timings: Timings | None, stats: Stats | None) -> tuple[tuple[float, ...], float | None]:
    """Shares of guesses that were right, by position and in all: of the present answer, where it tells."""
    if timings is not None and (timings.draft_n or timings.draft_lengths):
        drafted = timings.draft_n or 0
        return timings.accepted_per_position, (timings.draft_n_accepted or 0) / drafted if drafted else None
    if stats is not None and stats.drafted:
        return stats.accepted_per_position, stats.accepted / stats.drafted
    return (), None
