"""The machine: plain frozen records. Sizes are bytes, rates bytes per second; None means "not known".

`basis` says for each dotted field where the figure is from: `measured` (read here), `catalogue` (profiles/devices),
`assumed` or `simulated`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Vendor = Literal["nvidia", "amd", "intel", "apple", "other"]
Basis = Literal["file", "formula", "catalogue", "measured", "assumed", "simulated"]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all records: frozen, keyword-only, and strict when read from a file.

    `kw_only` is not inherited, and type checkers do not see `frozen` through a base: a subclass repeats both.
    """


class Cpu(Record, frozen=True, kw_only=True):
    """The processor. `features`: instruction sets that matter to a runtime, in lower case (`avx2`, `neon`)."""

    name: str
    vendor: str = "unknown"
    cores: int
    threads: int
    features: tuple[str, ...] = ()


class Memory(Record, frozen=True, kw_only=True):
    """Main memory. `limit_bytes` is the tightest limit below the total (cgroup, WSL), with its source in words.

    `unified`: the GPU works in this memory too (Apple silicon, APUs, GB10).
    """

    total_bytes: int
    available_bytes: int
    limit_bytes: int | None = None
    limit_source: str | None = None
    bandwidth_bytes_per_s: int | None = None
    unified: bool = False


class Gpu(Record, frozen=True, kw_only=True):
    """One GPU as a runtime would see it. `device`: its key in the device catalogue, where recognised."""

    name: str
    vendor: Vendor
    index: int
    memory_total_bytes: int
    memory_free_bytes: int
    bandwidth_bytes_per_s: int | None = None
    driver: str | None = None
    integrated: bool = False
    device: str | None = None
    cores: int = 0
    """As the system counts them, 0 where it does not tell: on Apple's chips they tell the bins apart."""


class RuntimeDevice(Record, frozen=True, kw_only=True):
    """A device that a runtime can compute on, as it calls it: `name` is `CUDA0` or `Vulkan1`, `description` the
    product's."""

    name: str
    description: str
    memory_total_bytes: int
    memory_free_bytes: int


class Availability(Record, frozen=True, kw_only=True):
    """What a backend says of itself on this machine; `drafter`: it can run Gemma's MTP drafter.

    `build`: what its installed build computes on (`CPU`, `CUDA`, ...), where it tells. `features`: what its version can
    do, where that differs. `host`: the other machine that it runs on, whose hardware is not known here.
    """

    name: str
    available: bool
    version: str | None = None
    drafter: bool = False
    why_not: str | None = None
    path: str | None = None
    hint: str | None = None
    build: str | None = None
    features: tuple[str, ...] = ()
    host: str | None = None
    devices: tuple[RuntimeDevice, ...] | None = None
    """Those that it can compute on beside the processor, None where it does not tell."""
    mend: str | None = None
    """The command line that installs, updates or starts what is missing, where it is a single one."""
    reads: Literal["gguf", "checkpoint"] = "gguf"
    """Which files: those that are recommended and estimated here are GGUF."""


class Problem(Record, frozen=True, kw_only=True):
    """A probe that failed, or a finding that limits what can run: shown by `advisor doctor`, never raised."""

    probe: str
    message: str
    hint: str | None = None


class Machine(Record, frozen=True, kw_only=True):
    """What advisor knows of a machine, detected or simulated."""

    os: str
    os_version: str = ""
    arch: str = ""
    environment: str = "native"
    """`native`, `wsl` or `container`."""
    simulated: bool = False
    cpu: Cpu
    memory: Memory
    gpus: tuple[Gpu, ...] = ()
    backends: tuple[Availability, ...] = ()
    basis: dict[str, Basis] = {}
    problems: tuple[Problem, ...] = ()
