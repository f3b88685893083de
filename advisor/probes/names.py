"""Product names: which device of the catalogue a name found on a machine means.

Tools decorate names (`NVIDIA GeForce RTX 4090`, `Intel(R) Arc(TM) B580 Graphics`, `NVIDIA H100 80GB HBM3`). What
decorates is dropped; what is left must be equal, so that a laptop's or a Ti's name never passes for another card.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from advisor.catalog import Device

DECORATION = frozenset(
    {"nvidia", "geforce", "tesla", "quadro", "amd", "ati", "radeon", "instinct", "intel", "apple", "corporation", "inc"}
    | {"graphics", "gpu", "card", "series", "the", "w", "processor", "cpu", "rev", "model", "b"}
)
FORM = re.compile(r"\d+(?:gb|gib|mb)|hbm\d?e?|gddr\d?x?|pcie?|sxm\d?|nvl\d*|oam|[0-9.]+ghz")
"""What some tools add and others leave out: memory size, memory type, form factor."""


def tokens(name: str) -> tuple[str, ...]:
    """The words that tell one product from another, in lower case."""
    text = re.sub(r"\((?:r|tm|c)\)|[®™]", " ", name.lower())
    text = re.sub(r"(?<=\d)\s+(?=g(?:i)?b\b)", "", text)
    words = re.findall(r"[a-z0-9.+]+", text)
    return tuple(word for word in words if word not in DECORATION)


def match(
    name: str, devices: Iterable[Device], *, vendor: str | None = None, memory_bytes: int = 0, cores: int = 0
) -> Device | None:
    """The device that `name` means, or None.

    Args:
        vendor: as probed; a device of another vendor never matches.
        memory_bytes: decides between variants of one name by the nearest size they are sold with.
        cores: the processor's cores; decide between variants of one chip.
    """
    wanted = tokens(name)
    if not wanted:
        return None
    candidates = [device for device in devices if vendor in (None, "other", device.vendor)]
    exact = [device for device in candidates if wanted in map(tokens, _names(device))]
    if not exact:
        plain = _plain(wanted)
        exact = [
            device for device in candidates if plain and plain in (_plain(tokens(known)) for known in _names(device))
        ]
    return _nearest(exact, memory_bytes, cores)


def inside(name: str, devices: Iterable[Device]) -> Device | None:
    """The device with the longest name that `name` contains word by word: processors are named with their graphics."""
    words = tokens(name)
    best: tuple[int, Device] | None = None
    for device in devices:
        for known in map(tokens, _names(device)):
            if known and _contains(words, known) and (best is None or len(known) > best[0]):
                best = (len(known), device)
    return best[1] if best else None


def _names(device: Device) -> tuple[str, ...]:
    return (device.name, device.id, *device.aliases)


def _plain(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for word in words if not FORM.fullmatch(word))


def _contains(words: Sequence[str], part: Sequence[str]) -> bool:
    size = len(part)
    return any(tuple(words[start : start + size]) == tuple(part) for start in range(len(words) - size + 1))


def _nearest(devices: Sequence[Device], memory_bytes: int, cores: int) -> Device | None:
    """The variant whose cores are equal and whose memory is nearest; the catalogue's order where nothing tells."""

    def distance(device: Device) -> tuple[bool, float]:
        away = min((abs(size - memory_bytes) for size in device.memory), default=0) if memory_bytes else 0
        return (bool(cores and device.cores and device.cores != cores), away)

    return min(devices, key=distance, default=None)
