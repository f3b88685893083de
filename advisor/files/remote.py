"""The header of a GGUF that is not here: read over HTTP by ranges, so that megabytes are fetched and not gigabytes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx

from advisor import __version__
from advisor.errors import DownloadFailed, RuntimeFailed, UsageError
from advisor.files import gguf
from advisor.files.gguf import Cursor, DamagedError, Header, MoreNeededError

STEPS = (1 << 20, 24 << 20, 64 << 20)
"""How far into the file is read, until the header is there: most of it is the vocabulary, 16 MB for Gemma 4."""
TIMEOUT_S = 15.0
HUB = "https://huggingface.co"
NAME = re.compile(r"hf:(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[\w./-]+\.gguf)")


def header(model: str) -> Header:
    """The header behind a URL or `hf:owner/repo/file.gguf`, with the tensors of all parts of a split file.

    Raises:
        UsageError: it is no such name.
        DownloadFailed: offline, not found, not allowed, or the server does not answer ranges.
        RuntimeFailed: it is not a GGUF, or damaged.
    """
    url = address(model)
    try:
        folder, _, name = urlsplit(url).path.rpartition("/")
    except ValueError as error:
        raise UsageError(f"{model!r} is not a URL: {error}") from None
    names = gguf.part_names(name)
    with httpx.Client(follow_redirects=True, timeout=TIMEOUT_S, headers=greeting(url)) as client:
        found = [
            read(client, urlunsplit(urlsplit(url)._replace(path=f"{folder}/{part}")), part=index > 0)
            for index, part in enumerate(names)
        ]
    return gguf.joined(found[0], found[1:]) if len(found) > 1 else found[0]


def address(model: str) -> str:
    """The URL of a file named by URL or on the Hub (`HF_ENDPOINT`)."""
    if not model.startswith("hf:"):
        return model
    match = NAME.fullmatch(model)
    if match is None:
        raise UsageError(f"{model!r} names no file on the Hub", hint="write it like hf:owner/repo/file.gguf")
    return located(match["repo"], match["file"])


def located(repo: str, file: str) -> str:
    """The URL of a file of a repository, whatever it is.

    Raises:
        DownloadFailed: the user wants nothing from the Hub.
    """
    if offline():
        raise DownloadFailed(
            f"hf:{repo}/{file} cannot be read: HF_HUB_OFFLINE is set", hint="unset it, or give a local file"
        )
    return f"{hub()}/{repo}/resolve/main/{file}"


def offline() -> bool:
    """Whether the user wants nothing from the Hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON")


def hub() -> str:
    return os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


def greeting(url: str) -> dict[str, str]:
    """Headers of every request. The token goes to the Hub alone; httpx drops it when redirected to another host."""
    fields = {"User-Agent": f"gemma-advisor/{__version__}", "Accept-Encoding": "identity"}
    token = os.environ.get("HF_TOKEN", "").strip()
    if token and urlsplit(url)[:2] == urlsplit(hub())[:2]:
        fields["Authorization"] = f"Bearer {token}"
    return fields


def read(client: httpx.Client, url: str, *, part: bool) -> Header:
    """The header of one file, fetched step by step."""
    name = Path(urlsplit(url).path).name
    data = b""
    for step in STEPS:
        more, total = fetch(client, url, len(data), step)
        data += more
        try:
            return gguf.parse(Path(name), Cursor(data, total), part=part)
        except MoreNeededError:
            continue
        except DamagedError as error:
            raise RuntimeFailed(f"{name} {error}", hint=gguf.FETCH) from None
    raise RuntimeFailed(f"{name} has a header of more than {STEPS[-1] >> 20} MiB, so it is no model of this kind")


def fetch(client: httpx.Client, url: str, begin: int, end: int) -> tuple[bytes, int]:
    """Bytes `begin` to `end` of a file, or up to its end, and its whole size.

    Raises:
        DownloadFailed: whatever keeps them from coming.
    """
    name = shown(url)
    try:
        with client.stream("GET", url, headers={"Range": f"bytes={begin}-{end - 1}"}) as reply:
            total = size_of(reply, name, begin)
            data = bytearray()
            for piece in reply.iter_raw():
                data += piece
                if len(data) >= end - begin:
                    break
    except httpx.InvalidURL as error:
        raise UsageError(f"{name} is not a URL: {error}") from None
    except httpx.HTTPError as error:
        raise DownloadFailed(
            f"{name} cannot be read: {str(error) or type(error).__name__}",
            hint="check the address and the network; a local file needs neither",
        ) from None
    if len(data) < min(end, total) - begin:
        raise DownloadFailed(f"{name}: the connection ended early", hint="try again")
    return bytes(data[: end - begin]), total


def size_of(reply: httpx.Response, name: str, begin: int) -> int:
    """The size of the whole file, from the reply to a range."""
    hints = {401: "set HF_TOKEN to a token that may read it", 403: "set HF_TOKEN to a token that may read it"}
    if reply.status_code >= 400:  # noqa: PLR2004
        raise DownloadFailed(
            f"{name} cannot be read: the server answers {reply.status_code} {reply.reason_phrase}",
            hint=hints.get(reply.status_code, "check the repository and the name of the file"),
        )
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d{1,18})", reply.headers.get("Content-Range", ""))
    if reply.status_code != 206 or match is None or int(match[1]) != begin:  # noqa: PLR2004
        raise DownloadFailed(
            f"{name}: the server does not answer ranges, so the header cannot be read without the whole file",
            hint="download the file and give its path",
        )
    return int(match[2])


def shown(url: str) -> str:
    """A URL without what may be secret in it."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "the address"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
