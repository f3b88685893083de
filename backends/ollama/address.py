"""Where the Ollama server is, and a first look at it that needs no HTTP library."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from advisor.errors import UsageError

VARIABLE = "OLLAMA_HOST"
PORT = 11434
LOCAL_S, REMOTE_S = 0.5, 2.0
"""How long a server may take to say its version."""
ANY = ("0.0.0.0", "::", "")  # noqa: S104 - what a server listens on; a client asks the loopback address
LARGEST_REPLY = 1 << 16


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """The server's address. `local`: it is on this machine, so its files, processes and hardware are this one's."""

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def local(self) -> bool:
        return self.host in ("localhost", "::1", socket.gethostname().lower()) or self.host.startswith("127.")


def given() -> Address:
    """The address in OLLAMA_HOST, or the default.

    Raises:
        UsageError: it is no address.
    """
    return parse(os.environ.get(VARIABLE, ""))


def parse(text: str) -> Address:
    """An address as Ollama's own programs read it: `host`, `host:port` or a URL.

    Raises:
        UsageError: it is none.
    """
    text = text.strip().strip("\"'")
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "http", text
    usual = {"http": 80, "https": 443}.get(scheme) if found else PORT
    # A bare IPv6 address has colons of its own.
    bare = re.fullmatch(r"[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F:.]*", rest)
    try:
        parts = urlsplit(f"//[{rest}]" if bare else f"//{rest}")
        port = parts.port or usual
    except ValueError:
        port = None
    if port is None or usual is None:
        raise UsageError(f"{VARIABLE} is {text!r}, which is no address", hint="write it like 192.168.1.20:11434")
    host = parts.hostname or ""
    return Address(scheme=scheme, host="127.0.0.1" if host in ANY else host, port=port, path=parts.path.rstrip("/"))


def of(base_url: str) -> Address:
    """The address of an endpoint."""
    return parse(base_url.removesuffix("/v1"))


def version(address: Address) -> str | None:
    """What the server at that address calls its version; None where none answers, or something else does."""
    wait = LOCAL_S if address.local else REMOTE_S
    try:
        # Refused at once where nothing runs, before anything is imported for it.
        with socket.create_connection((address.host, address.port), timeout=wait) as connection:
            return _asked(connection, address) if address.scheme == "http" else _asked_securely(address, wait)
    except (OSError, ValueError):
        return None


def _asked(connection: socket.socket, address: Address) -> str | None:
    request = f"GET {address.path}/api/version HTTP/1.0\r\nHost: {address.host}\r\n\r\n"
    connection.sendall(request.encode("ascii", errors="replace"))
    reply = b""
    while len(reply) < LARGEST_REPLY and (piece := connection.recv(4096)):
        reply += piece
    return _version(reply.partition(b"\r\n\r\n")[2])


def _asked_securely(address: Address, wait: float) -> str | None:
    from urllib.request import urlopen  # noqa: PLC0415 - certificates take a while to load

    with urlopen(f"{address.url}/api/version", timeout=wait) as reply:  # noqa: S310 - https, as it was given
        return _version(reply.read(LARGEST_REPLY))


def _version(body: bytes) -> str | None:
    found = json.loads(body)
    told = found.get("version") if isinstance(found, dict) else None
    return told if isinstance(told, str) and told else None


def program() -> Path | None:
    """The `ollama` program, where it is installed."""
    if on_path := shutil.which("ollama"):
        return Path(on_path)
    home = Path.home()
    folders: list[str | Path] = [
        "/usr/local/bin",
        "/opt/homebrew/bin",
        "/Applications/Ollama.app/Contents/Resources",
        home / ".local/bin",
    ]
    if sys.platform == "win32":
        folders: list[str | Path] = [
            Path(os.environ.get("LOCALAPPDATA", home / "AppData/Local")) / "Programs" / "Ollama"
        ]
    return next((Path(found) for each in folders if (found := shutil.which(Path(each) / "ollama"))), None)
