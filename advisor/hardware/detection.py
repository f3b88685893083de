"""Detection: all probes in a row, assembled into one `Machine`.

A probe that fails costs its part of the picture and adds a `Problem`; `detect` itself never raises. Under 150 ms on a
Linux without GPUs, most of it the backends' own answers.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec

from advisor.hardware.probes import amd, apple, bandwidth, cpu, intel, memory, nvidia, runtimes, windows
from advisor.hardware.probes.bandwidth import Estimate
from advisor.hardware.probes.host import Found, Host, Local
from advisor.knowledge import names
from advisor.knowledge.profile import Device
from advisor.machine import Availability, Basis, Cpu, Gpu, Machine, Memory, Problem
from backends.base import availabilities

SYSTEMS = {"Linux": "linux", "Darwin": "macos", "Windows": "windows"}

GpuProbe = Callable[[Host, Memory], Found]
GPU_PROBES: dict[str, GpuProbe] = {
    "nvidia": nvidia.probe,
    "amd": amd.probe,
    "intel": intel.probe,
    "apple": apple.probe,
    "windows": windows.probe,
}

NO_CPU: tuple[Cpu, tuple[Problem, ...]] = (Cpu(name="unknown", cores=1, threads=1), ())
NO_MEMORY: tuple[Memory, tuple[Problem, ...]] = (Memory(total_bytes=0, available_bytes=0), ())
NOTHING_FOUND = Found()
NO_BACKENDS: tuple[Availability, ...] = ()

CATALOGUE: Basis = "catalogue"

T = TypeVar("T")


def detect(devices: Iterable[Device] = (), *, host: Host | None = None, backends: bool = True) -> Machine:
    """This machine (or `host`) as a record; sizes in bytes, rates in bytes per second.

    Args:
        devices: the catalogue's devices; they give the GPUs and the chip their bandwidth.
        host: where to look; this machine by default.
        backends: ask the installed backends too.
    """
    host = host or Local()
    known = tuple(devices)
    failed: list[Problem] = []
    processor, cpu_notes = _guarded(failed, "cpu", lambda: cpu.probe(host), NO_CPU)
    main, memory_notes = _guarded(failed, "memory", lambda: memory.probe(host), NO_MEMORY)
    found = [
        _guarded(failed, name, functools.partial(probe, host, main), NOTHING_FOUND)
        for name, probe in GPU_PROBES.items()
    ]
    installed = _guarded(failed, "backends", lambda: tuple(availabilities()), NO_BACKENDS) if backends else ()
    seen = [gpu for each in found for gpu in each.gpus]
    found.append(_guarded(failed, "runtimes", lambda: runtimes.probe(installed, seen), NOTHING_FOUND))
    unified = any(each.unified for each in found)
    rate = bandwidth.best(host, processor, main, known)
    main = msgspec.structs.replace(main, unified=unified, bandwidth_bytes_per_s=rate.rate)
    gpus, gpu_basis = _gpus(found, known, processor, main, rate.basis)
    unknown = _unknown(gpus, gpu_basis, main) if known else ()
    main, rate = _shared_rate(main, rate, gpus)
    return Machine(
        os=SYSTEMS.get(host.system, host.system.lower()),
        os_version=host.release,
        arch=host.arch,
        environment=memory.environment(host),
        cpu=processor,
        memory=main,
        gpus=gpus,
        backends=installed,
        basis=_basis(main, rate.basis) | gpu_basis,
        problems=(*failed, *cpu_notes, *memory_notes, *(note for each in found for note in each.problems), *unknown),
    )


def _guarded(failed: list[Problem], name: str, probe: Callable[[], T], default: T) -> T:
    """The probe's answer, or `default` and an entry in `failed`: what a driver answers is beyond foresight."""
    try:
        return probe()
    except Exception as error:  # noqa: BLE001 - see above
        message = f"the {name} probe failed: {type(error).__name__}: {error}"
        failed.append(Problem(probe=name, message=message, hint="please report it with the output of doctor --json"))
        return default


def _basis(main: Memory, rate: Basis) -> dict[str, Basis]:
    basis: dict[str, Basis] = {
        "cpu.cores": "measured",
        "memory.total_bytes": "measured",
        "memory.available_bytes": "measured",
        "memory.bandwidth_bytes_per_s": rate,
    }
    return basis if main.limit_bytes is None else basis | {"memory.limit_bytes": "measured"}


def _gpus(
    found: Iterable[Found], devices: tuple[Device, ...], processor: Cpu, main: Memory, rate: Basis
) -> tuple[tuple[Gpu, ...], dict[str, Basis]]:
    """All GPUs with what the catalogue knows of them, and where each figure is from. NVIDIA's keep the numbers that
    CUDA gives them, the others are numbered within their vendor too, as runtimes do."""
    gpus: list[Gpu] = []
    basis: dict[str, Basis] = {}
    for each in found:
        for position, gpu in enumerate(each.gpus):
            place = f"gpus.{len(gpus)}"
            for field in ("memory_total_bytes", "memory_free_bytes"):
                basis[f"{place}.{field}"] = "assumed" if f"{position}.{field}" in each.assumed else "measured"
            device = _recognise(gpu, devices, processor, main)
            speed, source = _speed(gpu, device, devices, main, rate)
            if speed is not None:
                basis[f"{place}.bandwidth_bytes_per_s"] = source
            known = device.id if device else None
            gpus.append(msgspec.structs.replace(gpu, device=known, bandwidth_bytes_per_s=speed))
    return tuple(gpus), basis


def _speed(
    gpu: Gpu, device: Device | None, devices: tuple[Device, ...], main: Memory, rate: Basis
) -> tuple[int | None, Basis]:
    """A GPU's bandwidth and where it is from; None where nothing is known."""
    if device is not None:
        return int(device.bandwidth), CATALOGUE
    if gpu.integrated and main.unified:
        # What is usual of a PC's memory is wrong by factors for a chip that is newer than the catalogue.
        return (None if rate == "assumed" else main.bandwidth_bytes_per_s), rate
    return _slice_rate(gpu, devices), "assumed"


def _slice_rate(gpu: Gpu, devices: tuple[Device, ...]) -> int | None:
    """The bandwidth of a MIG instance: it has as many eighths of its card's as of the card's memory, to its own use."""
    card, divided, profile = gpu.name.partition(" MIG ")
    promised = re.search(r"\.(\d{1,4})gb", profile)
    whole = names.match(card, devices, vendor=gpu.vendor) if divided and promised else None
    if whole is None or promised is None or not whole.memory:
        return None
    size = int(promised[1]) << 30
    eighths = min(max(round(8 * size / max(whole.memory[0], size)), 1), 8)
    return int(whole.bandwidth) * eighths // 8


def _unknown(gpus: tuple[Gpu, ...], basis: Mapping[str, Basis], main: Memory) -> tuple[Problem, ...]:
    """GPUs whose speed nobody told: what is missing, and how to tell it. A processor's own small GPU is none."""
    notes = []
    for place, gpu in enumerate(gpus):
        if (gpu.integrated and not main.unified) or gpu.device:
            continue
        if gpu.bandwidth_bytes_per_s is None:
            message = f"{gpu.name} is not in the catalogue: its speed is unknown"
            hint = "recommend --gpu-bandwidth '600 GB/s' tells it, as the maker's data sheet has it"
            notes.append(Problem(probe="gpu", message=message, hint=hint))
        elif basis.get(f"gpus.{place}.bandwidth_bytes_per_s") == "assumed":
            rate = f"{gpu.bandwidth_bytes_per_s / 1e9:.0f} GB/s"
            message = f"{gpu.name} is a part of a card: its part of the bandwidth, {rate}, is assumed"
            hint = "write what you measured into the file of detect --json and give it to recommend --machine"
            notes.append(Problem(probe="gpu", message=message, hint=hint))
    return tuple(notes)


def _shared_rate(main: Memory, rate: Estimate, gpus: tuple[Gpu, ...]) -> tuple[Memory, Estimate]:
    """What the catalogue knows of a GPU in main memory holds for main memory too, and better than a guess or what
    the processor alone can read."""
    shared = [gpu.bandwidth_bytes_per_s for gpu in gpus if gpu.integrated and gpu.device]
    if rate.basis == "catalogue" or not main.unified or not shared or shared[0] is None:
        return main, rate
    return msgspec.structs.replace(main, bandwidth_bytes_per_s=shared[0]), Estimate(shared[0], "catalogue")


def _recognise(gpu: Gpu, devices: tuple[Device, ...], processor: Cpu, main: Memory) -> Device | None:
    """The catalogue's device; an integrated GPU may be known there by the name of its chip."""
    size = main.total_bytes if gpu.integrated else gpu.memory_total_bytes
    chips = [device for device in devices if device.kind == "soc" and device.vendor == gpu.vendor]
    shared = gpu.integrated and main.unified
    if shared and gpu.vendor == "amd":
        # One GPU sits in chips with faster and slower memory: the processor's own name says more.
        chip = names.match(processor.name, chips, cores=processor.cores)
        if chip is not None:
            return chip
    device = names.match(
        gpu.name,
        devices,
        vendor=gpu.vendor,
        memory_bytes=size,
        cores=processor.cores,
        gpu_cores=gpu.cores,
    )
    if device is None and shared:
        device = names.match(processor.name, chips, cores=processor.cores) or names.inside(processor.name, chips)
    return device
