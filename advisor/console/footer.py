"""The last row of the terminal, for what changes while text scrolls above it; nothing where there is no terminal.

The rows above are made the region that scrolls, as package managers do it: text goes on where it is, whatever its
width, and lines that are wrapped stay whole.
"""

from __future__ import annotations

import os
import sys
import time

REDRAW_S = 0.2
FEWEST_ROWS = 6
"""In fewer there is no row to spare."""


class Footer:
    """One row at the bottom. Used while something is printed line by line; `clear` gives the row back."""

    def __init__(self) -> None:
        self._rows = 0
        """Of the terminal, while the last one is taken; 0 before and after."""
        self._next = 0.0

    @property
    def possible(self) -> bool:
        """Whether there is a terminal that both the text and the footer go to."""
        terminal = sys.stdout.isatty() and sys.stderr.isatty() and os.environ.get("TERM", "") != "dumb"
        return terminal and _size().lines >= FEWEST_ROWS

    def show(self, text: str, *, now: bool = False) -> None:
        """Draw the row, unless the last one is still fresh. `now`: in any case."""
        moment = time.monotonic()
        if (moment < self._next and not now) or not self.possible:
            return
        self._next = moment + REDRAW_S
        size = _size()
        if size.lines != self._rows:
            self._take(size.lines)
        # Cursor kept, last row, dimmed, rest of it empty, cursor back.
        _write(f"\x1b7\x1b[{size.lines};1H\x1b[0;2m{text[: size.columns - 1]}\x1b[0m\x1b[K\x1b8")

    def clear(self) -> None:
        """Give the row back, empty."""
        if self._rows:
            _write(f"\x1b7\x1b[r\x1b[{self._rows};1H\x1b[K\x1b8")
        self._rows, self._next = 0, 0.0

    def _take(self, rows: int) -> None:
        """Let all rows but the last scroll. First one line down and up: the cursor must not be in the last row."""
        _write(f"\x1bD\x1b[A\x1b7\x1b[1;{rows - 1}r\x1b8")
        self._rows = rows


def _size() -> os.terminal_size:
    try:
        return os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        return os.terminal_size((80, 0))


def _write(text: str) -> None:
    sys.stdout.flush()  # both are the same terminal: in the order in which they were written
    sys.stderr.write(text)
    sys.stderr.flush()
