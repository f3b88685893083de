"""`advisor ps`: what runs."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from advisor.commands.detect import show
from advisor.errors import AdvisorError
from advisor.running import sessions
from advisor.running.sessions import Session
from advisor.units import format_bytes
from backends.base import Stats, load


@click.command(epilog="\b\nExamples:\n  advisor ps\n  advisor ps --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (advisor.ps/1).")
def command(*, as_json: bool) -> None:
    """List the sessions that `advisor launch` started, with their counters.

    One that has died is listed once more and then forgotten.
    """
    sessions.running()  # whatever came up with nobody looking is on record as running now
    found = sessions.everything()
    sessions.clear()
    if as_json:
        click.echo(msgspec.json.encode({"schema": "advisor.ps/1", "sessions": [_document(each) for each in found]}))
        return
    show([line for each in found for line in _lines(each)] or [("nothing", "advisor launch demo --detach starts one")])


def status(session: Session) -> str:
    """As on record, or `dead` where its process has gone."""
    return session.status if sessions.is_alive(session) else "dead"


def stats_of(session: Session) -> Stats | None:
    """What it counted, where it answers."""
    if status(session) != "running":
        return None
    try:
        return load(session.backend).stats(session.endpoint)
    except AdvisorError:
        return None


def _document(session: Session) -> dict[str, Any]:
    found = {"name": session.name, "status": status(session), "base_url": session.base_url or None}
    return {
        **found,
        "model": session.model,
        "backend": session.backend,
        "pid": session.pid,
        "port": session.port,
        "since": session.since,
        "context_tokens": session.context_tokens,
        "drafter": session.drafter,
        "draft_tokens": session.draft_tokens,
        "detached": session.detached,
        "target": session.target,
        "log": session.log or None,
        "left": sessions.remains(session),
        "stats": stats_of(session),
    }


def _lines(session: Session) -> list[tuple[str, str]]:
    state = status(session)
    lines = [
        (session.name, f"{state}, {session.model} on {session.backend}, {session.base_url or 'not yet answering'}")
    ]
    if rest := sessions.remains(session):
        what = "1 process of it still runs" if len(rest) == 1 else f"{len(rest)} processes of it still run"
        return [*lines, ("", f"> {what} and may hold memory: advisor stop {session.name}")]
    if state == "dead":
        return [*lines, ("", f"> its log is {session.log}")] if session.log else lines
    counted = stats_of(session)
    if counted is not None:
        lines.append(("", stats_words(counted, drafter=session.drafter)))
    return lines


def stats_words(counted: Stats, *, drafter: bool) -> str:
    """The counters in words."""
    words = [f"{counted.predicted_tokens:,} tokens"] if not counted.unknown else [f"not counted: {counted.unknown}"]
    if counted.predicted_per_second:
        words.append(f"{counted.predicted_per_second:,.1f} tokens/s")
    if counted.drafted:
        words.append(f"{counted.accepted / counted.drafted:.0%} of the drafts accepted")
    elif drafter and not counted.unknown:
        words.append("nothing drafted yet")
    if counted.memory_bytes:
        words.append(f"{format_bytes(counted.memory_bytes)} of memory")
    return ", ".join(words)
