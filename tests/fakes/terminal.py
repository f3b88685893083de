"""A program in a terminal of its own: a real pseudo-terminal of a given size, keys typed, everything it wrote kept."""

from __future__ import annotations

import os
import re
import select
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

import psutil

PATIENCE_S = 120.0
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[78DM=>])")
CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """Runs `argv` in it. `text`: all that was written so far, escape sequences included."""

    def __init__(
        self, argv: Sequence[str], *, columns: int = 80, rows: int = 24, environment: Mapping[str, str] | None = None
    ) -> None:
        import fcntl
        import pty
        import termios

        self.text = ""
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        size = {"COLUMNS": "", "LINES": ""}
        kept = {name: value for name, value in os.environ.items() if name not in size}

        def own() -> None:
            # A session of its own whose terminal this is: only then does ctrl-c become a signal.
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            list(argv),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**kept, "TERM": "xterm-256color", **(environment or {})},
            preexec_fn=own,  # noqa: PLW1509 - nothing else makes it its terminal
            close_fds=True,
        )
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    @property
    def plain(self) -> str:
        """What was written, without escape sequences."""
        return ESCAPES.sub("", self.text).replace("\r", "")

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def wait_for(self, pattern: str, *, since: int = 0, seconds: float = PATIENCE_S) -> int:
        """Read until the pattern was written after the first `since` characters; returns where it ends."""
        until = time.monotonic() + seconds
        while not (found := re.compile(pattern, re.DOTALL).search(self.text, since)):
            assert time.monotonic() < until, f"{pattern!r} did not come:\n{self.plain[-2000:]}"
            assert self._read(0.1) or self.process.poll() is None, f"it ended without {pattern!r}:\n{self.plain}"
        return found.end()

    def rest(self, seconds: float = PATIENCE_S) -> None:
        """Until it waits for a key.

        CPython's readline looks for signals after it has waited and not before: one that comes between the prompt and
        the waiting is heeded at the next key, and none is pressed here. Nobody's fingers are that quick.
        """
        program, until = psutil.Process(self.process.pid), time.monotonic() + seconds
        quiet = 0
        while quiet < 3:
            assert time.monotonic() < until, f"it does not come to rest:\n{self.plain[-2000:]}"
            time.sleep(0.02)
            quiet = quiet + 1 if program.status() == psutil.STATUS_SLEEPING else 0

    def end(self, seconds: float = PATIENCE_S) -> int:
        """Read until it ends; returns its exit code."""
        until = time.monotonic() + seconds
        while self._read(0.05) or self.process.poll() is None:
            assert time.monotonic() < until, f"it does not end:\n{self.plain[-2000:]}"
        return self.process.wait()

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self._ours, 1 << 16)
        except OSError:  # what a terminal says when its last user has gone
            return False
        self.text += data.decode("utf-8", "replace")
        return bool(data)
