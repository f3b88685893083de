"""One line on standard error that says what is going on: rewritten on a terminal, seldom repeated elsewhere."""

from __future__ import annotations

import collections
import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Iterator

import click

from advisor.units import format_file_size, format_rate

PATIENCE_S = 1.0
"""What is done sooner needs no line."""
REDRAW_S = 0.2
REPEAT_S = 15.0
"""Between lines where standard error is a file or a pipe."""
WINDOW_S = 10.0
"""Over which a rate is taken."""
HOUR = 3600


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


class Meter:
    """Bytes done, rate and time left, on a line. Called as a backend's `Progress`."""

    def __init__(self) -> None:
        self._line = Line()
        self._what = ""
        self._marks: collections.deque[tuple[float, int]] = collections.deque(maxlen=64)

    def __call__(self, what: str, done: int, size: int | None) -> None:
        now = time.monotonic()
        if what != self._what:
            self._what = what
            self._marks.clear()
        if not self._marks or now - self._marks[-1][0] > WINDOW_S / 64:
            self._marks.append((now, done))
        self._line.show(progress_words(what, done, size, self._rate(now, done)))

    def _rate(self, now: float, done: int) -> float:
        """Bytes per second over the last seconds: what is left is estimated from how it goes now."""
        since, before = self._marks[0]
        return (done - before) / (now - since) if now > since else 0.0

    def clear(self) -> None:
        self._line.clear()


def progress_words(what: str, done: int, size: int | None, rate: float) -> str:
    """`mtp.gguf  120 MB of 252 MB  48%  12.1 MB/s  0:11 left`."""
    words = [what, format_file_size(done) + (f" of {format_file_size(size)}" if size else "")]
    if size:
        words.append(f"{done / size:.0%}")
    if rate:
        words.append(format_rate(int(rate)))
    if size and rate:
        left = int((size - done) / rate)
        minutes = f"{left // 60 % 60}:{left % 60:02d}" if left < HOUR else f"{left // HOUR}:{left // 60 % 60:02d} h"
        words.append(f"{minutes} left")
    return "  ".join(words)


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
