"""Product names: which device of the catalogue a name means, as people, drivers and `lspci` write it.

Tools decorate names (`NVIDIA GeForce RTX 4090`, `Intel(R) Arc(TM) B580 Graphics`, `NVIDIA H100 80GB HBM3`). What
decorates is dropped; what is left must be equal, so that a laptop's or a Ti's name never passes for another card.
`lspci` knows only the chip and lists all cards made of it (`Radeon RX 7900 XT/7900 XTX/7900 GRE/7900M`): the memory
decides between them, and where it cannot, nothing matches.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence

from advisor.knowledge.profile import Device

NOISE = frozenset(
    {"nvidia", "geforce", "tesla", "amd", "ati", "radeon", "instinct", "intel", "apple", "qualcomm", "corporation"}
    | {"inc", "gpu", "graphics", "cpu", "processor", "card", "series", "with", "w", "the", "rev", "model", "b"}
    | {"generation", "edition", "gen"}
)
CHATTER = re.compile(r"\([^)]*\)|[®™]|\b\d+-core processor|@.*|\b\d+th gen\b")
"""What drivers and /proc/cpuinfo add: trade marks, the Vulkan driver, the core count, the clock, the generation."""

FORM = re.compile(r"\d+(?:gb|gib|mb)|hbm\d?e?|gddr\d?x?|pcie?|sxm\d?|nvl\d*|oam|[0-9.]+ghz")
"""What some tools add and others leave out: memory size, memory type, form factor."""

SAME_RATE = 0.9
"""Cards of one chip that differ by less than a tenth in bandwidth may stand for each other."""


@functools.lru_cache(maxsize=8192)
def words(name: str) -> tuple[str, ...]:
    """The words that tell one product from another, in lower case."""
    text = re.sub(r"(?<=\d)\s+(?=g(?:i)?b\b)", "", CHATTER.sub(" ", name.lower()))
    found = ("laptop" if word == "mobile" else word for word in re.findall(r"[a-z0-9+.]+", text))
    return tuple(word for word in found if word not in NOISE)


@functools.lru_cache(maxsize=8192)
def plain(name: str) -> str:
    """A name without vendor words, case and spaces: `NVIDIA GeForce RTX 4090` -> `rtx4090`.

    What tells two devices apart (`laptop`, `ti`, `super`, `12gb`) stays.
    """
    return re.sub(r"^(?:nvidia|geforce|amd|radeon|intel|apple)+|gpu$", "", "".join(words(name)))


@functools.lru_cache(maxsize=8192)
def bare(name: str) -> str:
    """As `plain`, without memory sizes and form factors: `H100 80GB HBM3` -> `h100`."""
    return "".join(word for word in words(name) if not FORM.fullmatch(word))


def match(
    name: str,
    devices: Iterable[Device],
    *,
    vendor: str | None = None,
    memory_bytes: int = 0,
    cores: int = 0,
    gpu_cores: int = 0,
) -> Device | None:
    """The device that `name` means, or None.

    Args:
        vendor: as probed; a device of another vendor never matches.
        memory_bytes: decides between variants of one name by the nearest size they are sold with.
        cores: of the processor; decide between bins of one chip.
        gpu_cores: of the GPU, where the system tells them; they decide first.
    """
    candidates = [device for device in devices if vendor in (None, "other", device.vendor)]
    meanings = alternatives(name)
    if len(meanings) > 1:
        meant = [called(each, candidates) or resembling(each, candidates) for each in meanings]
        return one_of([device for each in meant for device in each], memory_bytes)
    found, alike = called(meanings[0], candidates), resembling(meanings[0], candidates)
    if memory_bytes:
        found += [device for device in alike if device not in found]
    return nearest(found or alike, memory_bytes, cores, gpu_cores)


def alternatives(name: str) -> tuple[str, ...]:
    """The products that `lspci` names in one string: those in brackets, the words before the first number shared."""
    inner = re.search(r"\[([^]]+)\]", name)
    text = re.sub(r"\bw/", "with ", inner[1] if inner else name)
    parts = [part.strip() for part in text.split("/")]
    if len(parts) == 1 or not all(parts):
        return (text,)
    shared = re.match(r"[^\d]*", parts[0])
    prefix = shared[0] if shared else ""
    return tuple(part if part[0].isalpha() else prefix + part for part in parts)


def one_of(found: Sequence[Device], memory_bytes: int) -> Device | None:
    """Of several cards of one chip the slowest with this memory; None where they differ too much to guess."""
    fitting = [device for device in found if memory_bytes and sold_with(device, memory_bytes)]
    if not fitting:
        return None
    slowest = min(fitting, key=lambda device: (device.bandwidth, device.compute_tflops))
    return slowest if slowest.bandwidth >= SAME_RATE * max(device.bandwidth for device in fitting) else None


def called(name: str, devices: Iterable[Device]) -> list[Device]:
    """The devices of that very name, then those that have it as an alias."""
    wanted = plain(name)
    known = list(devices) if wanted else []
    named = [device for device in known if wanted in (plain(device.id), plain(device.name))]
    return named + [device for device in known if device not in named and wanted in map(plain, device.aliases)]


def resembling(name: str, devices: Iterable[Device]) -> list[Device]:
    """The devices of that name but for memory and form factor, if they are sold with the memory that it states."""
    wanted = bare(name)
    sizes = [int(size[1]) << 30 for word in words(name) if (size := re.fullmatch(r"(\d{1,4})gi?b", word))]
    return [
        device
        for device in (devices if wanted else ())
        if wanted in map(bare, (device.id, device.name, *device.aliases))
        and all(sold_with(device, size) for size in sizes)
    ]


def sold_with(device: Device, size: int) -> bool:
    """Whether a device has that much memory; makers count 10^9 or 2^30, and drivers keep some of it to themselves."""
    return any(abs(known - size) < 0.08 * size for known in device.memory)


def inside(name: str, devices: Iterable[Device]) -> Device | None:
    """The device with the longest name that `name` contains word by word: processors are named with their graphics."""
    wanted = words(name)
    best: tuple[int, Device] | None = None
    for device in devices:
        for known in map(words, (device.name, device.id, *device.aliases)):
            if known and contains(wanted, known) and (best is None or len(known) > best[0]):
                best = (len(known), device)
    return best[1] if best else None


def contains(longer: Sequence[str], part: Sequence[str]) -> bool:
    size = len(part)
    return any(tuple(longer[start : start + size]) == tuple(part) for start in range(len(longer) - size + 1))


def nearest(devices: Sequence[Device], memory_bytes: int, cores: int, gpu_cores: int) -> Device | None:
    """The variant whose cores are equal and whose memory is nearest; the catalogue's order where nothing tells."""

    def distance(device: Device) -> tuple[bool, bool, float]:
        away = min((abs(size - memory_bytes) for size in device.memory), default=0) if memory_bytes else 0
        return (
            bool(gpu_cores and device.gpu_cores and device.gpu_cores != gpu_cores),
            bool(cores and device.cores and device.cores != cores),
            away,
        )

    return min(devices, key=distance, default=None)
