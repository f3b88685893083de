"""A llama-server's process: start it, wait until it answers, say why it died, stop all of it."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from advisor.errors import RuntimeFailed
from backends.base import LaunchPlan, Progress
from backends.ggml import NO_BACKTRACE
from backends.group import Group
from backends.llama_cpp import failures
from backends.llama_cpp.flags import SECRET_VARIABLE

POLL_S = 0.05


class Server(Group):
    """A running server. Its process leads a group of its own, so that ctrl-c in the terminal reaches advisor only.

    Args:
        key: the API key that it wants; it goes through the environment, where other users cannot see it.
        spawned: told of the process before it does anything.
    """

    def __init__(self, plan: LaunchPlan, key: str | None, spawned: Callable[[Server], None]) -> None:
        self.plan = plan
        self.url = f"http://{plan.options.host}:{plan.options.port}"
        environment = {**NO_BACKTRACE, **({SECRET_VARIABLE: key} if key else {}), **plan.environment}
        super().__init__(
            plan.argv,
            plan.options.log or _own_log(),
            environment,
            attached=not plan.options.detached,
            spawned=lambda _pid: spawned(self),
        )

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
            while self.alive:
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
        from advisor.files.gguf import part_names  # noqa: PLC0415

        model = self.plan.model
        parts = [model.target.with_name(name) for name in part_names(model.target.name)]
        files = (*parts, *(file for file in (model.drafter, model.projector) if file))
        return sum(file.stat().st_size for file in files if file.is_file())

    def cause(self) -> RuntimeFailed:
        """Why the process is gone, or that it is not."""
        code = self.ended()
        if code is None:
            return RuntimeFailed("llama-server closed the connection but still runs", hint=f"its log is {self.log}")
        return failures.explain(self.plan, self.log, code)

    def stop(self) -> None:
        """End it and whatever it started; the log stays where it ended by itself."""
        alive = self.alive
        super().stop()
        if alive:
            self.log.unlink(missing_ok=True)


def _own_log() -> Path:
    handle, name = tempfile.mkstemp(prefix="advisor-llama-server-", suffix=".log")
    os.close(handle)
    return Path(name)


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
