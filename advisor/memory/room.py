"""Which cards hold a checkpoint, for runtimes that divide tensors among them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from advisor.knowledge.profile import Checkpoint, ModelProfile, Runtime
from advisor.machine import Gpu, Machine, Record
from advisor.memory import footprint

HOST_SHARE = 0.75
"""Of main memory that is available or shared with a GPU."""
CARD_RESERVE = 3 << 29
"""Bytes of each card for activations, graphs and libraries: assumed."""
CARD_CONTEXT = 1 << 29
"""Bytes of each card that a program takes before it looks how many are free: assumed."""
PARALLEL = (1, 2, 4, 8)
"""Over how many cards tensors are divided: heads must come out even."""


class Room(Record, frozen=True, kw_only=True):
    """Where a checkpoint goes. `need`: bytes on each card, or in main memory where there are none."""

    cards: tuple[Gpu, ...]
    need: int
    fits: bool


def room_for(
    found: Checkpoint,
    profile: ModelProfile,
    machine: Machine,
    runtime: Runtime,
    *,
    context: int,
    sequences: int = 1,
    drafter: bool = True,
    hosts: int = 1,
    least: int = 1,
) -> Room:
    """The fewest cards that hold it in what the runtime takes of each, tensors divided among them and the other hosts,
    which have the same; main memory where there is no card.

    Args:
        context: tokens of each of the `sequences` conversations.
        least: GPUs that are asked for; fewer, where there are not so many.
    """
    shape = footprint.Shape(context_tokens=context, sequences=1)
    cache = footprint.kv_cache_bytes(profile.architecture, shape) * sequences
    total = int(found.bytes) + int(found.drafter_bytes or 0) * drafter + cache
    cards = cards_of(machine)
    if not cards or machine.memory.unified:
        free = machine.memory.limit_bytes or machine.memory.total_bytes
        return Room(cards=cards[:1], need=total // hosts, fits=total // hosts <= HOST_SHARE * free)
    possible = divisions(cards, least)
    for count in possible:
        need = total // (count * hosts) + CARD_RESERVE
        if all(need <= share_of(card, runtime) * card.memory_total_bytes for card in cards[:count]):
            return Room(cards=cards[:count], need=need, fits=True)
    most = possible[-1]
    return Room(cards=cards[:most], need=total // (most * hosts) + CARD_RESERVE, fits=False)


def share_of(card: Gpu, runtime: Runtime) -> float:
    """The part of a card's memory that the runtime may take, in whole hundredths: its usual one, or less where other
    programs use the card. vLLM ends where its part is not free."""
    free = (card.memory_free_bytes - CARD_CONTEXT) / max(1, card.memory_total_bytes)
    return max(0.01, min(runtime.card_share, math.floor(100 * free) / 100))


def divisions(cards: Sequence[Gpu], least: int) -> list[int]:
    """Over how many of the cards tensors may be divided, at least `least`; over as many as can be, where there are not
    so many."""
    there = [count for count in PARALLEL if count <= len(cards)]
    return [count for count in there if count >= least] or there[-1:]


def cards_of(machine: Machine) -> tuple[Gpu, ...]:
    """The cards that can work together: those of the largest one's name."""
    discrete = [gpu for gpu in machine.gpus if not gpu.integrated] or list(machine.gpus)
    if not discrete:
        return ()
    best = max(discrete, key=lambda gpu: gpu.memory_total_bytes)
    return tuple(gpu for gpu in discrete if gpu.name == best.name and gpu.vendor == best.vendor)
