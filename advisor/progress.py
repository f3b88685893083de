"""One line on standard error that says what is going on: rewritten on a terminal, seldom repeated elsewhere."""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Iterator

import click

PATIENCE_S = 1.0
"""What is done sooner needs no line."""
REDRAW_S = 0.2
REPEAT_S = 15.0
"""Between lines where standard error is a file or a pipe."""


class Line:
    """A line that changes. Nothing is printed before a second has passed."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._next = time.monotonic() + PATIENCE_S
        self._shown = False

    def show(self, text: str) -> None:
        """Show `text`, unless the last one is still fresh."""
        now = time.monotonic()
        if now < self._next:
            return
        if self._terminal:
            click.echo(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}", nl=False, err=True)
            self._next = now + REDRAW_S
        else:
            click.echo(text, err=True)
            self._next = now + REPEAT_S
        self._shown = True

    def clear(self) -> None:
        """Leave an empty line for what comes next."""
        if self._shown and self._terminal:
            click.echo("\r\x1b[K", nl=False, err=True)
        self._shown = False


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
    """Say for how long `what` has been going on while the block runs."""
    line, done, begun = Line(), threading.Event(), time.monotonic()

    def tick() -> None:
        while not done.wait(REDRAW_S):
            line.show(f"{what} ... {time.monotonic() - begun:.0f} s")

    ticker = threading.Thread(target=tick, daemon=True, name="progress")
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()
        line.clear()
