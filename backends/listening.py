"""Whether somebody answers at an address, before anything is asked there."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

CONNECT_S = 0.5
"""How long a server of this machine, or of one nearby, may take to accept a connection."""
PORTS = {"http": 80, "https": 443}


def listens(url: str, seconds: float = CONNECT_S) -> bool:
    """Whether anything takes a connection at a URL."""
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or PORTS[parts.scheme]), timeout=seconds).close()
    except OSError:
        return False
    return True
