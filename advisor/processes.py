"""Processes, told from one another for good: systems give the id of one that has ended to the next."""

from __future__ import annotations

import sys
from pathlib import Path


def birth(pid: int) -> str:
    """What tells this process from any other that had or will have its id; empty when it does not run."""
    if sys.platform == "linux":
        try:
            text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""
        # The name, in brackets, may hold anything; what follows is the state and then numbers.
        state, *numbers = text.rpartition(")")[2].split()
        return "" if state in "ZX" else f"{boot}:{numbers[18]}"
    import psutil  # noqa: PLC0415 - ten milliseconds that Linux does not need

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.6f}"
    except psutil.Error:
        return ""
