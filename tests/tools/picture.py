"""A picture of a command in a terminal: runs it in a real one and writes what it shows as SVG.

python -m tests.tools.picture tests/pictures/recommend.svg advisor recommend --simulate "RTX 4090, 64GB"
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import shlex
import struct
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 80, 50


def shown(argv: list[str]) -> str:
    """What `argv` writes to a terminal of 80 columns, with its colours."""
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        os.execvp(argv[0], argv)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    written = b""
    while True:
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError:
            break  # the program has left its terminal
        if not piece:
            break
        written += piece
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit(f"{shlex.join(argv)} ended with {code}: no picture was written")
    return written.decode(errors="replace").replace("\r\n", "\n")


def main() -> None:
    """Write the picture."""
    path, argv = Path(sys.argv[1]), sys.argv[2:]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ {shlex.join(argv)}", style="bold"))
    console.print(Text.from_ansi(shown(argv)))
    path.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(path), title="advisor")


if __name__ == "__main__":
    main()
