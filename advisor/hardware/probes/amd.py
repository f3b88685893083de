"""AMD GPUs on Linux: the amdgpu driver's sysfs, then `rocm-smi --json` where sysfs does not tell the memory.

An APU is not a card with little memory. What the BIOS sets aside (the carve-out) is one figure, what the driver may map
of the system's memory (GTT) another, and runtimes use the larger. That is counted only for APUs whose GPU a runtime
gains from; for the small ones in desktop processors only the carve-out is, so that 64 GB of system memory never look
like 64 GB of video memory.
"""

from __future__ import annotations

import json
import re
from typing import Any

from advisor.hardware.probes import drm
from advisor.hardware.probes.host import Found, Host, ToolError, size
from advisor.machine import Gpu, Memory, Problem

VENDOR_ID = 0x1002
ROCM_SMI = ("rocm-smi", "--showproductname", "--showbus", "--showmeminfo", "vram", "--json")
LIBDRM = "/usr/share/libdrm/amdgpu.ids"

NAMES: dict[tuple[int, int | None], str] = {
    (0x744C, 0xC8): "AMD Radeon RX 7900 XTX",
    (0x744C, 0xCC): "AMD Radeon RX 7900 XT",
    (0x744C, 0xCE): "AMD Radeon RX 7900 GRE",
    (0x7448, None): "AMD Radeon PRO W7900",
    (0x745E, None): "AMD Radeon PRO W7800",
    (0x747E, 0xC8): "AMD Radeon RX 7800 XT",
    (0x747E, 0xFF): "AMD Radeon RX 7700 XT",
    (0x7480, 0xC0): "AMD Radeon RX 7600 XT",
    (0x7480, 0xCF): "AMD Radeon RX 7600",
    (0x7550, 0xC0): "AMD Radeon RX 9070 XT",
    (0x7550, 0xC3): "AMD Radeon RX 9070",
    (0x7590, 0xC0): "AMD Radeon RX 9060 XT",
    (0x73BF, 0xC0): "AMD Radeon RX 6900 XT",
    (0x73BF, 0xC1): "AMD Radeon RX 6800 XT",
    (0x73BF, 0xC3): "AMD Radeon RX 6800",
    (0x73AF, None): "AMD Radeon RX 6950 XT",
    (0x73DF, 0xC1): "AMD Radeon RX 6700 XT",
    (0x73FF, 0xC1): "AMD Radeon RX 6600 XT",
    (0x73FF, 0xC7): "AMD Radeon RX 6600",
    (0x66AF, None): "AMD Radeon VII",
    (0x7408, None): "AMD Instinct MI250X",
    (0x740F, None): "AMD Instinct MI210",
    (0x74A0, None): "AMD Instinct MI300A",
    (0x74A1, None): "AMD Instinct MI300X",
    (0x1586, None): "AMD Radeon 8060S Graphics",
    (0x150E, None): "AMD Radeon 890M Graphics",
    (0x1114, None): "AMD Radeon 860M Graphics",
    (0x15BF, None): "AMD Radeon 780M Graphics",
    (0x1900, None): "AMD Radeon 780M Graphics",
    (0x1681, None): "AMD Radeon 680M",
}
"""By (device, revision), None for any; the source is libdrm's amdgpu.ids, which is preferred where it is installed."""

APUS = frozenset(
    {0x15DD, 0x15D8, 0x1636, 0x1638, 0x164C, 0x163F, 0x1435, 0x1681, 0x164E, 0x1506}
    | {0x15BF, 0x15C8, 0x1900, 0x1901, 0x13C0, 0x150E, 0x1114, 0x1586, 0x74A0}
)
"""Raven, Picasso, Renoir, Cezanne, Lucienne, Van Gogh (two), Rembrandt, Raphael, Mendocino; Phoenix (two), Hawk Point
(two), Granite Ridge, Strix Point, Krackan, Strix Halo, MI300A."""

UNIFIED = frozenset({0x1586, 0x74A0, 0x150E, 0x1114, 0x15BF, 0x1900, 0x1681})
"""Strix Halo, MI300A, Strix Point, Krackan, Phoenix, Hawk Point, Rembrandt: runtimes gain from their GPU."""


def probe(host: Host, memory: Memory) -> Found:
    """Every AMD GPU with a driver; never raises."""
    if host.system != "Linux":
        return Found()
    cards = list(drm.cards(host, VENDOR_ID))
    problems: list[Problem] = []
    gpus: list[Gpu] = []
    told: set[str] = set()
    unified = False
    for card in cards:
        if _has_none(host, card):
            told.add(card.slot)
            name = _name(host, card)
            message = f"{name} has no memory of its own and is not counted as a GPU"
            problems.append(Problem(probe="amd", message=message))
            continue
        gpu = _gpu(host, card, len(gpus), memory)
        if gpu is not None:
            gpus.append(gpu)
            told.add(card.slot)
            unified |= card.device in UNIFIED and gpu.integrated
            problems += _notes(host, gpu, card)
    silent = len(told) < len(cards) or (not cards and "kfd" in host.names("/dev"))
    if not silent:
        return Found(gpus=tuple(gpus), problems=tuple(problems), unified=unified)
    try:
        gpus = [*gpus, *_through_rocm_smi(host, told, len(gpus))]
    except ToolError as failed:
        hint = "the amdgpu driver is needed; in a container, pass --device /dev/kfd --device /dev/dri"
        problems.append(Problem(probe="amd", message=f"an AMD GPU does not tell its memory; {failed}", hint=hint))
    return Found(gpus=tuple(gpus), problems=tuple(problems), unified=unified)


def _has_none(host: Host, card: drm.Card) -> bool:
    """Whether the driver says that nothing was set aside, for a GPU that cannot do with the system's memory alone."""
    return size(host.read(f"{card.folder}/mem_info_vram_total")) == 0 and card.device not in UNIFIED


def _notes(host: Host, gpu: Gpu, card: drm.Card) -> list[Problem]:
    notes = [_note(gpu, card), drm.external(host, card, gpu.name, "amd")]
    return [note for note in notes if note]


def _note(gpu: Gpu, card: drm.Card) -> Problem | None:
    total = f"{gpu.memory_total_bytes / 2**30:.1f} GiB"
    if card.device in UNIFIED:
        what = f"of the unified memory ({'GTT' if gpu.integrated else 'set aside by the firmware'})"
        hint = "the kernel parameter ttm.pages_limit (in 4 KiB pages) raises what it may use"
        return Problem(probe="amd", message=f"{gpu.name} can use {total} {what}", hint=hint)
    if gpu.integrated:
        return Problem(
            probe="amd", message=f"{gpu.name} is integrated: only its carve-out of {total} counts as its own"
        )
    return None


def _gpu(host: Host, card: drm.Card, index: int, memory: Memory) -> Gpu | None:
    """None where the driver does not tell the memory."""
    total = size(host.read(f"{card.folder}/mem_info_vram_total"))
    if total is None:
        return None
    free = max(total - (size(host.read(f"{card.folder}/mem_info_vram_used")) or 0), 0)
    name = _name(host, card)
    integrated = _integrated(host, card, name)
    if card.device in UNIFIED:
        gtt = size(host.read(f"{card.folder}/mem_info_gtt_total")) or 0
        # A carve-out that is the larger part has left the system's memory: it is a card's memory in all but place.
        integrated = gtt > total
        if integrated:
            used = size(host.read(f"{card.folder}/mem_info_gtt_used")) or 0
            total, free = gtt, min(max(gtt - used, 0), memory.available_bytes)
    if not total:
        return None
    return Gpu(
        name=name,
        vendor="amd",
        index=index,
        memory_total_bytes=total,
        memory_free_bytes=free,
        driver=card.driver or None,
        integrated=integrated,
    )


def _integrated(host: Host, card: drm.Card, name: str) -> bool:
    """By id; for ids newer than this file by who made the memory chips, which only cards with their own can tell."""
    if card.device in APUS:
        return True
    if any(device == card.device for device, _ in NAMES):
        return False
    maker = host.read(f"{card.folder}/mem_info_vram_vendor")
    return maker in ("", "unknown") and "Graphics" in name


def _name(host: Host, card: drm.Card) -> str:
    marketing = re.search(
        rf"^{card.device:X},\s*{card.revision:X},\s*(.+)$", host.read(LIBDRM), re.MULTILINE | re.IGNORECASE
    )
    return (
        host.read(f"{card.folder}/product_name")
        or (marketing.group(1).strip() if marketing else "")
        or (_by_processor(host) if card.device in APUS else "")
        or NAMES.get((card.device, card.revision))
        or NAMES.get((card.device, None))
        or ("AMD Radeon Graphics" if card.device in APUS else f"AMD Radeon Graphics ({card.device:#06x})")
    )


def _by_processor(host: Host) -> str:
    """As the processor calls its GPU (`... 7640U w/ Radeon 760M Graphics`): one chip has several, one id for all."""
    named = re.search(r"^model name.*\bw(?:ith|/) (Radeon .*\S)", host.read("/proc/cpuinfo"), re.MULTILINE)
    return f"AMD {named.group(1)}" if named and re.search(r"\d", named.group(1)) else ""


def _through_rocm_smi(host: Host, told: set[str], first: int) -> list[Gpu]:
    """The cards that are not in `told` (PCI slots), numbered from `first`: rocm-smi may count other ones than sysfs."""
    text = host.run(ROCM_SMI)
    try:
        # Warnings ("GPU is in a low-power state") come before the document, on the same stream.
        table: Any = json.loads(text[text.index("{") :])
    except (ValueError, RecursionError):
        raise ToolError("rocm-smi printed no JSON") from None
    gpus: list[Gpu] = []
    numbered = [(number, card) for key, card in table.items() if (number := size(key.removeprefix("card"))) is not None]
    for _, card in sorted(numbered, key=lambda pair: pair[0]):
        if not isinstance(card, dict) or str(card.get("PCI Bus", "-")).lower() in told:
            continue
        total = size(str(card.get("VRAM Total Memory (B)", "")))
        if not total:
            continue
        used = size(str(card.get("VRAM Total Used Memory (B)", ""))) or 0
        model = size(str(card.get("Card Model", ""))) or 0
        series = card.get("Card Series") or card.get("Card series") or NAMES.get((model, None)) or "AMD GPU"
        gpus.append(
            Gpu(
                name=str(series),
                vendor="amd",
                index=first + len(gpus),
                memory_total_bytes=total,
                memory_free_bytes=max(total - used, 0),
                integrated=model in APUS,
            )
        )
    if not gpus:
        raise ToolError("rocm-smi lists no GPU with memory")
    return gpus
