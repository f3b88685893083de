"""What every account of a server's death begins with: the end of its log, and the name of the signal that ended it."""

from __future__ import annotations

import signal
from pathlib import Path

TAIL = 1 << 18
"""Bytes of a log that are looked at."""
ASSERTED = ("GGML_ASSERT", "GGML_ABORT")


def tail(log: Path) -> str:
    """The end of a log; empty where it cannot be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


def lines(text: str) -> list[str]:
    """Those that say anything."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def asserted(text: str) -> str:
    """The last assertion of llama.cpp's that failed; empty where none did."""
    return next((line for line in reversed(lines(text)) if any(word in line for word in ASSERTED)), "")


def ended_by(code: int) -> str:
    """The signal that a negative exit code stands for."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
