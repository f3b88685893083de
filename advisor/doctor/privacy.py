"""Takes out of a report what says who made it: names of users and hosts, homes, serial numbers, addresses."""

from __future__ import annotations

import getpass
import os
import platform
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from advisor.hardware.probes.host import anonymous

HOME, USER, HOST = "~", "USER", "HOST"
NOBODY = frozenset(
    re.findall(
        r"\w+",
        "root user admin administrator home localhost localdomain local linux ubuntu debian fedora arch windows macos "
        "mac nvidia amd intel apple cuda vulkan metal rocm llama ollama python advisor demo model gpu cpu runner "
        "docker linuxbrew shared public default",
    )
)
"""Names that tell nothing of anybody, and words of which reports consist."""
HOMES = re.compile(r"(?P<where>/home/|/Users/|[A-Za-z]:[\\/]Users[\\/])(?P<name>[^\\/\s\"':;,]+)")
OCTET = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
NETWORK = re.compile(
    rf"(?<![\d.])(?:10\.{OCTET}|172\.(?:1[6-9]|2\d|3[01])|192\.168|169\.254|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7]))"
    rf"\.{OCTET}\.{OCTET}(?![\d.])"
)
"""Addresses of networks that are nobody else's business; a version number of four parts is seldom one."""
LOGIN = re.compile(r"(?<=://)[^/@\s]+@")
ETHERNET = re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", re.IGNORECASE)


def mask() -> Callable[[str], str]:
    """What makes a text private; made once for a whole report."""
    homes = sorted({str(path) for path in _homes() if len(path.parts) > 1}, key=len, reverse=True)
    known = dict.fromkeys(_users(), USER) | dict.fromkeys(_hosts(), HOST)
    # The longer first: one may be the beginning of another.
    names = {_word(name): known[name] for name in sorted(known, key=len, reverse=True)}

    def private(text: str) -> str:
        for home in homes:
            # The folder itself: /root is no part of /rootfs, nor of /mnt/root.
            text = re.sub(rf"(?<![\w.~/-]){re.escape(home)}(?![\w.-])", HOME, text)
        text = HOMES.sub(_other_home, text)
        for word, stand_in in names.items():
            text = word.sub(stand_in, text)
        text = NETWORK.sub(HOST, LOGIN.sub("", text))
        return ETHERNET.sub("removed", anonymous(text))

    return private


def masked(value: Any, private: Callable[[str], str]) -> Any:
    """A document with all its texts made private; keys too where they are paths or command lines."""
    match value:
        case str():
            return private(value)
        case Mapping():
            return {(key if key.isidentifier() else private(key)): masked(each, private) for key, each in value.items()}
        case list() | tuple():
            return [masked(each, private) for each in value]
    return value


def _other_home(found: re.Match[str]) -> str:
    known = found["name"].lower() in NOBODY
    return found[0] if known else found["where"] + USER


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", re.IGNORECASE)


def _homes() -> list[Path]:
    found = [os.environ.get("HOME", ""), os.environ.get("USERPROFILE", "")]
    try:
        home = Path.home()
        found += [str(home), str(home.resolve())]
    except (OSError, RuntimeError):
        pass
    return [Path(text) for text in found if text]


def _users() -> set[str]:
    try:
        found = {getpass.getuser(), *(home.name for home in _homes())}
    except (OSError, KeyError):  # an id without a name, as containers have
        found = {home.name for home in _homes()}
    found |= {os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER")}
    return _telling(found)


def _hosts() -> set[str]:
    names = {platform.node(), *(os.environ.get(name, "") for name in ("HOSTNAME", "COMPUTERNAME"))}
    names |= {urlsplit(f"//{os.environ.get('OLLAMA_HOST', '').rpartition('//')[2]}").hostname or ""}
    return _telling(names | {name.partition(".")[0] for name in names})


def _telling(names: set[str]) -> set[str]:
    """Those that may tell who it is: no common ones, and no addresses, which are known by their form."""
    return {name for name in names if len(name) > 1 and re.search(r"[^\W\d]", name) and name.lower() not in NOBODY}
