"""The catalogue compiled: all profiles as one file in the user's cache, because reading the YAML takes as long as all
the rest of `advisor recommend`.

Never trusted blindly: it must be this user's, intact, and made from exactly these profiles by exactly this code; then
msgspec checks every type and bound again. Whatever is wrong with it, the profiles are read instead.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from advisor import __version__, catalog
from advisor.catalog import Catalog
from advisor.machine import Record
from advisor.paths import cache_folder

NAME = "catalog.msgpack"
CHECKSUM_BYTES = 4
LARGEST = 4 << 20


class Compiled(Record, frozen=True, kw_only=True):
    """`made_from`: name, time of change in ns and size of every file that has a say in the content."""

    version: str
    made_from: tuple[tuple[str, int, int], ...]
    catalog: Catalog


def load(folder: Path, build: Callable[[], Catalog]) -> Catalog:
    """The catalogue of `folder`: the compiled one if it is of these very files, otherwise as `build` reads it.

    Raises:
        ProfileError: from `build`.
    """
    try:
        files, cache = fingerprint(folder), cache_folder() / NAME
    except (OSError, RuntimeError):
        return build()
    found = stored(cache)
    if found is not None and found.version == __version__ and found.made_from == files:
        return found.catalog
    built = build()
    # A folder that cannot be written costs time, nothing else.
    with contextlib.suppress(OSError):
        store(cache, Compiled(version=__version__, made_from=files, catalog=built))
    return built


def fingerprint(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Every profile, and the code that reads them."""
    found = []
    for part in (folder, folder / "models", folder / "devices"):
        with os.scandir(part) as entries:
            found += [
                (f"{part.name}/{entry.name}", entry.stat().st_mtime_ns, entry.stat().st_size)
                for entry in entries
                if entry.name.endswith(".yaml")
            ]
    code = Path(catalog.__file__).stat()
    return (*sorted(found), (str(folder), code.st_mtime_ns, code.st_size))


def stored(cache: Path) -> Compiled | None:
    """What is in the cache, or None where anything is wrong with it."""
    try:
        with cache.open("rb") as file:
            status = os.fstat(file.fileno())
            if hasattr(os, "getuid") and status.st_uid != os.getuid():
                return None
            data = file.read(LARGEST)
        if zlib.crc32(data[CHECKSUM_BYTES:]).to_bytes(CHECKSUM_BYTES, "big") != data[:CHECKSUM_BYTES]:
            return None
        return msgspec.msgpack.decode(data[CHECKSUM_BYTES:], type=Compiled, dec_hook=quantity)
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError):
        return None


def quantity(kind: type[Any], value: Any) -> Any:
    """`Bytes` and `Bandwidth` are stored as plain integers."""
    if type(value) is not int or value <= 0:
        raise ValueError("not a quantity")
    return kind(value)


def store(cache: Path, content: Compiled) -> None:
    """Written aside and renamed: a reader sees all of it or nothing of it."""
    data = msgspec.msgpack.encode(content, enc_hook=int)
    cache.parent.mkdir(parents=True, exist_ok=True)
    aside = cache.with_name(f"{NAME}.{os.getpid()}")
    try:
        aside.write_bytes(zlib.crc32(data).to_bytes(CHECKSUM_BYTES, "big") + data)
        aside.replace(cache)
    finally:
        aside.unlink(missing_ok=True)
