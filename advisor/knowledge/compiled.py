"""The catalogue compiled: all profiles as one file in the user's cache, because reading the YAML takes as long as all
the rest of `advisor recommend`.

Never trusted blindly: it must be this user's, intact, and made from exactly these profiles by exactly this code; then
msgspec checks every type and bound again. Whatever is wrong with it, the profiles are read instead.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from advisor import __version__
from advisor.machine import Record
from advisor.paths import cache_folder

NAME = "catalog.msgpack"
CHECKSUM_BYTES = 4
LARGEST = 4 << 20


T = TypeVar("T")


class Compiled(Record, Generic[T], frozen=True, kw_only=True):
    """`made_from`: name, time of change in ns and size of every file that has a say in the content."""

    version: str
    made_from: tuple[tuple[str, int, int], ...]
    content: T


def load(folder: Path, code: Sequence[Path], kind: type[T], build: Callable[[], T]) -> T:
    """The catalogue of `folder`: the compiled one if it is of these very files, otherwise as `build` reads it.

    Args:
        folder: the profiles.
        code: the modules that say what is read and how.
        kind: the type of the catalogue.

    Raises:
        ProfileError: from `build`.
    """
    try:
        files, cache = fingerprint(folder, code), cache_folder() / NAME
    except (OSError, RuntimeError):
        return build()
    found = stored(cache, kind)
    if found is not None and found.version == __version__ and found.made_from == files:
        return found.content
    built = build()
    # A folder that cannot be written costs time, nothing else.
    with contextlib.suppress(OSError):
        store(cache, Compiled(version=__version__, made_from=files, content=built))
    return built


def fingerprint(folder: Path, code: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """Every profile, and the code that reads them."""
    found = []
    for part in (folder, folder / "models", folder / "devices"):
        with os.scandir(part) as entries:
            found += [
                (f"{part.name}/{entry.name}", entry.stat().st_mtime_ns, entry.stat().st_size)
                for entry in entries
                if entry.name.endswith(".yaml")
            ]
    found += [(str(module), module.stat().st_mtime_ns, module.stat().st_size) for module in code]
    return (*sorted(found), (str(folder), 0, 0))


def stored(cache: Path, kind: type[T]) -> Compiled[T] | None:
    """What is in the cache, or None where anything is wrong with it."""
    try:
        with cache.open("rb") as file:
            status = os.fstat(file.fileno())
            if hasattr(os, "getuid") and status.st_uid != os.getuid():
                return None
            data = file.read(LARGEST)
        if zlib.crc32(data[CHECKSUM_BYTES:]).to_bytes(CHECKSUM_BYTES, "big") != data[:CHECKSUM_BYTES]:
            return None
        wanted = Compiled[kind]  # type: ignore[valid-type]
        found: Compiled[T] = msgspec.msgpack.decode(data[CHECKSUM_BYTES:], type=wanted, dec_hook=quantity)
        return found
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError):
        return None


def quantity(kind: type[Any], value: Any) -> Any:
    """`Bytes` and `Bandwidth` are stored as plain integers."""
    if type(value) is not int or value <= 0:
        raise ValueError("not a quantity")
    return kind(value)


def store(cache: Path, content: Compiled[Any]) -> None:
    """Written aside and renamed: a reader sees all of it or nothing of it."""
    data = msgspec.msgpack.encode(content, enc_hook=int)
    cache.parent.mkdir(parents=True, exist_ok=True)
    aside = cache.with_name(f"{NAME}.{os.getpid()}")
    try:
        aside.write_bytes(zlib.crc32(data).to_bytes(CHECKSUM_BYTES, "big") + data)
        aside.replace(cache)
    finally:
        aside.unlink(missing_ok=True)
