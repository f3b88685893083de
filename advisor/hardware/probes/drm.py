"""Linux graphics cards: the PCI devices behind /sys/class/drm/card*, read once for the vendors that live there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from advisor.hardware.probes.host import Host, number
from advisor.machine import Problem

FOLDER = "/sys/class/drm"
CARD = re.compile(r"card\d{1,4}")


class Card(NamedTuple):
    """One card. `device`: PCI device id, 0 when unknown; `slot`: such as `0000:03:00.0`; paths are sysfs folders."""

    path: str
    folder: str
    device: int
    revision: int
    slot: str
    driver: str


def cards(host: Host, vendor: int) -> Iterator[Card]:
    """The cards of one PCI vendor, in the kernel's order; connectors (`card0-DP-1`) and render nodes are not cards."""
    names = [name for name in host.names(FOLDER) if CARD.fullmatch(name)]
    for name in sorted(names, key=lambda name: int(name[4:])):
        path = f"{FOLDER}/{name}"
        folder = f"{path}/device"
        if number(host.read(f"{folder}/vendor")) != vendor:
            continue
        lines = (line.partition("=") for line in host.read(f"{folder}/uevent").splitlines())
        event = {key: value for key, _, value in lines}
        yield Card(
            path=path,
            folder=folder,
            device=number(host.read(f"{folder}/device")) or 0,
            revision=number(host.read(f"{folder}/revision")) or 0,
            slot=event.get("PCI_SLOT_NAME", ""),
            driver=event.get("DRIVER", ""),
        )


def external(host: Host, card: Card, name: str, probe: str) -> Problem | None:
    """A note on a card that can be unplugged (Thunderbolt, USB4); the kernel tells it since 5.14."""
    if host.read(f"{card.folder}/removable") != "removable":
        return None
    message = f"{name} is an external card: it loads models more slowly, and must be plugged in when they start"
    return Problem(probe=probe, message=message)
