"""The program as it is: in a real terminal, and as `textual serve` runs it for a browser."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="a pseudo-terminal needs Unix")

PATIENCE_S = 120.0


class Terminal:
    """`advisor` in a terminal of 120 x 36."""

    def __init__(self, *argv: str, **environment: str) -> None:
        import fcntl
        import termios

        self.began = time.perf_counter()
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ.update({"TERM": "xterm-256color", "COLORTERM": "truecolor", **environment})
            os.execv(sys.executable, [sys.executable, "-m", "advisor", *argv])
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
        self.written = b""

    def until(self, *wanted: bytes) -> float:
        """Seconds since the start until all of that was written."""
        import select

        while not all(text in self.written for text in wanted):
            left = PATIENCE_S - (time.perf_counter() - self.began)
            assert left > 0, self.written[-2000:]
            if select.select([self.terminal], [], [], left)[0]:
                self.written += self.read()
        return time.perf_counter() - self.began

    def read(self) -> bytes:
        try:
            return os.read(self.terminal, 1 << 16)
        except OSError:
            return b""

    def press(self, keys: bytes) -> None:
        os.write(self.terminal, keys)

    def end(self) -> int:
        """Its exit code, once it has left; what it wrote last is kept."""
        while piece := self.read():
            self.written += piece
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Folders of its own."""
    yield {"GEMMA_ADVISOR_CONFIG": str(tmp_path / "settings"), "GEMMA_ADVISOR_STATE": str(tmp_path / "running")}


def test_it_opens_on_the_answer_and_leaves_the_terminal_as_it_was(
    home: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal(**home)
    first = terminal.until(b"This machine")
    answered = terminal.until(b"tok/s")
    terminal.press(b"q")
    assert terminal.end() == 0
    assert b"\x1b[?1049l" in terminal.written, "the alternate screen is left"
    assert b"Traceback" not in terminal.written
    with capsys.disabled():
        print(f"\nwizard: first paint after {first:.2f} s, the answer after {answered:.2f} s")


def test_settings_that_are_broken_are_said_and_it_opens(home: dict[str, str]) -> None:
    folder = Path(home["GEMMA_ADVISOR_CONFIG"])
    folder.mkdir()
    (folder / "wizard.toml").write_text("theme = ")
    terminal = Terminal(**home)
    terminal.until(b"Mend it", b"tok/s")
    terminal.press(b"q")
    assert terminal.end() == 0


def test_a_dumb_terminal_gets_what_to_type() -> None:
    terminal = Terminal(TERM="dumb")
    terminal.until(b"advisor recommend")
    assert terminal.end() == 0
    assert b"\x1b" not in terminal.written


def test_textual_serve_can_run_it(home: dict[str, str]) -> None:
    """What `textual serve advisor` starts: pipes instead of a terminal, and packets with a type and a length."""
    driver = {"TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver", "COLUMNS": "120", "ROWS": "36"}
    with subprocess.Popen(
        [sys.executable, "-m", "advisor"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **home, **driver},
    ) as served:
        assert served.stdout is not None and served.stdin is not None
        assert served.stdout.readline() == b"__GANGLION__\n"
        shown = b""
        while b"tok/s" not in shown:
            kind = served.stdout.read(1)
            size = int.from_bytes(served.stdout.read(4), "big")
            data = served.stdout.read(size)
            assert kind in (b"D", b"M", b"P"), (kind, data)
            shown += data if kind == b"D" else b""
        served.stdin.write(b"D" + struct.pack(">I", 1) + b"q")
        served.stdin.flush()
        while kind := served.stdout.read(1):
            served.stdout.read(int.from_bytes(served.stdout.read(4), "big"))
        assert served.wait(PATIENCE_S) == 0
