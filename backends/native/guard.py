"""Who may ask: the key, the name the server was called by, and how much may be sent.

A server on the loopback address is still reachable from the user's browser: a page may let its own name point to
127.0.0.1 (DNS rebinding) or post a form there. Both show in headers that a page cannot choose.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from backends.native.replies import failure

DRAIN = 64 << 20
"""Bytes of a body that is too large that are read all the same: who is still sending does not hear an answer."""
OPEN = ("/health",)
"""Paths that need no key, for whoever watches over the server."""
PORT = re.compile(r":\d*$")


class TooLargeError(Exception):
    """A body beyond the limit."""


def loopback(host: str) -> bool:
    """Whether a name or address can only mean this machine."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """Refuses requests before any of them is read.

    Args:
        host: the address the server listens on; on the loopback one, it must also be called by such a name.
        key: what requests must carry as bearer token; None: nothing.
    """

    def __init__(self, app: ASGIApp, *, host: str = "127.0.0.1", key: str | None = None) -> None:
        self._app = app
        self._local = loopback(host)
        self._key = key.encode() if key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if self._local and not loopback(PORT.sub("", headers.get("host", ""))):
            return failure("this server is called localhost or 127.0.0.1", 403, code="host_not_allowed")
        origin = headers.get("origin")
        if self._local and origin is not None and not _local_origin(origin):
            return failure("pages of other sites may not use this server", 403, code="origin_not_allowed")
        if self._key and scope["path"] not in OPEN and not self._known(headers.get("authorization", "")):
            return failure(
                "the API key is missing or wrong",
                401,
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return None

    def _known(self, authorization: str) -> bool:
        kind, _, token = authorization.partition(" ")
        assert self._key is not None  # noqa: S101 - asked only where there is one
        return kind.lower() == "bearer" and hmac.compare_digest(token.strip().encode("utf-8", "replace"), self._key)


def _local_origin(origin: str) -> bool:
    try:
        return loopback(urlsplit(origin).hostname or "")
    except ValueError:
        return False


async def read(request: Request, most: int, seconds: float) -> bytes:
    """The body of a request.

    Raises:
        TooLargeError: it has more than `most` bytes.
        TimeoutError: it did not come within `seconds`.
        ClientDisconnect: its sender went.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:18]) > most + DRAIN:
        raise TooLargeError
    data, size = bytearray(), 0
    async with asyncio.timeout(seconds):
        async for chunk in request.stream():
            size += len(chunk)
            if size <= most:
                data += chunk
            elif size > most + DRAIN:
                break
    if size > most:
        raise TooLargeError
    return bytes(data)
