"""The program as it is: in a real terminal, and as `textual serve` runs it for a browser."""

from __future__ import annotations

import base64
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.tui.terminal import BARE, PATIENCE_S, Terminal

pytest.importorskip("pty", reason="a pseudo-terminal needs Unix")

WIZARD = ("-m", "advisor")
RATIO = 5.0
"""How many times as long as Textual's least the first picture may take; `python -m tests.bench.wizard` finds two."""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Folders of its own."""
    yield {"GEMMA_ADVISOR_CONFIG": str(tmp_path / "settings"), "GEMMA_ADVISOR_STATE": str(tmp_path / "running")}


def test_it_opens_on_the_answer_and_leaves_the_terminal_as_it_was(
    home: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal(*WIZARD, **home)
    first = terminal.until(b"This machine")
    answered = terminal.until(b"tok/s")
    terminal.press(b"q")
    assert terminal.end() == 0
    assert b"\x1b[?1049l" in terminal.written, "the alternate screen is left"
    assert b"Traceback" not in terminal.written
    with capsys.disabled():
        print(f"\nwizard: first paint after {first:.2f} s, the answer after {answered:.2f} s")


def test_the_first_picture_takes_little_longer_than_the_least_that_textual_can_show(home: dict[str, str]) -> None:
    """Whatever else this machine does slows both; the quickest of some turns is compared."""

    def painted(wanted: bytes, *argv: str) -> float:
        terminal = Terminal(*argv, **home)
        seconds = terminal.until(wanted)
        terminal.press(b"q")
        assert terminal.end() == 0
        return seconds

    ours = least = float("inf")
    for _ in range(5):
        ours, least = min(ours, painted(b"This machine", *WIZARD)), min(least, painted(b"One line", "-c", BARE))
        if ours < RATIO * least:
            return
    pytest.fail(f"{ours:.2f} s against {least:.2f} s")


def test_settings_that_are_broken_are_said_and_it_opens(home: dict[str, str]) -> None:
    folder = Path(home["GEMMA_ADVISOR_CONFIG"])
    folder.mkdir()
    (folder / "wizard.toml").write_text("theme = ")
    terminal = Terminal(*WIZARD, **home)
    terminal.until(b"Mend it", b"tok/s")
    terminal.press(b"q")
    assert terminal.end() == 0


def test_a_dumb_terminal_gets_what_to_type() -> None:
    terminal = Terminal(*WIZARD, TERM="dumb")
    terminal.until(b"advisor recommend")
    assert terminal.end() == 0
    assert b"\x1b" not in terminal.written


def test_where_its_pictures_would_go_into_a_file_it_says_what_to_type(home: dict[str, str], tmp_path: Path) -> None:
    redirected = """
import os, sys
os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), 2)
os.execv(sys.executable, [sys.executable, "-m", "advisor"])
"""
    terminal = Terminal("-c", redirected, str(tmp_path / "errors"), **home)
    terminal.until(b"advisor recommend")
    assert terminal.end() == 0
    assert (tmp_path / "errors").read_bytes() == b""


class Served:
    """`advisor` as `textual serve advisor` runs it for a browser: pipes instead of a terminal, and packets with a type
    and a length. Whatever is written past Textual's driver is no packet, and would break the page."""

    def __init__(self, **environment: str) -> None:
        driver = {"TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver", "COLUMNS": "120", "ROWS": "36"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "advisor"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **environment, **driver},
        )
        self.shown = b""
        self.watch = threading.Timer(PATIENCE_S, self.process.kill)
        self.watch.start()
        assert self.out.readline() == b"__GANGLION__\n"

    @property
    def out(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def until(self, wanted: bytes) -> None:
        """Until the page has got that."""
        while wanted not in self.shown:
            assert self.packet(), self.shown[-2000:]

    def packet(self) -> bytes:
        """The next packet's type; nothing when it has left."""
        kind = self.out.read(1)
        data = self.out.read(int.from_bytes(self.out.read(4), "big")) if kind else b""
        assert kind in (b"D", b"M", b"P", b""), (kind, data)
        self.shown += data if kind == b"D" else b""
        return kind

    def send(self, kind: bytes, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(kind + struct.pack(">I", len(data)) + data)
        self.process.stdin.flush()

    def end(self) -> int:
        """Its exit code, once it has left."""
        while self.packet():
            pass
        code = self.process.wait()
        self.watch.cancel()
        return code


@pytest.mark.parametrize("farewell", [(b"D", b"q"), (b"M", b'{"type": "quit"}')], ids=["key", "closed"])
def test_textual_serve_can_run_it(home: dict[str, str], farewell: tuple[bytes, bytes]) -> None:
    served = Served(**home)
    served.until(b"This machine")
    served.until(b"tok/s")
    served.send(b"D", b"c")
    served.until(b"\x1b]52;c;" + base64.b64encode(b"advisor recommend"))
    served.send(b"M", b'{"type": "resize", "width": 80, "height": 24}')
    served.send(b"D", b"t")
    served.until(b"Use case")
    served.send(*farewell)
    assert served.end() == 0
    assert b"Traceback" not in served.shown
