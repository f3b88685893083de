"""How fast main memory is. Hardly any system tells it to a user, so this is mostly an estimate, and is marked as one.

Order of trust: the catalogue's figure for the processor or chip; the generation of the memory modules, where the memory
controller has a driver (EDAC, readable by everyone); a default by class of processor. `dmidecode` answers root only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from advisor import names
from advisor.catalog import Device
from advisor.machine import Basis, Cpu
from advisor.probes.host import Host

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


def estimate(host: Host, cpu: Cpu, devices: Iterable[Device]) -> Estimate:
    """Peak rate of main memory in bytes per second; never raises."""
    chips = [device for device in devices if device.kind in ("soc", "cpu")]
    known = names.match(cpu.name, chips, cores=cpu.cores) or names.inside(cpu.name, chips)
    if known is not None and SERVER.search(known.name) and cpu.cores < known.cores:
        # A part of a server, rented: its share of the channels, and what a few cores can pull at least.
        return Estimate(max(known.bandwidth * cpu.cores // known.cores, SERVER_LEAST), "assumed")
    if known is not None:
        return Estimate(int(known.bandwidth), "catalogue")
    return Estimate(_from_modules(host) or _default(cpu), "assumed")


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
