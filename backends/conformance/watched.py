"""What a piece of Python does to the world while it runs: files written, programs started, connections made."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
FILES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "tempfile.")
PROGRAMS = ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.fork", "os.system")
NETWORK = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo")

_watch = threading.local()


@contextlib.contextmanager
def watched() -> Iterator[list[str]]:
    """The list of what this thread does meanwhile, filled as it happens; reading files is nothing."""
    _listen()
    quiet, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # an import is no deed of the backend's
    _watch.deeds = deeds = list[str]()
    try:
        yield deeds
    finally:
        del _watch.deeds
        sys.dont_write_bytecode = quiet


@functools.cache
def _listen() -> None:
    """Once per process: such a hook cannot be taken away again."""
    sys.addaudithook(_heard)


def _heard(event: str, arguments: tuple[Any, ...]) -> None:
    deeds: list[str] | None = getattr(_watch, "deeds", None)
    if deeds is not None and (deed := _deed(event, arguments)):
        deeds.append(deed)


def _deed(event: str, arguments: tuple[Any, ...]) -> str:
    if event == "open":
        path, _mode, flags = arguments
        writes = isinstance(path, str | bytes) and bool(flags & WRITES) and os.fsdecode(path) != os.devnull
        return f"writes {os.fsdecode(path)}" if writes else ""
    if event.startswith(FILES):
        return f"changes files ({event} {arguments[0]})"
    if event.startswith(PROGRAMS):
        return f"starts a program ({arguments[0] if arguments else event})"
    return f"uses the network ({event})" if event.startswith(NETWORK) else ""
