"""GPUs that only a runtime knows: what it can compute on, and no probe of this system found.

A Vulkan or SYCL driver works where neither the vendor's tools nor the kernel's own tables are to be seen (containers,
WSL, systems that nobody wrote a probe for).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from advisor.hardware.probes.host import Found
from advisor.machine import Availability, Gpu, Problem, RuntimeDevice, Vendor

VENDORS: dict[str, Vendor] = {
    r"nvidia|geforce|quadro|tesla|\brtx\b": "nvidia",
    r"\bamd\b|radeon|instinct|\bradv\b": "amd",
    r"intel|\barc\b": "intel",
    r"apple": "apple",
}
INTEGRATED = re.compile(
    r"\bU?HD\b|iris|radeon graphics|\bvega \d+\b|radeon(?:\(tm\))? \d{3}m\b|arc(?:\(tm\))? graphics|adreno|mali|apple|"
    r"\b[78]\d\d0s\b|tegra|videocore",
    re.IGNORECASE,
)
"""They work in main memory, and share of it what their driver says; the probes know those that a runtime gains from."""
LEAST_BYTES = 1 << 30


def probe(backends: Iterable[Availability], known: Sequence[Gpu]) -> Found:
    """The devices of all backends that no other probe found; never raises.

    A vendor of which some probe found a GPU is left to that probe, and one that several libraries know to the first of
    them: drivers give one card many names. Free memory is as the runtime was told when it was asked last.
    """
    usable = [each for each in backends if each.available]
    teller: dict[Vendor, tuple[str, str]] = {}
    gpus: list[Gpu] = []
    for backend in usable:
        for device in backend.devices or ():
            vendor, library = vendor_of(device.description), (backend.name, device.name.rstrip("0123456789"))
            if vendor in {each.vendor for each in known} or not _counts(device):
                continue
            if teller.setdefault(vendor, library) == library:
                gpus.append(_gpu(device, vendor, sum(each.vendor == vendor for each in gpus)))
    assumed = tuple(f"{position}.memory_free_bytes" for position in range(len(gpus)))
    idle = [each for each in usable if each.devices == () and _worthwhile(known)]
    return Found(gpus=tuple(gpus), problems=tuple(_without(each, known) for each in idle), assumed=assumed)


def _counts(device: RuntimeDevice) -> bool:
    """Whether it has memory of its own, and enough of it."""
    return device.memory_total_bytes >= LEAST_BYTES and not INTEGRATED.search(device.description)


def _gpu(device: RuntimeDevice, vendor: Vendor, index: int) -> Gpu:
    return Gpu(
        name=device.description,
        vendor=vendor,
        index=index,
        memory_total_bytes=device.memory_total_bytes,
        memory_free_bytes=min(device.memory_free_bytes, device.memory_total_bytes),
    )


def vendor_of(name: str) -> Vendor:
    """Whose product a name is."""
    return next((vendor for words, vendor in VENDORS.items() if re.search(words, name, re.IGNORECASE)), "other")


def _worthwhile(known: Sequence[Gpu]) -> bool:
    return any(not gpu.integrated or gpu.memory_total_bytes > LEAST_BYTES for gpu in known)


def _without(backend: Availability, known: Sequence[Gpu]) -> Problem:
    version = f" {backend.version}" if backend.version else ""
    return Problem(
        probe="runtimes",
        message=f"{backend.name}{version} as installed computes on the processor only and leaves {known[0].name} idle",
        hint="install a build of it for the GPU (CUDA, ROCm, Vulkan, SYCL), or the driver that it misses",
    )
