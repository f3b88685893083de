"""A llama-server's process: start it, wait until it answers, say why it died, stop all of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from advisor.errors import RuntimeFailed
from backends.base import LaunchPlan
from backends.llama_cpp import failures
from backends.native.process import stop_group

GRACE = 1.0
"""Seconds that a process has to show that it died."""
POLL_S = 0.05
GUARD = Path(__file__).parents[1] / "attached.py"


class Server:
    """A running server. Its process leads a group of its own, so that ctrl-c in the terminal reaches advisor only."""

    def __init__(self, plan: LaunchPlan, key: str | None = None) -> None:
        self.plan = plan
        wanted = {"LLAMA_API_KEY": key} if key else {}
        self.url = f"http://{plan.options.host}:{plan.options.port}"
        attached = not plan.options.detached
        self.log = plan.options.log or _own_log()
        argv = [sys.executable, "-I", str(GUARD), *plan.argv] if attached else list(plan.argv)
        try:
            with self.log.open("wb") as log:
                self._child = subprocess.Popen(
                    argv,
                    stdin=subprocess.PIPE if attached else subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # No backtrace: on an assertion llama.cpp would start a debugger and keep the user waiting for it.
                    env={**os.environ, "GGML_NO_BACKTRACE": "1", **wanted, **plan.environment},
                    start_new_session=True,
                )
        except OSError as error:
            raise RuntimeFailed(f"{plan.argv[0]} cannot be started: {error.strerror}") from None

    @property
    def pid(self) -> int:
        return self._child.pid

    def wait_ready(self) -> None:
        """Wait as long as it lives: large models take minutes.

        Raises:
            RuntimeFailed: it died.
        """
        # Never through a proxy: it is on this machine.
        with httpx.Client(base_url=self.url, timeout=1, trust_env=False) as client:
            while self._child.poll() is None:
                with contextlib.suppress(httpx.HTTPError):
                    # Another program may sit on the port and answer; ours has died of it by then, or will soon.
                    if client.get("/health").status_code == httpx.codes.OK and failures.listens(self.log):
                        return
                time.sleep(POLL_S)
        raise self.cause()

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
        if self._child.stdin:
            with contextlib.suppress(OSError):
                self._child.stdin.close()
            if os.name == "nt":
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
