"""Apple's GPUs: one pool of memory, of which Metal lets a process wire a part.

The part is `iogpu.wired_limit_mb` where the user has set it. At 0 it is the system's own rule, which Metal reports as
`recommendedMaxWorkingSetSize`: two thirds of the memory up to 32 GiB, three quarters above (8 -> 5.3, 16 -> 10.7,
64 -> 48, 128 -> 96 GiB, as llama.cpp prints it at start).
"""

from __future__ import annotations

import json
import re
from typing import Any

from advisor.hardware.probes.cpu import sysctl
from advisor.hardware.probes.host import Found, Host, ToolError, size
from advisor.machine import Gpu, Memory, Problem, Vendor

PROFILER = ("system_profiler", "SPDisplaysDataType", "-json")
PROFILER_S = 5.0
"""The first call after a start of the system takes seconds."""

MIB = 1 << 20
LIMITS = ("iogpu.wired_limit_mb", "debug.iogpu.wired_limit")
"""The key of macOS 14 and later, in MiB, and that of macOS 13, in bytes."""

SMALL_BYTES = 32 << 30


def probe(host: Host, memory: Memory) -> Found:
    """The GPU of an Apple chip, or the cards of an Intel Mac; never raises."""
    if host.system != "Darwin":
        return Found()
    try:
        entries = _entries(host)
    except ToolError as failed:
        # On Apple silicon the answer is known without the tool.
        problem = Problem(probe="apple", message=str(failed))
        return _found(host, memory, _without_list(host), (problem,))
    return _found(host, memory, entries or _without_list(host), ())


def _without_list(host: Host) -> list[dict[str, Any]]:
    """Every Apple chip has its GPU, whether or not the tool lists it (a Mac without a display may list nothing)."""
    return [{"_name": "Apple GPU", "spdisplays_vendor": "sppci_vendor_Apple"}] if host.arch == "arm64" else []


def _entries(host: Host) -> list[dict[str, Any]]:
    try:
        document = json.loads(host.run(PROFILER, PROFILER_S))
    except (ValueError, RecursionError):
        raise ToolError("system_profiler printed no JSON") from None
    entries = document.get("SPDisplaysDataType") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ToolError("system_profiler lists no displays")
    return [entry for entry in entries if isinstance(entry, dict)]


def _found(host: Host, memory: Memory, entries: list[dict[str, Any]], problems: tuple[Problem, ...]) -> Found:
    gpus: list[Gpu] = []
    assumed: list[str] = []
    for entry in entries:
        if "Paravirtual" in str(entry.get("sppci_model") or entry.get("_name")):
            message = "this is a virtual Mac: its GPU is not counted, runtimes fail on it or gain nothing"
            problems = (*problems, Problem(probe="apple", message=message))
        elif "apple" in str(entry.get("spdisplays_vendor", "")).lower() or str(entry.get("_name")).startswith("Apple"):
            limit, told = _wired_limit(host, memory.total_bytes)
            if not told:
                assumed.append(f"{len(gpus)}.memory_total_bytes")
            gpus.append(_apple(entry, len(gpus), limit, memory))
        else:
            found = _card(entry, len(gpus))
            # macOS does not tell what is free of a card.
            assumed += [f"{gpu.index}.memory_free_bytes" for gpu in found]
            problems = (*problems, *(_needs_compiling(gpu) for gpu in found))
            gpus += found
    unified = any(gpu.vendor == "apple" for gpu in gpus)
    return Found(gpus=tuple(gpus), problems=problems, assumed=tuple(assumed), unified=unified)


def _apple(entry: dict[str, Any], index: int, limit: int, memory: Memory) -> Gpu:
    return Gpu(
        name=str(entry.get("sppci_model") or entry.get("_name")),
        vendor="apple",
        index=index,
        memory_total_bytes=limit,
        memory_free_bytes=min(limit, memory.available_bytes),
        driver=str(entry["spdisplays_mtlgpufamilysupport"]).removeprefix("spdisplays_")
        if "spdisplays_mtlgpufamilysupport" in entry
        else None,
        integrated=True,
        cores=size(str(entry.get("sppci_cores", ""))) or 0,
    )


def _wired_limit(host: Host, total: int) -> tuple[int, bool]:
    """(bytes the GPU may wire, whether the system told it)."""
    try:
        table = sysctl(host, LIMITS)
    except ToolError:
        table = {}
    mib, raw = (size(table.get(key, "")) or 0 for key in LIMITS)
    told = mib * MIB or raw
    if told:
        return min(told, total), True
    return (total * 2 // 3 if total <= SMALL_BYTES else total * 3 // 4), False


def _needs_compiling(gpu: Gpu) -> Problem:
    message = f"ready-made runtimes for Intel Macs run on the processor and leave {gpu.name} alone"
    return Problem(probe="apple", message=message, hint="compile llama.cpp with -DGGML_METAL=ON to use it")


def _card(entry: dict[str, Any], index: int) -> list[Gpu]:
    """A card of an Intel Mac; Intel's integrated ones (which tell only a share of main memory) are none."""
    text = str(entry.get("spdisplays_vram") or entry.get("_spdisplays_vram") or "")
    # A user's language may group the digits: 1.536 MB.
    match = re.fullmatch(r"(\d{1,9})\s(MB|GB)", re.sub(r"(?<=\d)[.,](?=\d{3}\b)", "", text))
    vendor = str(entry.get("spdisplays_vendor", "")).lower()
    if match is None or "intel" in vendor:
        return []
    total = int(match.group(1)) * (MIB if match.group(2) == "MB" else 1 << 30)
    name = str(entry.get("sppci_model") or entry.get("_name"))
    marks: dict[str, Vendor] = {"amd": "amd", "ati": "amd", "1002": "amd", "nvidia": "nvidia", "10de": "nvidia"}
    kind: Vendor = next((meant for mark, meant in marks.items() if mark in vendor), "other")
    return [Gpu(name=name, vendor=kind, index=index, memory_total_bytes=total, memory_free_bytes=total)]
