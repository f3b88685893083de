"""Intel GPUs on Linux: Arc cards have memory of their own, everything at PCI 00:02.0 is part of the processor.

The xe driver tells the memory per tile, the out-of-tree i915 per card; the i915 of the mainline kernel does not tell it
at all, so for known cards the size they are sold with stands in, and is marked as assumed.
"""

from __future__ import annotations

from advisor.hardware.probes import drm
from advisor.hardware.probes.host import Found, Host, number, size
from advisor.machine import Gpu, Memory, Problem

VENDOR_ID = 0x8086
GIB = 1 << 30
SMALLEST_WINDOW = 2 * GIB
"""A window below this was not resized: 256 MiB, whatever the card has."""

CARDS = {
    0xE20B: ("Intel Arc B580", 12),
    0xE20C: ("Intel Arc B570", 10),
    0xE211: ("Intel Arc Pro B60", 24),
    0xE212: ("Intel Arc Pro B50", 16),
    0x56A0: ("Intel Arc A770", 16),
    0x56A1: ("Intel Arc A750", 8),
    0x56A2: ("Intel Arc A580", 8),
    0x56A5: ("Intel Arc A380", 6),
    0x56A6: ("Intel Arc A310", 4),
    0x5690: ("Intel Arc A770M", 16),
    0x5691: ("Intel Arc A730M", 12),
}
"""Discrete cards by device id: name and GiB. The A770 was also sold with 8."""

UNIFIED = {
    0x64A0: "Intel Arc 140V",
    0x7D51: "Intel Arc 140T",
    0x7D55: "Intel Arc Graphics Meteor Lake",
    0xB080: "Intel Arc B390",
}
"""Integrated GPUs that a runtime gains from."""

INTEGRATED = {
    **UNIFIED,
    0x9A49: "Intel Iris Xe Graphics",
    0x46A6: "Intel Iris Xe Graphics",
    0xA7A0: "Intel Iris Xe Graphics",
    0x4680: "Intel UHD Graphics 770",
    0xA780: "Intel UHD Graphics 770",
}


def probe(host: Host, memory: Memory) -> Found:
    """Intel's cards, and its integrated Arc GPUs as working in main memory; never raises.

    Older integrated ones are a note and no GPU: no video memory is theirs, and a runtime is not faster on them.
    """
    if host.system != "Linux":
        return Found()
    gpus: list[Gpu] = []
    problems: list[Problem] = []
    assumed: list[str] = []
    for card in drm.cards(host, VENDOR_ID):
        if card.device in UNIFIED:
            assumed += [f"{len(gpus)}.memory_total_bytes", f"{len(gpus)}.memory_free_bytes"]
            gpus.append(_shared(card, len(gpus), memory))
            continue
        if _integrated(card):
            name = INTEGRATED.get(card.device, "Intel integrated graphics")
            message = f"{name} has no memory of its own and is not counted as a GPU"
            problems.append(Problem(probe="intel", message=message))
            continue
        name, sold_gib = CARDS.get(card.device, (f"Intel GPU ({card.device:#06x})", 0))
        total = _told(host, card)
        if not total and not sold_gib:
            problems.append(_silent(name, card))
            continue
        if not total:
            total = _at_most(host, card, sold_gib * GIB)
            assumed += [f"{len(gpus)}.memory_total_bytes", f"{len(gpus)}.memory_free_bytes"]
            problems.append(_guessed(name, total))
        elif not host.read(f"{card.path}/lmem_avail_bytes"):
            assumed.append(f"{len(gpus)}.memory_free_bytes")
        note = drm.external(host, card, name, "intel")
        problems += [note] if note else []
        gpus.append(_gpu(host, card, len(gpus), name, total))
    unified = any(gpu.integrated for gpu in gpus)
    return Found(gpus=tuple(gpus), problems=tuple(problems), assumed=tuple(assumed), unified=unified)


def _shared(card: drm.Card, index: int, memory: Memory) -> Gpu:
    """Three quarters of main memory: the heap that Mesa's Vulkan driver offers (anv, above 4 GiB)."""
    total = memory.total_bytes * 3 // 4
    return Gpu(
        name=UNIFIED[card.device],
        vendor="intel",
        index=index,
        memory_total_bytes=total,
        memory_free_bytes=min(total, memory.available_bytes),
        driver=card.driver or None,
        integrated=True,
    )


def _integrated(card: drm.Card) -> bool:
    return card.slot.endswith(":00:02.0") or (card.device in INTEGRATED and card.device not in CARDS)


def _silent(name: str, card: drm.Card) -> Problem:
    hint = "the xe driver tells it: start Linux with xe.force_probe, or use a newer kernel"
    return Problem(probe="intel", message=f"{name} at {card.slot or card.path} does not tell its memory", hint=hint)


def _guessed(name: str, total: int) -> Problem:
    message = f"the driver does not tell the memory of {name}: {total / GIB:.0f} GiB, as it is sold, are assumed"
    hint = "the xe driver tells it (start Linux with i915.force_probe=!ID xe.force_probe=ID), and so does clinfo"
    return Problem(probe="intel", message=message, hint=hint)


def _at_most(host: Host, card: drm.Card, sold: int) -> int:
    """The size a card is sold with, or less: with a resizable BAR its window is as large as its memory or larger."""
    window = 0
    for line in host.read(f"{card.folder}/resource").splitlines():
        first, last = (*(number(word) or 0 for word in line.split()[:2]), 0, 0)[:2]
        window = max(window, last - first + 1)
    return min(sold, window) if window >= SMALLEST_WINDOW else sold


def _told(host: Host, card: drm.Card) -> int:
    """Bytes of memory as the driver tells it, 0 when it does not."""
    tiles = [name for name in host.names(card.folder) if name.startswith("tile")]
    places = ("physical_vram_size_bytes", "memory/physical_vram_size_bytes")
    told = sum(
        next(filter(None, (size(host.read(f"{card.folder}/{tile}/{place}")) for place in places)), 0) for tile in tiles
    )
    return told or next(
        filter(None, (size(host.read(f"{folder}/lmem_total_bytes")) for folder in (card.path, card.folder))), 0
    )


def _gpu(host: Host, card: drm.Card, index: int, name: str, total: int) -> Gpu:
    free = size(host.read(f"{card.path}/lmem_avail_bytes"))
    return Gpu(
        name=name,
        vendor="intel",
        index=index,
        memory_total_bytes=total,
        memory_free_bytes=min(free, total) if free is not None else total,
        driver=card.driver or None,
    )
