"""Machines to replay: one YAML file each, in the form that `advisor doctor --json` records under `findings`.

A file also says where it is from (`origin`, `documentation`) and what detection has to make of it (`expected`). Tools
may be named by a word instead of their command line (`TOOLS`), and /proc/cpuinfo of many processors be described
(`processors`). Replace one that is written from documentation by a recording when such a machine is at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Literal

import msgspec

from advisor.hardware.detection import detect
from advisor.hardware.probes import amd, apple, cpu, nvidia, windows
from advisor.hardware.probes.host import Findings, Replay, decoded
from advisor.knowledge.profile import Bandwidth, Bytes, Device
from advisor.machine import Basis, Machine, Problem, Record, Vendor

FOLDER = Path(__file__).parent / "machines"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
GIB = 1 << 30

TOOLS = {
    "nvidia-smi": nvidia.SMI,
    "nvidia-smi-list": nvidia.LIST,
    "wsl-nvidia-smi": (f"{nvidia.WSL}/nvidia-smi", *nvidia.SMI[1:]),
    "rocm-smi": amd.ROCM_SMI,
    "mac-processor": ("sysctl", *cpu.MAC_KEYS),
    "mac-limit": ("sysctl", *apple.LIMITS),
    "mac-graphics": apple.PROFILER,
    "windows-processor": cpu.WINDOWS_TOOL,
    "windows-graphics": windows.TOOL,
}


class ExpectedGpu(Record, frozen=True, kw_only=True):
    """What detection has to say of a GPU. Sizes in GiB to two decimals; `memory` and `bandwidth`: the basis."""

    name: str
    vendor: Vendor
    gib: float
    free_gib: float
    device: str | None = None
    integrated: bool = False
    memory: Basis = "measured"
    bandwidth: Basis | None = "catalogue"
    gb_per_s: float | None = None


class Expected(Record, frozen=True, kw_only=True):
    """What detection has to make of a machine. `bandwidth`: the basis of main memory's; `problems`: a phrase of each
    note, and there are no others."""

    environment: Literal["native", "container", "wsl"] = "native"
    cores: int
    threads: int
    memory_gib: float
    available_gib: float
    limit_gib: float | None = None
    bandwidth: Basis
    gb_per_s: float
    unified: bool = False
    gpus: tuple[ExpectedGpu, ...] = ()
    problems: tuple[str, ...] = ()


class Processors(Record, frozen=True, kw_only=True):
    """/proc/cpuinfo in short, per socket: `cores` with `siblings` threads each, then `single` ones with one."""

    lines: str
    cores: int
    sockets: int = 1
    siblings: int = 1
    single: int = 0
    numbered: bool = True
    """Whether the processor tells sockets and cores (x86 does, ARM does not)."""

    def cpuinfo(self) -> str:
        numbers = range(self.cores + self.single)
        places = [(socket, core) for socket in range(self.sockets) for core in numbers]
        for _ in range(1, self.siblings):
            places += [(socket, core) for socket in range(self.sockets) for core in range(self.cores)]
        where = "physical id\t: {}\ncore id\t\t: {}\n" if self.numbered else ""
        return "\n".join(
            f"processor\t: {index}\n{self.lines}{where.format(*place)}" for index, place in enumerate(places)
        )


class Fixture(Findings, frozen=True, kw_only=True):
    """A machine's findings with what is expected of it. `encoding`: of what its tools write."""

    about: str
    origin: Literal["captured", "written from documentation"]
    documentation: str
    expected: Expected
    processors: Processors | None = None
    encoding: str = "utf-8"


@cache
def fixture(name: str) -> Fixture:
    return msgspec.yaml.decode((FOLDER / f"{name}.yaml").read_bytes(), type=Fixture)


@cache
def findings(name: str) -> Findings:
    """The machine as a recording has it: whole command lines, whole files, text."""
    read = fixture(name)
    files = dict(read.files)
    if read.processors is not None:
        files["/proc/cpuinfo"] = read.processors.cpuinfo()
    tools = {" ".join(TOOLS.get(tool, (tool,))): spoken(text, read.encoding) for tool, text in read.tools.items()}
    fields = {field: getattr(read, field) for field in Findings.__struct_fields__}
    return Findings(**{**fields, "files": files, "tools": tools})


def spoken(text: str, encoding: str) -> str:
    """The text of a tool after its way through bytes in that encoding."""
    return decoded(text.encode(encoding), encoding)


def with_files(name: str, **changes: Any) -> Findings:
    """A captured machine with some of its fields replaced; dictionaries are merged."""
    found = findings(name)
    merged = {
        field: {**getattr(found, field), **value} if isinstance(value, dict) else value
        for field, value in changes.items()
    }
    return msgspec.structs.replace(found, **merged)


def machine(source: str | Findings, nvml: ModuleType | None = None, devices: tuple[Device, ...] = ()) -> Machine:
    found = findings(source) if isinstance(source, str) else source
    return detect(devices, host=Replay(found, nvml), backends=False)


def said(problems: tuple[Problem, ...]) -> str:
    return "\n".join(f"{problem.message} {problem.hint or ''}" for problem in problems)


def device(key: str, name: str, vendor: str, gb_per_s: float, *gib: int, kind: str = "gpu", **more: Any) -> Device:
    return Device(
        id=key,
        name=name,
        vendor=vendor,  # type: ignore[arg-type]
        kind=kind,  # type: ignore[arg-type]
        memory=tuple(Bytes(size * GIB) for size in gib),
        bandwidth=Bandwidth(int(gb_per_s * 1e9)),
        compute_tflops=1.0,
        source="test",
        **more,
    )


DEVICES = (
    device("rtx-4090", "GeForce RTX 4090", "nvidia", 1008, 24),
    device("rtx-4090-laptop", "RTX 4090 Laptop", "nvidia", 576, 16),
    device("rtx-3060-12gb", "GeForce RTX 3060", "nvidia", 360, 12),
    device("rtx-3060-8gb", "GeForce RTX 3060 8GB", "nvidia", 240, 8, aliases=("RTX 3060",)),
    device("h100", "H100", "nvidia", 3350, 80),
    device("rx-7900-xtx", "Radeon RX 7900 XTX", "amd", 960, 24),
    device("rx-7900-xt", "Radeon RX 7900 XT", "amd", 800, 20),
    device("arc-b580", "Arc B580", "intel", 456, 12),
    device("m3-max-30", "M3 Max", "apple", 300, 36, 96, kind="soc", cores=14),
    device("m3-max", "M3 Max", "apple", 400, 48, 64, 128, kind="soc", cores=16),
    device("m1", "M1", "apple", 68, 8, 16, kind="soc", cores=8),
    device("strix-halo", "Ryzen AI Max+ 395", "amd", 256, 32, 64, 96, 128, kind="soc", aliases=("Strix Halo",)),
    device("gb10", "GB10", "nvidia", 273, 128, kind="soc", aliases=("DGX Spark",)),
    device("pi-5", "Raspberry Pi 5", "other", 17, 4, 8, 16, kind="soc"),
)


class NVMLError(Exception):
    """As pynvml's: one class per code below it."""


class NVMLError_NotSupported(NVMLError):  # noqa: N801 - pynvml's name
    def __str__(self) -> str:
        return "Not Supported"


class NVMLError_GpuIsLost(NVMLError):  # noqa: N801 - pynvml's name
    def __str__(self) -> str:
        return "GPU is lost"


class NVMLError_LibRmVersionMismatch(NVMLError):  # noqa: N801 - pynvml's name
    def __str__(self) -> str:
        return "RM has detected an NVML/RM version mismatch."


class FakeNvml(ModuleType):
    """pynvml with the functions that the probe calls. A card is (name, total bytes, free bytes); total None: not
    supported; free None: the card is lost. `mig`: cards that are divided, to their instances.
    """

    NVMLError = NVMLError
    NVMLError_NotSupported = NVMLError_NotSupported

    def __init__(self, *cards: tuple[str, int | None, int | None], mig: Any = None, fails: Exception | None = None):
        super().__init__("pynvml")
        self.cards, self.mig, self.fails, self.open = cards, mig or {}, fails, 0

    def nvmlInit(self) -> None:  # noqa: N802
        if self.fails:
            raise self.fails
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.126.09"

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        return self.cards[index]

    def nvmlDeviceGetName(self, handle: Any) -> bytes:  # noqa: N802
        return str(handle[0]).encode()

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:  # noqa: N802
        _, total, free = handle
        if total is None:
            raise NVMLError_NotSupported
        if free is None:
            raise NVMLError_GpuIsLost
        return SimpleNamespace(total=total, free=free, used=total - free)

    def nvmlDeviceGetMigMode(self, handle: Any) -> list[int]:  # noqa: N802
        if handle not in self.cards or self.cards.index(handle) not in self.mig:
            raise NVMLError_NotSupported
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: Any) -> int:  # noqa: N802
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: Any, index: int) -> Any:  # noqa: N802
        parts = self.mig[self.cards.index(handle)]
        if index >= len(parts):
            raise NVMLError_NotSupported
        return parts[index]


def paths() -> Iterator[tuple[str, str]]:
    """Every (machine, file) of the captures."""
    for name in NAMES:
        yield from ((name, path) for path in findings(name).files)
