"""NVIDIA GPUs: NVML first, `nvidia-smi` where the library cannot be used. Neither is touched without a driver.

GB10 (DGX Spark) and Jetson boards have no memory of their own: NVML answers "not supported", and the GPU works in the
system's memory.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import msgspec

from advisor.hardware.probes import drm
from advisor.hardware.probes.host import Found, Host, ToolError, size
from advisor.machine import Gpu, Memory, Problem

MIB = 1 << 20
SMI = ("nvidia-smi", "--query-gpu=index,name,memory.total,memory.free,driver_version", "--format=csv,noheader,nounits")
SMI_FIELDS = 5
LIST = ("nvidia-smi", "-L")
WSL = "/usr/lib/wsl/lib"
"""Where WSL has Windows' driver; not every distribution has it on the PATH."""

NONE_OF_ITS_OWN = ("[n/a]", "n/a", "[not supported]", "not supported")
ARM = ("aarch64", "arm64", "ARM64")
"""NVIDIA's GPUs in the system's memory (GB10, Jetson) all sit beside ARM processors. Elsewhere a card that does not
tell its memory is one that does not answer, and 64 GB of main memory are not its own."""

DIVISIBLE = re.compile(r"\b(?:A100|A30|H100|H200|H20|H800|GH200|B200|B300|GB200|GB300|RTX PRO 6000)")
PART = " MIG "
"""In the name of an instance, as NVML writes it: `NVIDIA A100-SXM4-40GB MIG 1g.5gb`."""
BOARDS = re.compile(r"\b(?:Jetson|Orin|Xavier|Thor)\b")
GONE = re.compile(r"lost|unknown error|reset|device handle", re.IGNORECASE)
VENDOR_ID = "0x10de"
DISPLAY_CLASSES = ("0x0300", "0x0302")


def probe(host: Host, memory: Memory) -> Found:
    """Every NVIDIA GPU that a process started here would see, in NVML's (PCI) order; never raises."""
    if not _driver(host):
        board = _board(host, memory)
        return Found(gpus=board, problems=() if board else _without_driver(host), unified=bool(board))
    problems: list[Problem] = []
    for source in (_through_nvml, _through_smi):
        try:
            found = source(host, memory)
        except Exception as error:  # noqa: BLE001 - NVML raises a class per error code
            problems.append(_problem(error))
        else:
            notes = (*problems, *found.problems, *_external(host))
            return _one_part(_visible(host, msgspec.structs.replace(found, problems=notes)))
    return Found(problems=tuple(problems))


def _one_part(found: Found) -> Found:
    """Without the MIG instances after the first: CUDA uses one in a process, so their memory does not add up."""
    parts = [gpu for gpu in found.gpus if PART in gpu.name]
    if len(parts) <= 1:
        return found
    kept = [place for place, gpu in enumerate(found.gpus) if gpu is parts[0] or PART not in gpu.name]
    message = f"of {len(parts)} MIG instances a process uses one: {parts[0].name}, the first, is counted"
    hint = "CUDA_VISIBLE_DEVICES=MIG-... chooses another (nvidia-smi -L lists them); run one model on each to use all"
    note = Problem(probe="nvidia", message=message, hint=hint)
    return msgspec.structs.replace(_only(found, kept), problems=(*found.problems, note))


def _only(found: Found, kept: list[int]) -> Found:
    """The GPUs at these places, with what was assumed of them."""
    gpus = tuple(found.gpus[place] for place in kept)
    assumed = tuple(
        f"{place}.{field}"
        for place, old in enumerate(kept)
        for field in ("memory_total_bytes", "memory_free_bytes")
        if f"{old}.{field}" in found.assumed
    )
    unified = any(gpu.integrated for gpu in gpus)
    return Found(gpus=gpus, problems=found.problems, assumed=assumed, unified=unified)


def _external(host: Host) -> list[Problem]:
    """Notes on cards in a Thunderbolt box; NVML and nvidia-smi do not tell them from the others."""
    cards = drm.cards(host, int(VENDOR_ID, 16)) if host.system == "Linux" else ()
    notes = [drm.external(host, card, f"the NVIDIA GPU at {card.slot}", "nvidia") for card in cards]
    return [note for note in notes if note]


def _board(host: Host, memory: Memory) -> tuple[Gpu, ...]:
    """A Jetson before JetPack 6: a GPU without NVML and nvidia-smi, told by the device tree only."""
    model = host.read("/proc/device-tree/model")
    if not ("NVIDIA" in model and BOARDS.search(model)):
        return ()
    gpu = Gpu(
        name=model,
        vendor="nvidia",
        index=0,
        memory_total_bytes=memory.total_bytes,
        memory_free_bytes=memory.available_bytes,
        integrated=True,
    )
    return (gpu,)


def _driver(host: Host) -> bool:
    """Signs of a driver, from the cheapest; WSL has its library in a folder of its own."""
    if host.system == "Darwin":
        return False
    return bool(
        host.read("/proc/driver/nvidia/version")
        or {"libnvidia-ml.so.1", "nvidia-smi"} & set(host.names(WSL))
        or "nvidiactl" in host.names("/dev")
        or host.has_tool("nvidia-smi")
    )


def _without_driver(host: Host) -> tuple[Problem, ...]:
    devices = "/sys/bus/pci/devices"
    for slot in host.names(devices):
        if host.read(f"{devices}/{slot}/vendor") != VENDOR_ID:
            continue
        if host.read(f"{devices}/{slot}/class").startswith(DISPLAY_CLASSES):
            hint = "install NVIDIA's driver; in a container, start it with --gpus all (NVIDIA Container Toolkit)"
            return (Problem(probe="nvidia", message=f"an NVIDIA GPU at {slot} has no driver here", hint=hint),)
    return ()


def _problem(error: Exception) -> Problem:
    text = str(error) or type(error).__name__
    hint = None
    if "ismatch" in text:
        hint = "the driver was updated while it was loaded: restart the machine"
    elif "not found" in text.lower():
        hint = "the driver is loaded but its library is not visible here; in a container, use --gpus all"
    elif "communicate with" in text:
        hint = "load the driver (modprobe nvidia); after a new kernel, install the driver's module for it"
    return Problem(probe="nvidia", message=f"NVML: {text}" if not isinstance(error, ToolError) else text, hint=hint)


def _through_nvml(host: Host, memory: Memory) -> Found:
    nvml = host.nvml()
    if nvml is None:
        raise ToolError("the Python package nvidia-ml-py cannot be imported")
    nvml.nvmlInit()
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        gpus: list[Gpu] = []
        problems: list[Problem] = []
        for index in range(nvml.nvmlDeviceGetCount()):
            try:
                parts = _instances(nvml, nvml.nvmlDeviceGetHandleByIndex(index))
                found = [_gpu(nvml, part, len(gpus) + place, driver, memory) for place, part in enumerate(parts)]
                silent = [gpu for gpu in found if gpu.integrated and host.arch not in ARM]
                problems += [_lost(f"{gpu.name} (GPU {index})", "does not tell its memory") for gpu in silent]
                gpus += [] if silent else found
            except nvml.NVMLError as error:
                # A card that has fallen off the bus must not hide the others.
                problems.append(_lost(f"GPU {index}", str(error)))
    finally:
        nvml.nvmlShutdown()
    return Found(gpus=tuple(gpus), problems=tuple(problems), unified=any(gpu.integrated for gpu in gpus))


def _instances(nvml: ModuleType, handle: Any) -> list[Any]:
    """A card's MIG instances where it is divided: a process sees only those, each with its own share of memory."""
    if not _asked(nvml, lambda: nvml.nvmlDeviceGetMigMode(handle)[0], 0):
        return [handle]
    most = _asked(nvml, lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(handle), 0)
    numbered = functools.partial(nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle)
    parts = [_asked(nvml, functools.partial(numbered, index), None) for index in range(most)]
    return [part for part in parts if part is not None] or [handle]


def _asked(nvml: ModuleType, question: Callable[[], Any], default: Any) -> Any:
    """The answer, or `default` where this card or driver does not know the question."""
    try:
        return question()
    except (nvml.NVMLError, AttributeError):
        return default


def _gpu(nvml: ModuleType, handle: Any, index: int, driver: str, memory: Memory) -> Gpu:
    name = _text(nvml.nvmlDeviceGetName(handle))
    total, free = _memory(nvml, handle)
    shared = not total
    return Gpu(
        name=name,
        vendor="nvidia",
        index=index,
        memory_total_bytes=memory.total_bytes if shared else total,
        memory_free_bytes=memory.available_bytes if shared else free,
        driver=driver or None,
        integrated=shared,
    )


def _memory(nvml: ModuleType, handle: Any) -> tuple[int, int]:
    """(total, free) in bytes; zeros where the GPU has no memory of its own. Other errors are errors."""
    try:
        info = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError_NotSupported:
        return 0, 0
    return int(info.total), int(info.free)


def _text(value: str | bytes) -> str:
    """Older versions of the package answer in bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class Row(NamedTuple):
    """A line of nvidia-smi, as text; sizes in MiB or a word in brackets that says why there is none."""

    place: str
    name: str
    total: str
    free: str
    driver: str


def _smi(host: Host, command: tuple[str, ...]) -> str:
    """What nvidia-smi prints, from the PATH or from WSL's folder."""
    try:
        return host.run(command)
    except ToolError:
        if "nvidia-smi" not in host.names(WSL):
            raise
    return host.run((f"{WSL}/{command[0]}", *command[1:]))


def _through_smi(host: Host, memory: Memory) -> Found:
    rows, said = _rows(_smi(host, SMI))
    parts = _parts(host) if any(DIVISIBLE.search(row.name) for row in rows) else {}
    gpus: list[Gpu] = []
    problems = [_lost("nvidia-smi", line) for line in said if GONE.search(line)]
    assumed: list[str] = []
    for row in rows:
        for profile in parts.get(row.place, ()):
            assumed += [f"{len(gpus)}.memory_total_bytes", f"{len(gpus)}.memory_free_bytes"]
            gpus.append(_part(row, profile, len(gpus)))
        if parts.get(row.place):
            continue
        gpu = _card(row, memory, shared=host.arch in ARM)
        gpus += [gpu] if gpu else []
        problems += [] if gpu else [_lost(f"{row.name} (GPU {row.place})", f"its memory reads {row.total}")]
    if not gpus and not problems:
        raise ToolError(said[0] if said else "nvidia-smi lists no GPU")
    return Found(
        gpus=tuple(gpus),
        problems=tuple(problems),
        assumed=tuple(assumed),
        unified=any(gpu.integrated for gpu in gpus),
    )


def _rows(text: str) -> tuple[list[Row], list[str]]:
    """(the GPUs, whatever else the tool said: it writes its errors to standard output)."""
    rows, said = [], []
    for line in filter(None, map(str.strip, text.splitlines())):
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == SMI_FIELDS and size(fields[0]) is not None:
            rows.append(Row(*fields))
        else:
            said.append(line)
    return rows, said


def _card(row: Row, memory: Memory, *, shared: bool) -> Gpu | None:
    """None where it does not tell its memory and cannot be one that has none."""
    total = size(row.total)
    if not total and not (shared and row.total.lower() in NONE_OF_ITS_OWN):
        return None
    return Gpu(
        name=row.name,
        vendor="nvidia",
        index=int(row.place),
        memory_total_bytes=total * MIB if total else memory.total_bytes,
        memory_free_bytes=min(size(row.free) or 0, total) * MIB if total else memory.available_bytes,
        driver=row.driver or None,
        integrated=not total,
    )


def _parts(host: Host) -> dict[str, list[str]]:
    """The MIG instances of each card, by its number: `3g.40gb`, ..."""
    try:
        text = _smi(host, LIST)
    except ToolError:
        return {}
    parts: dict[str, list[str]] = {}
    card = ""
    for line in text.splitlines():
        if heading := re.match(r"GPU (\d+):", line):
            card = heading[1]
        elif part := re.match(r"\s+MIG (\d\S*\.\d{1,4}gb\S*)", line):
            parts.setdefault(card, []).append(part[1])
    return parts


def _part(row: Row, profile: str, index: int) -> Gpu:
    """An instance with the memory that its profile's name promises; NVML's figure is a little below."""
    promised = re.search(r"\.(\d+)gb", profile)
    total = int(promised[1]) << 30 if promised else 0
    return Gpu(
        name=f"{row.name}{PART}{profile}",
        vendor="nvidia",
        index=index,
        memory_total_bytes=total,
        memory_free_bytes=total,
        driver=row.driver or None,
    )


def _lost(what: str, why: str) -> Problem:
    """A card that does not answer; it must not hide the others."""
    hint = "check the driver's log (dmesg | grep NVRM)"
    if GONE.search(why):
        hint = "it has fallen off the bus or needs a reset: check its power and seating, then restart the machine"
    elif "ermission" in why:
        hint = "nvidia-smi -L lists what this container may use; give it a whole card or a MIG instance"
    return Problem(probe="nvidia", message=f"{what}: {why}", hint=hint)


def _visible(host: Host, found: Found) -> Found:
    """Only what CUDA_VISIBLE_DEVICES leaves, in its order; names (UUIDs) are left to CUDA."""
    wanted = host.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None or not found.gpus:
        return found
    chosen = [part.strip() for part in wanted.split(",") if part.strip()]
    if not all(part.lstrip("-").isdecimal() for part in chosen):
        return found
    places = {str(gpu.index): place for place, gpu in enumerate(found.gpus)}
    kept: list[int] = []
    for part in chosen:
        if part not in places:
            # As CUDA does: the first invalid number ends the list, so -1 hides everything.
            break
        kept.append(places[part])
    note = Problem(
        probe="nvidia",
        message=f"CUDA_VISIBLE_DEVICES={wanted} leaves {len(kept)} of {len(found.gpus)} GPUs",
        hint="unset it to use all",
    )
    problems = found.problems if len(kept) == len(found.gpus) else (*found.problems, note)
    return msgspec.structs.replace(_only(found, kept), problems=problems)
