"""One line on standard error that says what is going on: rewritten on a terminal, seldom repeated elsewhere."""

from __future__ import annotations

import collections
import contextlib
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator

import click

from advisor.machine import Record
from advisor.units import format_file_size, format_rate

PATIENCE_S = 1.0
"""What is done sooner needs no line."""
REDRAW_S = 0.2
REPEAT_S = 15.0
"""Between lines where standard error is a file or a pipe."""
WINDOW_S = 10.0
"""Over which a rate is taken."""
MARKS = 64
"""That a window is remembered by."""
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
            _write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
            self._next = now + REDRAW_S
        else:
            click.echo(text, err=True)
            self._next = now + REPEAT_S
        self._shown = True

    def clear(self) -> None:
        """Leave an empty line for what comes next."""
        if self._shown and self._terminal:
            _write("\r\x1b[K")
        self._shown = False


def _write(text: str) -> None:
    """As it is: click would take the cursor's movements away with the colours (NO_COLOR)."""
    sys.stderr.write(text)
    sys.stderr.flush()


class Transfer(Record, frozen=True, kw_only=True):
    """How far it is: bytes done, in all (None: not known), per second over the last seconds, and seconds left."""

    what: str
    done: int
    size: int | None
    bytes_per_s: float
    seconds_left: float | None

    @property
    def words(self) -> str:
        """`mtp.gguf  120 MB of 252 MB  48%  12.1 MB/s  0:11 left`."""
        words = [self.what, format_file_size(self.done) + (f" of {format_file_size(self.size)}" if self.size else "")]
        if self.size:
            words.append(f"{min(self.done / self.size, 1):.0%}")
        if self.bytes_per_s >= 1:
            words.append(format_rate(int(self.bytes_per_s)))
        if self.seconds_left is not None:
            words.append(f"{clock(self.seconds_left)} left")
        return "  ".join(words)


class Pace:
    """Makes a rate and the time left of bytes done. Called as a backend's `Progress`, it passes on a `Transfer`.

    Args:
        show: told of each step; a line on the terminal, a bar in a window.
    """

    def __init__(self, show: Callable[[Transfer], None], now: Callable[[], float] = time.monotonic) -> None:
        self._show, self._now = show, now
        self._what = ""
        self._marks: collections.deque[tuple[float, int]] = collections.deque()

    def __call__(self, what: str, done: int, size: int | None) -> None:
        now = self._now()
        if what != self._what or (self._marks and done < self._marks[-1][1]):
            self._what = what
            self._marks.clear()
        if not self._marks or now - self._marks[-1][0] > WINDOW_S / MARKS:
            self._marks.append((now, done))
        while len(self._marks) > 1 and now - self._marks[0][0] > WINDOW_S:
            self._marks.popleft()
        # How it goes now tells more of what is left than how it went in all: networks and disks change their minds.
        since, before = self._marks[0]
        rate = (done - before) / (now - since) if now > since else 0.0
        left = (size - done) / rate if size and rate else None
        self._show(Transfer(what=what, done=done, size=size, bytes_per_s=rate, seconds_left=left))


class Meter:
    """A `Progress` on a line of standard error."""

    def __init__(self) -> None:
        self._line = Line()
        self._pace = Pace(lambda transfer: self._line.show(transfer.words))

    def __call__(self, what: str, done: int, size: int | None) -> None:
        self._pace(what, done, size)

    def clear(self) -> None:
        self._line.clear()


def clock(seconds: float) -> str:
    """`0:11`, `12:05`, `2:30 h`."""
    whole = int(seconds)
    if whole < HOUR:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // HOUR}:{whole // 60 % 60:02d} h"


@contextlib.contextmanager
def busy(what: str) -> Iterator[Callable[[str, int, int | None], None]]:
    """Say for how long `what` has been going on while the block runs, and how far it is, as far as the block tells:
    what it is given is a backend's `Progress`."""
    line, done, begun = Line(), threading.Event(), time.monotonic()
    now = what

    def told(transfer: Transfer) -> None:
        nonlocal now
        now = transfer.words if transfer.size else what

    def tick() -> None:
        while not done.wait(REDRAW_S):
            line.show(f"{now} ... {time.monotonic() - begun:.0f} s")

    ticker = threading.Thread(target=tick, daemon=True, name="progress")
    ticker.start()
    try:
        yield Pace(told)
    finally:
        done.set()
        ticker.join()
        line.clear()
