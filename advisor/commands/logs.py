"""`advisor logs`: what a session's server wrote."""

from __future__ import annotations

import time
from pathlib import Path

import click

from advisor.errors import UsageError
from advisor.running import sessions
from advisor.running.sessions import Session

TAIL_BYTES = 1 << 20


@click.command(epilog="\b\nExamples:\n  advisor logs\n  advisor logs 26b --follow\n  advisor logs 26b --lines 20")
@click.argument("name", required=False)
@click.option(
    "--lines", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Print the last N lines."
)
@click.option("--follow", "-f", is_flag=True, help="Keep printing until the session ends or ctrl-c.")
def command(name: str | None, *, lines: int, follow: bool) -> None:
    """Print the log of the session NAME. NAME may be left out if there is only one.

    The log of a session that has died is kept.
    """
    path, session = _log(name)
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        for line in file.read().decode(errors="replace").splitlines()[-lines:]:
            click.echo(line)
        while follow and session is not None:
            alive = sessions.is_alive(session)
            if text := file.read():
                click.echo(text.decode(errors="replace"), nl=False)
            elif not alive:
                break
            time.sleep(0.2)


def _log(name: str | None) -> tuple[Path, Session | None]:
    """The log file, of a running session or of one that died.

    Raises:
        UsageError: there is none.
    """
    if name is not None and (kept := sessions.log_of(Path(name).name)).is_file():
        return kept, next((each for each in sessions.living() if each.name == name), None)
    session = sessions.find(name)
    path = Path(session.log)
    if not session.log or not path.is_file():
        raise UsageError(f"the session {session.name!r} keeps no log")
    return path, session
