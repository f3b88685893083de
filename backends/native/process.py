"""The engine's process: start it, wait until it answers, say why it died, stop all of it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from advisor.errors import AdvisorError, RuntimeFailed, UsageError
from backends.ggml import NO_BACKTRACE, NO_RACES
from backends.group import GRACE, HELD, end, let_go
from backends.native import death

LONG_GRACE = 8.0
"""Seconds that a server has to go after being asked, where others may be using it: it lets a running answer end."""
SILENCE = 30.0
"""Seconds without a sign of life that mean a hang; one comes every second, but a machine may be very busy."""
FIRST = 300.0
"""The same for the first one: Python and its packages may come from a slow disk."""
LOOK = 0.5
DEFAULTS = {
    **NO_RACES,
    # Large pages for what is allocated, where Linux gives them to those who ask: repacked weights are walked through
    # for every token, and plain decoding of E2B's shapes took 4 % less.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Environment of the engine where the user's own says nothing else."""
ALIVE = b'{"alive"'
LOG = "advisor-native-"
"""How the names of temporary logs begin."""


class Process:
    """A running engine.

    Args:
        argv: the server's command line.
        log: where its standard error goes.
        attached: whether it ends when this process ends, however that happens.
        environment: what it finds there beside what this process has.
        spawned: told of the process before it does anything, where it is not attached.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        attached: bool = True,
        environment: Mapping[str, str] | None = None,
        spawned: Callable[[Process], None] | None = None,
    ) -> None:
        self.log = log
        held = not attached and os.name == "posix"
        before = [sys.executable, "-I", str(HELD)] if held else []
        # A session of its own: ctrl-c in the terminal reaches us only, and we end the whole group.
        with log.open("ab") as errors:
            self._child = subprocess.Popen(
                [*argv, "--with-parent"] if attached else [*before, *argv],
                stdin=subprocess.PIPE if attached or held else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**DEFAULTS, **os.environ, **NO_BACKTRACE, **(environment or {})},
                start_new_session=True,
            )
        if spawned:
            self._announce(spawned)
        if held:
            let_go(self._child)
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._silent = 0
        """Times that the watch looked in vain for a sign of life."""
        self._heard = self._hung = False
        threading.Thread(target=self._read, daemon=True, name="engine-output").start()
        if attached:
            threading.Thread(target=self._watch, daemon=True, name="engine-watch").start()

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        attached: bool = True,
        environment: Mapping[str, str] | None = None,
        spawned: Callable[[Process], None] | None = None,
    ) -> Self:
        """Start with a log file of its own in the temporary folder."""
        handle, name = tempfile.mkstemp(prefix=LOG, suffix=".log")
        os.close(handle)
        try:
            return cls(argv, Path(name), attached=attached, environment=environment, spawned=spawned)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _announce(self, spawned: Callable[[Process], None]) -> None:
        try:
            spawned(self)
        except BaseException:
            end(self._child.pid, GRACE)
            raise

    @property
    def pid(self) -> int:
        return self._child.pid

    def _read(self) -> None:
        """Pass on standard output line by line; an empty line is its end."""
        assert self._child.stdout is not None  # noqa: S101 - opened with a pipe
        for line in self._child.stdout:
            self._silent, self._heard = 0, True
            if not line.startswith(ALIVE):
                self._lines.put(line)
        self._lines.put(b"")

    def _watch(self) -> None:
        """End the engine when it gives no sign of life: a connection to it would wait for ever.

        Looks are counted, not seconds: while this machine or this process sleeps, nobody looks.
        """
        while self._child.poll() is None:
            time.sleep(LOOK)
            self._silent += 1
            patience = SILENCE if self._heard else FIRST
            if self._silent * LOOK > patience and self._child.poll() is None:
                self._hung = True
                with contextlib.suppress(OSError):
                    self._child.kill()
                return

    def wait_ready(self) -> dict[str, Any]:
        """What the server says of itself once it answers. Waits as long as it lives: large models take minutes.

        Raises:
            AdvisorError: it reported why it cannot start, or died.
        """
        while True:
            try:
                line = self._lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if not line:
                raise self.cause()
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if "ready" in message:
                    ready: dict[str, Any] = message["ready"]
                    return ready
                if "error" in message:
                    raise _reported(message["error"])

    def cause(self) -> RuntimeFailed:
        """Why the process is gone, or that it is not."""
        try:
            code = self._child.wait(GRACE)
        except subprocess.TimeoutExpired:
            hint = f"its log is {self.log}" if self._logged else ""
            return RuntimeFailed("the engine closed the connection but still runs", hint=hint)
        return death.cause(code, self.log, hung=self._hung)

    @property
    def _logged(self) -> bool:
        return self.log.exists() and self.log.stat().st_size > 0

    def stop(self) -> None:
        """End it and whatever it started; keeps the log only where the engine ended by itself and said something."""
        alive = self._child.poll() is None
        end(self._child.pid, GRACE)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(GRACE)
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()
        if alive or not self._logged:
            self.log.unlink(missing_ok=True)


def _reported(error: dict[str, str]) -> AdvisorError:
    """The error that the child printed, as the same error here."""
    kind = UsageError if error.get("code") == UsageError.code else RuntimeFailed
    return kind(
        error.get("message", "the engine did not start"), hint=error.get("hint", ""), command=error.get("command", "")
    )
