"""GPUs on Windows, from WMI and the registry. NVIDIA's are left to NVML, which ships with their driver.

WMI's AdapterRAM is a 32-bit number: it says 4 GB for every larger card. The registry's
`HardwareInformation.qwMemorySize` is the driver's own 64-bit figure, and is preferred.
"""

from __future__ import annotations

import json
import re
from typing import Any

from advisor.hardware.probes.cpu import UTF8
from advisor.hardware.probes.host import Found, Host, ToolError, size
from advisor.machine import Gpu, Memory, Problem, Vendor

CLASS_KEY = r"HKLM:\SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}\0*"
SCRIPT = (
    f"{UTF8}@{{ video = @(Get-CimInstance Win32_VideoController"
    " | Select-Object Name,AdapterRAM,DriverVersion,PNPDeviceID,AdapterCompatibility);"
    f" registry = @(Get-ItemProperty '{CLASS_KEY}' -ErrorAction SilentlyContinue"
    " | Select-Object DriverDesc,MatchingDeviceId,@{n='Bytes';e={$_.'HardwareInformation.qwMemorySize'}})"
    " } | ConvertTo-Json -Depth 4 -Compress"
)
TOOL = ("powershell", "-NoProfile", "-NonInteractive", "-Command", SCRIPT)
TOOL_S = 8.0
"""PowerShell alone takes one to three seconds to start on a cold disk."""

VENDORS: dict[str, Vendor] = {"VEN_1002": "amd", "VEN_8086": "intel"}
WMI_LIMIT = (1 << 32) - (1 << 20)
"""AdapterRAM of a card with 4 GB or more: the largest number that fits, rounded down to a MiB."""

UNIFIED = ("8060S", "8050S", "890M", "880M", "860M", "780M", "760M", "680M")
"""AMD's integrated GPUs that a runtime gains from; the same as the Linux probe's."""
INTEGRATED = ("UHD", "IRIS", "HD GRAPHICS", "RADEON GRAPHICS", "RADEON(TM) GRAPHICS", "VEGA 8", *UNIFIED)
SHARED_ARC = re.compile(r"ARC\(TM\) (?:GRAPHICS|1[34]0[TV]|B3[79]0)\b")
"""Intel's integrated GPUs that a runtime gains from; its cards are called `Arc(TM) A770 Graphics`."""
ADRENO = re.compile(r"QCOM|VEN_5143")
"""Qualcomm's GPUs hang on ACPI, not on PCI."""


def probe(host: Host, memory: Memory) -> Found:
    """AMD's and Intel's cards; never raises. Free memory is not told by Windows and taken as the total."""
    if host.system != "Windows":
        return Found()
    try:
        document = json.loads(host.run(TOOL, TOOL_S))
    except ToolError as failed:
        return Found(problems=(Problem(probe="windows", message=str(failed)),))
    except (ValueError, RecursionError):
        return Found(problems=(Problem(probe="windows", message="PowerShell printed no JSON"),))
    registry: dict[str, int] = {}
    for row in _rows(document, "registry"):
        # A card leaves a key behind for each slot or port it was ever plugged into, some without a size.
        name = str(row.get("DriverDesc"))
        registry[name] = max(registry.get(name, 0), _bytes(row.get("Bytes")))
    gpus: list[Gpu] = []
    problems: list[Problem] = []
    for row in _rows(document, "video"):
        problems += _left_out(host, row)
        gpu, problem = _gpu(row, registry, len(gpus), memory)
        gpus += [gpu] if gpu else []
        problems += [problem] if problem else []
    lent = [gpu for gpu in gpus if _unified(gpu.name) and gpu.integrated]
    assumed = (
        *(f"{gpu.index}.memory_free_bytes" for gpu in gpus),
        *(f"{gpu.index}.memory_total_bytes" for gpu in lent),
    )
    return Found(gpus=tuple(gpus), problems=tuple(problems), assumed=assumed, unified=bool(lent))


def _left_out(host: Host, row: dict[str, Any]) -> list[Problem]:
    """Notes on GPUs that are there and do not count."""
    device, name = str(row.get("PNPDeviceID", "")).upper(), str(row.get("Name", ""))
    if "VEN_10DE" in device and not host.has_tool("nvidia-smi"):
        hint = "install NVIDIA's driver; until then runtimes cannot use the card"
        return [Problem(probe="windows", message=f"{name} is an NVIDIA GPU without NVIDIA's driver", hint=hint)]
    if ADRENO.search(device):
        message = f"{name} works in main memory and is not counted as a GPU: the processor is as fast at this"
        return [Problem(probe="windows", message=message)]
    return []


def _rows(document: Any, key: str) -> list[dict[str, Any]]:
    """PowerShell writes a list of one as the element itself."""
    rows = document.get(key) if isinstance(document, dict) else None
    rows = [rows] if isinstance(rows, dict) else rows
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _unified(name: str) -> bool:
    return any(word in name.upper() for word in UNIFIED) or bool(SHARED_ARC.search(name.upper()))


def _bytes(value: object) -> int:
    """A number, or the eight bytes of one: older drivers write the size as binary."""
    if isinstance(value, list) and all(isinstance(byte, int) and 0 <= byte <= 255 for byte in value):  # noqa: PLR2004
        value = int.from_bytes(bytes(value[:8]), "little")
    return size(str(value)) or 0


def _gpu(
    row: dict[str, Any], registry: dict[str, int], index: int, memory: Memory
) -> tuple[Gpu | None, Problem | None]:
    device = str(row.get("PNPDeviceID", "")).upper()
    vendor = next((name for mark, name in VENDORS.items() if mark in device), None)
    if vendor is None:
        # NVIDIA, and the software adapters of virtual machines and remote desktops.
        return None, None
    name = str(row.get("Name", "")).strip() or "unknown"
    total = registry.get(name, 0)
    problem = None
    if not total:
        total = _bytes(row.get("AdapterRAM"))
        if total >= WMI_LIMIT:
            message = f"Windows tells only that {name} has 4 GB or more; 4 GB are counted"
            problem = Problem(probe="windows", message=message, hint="install the vendor's driver")
    integrated = any(word in name.upper() for word in INTEGRATED)
    if not _unified(name) and (not total or (vendor == "intel" and integrated)):
        # Intel's integrated ones tell a share of main memory that nobody reserved.
        message = f"{name} has no memory of its own and is not counted as a GPU"
        return None, Problem(probe="windows", message=message)
    if _unified(name):
        # Windows lends an APU half of what it kept. A carve-out above that is a card's memory in all but place.
        integrated = memory.total_bytes // 2 > total
        total = max(total, memory.total_bytes // 2)
    gpu = Gpu(
        name=name,
        vendor=vendor,
        index=index,
        memory_total_bytes=total,
        memory_free_bytes=min(total, memory.available_bytes) if integrated else total,
        driver=str(row.get("DriverVersion") or "") or None,
        integrated=integrated,
    )
    return gpu, problem
