"""The devices that llama-server can compute on: reading its list, and finding the machine's GPUs in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from advisor.machine import Gpu, RuntimeDevice

LINE = re.compile(
    r"^\s+(?P<name>\S+): (?P<description>.+) \((?P<total>\d+) MiB, (?P<free>\d+) MiB free\)\s*$", re.MULTILINE
)
SOFTWARE = re.compile(r"llvmpipe|swiftshader|lavapipe|^RPC\[", re.IGNORECASE)
"""A processor that plays a GPU, and other machines."""
MIB = 1 << 20


def parse(text: str) -> tuple[RuntimeDevice, ...] | None:
    """The list that `--list-devices` prints; None where it prints none. What has no memory of its own (a library for
    matrices, say) is no device."""
    _, there, listed = text.partition("Available devices:")
    if not there:
        return None
    found = (
        RuntimeDevice(
            name=line["name"],
            description=line["description"].strip(),
            memory_total_bytes=int(line["total"]) * MIB,
            memory_free_bytes=int(line["free"]) * MIB,
        )
        for line in LINE.finditer(listed)
    )
    return tuple(each for each in found if each.memory_total_bytes and not SOFTWARE.search(each.description))


def kind(devices: Collection[RuntimeDevice] | None) -> str | None:
    """What such a build computes on: `CUDA`, `Vulkan`, ..., `CPU` where there is nothing else."""
    if devices is None:
        return None
    names = sorted({"Metal" if each.name.startswith("MTL") else each.name.rstrip("0123456789") for each in devices})
    return " and ".join(names) or "CPU"


def called(gpus: Sequence[Gpu], devices: Sequence[RuntimeDevice]) -> tuple[str, ...]:
    """What the runtime calls these GPUs; empty where one of them is not surely found."""
    found = tuple(name for gpu in gpus if (name := _one(gpu, devices)))
    return found if len(set(found)) == len(gpus) else ()


def _one(gpu: Gpu, devices: Sequence[RuntimeDevice]) -> str | None:
    from advisor.knowledge.names import plain  # noqa: PLC0415 - needed where something starts, not where somebody asks

    alike = [each for each in devices if plain(each.description) == plain(gpu.name)]
    if len(alike) > 1:
        # Of cards with one name the number decides, which runtimes and drivers count alike.
        alike = [each for each in alike if re.search(rf"[A-Za-z]{gpu.index}$", each.name)]
    only = alike or (devices if len(devices) == 1 else ())
    return only[0].name if len(only) == 1 else None
