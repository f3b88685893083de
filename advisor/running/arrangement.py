"""An estimate as options to start with: which cards and cores, what of main memory, and where the drafter goes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from advisor.machine import Gpu, Machine
from advisor.memory.footprint import GIB
from advisor.memory.placement import usable_gpus
from backends.base import Options

if TYPE_CHECKING:
    from advisor.choice.estimate import Estimate
    from advisor.knowledge.profile import Architecture

MOST_CACHE = 8 * GIB
MOST_CHECKPOINTS = 32
"""What llama-server takes of main memory by default for prompts that it has read."""


def arranged(options: Options, found: Estimate) -> Options:
    """The options with what the user left open, as it was reckoned; as they were, where it does not fit."""
    placed, backend = found.placement, found.question.backend
    options = msgspec.structs.replace(options, threads=options.threads or _allowed_cores(found.machine))
    if not found.fits:
        return options
    cache, checkpoints = _spare(found)
    options = msgspec.structs.replace(options, cache_bytes=cache, checkpoints=checkpoints)
    # Where nobody knows a GPU, the runtime may: if it does not tell, it is left to decide.
    decided = placed.mode != "cpu" or found.machine.gpus or backend.devices is not None
    if options.gpu_layers is not None or not decided:
        return options
    cards = _cards(found)
    return msgspec.structs.replace(
        options,
        gpus=cards,
        drafter_gpu=drafter_card(found.subject.architecture, placed.gpu_layers, cards) if found.draft else None,
        gpu_layers=placed.gpu_layers,
        cpu_expert_layers=placed.cpu_expert_layers,
    )


def _allowed_cores(machine: Machine) -> int | None:
    """The cores to use where not all may be used, which runtimes do not see; their own choice is better otherwise (they
    know fast cores from slow ones)."""
    return machine.cpu.cores if machine.cpu.threads < (os.cpu_count() or 1) else None


def _cards(found: Estimate) -> tuple[Gpu, ...]:
    """The GPUs that were reckoned with."""
    if found.placement.mode == "cpu":
        return ()
    cards = [gpu for gpu in usable_gpus(found.machine) if gpu.index in found.gpus]
    if len(cards) > len(found.limits.cards):
        # Cards of several vendors have the same numbers; one alone is the fastest.
        cards = [max(cards, key=lambda gpu: gpu.bandwidth_bytes_per_s or 0)]
    return tuple(cards)


def drafter_card(shape: Architecture, gpu_layers: int, cards: Sequence[Gpu]) -> Gpu | None:
    """Of several cards the one with the layers whose KV cache the drafter reads, the last that own one: on another,
    llama.cpp ends with an assertion. None where there is no choice, or where main memory has these layers.

    As llama.cpp divides them: the last `gpu_layers` of all layers and the head, by the cards' free memory.
    """
    read = shape.kv_own_global + shape.kv_own_local - 1
    first = shape.layers + 1 - gpu_layers
    if len(cards) < 2 or read < first:  # noqa: PLR2004 - several
        return None
    free = [card.memory_free_bytes for card in cards]
    place = (read - first) / gpu_layers * sum(free)
    return next((card for card, end in zip(cards, itertools.accumulate(free), strict=True) if place < end), cards[-1])


def _spare(found: Estimate) -> tuple[int, int]:
    """Bytes for prompts that were read before, and the number of states to go back to: half each of what main memory
    has left, and not more than llama-server would take by itself."""
    from advisor.choice.estimate import repacked  # noqa: PLC0415

    placed, limits = found.placement, found.limits
    left = limits.device - placed.device_bytes if limits.unified else limits.host - placed.host_bytes
    half = max(0, left - repacked(found)) // 2
    state = max(1, found.load.kv_sliding // found.question.sequences)
    return min(half, MOST_CACHE), max(1, min(half // state, MOST_CHECKPOINTS))
