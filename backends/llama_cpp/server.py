"""A llama-server's process: start it, wait until it answers, say why it died, stop all of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from advisor.errors import RuntimeFailed
from backends.base import LaunchPlan, Progress
from backends.llama_cpp import failures
from backends.llama_cpp.flags import SECRET_VARIABLE
from backends.native.process import HELD, let_go, stop_group

GRACE = 1.0
"""Seconds that a process has to show that it died."""
POLL_S = 0.05
ATTACHED = Path(__file__).parents[1] / "attached.py"


class Server:
    """A running server. Its process leads a group of its own, so that ctrl-c in the terminal reaches advisor only.

    Args:
        key: the API key that it wants; it goes through the environment, where other users cannot see it.
        spawned: told of the process before it does anything.
    """

    def __init__(self, plan: LaunchPlan, key: str | None, spawned: Callable[[Server], None]) -> None:
        self.plan = plan
        self.url = f"http://{plan.options.host}:{plan.options.port}"
        self.log = plan.options.log or _own_log()
        self._attached = not plan.options.detached
        self._child = self._start({SECRET_VARIABLE: key} if key else {})
        try:
            spawned(self)
        except BaseException:
            self.stop()
            raise
        if self._holds:
            let_go(self._child)

    @property
    def _holds(self) -> bool:
        """Whether it waits to be let go: a detached one must be on record before it runs on its own."""
        return not self._attached and os.name == "posix"

    def _start(self, wanted: dict[str, str]) -> subprocess.Popen[bytes]:
        guard = ATTACHED if self._attached else HELD if self._holds else None
        before = [sys.executable, "-I", str(guard)] if guard else []
        try:
            with self.log.open("wb") as log:
                return subprocess.Popen(
                    [*before, *self.plan.argv],
                    stdin=subprocess.PIPE if guard else subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # No backtrace: on an assertion llama.cpp would start a debugger and keep the user waiting for it.
                    env={**os.environ, "GGML_NO_BACKTRACE": "1", **wanted, **self.plan.environment},
                    start_new_session=True,
                )
        except OSError as error:
            raise RuntimeFailed(f"{self.plan.argv[0]} cannot be started: {error.strerror}") from None

    def _close_input(self) -> None:
        if self._child.stdin:
            with contextlib.suppress(OSError):
                self._child.stdin.close()

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait_ready(self, progress: Progress) -> None:
        """Wait as long as it lives: large models take minutes.

        Args:
            progress: told how much of the files has been read.

        Raises:
            RuntimeFailed: it died.
        """
        size, most = self._size(), 0
        # Never through a proxy: it is on this machine.
        with httpx.Client(base_url=self.url, timeout=1, trust_env=False) as client:
            while self._child.poll() is None:
                with contextlib.suppress(httpx.HTTPError):
                    # Another program may sit on the port and answer; ours has died of it by then, or will soon.
                    if client.get("/health").status_code == httpx.codes.OK and failures.listens(self.log):
                        return
                most = max(most, min(loaded_bytes(self.pid), size))
                progress(f"loading {self.plan.model.target.name}", most, size)
                time.sleep(POLL_S)
        raise self.cause()

    def _size(self) -> int:
        """Of all files that it reads."""
        from advisor.gguf import part_names  # noqa: PLC0415

        model = self.plan.model
        parts = [model.target.with_name(name) for name in part_names(model.target.name)]
        files = (*parts, *(file for file in (model.drafter, model.projector) if file))
        return sum(file.stat().st_size for file in files if file.is_file())

    def cause(self) -> RuntimeFailed:
        """Why the process is gone, or that it is not."""
        try:
            code = self._child.wait(GRACE)
        except subprocess.TimeoutExpired:
            return RuntimeFailed("llama-server closed the connection but still runs", hint=f"its log is {self.log}")
        return failures.explain(self.plan, self.log, code)

    def stop(self) -> None:
        """End it and whatever it started; the log stays where it ended by itself."""
        alive = self._child.poll() is None
        self._close_input()
        if os.name == "nt" and self._attached:
            # There are no groups to end there: the guard ends the server when its input closes.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(3 * GRACE)
        stop_group(self._child.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(GRACE)
        if alive:
            self.log.unlink(missing_ok=True)


def _own_log() -> Path:
    handle, name = tempfile.mkstemp(prefix="advisor-llama-server-", suffix=".log")
    os.close(handle)
    return Path(name)


def memory_bytes(pid: int) -> int | None:
    """What the process and its children hold in main memory."""
    try:
        process = psutil.Process(pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))
    except psutil.Error:
        return None


def loaded_bytes(pid: int) -> int:
    """How much of its files a process and its children have in memory or have read. A mapped file shows in what is
    resident, one that is read (and passed on to a GPU) in what was read."""
    held = read = 0
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            held += each.memory_info().rss
            if hasattr(each, "io_counters"):  # not on macOS
                counted = each.io_counters()
                read += max(counted.read_bytes, getattr(counted, "read_chars", 0))
    return max(held, read)
