"""The process group of a foreign server: started in a session of its own, and ended whole.

Servers of this kind ignore SIGTERM while they start, and leave workers behind that hold the memory when their leader is
killed; so the group is asked twice, then killed, and looked for until none of it is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from advisor.errors import RuntimeFailed
from backends.native.process import HELD, let_go

GRACE = 1.0
ASKED_S, AGAIN_S, KILLED_S = 6.0, 4.0, 5.0
"""Seconds after the first and the second SIGTERM, and after SIGKILL."""
POLL_S = 0.05
ATTACHED = Path(__file__).parent / "attached.py"


class Group:
    """A running server and all that it starts.

    Args:
        argv: its command line.
        log: where all of it writes.
        attached: whether it ends when this process ends, however that happens.
        spawned: told of the process id before anything runs on its own.

    Raises:
        RuntimeFailed: the program cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        *,
        attached: bool,
        spawned: Callable[[int], None],
    ) -> None:
        self.log = log
        held = not attached and os.name == "posix"
        guard = ATTACHED if attached else HELD if held else None
        before = [sys.executable, "-I", str(guard)] if guard else []
        try:
            with log.open("wb") as file:
                self.child = subprocess.Popen(
                    [*before, *argv],
                    stdin=subprocess.PIPE if guard else subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    env={**os.environ, **environment},
                    start_new_session=True,
                )
        except OSError as error:
            raise RuntimeFailed(f"{argv[0]} cannot be started: {error.strerror}") from None
        try:
            spawned(self.child.pid)
        except BaseException:
            self.stop()
            raise
        if held:
            let_go(self.child)

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def alive(self) -> bool:
        return self.child.poll() is None

    def ended(self, patience: float = GRACE) -> int | None:
        """The exit code, None where it still runs."""
        try:
            return self.child.wait(patience)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """End all of it."""
        end(self.child.pid)
        if self.child.stdin:
            with contextlib.suppress(OSError):
                self.child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(GRACE)


def end(pid: int) -> None:
    """End the group that `pid` leads, or led; returns when none of it is left. One that has gone is no error."""
    if not hasattr(os, "killpg"):
        _end_tree(pid)
        return
    # Workers without their leader have nobody left to wait for.
    asked = [(signal.SIGTERM, ASKED_S), (signal.SIGTERM, AGAIN_S)] if pid in members(pid) else []
    for sign, patience in (*asked, (signal.SIGKILL, KILLED_S)):
        try:
            os.killpg(pid, sign)
        except (ProcessLookupError, PermissionError):
            return
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if not members(pid):
                return
            time.sleep(POLL_S)


def members(pid: int) -> list[int]:
    """The processes of a group that run; those that have ended and wait to be collected do not."""
    found = []
    for each in psutil.process_iter(["status"]):
        with contextlib.suppress(OSError):
            if os.getpgid(each.pid) == pid and each.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(each.pid)
    return found


def _end_tree(pid: int) -> None:
    """Where there are no groups."""
    with contextlib.suppress(psutil.Error):
        leader = psutil.Process(pid)
        tree = [leader, *leader.children(recursive=True)]
        for each in tree:
            with contextlib.suppress(psutil.Error):
                each.kill()
        psutil.wait_procs(tree, KILLED_S)


def memory_bytes(pid: int) -> int | None:
    """What a process and its children hold in main memory; None where it has gone."""
    try:
        process = psutil.Process(pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
    except psutil.Error:
        return None
