"""How fast main memory is.

Order of trust: a reading, taken once per machine and kept in the cache folder (`readtest`); the catalogue's figure for
the processor or chip; the generation of the memory modules, where the memory controller has a driver (EDAC, readable by
everyone); a default by class of processor. `dmidecode` answers root only.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from advisor.hardware.probes.host import Host, Local, Recorder
from advisor.knowledge import names
from advisor.knowledge.profile import Device
from advisor.machine import Basis, Cpu, Memory, Record
from advisor.paths import cache_folder

if TYPE_CHECKING:
    from advisor.hardware.probes.readtest import Reading

GB = 10**9

CHANNEL = {"DDR3": 12_800_000_000, "DDR4": 23_400_000_000, "DDR5": 38_400_000_000}
"""One channel of 64 bits at a common speed: DDR3-1600, DDR4-2933, DDR5-4800, in bytes per second."""
DESKTOP_CHANNELS = 2

BOARD = re.compile(r"raspberry|cortex-a|rockchip|orange pi", re.IGNORECASE)
BOARD_RATE = 10 * GB

SERVER = re.compile(r"\b(?:xeon|epyc|neoverse|threadripper|graviton|ampere)\b", re.IGNORECASE)
SERVER_CORE = 5 * GB
"""A server's channels are shared by its cores, and a rented part of it gets about its share."""
SERVER_LEAST, SERVER_MOST = 20 * GB, 200 * GB


class Estimate(NamedTuple):
    """Bytes per second, and where the figure is from."""

    rate: int
    basis: Basis


KEPT_S = 30 * 24 * 3600
"""A reading is taken anew after a month: modules are added, machines throttle."""
RETRY_S = 24 * 3600
"""After a reading that failed or that other programs disturbed; the faster one is kept. Not sooner: a reading costs a
third of a second and, for that long, up to an eighth of the memory that is free."""
PLAUSIBLE = range(10**9, 2 * 10**12)
"""Bytes per second between which a kept reading is believed."""
LARGEST_NOTE = 4096


class Note(Record, frozen=True, kw_only=True):
    """What is kept of a reading. `rate`: bytes per second, 0 where none could be taken. `machine`: what it was taken
    on; `at`: seconds since 1970; `busy`: other programs ran meanwhile."""

    machine: str
    rate: int
    at: float
    busy: bool = False


def best(host: Host, cpu: Cpu, memory: Memory, devices: Iterable[Device]) -> Estimate:
    """What memory delivers: read where that can be done, estimated otherwise; never raises.

    Of a chip whose GPU works in this memory too, and reads it faster than the processor can, the catalogue knows
    better.
    """
    known = tuple(devices)
    chip = _chip(cpu, known)
    if (chip is None or chip.kind != "soc") and _is_this_machine(host):
        rate = measured(host, cpu, memory)
        if rate:
            return Estimate(rate, "measured")
    return estimate(host, cpu, known)


def _is_this_machine(host: Host) -> bool:
    """Not a recording and not another root: what can be read here is theirs. `doctor` looks through a `Recorder`."""
    inner = host.host if isinstance(host, Recorder) else host
    return isinstance(inner, Local) and inner.root == Path("/")


def measured(host: Host, cpu: Cpu, memory: Memory) -> int:
    """The kept reading of this machine, or a new one (a third of a second); 0 where none can be taken."""
    try:
        file = cache_folder() / "memory.json"
    except RuntimeError:
        return 0
    machine = fingerprint(host, cpu, memory)
    kept = recalled(file, machine)
    if kept is not None and time.time() - kept.at < (RETRY_S if kept.busy or not kept.rate else KEPT_S):
        return kept.rate
    fresh = reading(host, cpu, memory)
    rate = int(fresh.rate) if fresh and int(fresh.rate) in PLAUSIBLE else 0
    disturbed = fresh is None or fresh.busy
    if kept is not None and disturbed:
        rate = max(rate, kept.rate)
    keep(file, Note(machine=machine, rate=rate, at=time.time(), busy=disturbed))
    return rate


def fingerprint(host: Host, cpu: Cpu, memory: Memory) -> str:
    """What has to be the same for a reading to hold."""
    return f"{host.system} {host.arch} | {cpu.name} | {cpu.cores} cores | {memory.total_bytes >> 28} x 256 MiB"


def reading(host: Host, cpu: Cpu, memory: Memory) -> Reading | None:
    from advisor.hardware.probes import readtest  # noqa: PLC0415 - not where a reading is kept

    available = min(memory.available_bytes, memory.limit_bytes or memory.available_bytes)
    try:
        return readtest.measure(cpu.cores, last_level_caches(host), available)
    except (OSError, ValueError, AttributeError, RuntimeError, MemoryError):
        return None  # no C library to be found, no thread to be had: then it is estimated


def last_level_caches(host: Host) -> int:
    """Bytes of all caches of the last level that Linux tells of; 0 elsewhere."""
    root = "/sys/devices/system/cpu"
    found: dict[str, int] = {}
    for name in host.names(root):
        levels = [index for index in host.names(f"{root}/{name}/cache") if re.fullmatch(r"index\d", index)]
        if re.fullmatch(r"cpu\d+", name) and levels:
            last = f"{root}/{name}/cache/{max(levels)}"
            if size := re.fullmatch(r"(\d{1,9})K", host.read(f"{last}/size")):
                found[host.read(f"{last}/shared_cpu_list")] = int(size[1]) << 10
    return sum(found.values())


def recalled(file: Path, machine: str) -> Note | None:
    """The kept reading, where it is one of this machine; whatever else the file holds is as good as no file."""
    try:
        with file.open("rb") as open_file:
            note = msgspec.json.decode(open_file.read(LARGEST_NOTE), type=Note)
    except (OSError, msgspec.DecodeError, ValueError):
        return None
    plausible = note.rate == 0 or note.rate in PLAUSIBLE
    return note if note.machine == machine and plausible and note.at <= time.time() else None


def keep(file: Path, note: Note) -> None:
    """Written beside and moved into place, so that another process never reads half of it."""
    beside = file.with_name(f"{file.name}.{os.getpid()}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(msgspec.json.encode(note))
        beside.replace(file)


def estimate(host: Host, cpu: Cpu, devices: Iterable[Device]) -> Estimate:
    """Peak rate of main memory in bytes per second; never raises."""
    known = _chip(cpu, devices)
    if known is not None and SERVER.search(known.name) and cpu.cores < known.cores:
        # A part of a server, rented: its share of the channels, and what a few cores can pull at least.
        return Estimate(max(known.bandwidth * cpu.cores // known.cores, SERVER_LEAST), "assumed")
    if known is not None:
        return Estimate(int(known.bandwidth), "catalogue")
    return Estimate(_from_modules(host) or _default(cpu), "assumed")


def _chip(cpu: Cpu, devices: Iterable[Device]) -> Device | None:
    """The processor or chip in the catalogue."""
    chips = [device for device in devices if device.kind in ("soc", "cpu")]
    return names.match(cpu.name, chips, cores=cpu.cores) or names.inside(cpu.name, chips)


def _from_modules(host: Host) -> int:
    """By generation of the modules; 0 where no driver tells. Their speed is not told, so this stays an assumption."""
    folder = "/sys/devices/system/edac/mc"
    controllers = [name for name in host.names(folder) if re.fullmatch(r"mc\d+", name)]
    for name in controllers:
        for dimm in host.names(f"{folder}/{name}"):
            kind = host.read(f"{folder}/{name}/{dimm}/dimm_mem_type") if dimm.startswith(("dimm", "rank")) else ""
            rate = next((rate for generation, rate in CHANNEL.items() if generation in kind), 0)
            if rate:
                return rate * DESKTOP_CHANNELS
    return 0


def _default(cpu: Cpu) -> int:
    if BOARD.search(cpu.name):
        return BOARD_RATE
    if SERVER.search(cpu.name):
        return min(max(cpu.cores * SERVER_CORE, SERVER_LEAST), SERVER_MOST)
    # Instruction sets date a processor: these two came with DDR5, AVX2 with DDR4.
    if {"avx_vnni", "avx512_bf16"} & set(cpu.features):
        return CHANNEL["DDR5"] * DESKTOP_CHANNELS
    old = cpu.vendor in ("intel", "amd") and "avx2" not in cpu.features
    return CHANNEL["DDR3" if old else "DDR4"] * DESKTOP_CHANNELS
