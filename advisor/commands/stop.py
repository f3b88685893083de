"""`advisor stop`: end a session."""

from __future__ import annotations

import click
import msgspec

from advisor.console.progress import busy
from advisor.errors import UsageError
from advisor.running import sessions
from backends.base import load


@click.command(epilog="\b\nExamples:\n  advisor stop\n  advisor stop 26b\n  advisor stop --all")
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Stop all sessions.")
@click.option("--remove", is_flag=True, help="Also remove what was created for it in the backend's own library.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document (advisor.stop/1).")
def command(name: str | None, *, everything: bool, remove: bool, as_json: bool) -> None:
    """Stop the session NAME, also while it is still loading. NAME may be left out if there is only one.

    A process that was given the id of a dead session's is never touched.
    """
    if name is not None and everything:
        raise UsageError("NAME and --all exclude each other", command="advisor stop --help")
    chosen = sessions.stoppable() if everything else [sessions.find(name, among=sessions.stoppable)]
    removed: list[str] = []
    for session in chosen:
        with busy(f"stopping {session.name}"):
            sessions.end(session)
            removed += load(session.backend).remove(session.endpoint) if remove and session.spawned else ()
    names = [session.name for session in chosen]
    if as_json:
        more = {"removed": removed} if remove else {}
        click.echo(msgspec.json.encode({"schema": "advisor.stop/1", "stopped": names, **more}))
        return
    click.echo(f"stopped {', '.join(names)}" if names else "nothing is running")
    if remove:
        click.echo(f"removed {', '.join(removed) or 'nothing: nothing was made for it'}")
