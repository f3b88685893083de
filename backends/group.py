"""The process group of a server: started in a session of its own, and ended whole.

A server may leave workers behind that hold the memory when it is killed itself; so the group is asked, then killed, and
looked for until none of it is left.
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
from advisor.running.processes import members

GRACE = 1.0
"""Seconds that a process has to show that it died, or to go after being asked."""
SLOW = (6.0, 4.0)
"""The same for Python servers, asked twice: they ignore the first SIGTERM while they start."""
KILLED_S = 5.0
POLL_S = 0.02
WINDOWS_S = 3.0
ATTACHED, HELD = (Path(__file__).parent / name for name in ("attached.py", "held.py"))


class Group:
    """A running server and all that it starts.

    Args:
        argv: its command line.
        log: where all of it writes.
        environment: what it finds there beside what this process has.
        attached: whether it ends when this process ends, however that happens.
        spawned: told of the process id before anything runs on its own.
        patience: as `end` has it.

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
        patience: Sequence[float] = (GRACE,),
    ) -> None:
        self.log = log
        self._patience = patience
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
        if os.name == "nt" and self.child.stdin:
            # There are no groups to end there: the guard ends the server when its input closes.
            self._close_input()
            self.ended(WINDOWS_S)
        end(self.child.pid, *self._patience)
        self._close_input()
        self.ended()

    def _close_input(self) -> None:
        if self.child.stdin:
            with contextlib.suppress(OSError):
                self.child.stdin.close()


def let_go(child: subprocess.Popen[bytes]) -> None:
    """Tell a process that `held.py` holds to become its program."""
    if child.stdin:
        with contextlib.suppress(OSError):  # it died already; whoever waits for it finds out why
            child.stdin.write(b"\n")
            child.stdin.close()


def end(pid: int, *patience: float) -> None:
    """End the group that `pid` leads, or led; returns when none of it is left. One that has gone is no error.

    Args:
        patience: seconds to wait each time after it was asked (SIGTERM), before it is killed.
    """
    if not hasattr(os, "killpg"):
        _end_tree(pid)
        return
    # Workers without their leader have nobody left to wait for.
    asked = [(signal.SIGTERM, seconds) for seconds in patience] if pid in members(pid) else []
    for sign, seconds in (*asked, (signal.SIGKILL, KILLED_S)):
        try:
            os.killpg(pid, sign)
        except (ProcessLookupError, PermissionError):
            return
        until = time.monotonic() + seconds
        while members(pid):
            if time.monotonic() > until:
                break
            time.sleep(POLL_S)
        else:
            return


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
