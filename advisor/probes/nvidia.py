"""NVIDIA GPUs: NVML first, `nvidia-smi` where the library cannot be used. Neither is touched without a driver.

GB10 (DGX Spark) and Jetson boards have no memory of their own: NVML answers "not supported", and the GPU works in the
system's memory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from advisor.machine import Gpu, Memory, Problem
from advisor.probes.host import Found, Host, ToolError, size

MIB = 1 << 20
SMI = ("nvidia-smi", "--query-gpu=index,name,memory.total,memory.free,driver_version", "--format=csv,noheader,nounits")
SMI_FIELDS = 5
VENDOR_ID = "0x10de"
DISPLAY_CLASSES = ("0x0300", "0x0302")


def probe(host: Host, memory: Memory) -> Found:
    """Every NVIDIA GPU that a process started here would see, in NVML's (PCI) order; never raises."""
    if not _driver(host):
        return Found(problems=_without_driver(host))
    problems: list[Problem] = []
    for source in (_through_nvml, _through_smi):
        try:
            found = source(host, memory)
        except Exception as error:  # noqa: BLE001 - NVML raises a class per error code
            problems.append(_problem(error))
        else:
            return _visible(host, Found(gpus=found.gpus, problems=(*problems, *found.problems), unified=found.unified))
    return Found(problems=tuple(problems))


def _driver(host: Host) -> bool:
    """Signs of a driver, from the cheapest; WSL has its library in a folder of its own."""
    if host.system == "Darwin":
        return False
    return bool(
        host.read("/proc/driver/nvidia/version")
        or "libnvidia-ml.so.1" in host.names("/usr/lib/wsl/lib")
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
                gpus += [_gpu(nvml, part, len(gpus) + place, driver, memory) for place, part in enumerate(parts)]
            except nvml.NVMLError as error:
                # A card that has fallen off the bus must not hide the others.
                problems.append(Problem(probe="nvidia", message=f"GPU {index}: {error}"))
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


def _through_smi(host: Host, memory: Memory) -> Found:
    gpus = []
    for line in host.run(SMI).splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != SMI_FIELDS or size(fields[0]) is None:
            continue
        total, free = size(fields[2]), size(fields[3])
        # Unified memory reads "[N/A]".
        gpus.append(
            Gpu(
                name=fields[1],
                vendor="nvidia",
                index=int(fields[0]),
                memory_total_bytes=total * MIB if total else memory.total_bytes,
                memory_free_bytes=(free or 0) * MIB if total else memory.available_bytes,
                driver=fields[4] or None,
                integrated=not total,
            )
        )
    if not gpus:
        raise ToolError("nvidia-smi lists no GPU")
    return Found(gpus=tuple(gpus), unified=any(gpu.integrated for gpu in gpus))


def _visible(host: Host, found: Found) -> Found:
    """Only what CUDA_VISIBLE_DEVICES leaves, in its order; names (UUIDs) are left to CUDA."""
    wanted = host.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None or not found.gpus:
        return found
    chosen = [part.strip() for part in wanted.split(",") if part.strip()]
    if not all(part.lstrip("-").isdecimal() for part in chosen):
        return found
    by_index = {str(gpu.index): gpu for gpu in found.gpus}
    gpus = []
    for part in chosen:
        if part not in by_index:
            # As CUDA does: the first invalid number ends the list, so -1 hides everything.
            break
        gpus.append(by_index[part])
    note = Problem(
        probe="nvidia",
        message=f"CUDA_VISIBLE_DEVICES={wanted} leaves {len(gpus)} of {len(found.gpus)} GPUs",
        hint="unset it to use all",
    )
    problems = found.problems if len(gpus) == len(found.gpus) else (*found.problems, note)
    return Found(gpus=tuple(gpus), problems=problems, unified=any(gpu.integrated for gpu in gpus))
