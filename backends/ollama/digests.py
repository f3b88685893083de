"""Digests of files, as Ollama names blobs: read off a file's place, remembered from the last time, or reckoned."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from pathlib import Path

import msgspec

from advisor import paths
from advisor.errors import RuntimeFailed
from advisor.machine import Record
from backends.base import Progress

PIECE = 1 << 20


class Kept(Record, frozen=True, kw_only=True):
    """What a file was when its digest was reckoned: bytes, and nanoseconds since 1970 of its last change."""

    size: int
    changed: int
    digest: str


def placed(path: Path) -> str | None:
    """A file's digest, where its place tells it: caches name blobs by it."""
    resolved = path.resolve()
    match = re.fullmatch(r"(?:sha256-)?([0-9a-f]{64})", resolved.name)
    return f"sha256:{match[1]}" if match and resolved.parent.name == "blobs" else None


def of(path: Path, progress: Progress) -> str:
    """A file's digest. It is read in whole where that was not done before, or it has changed since.

    Raises:
        RuntimeFailed: it cannot be read.
    """
    if known := placed(path):
        return known
    place = str(path.resolve())
    try:
        found = path.stat()
        kept = _read().get(place)
        if kept is None or (kept.size, kept.changed) != (found.st_size, found.st_mtime_ns):
            digest = _reckoned(path, found.st_size, progress)
            kept = Kept(size=found.st_size, changed=found.st_mtime_ns, digest=digest)
            _keep(place, kept)
    except OSError as error:
        raise RuntimeFailed(f"{path}: {error.strerror or error}") from None
    return kept.digest


def _reckoned(path: Path, size: int, progress: Progress) -> str:
    done, found = 0, hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            found.update(piece)
            done += len(piece)
            progress(f"reading {path.name}", done, size)
    return f"sha256:{found.hexdigest()}"


# ---- What is remembered


def _file() -> Path:
    return paths.cache_folder() / "digests.json"


def _read() -> dict[str, Kept]:
    try:
        return msgspec.json.decode(_file().read_bytes(), type=dict[str, Kept])
    except (OSError, RuntimeError, msgspec.DecodeError):
        return {}


def _keep(place: str, kept: Kept) -> None:
    """Best effort: without it, the file is read again. Files that are gone are forgotten."""
    with contextlib.suppress(OSError, RuntimeError):
        path = _file()
        path.parent.mkdir(parents=True, exist_ok=True)
        known = {other: one for other, one in _read().items() if Path(other).exists()}
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".digests-")
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(known | {place: kept}))
        Path(name).replace(path)
