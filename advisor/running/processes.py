"""Processes, told from one another for good: systems give the id of one that has ended to the next."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
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


def members(group: int) -> list[int]:
    """The processes of a group that run; those that have ended and wait to be collected do not. Empty where systems
    have no groups."""
    import psutil  # noqa: PLC0415

    found = []
    for pid in psutil.pids() if hasattr(os, "getpgid") else ():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getpgid(pid) == group and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def listens(pid: int, port: int) -> bool:
    """Whether a process, its group or its children take connections at a port; True where the system does not tell:
    then there is only the word of who answers there."""
    import psutil  # noqa: PLC0415

    for each in members(pid) or [pid, *_children(pid)]:
        try:
            found = psutil.Process(each).net_connections("tcp")
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            return True
        if any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in found):
            return True
    return False


def _children(pid: int) -> list[int]:
    import psutil  # noqa: PLC0415

    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def marks(group: int) -> tuple[str, ...]:
    """The processes of a group, each as `pid:birth`."""
    return tuple(f"{pid}:{born}" for pid in members(group) if (born := birth(pid)))


def left(group: int, known: Iterable[str]) -> list[int]:
    """Those of the marked processes that still run in that group. While there is one, the group's number belongs to
    nobody else."""
    found = []
    for mark in known:
        pid, _, born = mark.partition(":")
        with contextlib.suppress(OSError, ValueError):
            if birth(int(pid)) == born and os.getpgid(int(pid)) == group:
                found.append(int(pid))
    return found
