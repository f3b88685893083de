"""`advisor stop`: end a session."""

from __future__ import annotations

import click
import msgspec

from advisor import sessions
from advisor.errors import UsageError
from advisor.progress import busy


@click.command(epilog="\b\nExamples:\n  advisor stop\n  advisor stop 26b\n  advisor stop --all")
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="All sessions.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document (advisor.stop/1).")
def command(name: str | None, *, everything: bool, as_json: bool) -> None:
    """End the session NAME; it may be left out where there is one only. One that is still loading ends too.

    A process that has taken the place of a dead session's is never touched.
    """
    if name is not None and everything:
        raise UsageError("NAME and --all exclude each other", command="advisor stop --help")
    chosen = sessions.stoppable() if everything else [sessions.find(name, among=sessions.stoppable)]
    for session in chosen:
        with busy(f"stopping {session.name}"):
            sessions.end(session)
    names = [session.name for session in chosen]
    if as_json:
        click.echo(msgspec.json.encode({"schema": "advisor.stop/1", "stopped": names}))
    else:
        click.echo(f"stopped {', '.join(names)}" if names else "nothing is running")
