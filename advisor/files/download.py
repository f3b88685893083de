"""One file over HTTP: goes on where it stopped, believes nothing before its checksum is right, and says what is wrong.

huggingface_hub (2.4) throws a partial file away when a download fails or is cancelled, which costs hours on a home
line. So the bytes are fetched here, into its cache; it lists, names and links what is there.
"""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import httpx

from advisor.errors import DownloadFailed
from advisor.units import format_file_size
from backends.base import Progress

PIECE = 1 << 20
STALL_S = 30.0
"""Without a byte for so long, the connection is given up and another one made."""
TRIES = 6
"""In a row without a byte of progress."""
BACKOFF_S = 1.0
LONGEST_WAIT_S = 120.0
"""Longest `Retry-After` that is waited for."""
PART = ".advisor-part"
BUSY = 429
SERVER_ERRORS = range(500, 600)


class _AgainError(Exception):
    """The attempt failed in a way that another one may not. `wait`: seconds, None for as long as usual."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


def download(
    client: httpx.Client, url: str, target: Path, *, name: str, size: int, sha256: str, progress: Progress
) -> None:
    """Fetch `url` to `target`, which appears only when it is whole. What was fetched stays if this fails or is stopped.

    Args:
        name: for messages.
        sha256: of the whole file, in hexadecimal.

    Raises:
        DownloadFailed: with what to do about it.
    """
    part = target.with_name(target.name + PART)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab+") as file:
            digest = _fetch(client, url, file, name=name, size=size, progress=progress)
        if digest != sha256:
            # Going on from it would never help.
            part.unlink()
            raise DownloadFailed(
                f"{name} arrived wrong: its checksum is {digest[:12]}..., not {sha256[:12]}...",
                hint="nothing of it was kept; try again, and if it happens again, over another network",
            )
        part.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadFailed(
                f"the disk is full: {part.parent}", hint="free some space, or set HF_HOME to a folder on another disk"
            ) from None
        raise DownloadFailed(f"{name} cannot be written: {error}") from None


def _fetch(client: httpx.Client, url: str, file: BinaryIO, *, name: str, size: int, progress: Progress) -> str:
    """Fill the file up to `size`; returns its checksum."""
    hasher = hashlib.sha256()
    done = _read_again(file, hasher, size, lambda at: progress(f"checking what is here of {name}", at, size))
    tries = 0
    while done < size:
        before = done
        try:
            for piece in _pieces(client, url, done, name):
                file.write(piece)
                hasher.update(piece)
                done += len(piece)
                progress(name, done, size)
            _all_came(done, size)
        except _RestartError:
            file.truncate(0)
            hasher, done = hashlib.sha256(), 0
        except _AgainError as failure:
            file.flush()
            tries = 1 if done > before else tries + 1
            if tries >= TRIES:
                raise DownloadFailed(
                    f"{name} does not come: {failure}",
                    hint=f"{format_file_size(done)} are kept; the same command goes on there",
                ) from None
            time.sleep(failure.wait if failure.wait is not None else BACKOFF_S * 2 ** (tries - 1))
    return hasher.hexdigest()


def _all_came(done: int, size: int) -> None:
    if done < size:
        raise _AgainError("the connection ended early")


class _RestartError(Exception):
    """The server sends the file from its beginning."""


def _read_again(file: BinaryIO, hasher: hashlib._Hash, size: int, tell: Callable[[int], None]) -> int:
    """Take what an earlier attempt left into the checksum; more than the whole file is no beginning of it."""
    file.seek(0, 2)
    if file.tell() > size:
        file.truncate(0)
    file.seek(0)
    while piece := file.read(PIECE):
        hasher.update(piece)
        tell(file.tell())
    return file.tell()


def _pieces(client: httpx.Client, url: str, begin: int, name: str) -> Iterator[bytes]:
    """The file from `begin` on.

    Raises:
        _AgainError: another attempt may succeed.
        DownloadFailed: none will.
    """
    headers = {"Range": f"bytes={begin}-"} if begin else {}
    try:
        with client.stream("GET", url, headers=headers) as reply:
            _check(reply, begin, name)
            yield from reply.iter_raw(PIECE)
    except httpx.TimeoutException:
        raise _AgainError(f"no byte came for {STALL_S:.0f} seconds") from None
    except httpx.HTTPError as error:
        raise _AgainError(str(error) or type(error).__name__) from None


def _check(reply: httpx.Response, begin: int, name: str) -> None:
    status = reply.status_code
    if status == BUSY or status in SERVER_ERRORS:
        raise _AgainError(f"the server answers {status} {reply.reason_phrase}", _wait(reply, name))
    if reply.is_error:
        raise refused(status, name)
    if begin and status != httpx.codes.PARTIAL_CONTENT:
        raise _RestartError
    if begin and not reply.headers.get("Content-Range", "").startswith(f"bytes {begin}-"):
        raise DownloadFailed(f"{name}: the server sends another part than was asked for", hint="try again later")


def _wait(reply: httpx.Response, name: str) -> float | None:
    """Seconds that the server wants us to wait.

    Raises:
        DownloadFailed: too many to sit here.
    """
    asked = reply.headers.get("Retry-After", "")
    if not asked.isdecimal():
        return None
    if int(asked) > LONGEST_WAIT_S:
        raise DownloadFailed(f"{name}: the server is busy for another {asked} seconds", hint="try again then")
    return float(asked)


def refused(status: int, what: str, *, page: str = "") -> DownloadFailed:
    """The error for a status that will not change by itself.

    Args:
        page: where to accept a licence, if that may be needed.
    """
    if status in (401, 403):
        accept = f"accept the licence at {page} and " if page else ""
        return DownloadFailed(
            f"{what} may not be read ({status})", hint=f"{accept}set HF_TOKEN to a token that may, or `hf auth login`"
        )
    if status == 404:  # noqa: PLR2004
        return DownloadFailed(
            f"{what} is not there (404)", hint="it was renamed or withdrawn; `advisor models` has others"
        )
    return DownloadFailed(f"{what} cannot be read ({status})", hint="try again later")
