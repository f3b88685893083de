"""From `advisor` to the wizard, and from the wizard to what it was left with."""

from __future__ import annotations

import shlex

import click

from advisor.errors import UsageError
from advisor.tui import settings
from advisor.tui.settings import Settings


def open_wizard(*, plain: bool) -> None:
    """Ask in a Textual app, or `plain` as text; then do what was confirmed.

    Raises:
        AdvisorError: what the confirmed command raises.
    """
    if plain:
        from advisor.tui.plain import converse  # noqa: PLC0415

        argv = converse(settings.load())
    else:
        from advisor.tui.app import run  # noqa: PLC0415 - Textual takes longer to import than all else

        trouble = None
        try:
            options = settings.load()
        except UsageError as error:
            options, trouble = Settings(), error
        argv = run(options, trouble)
    if argv is not None:
        proceed(argv)


def proceed(argv: tuple[str, ...]) -> None:
    """The command that was confirmed, as if it had been typed."""
    from advisor.cli import cli  # noqa: PLC0415 - which imports this

    click.echo(f"$ {shlex.join(['advisor', *argv])}", err=True)
    cli.main(args=list(argv), prog_name="advisor", standalone_mode=False)
