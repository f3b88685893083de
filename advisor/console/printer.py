"""An answer as it comes: text to standard output, thoughts dimmed to standard error."""

from __future__ import annotations

import sys

import click


class Printer:
    """Prints one answer. `quiet`: nothing of it."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._thinking = self._open = False

    def show(self, text: str, *, thought: bool) -> None:
        if self._quiet:
            return
        # Some of it may be written by others: on a terminal, control characters could do more than show text.
        if (sys.stderr if thought else sys.stdout).isatty():
            text = "".join(c for c in text if c.isprintable() or c in "\n\t")
        if thought != self._thinking:
            self._turn()
        if thought:
            click.secho(text, dim=True, nl=False, err=True)
        else:
            click.echo(text, nl=False)
        self._open = not text.endswith("\n")
        (sys.stderr if thought else sys.stdout).flush()

    def _turn(self) -> None:
        """From answering to thinking, or back: told apart without colours too."""
        self.end()
        self._thinking = not self._thinking
        click.secho("(thinking) " if self._thinking else "", dim=True, nl=not self._thinking, err=True)

    def end(self) -> None:
        """Leave the cursor at the beginning of a line, however the answer ended."""
        if self._open:
            click.echo(err=self._thinking)
            self._open = False
