"""What the advisor made in Ollama's libraries: name, digest and sources by server. What is not in here, or is no longer
what was made, is somebody else's."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from advisor.machine import Record
from advisor.running import sessions


class Made(Record, frozen=True, kw_only=True):
    """A model that was made. `digest`: of its manifest; `sources`: digests of the files that were sent for it; `base`:
    what it was derived from, with its digest then."""

    digest: str
    sources: tuple[str, ...] = ()
    base: str = ""
    base_digest: str = ""


Book = dict[str, dict[str, Made]]


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Alone among this user's advisors: two that want the same model make it once."""
    from filelock import FileLock  # noqa: PLC0415 - only what makes models needs it

    with FileLock(_folder() / "ollama.lock"):
        yield


def made(url: str) -> dict[str, Made]:
    """What was made on that server."""
    return _read().get(url, {})


def note(url: str, name: str, what: Made) -> None:
    """Remember a model."""
    book = _read()
    _write(book | {url: book.get(url, {}) | {name: what}})


def forget(url: str, name: str) -> None:
    """Forget a model that is gone."""
    book = _read()
    _write(book | {url: {other: what for other, what in book.get(url, {}).items() if other != name}})


def _folder() -> Path:
    folder = sessions.folder() / "made"
    folder.mkdir(exist_ok=True)
    return folder


def _read() -> Book:
    try:
        return msgspec.json.decode((_folder() / "ollama.json").read_bytes(), type=Book)
    except (OSError, msgspec.DecodeError):
        return {}


def _write(book: Book) -> None:
    path = _folder() / "ollama.json"
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".ollama-")
    with os.fdopen(handle, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(book)))
    Path(name).replace(path)
