"""A program in a terminal of its own, as a user sees it: keys go in, what is drawn comes out."""

from __future__ import annotations

import os
import select
import struct
import subprocess
import sys
import time

PATIENCE_S = 120.0

BARE = """
from textual.app import App
from textual.widgets import Label

class Bare(App):
    BINDINGS = [("q", "quit", "Quit")]

    def compose(self):
        yield Label("One line")

Bare().run()
"""
"""The least that Textual can show."""


class Terminal:
    """`python ARGV` in a terminal of 120 x 36. Needs Unix."""

    def __init__(self, *argv: str, **environment: str) -> None:
        import fcntl
        import pty
        import termios

        self.began = time.perf_counter()
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm-256color", "COLORTERM": "truecolor", **environment})
            os.execv(sys.executable, [sys.executable, *argv])
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
        self.written = b""

    def until(self, *wanted: bytes) -> float:
        """Seconds since the start until all of that was written."""
        while not all(text in self.written for text in wanted):
            left = PATIENCE_S - (time.perf_counter() - self.began)
            assert left > 0, self.written[-2000:]
            if select.select([self.terminal], [], [], left)[0]:
                piece = self.read()
                assert piece, self.written[-2000:]
                self.written += piece
        return time.perf_counter() - self.began

    def read(self) -> bytes:
        """What it wrote meanwhile; nothing once it has left."""
        try:
            return os.read(self.terminal, 1 << 16)
        except OSError:
            return b""

    def press(self, keys: bytes) -> None:
        """As the terminal sends them."""
        os.write(self.terminal, keys)

    def end(self) -> int:
        """Its exit code, once it has left; what it wrote last is kept."""
        while piece := self.read():
            self.written += piece
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def advisor(*argv: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """What it prints where there is no terminal."""
    return subprocess.run(
        [sys.executable, "-m", "advisor", *argv],
        input=given, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False,
    )  # fmt: skip
