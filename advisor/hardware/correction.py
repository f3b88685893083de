"""What the user knows better than the probes: another GPU than the one detected, or less memory."""

from __future__ import annotations

import msgspec

from advisor.errors import UsageError
from advisor.hardware import simulate
from advisor.knowledge.catalog import Catalog
from advisor.machine import Basis, Gpu, Machine

NO_GPU = "none"


def corrected(machine: Machine, catalog: Catalog, *, gpu: str | None = None, memory: str | None = None) -> Machine:
    """The machine with those parts replaced; its processor, backends and everything else stay as detected.

    Args:
        gpu: `RTX 4060`, `2x RTX 3090`, `GPU 24GB`, or `none`. None leaves the GPUs as they are.
        memory: of the whole machine, as sold: `16GB`. None leaves it.

    Raises:
        UsageError: an unknown device or size, or a whole machine where a card was asked for.
    """
    if memory is not None:
        machine = with_memory(machine, simulate.system_memory(memory))
    return machine if gpu is None else with_gpus(machine, cards(gpu, catalog))


def cards(words: str, catalog: Catalog) -> tuple[Gpu, ...]:
    """The cards that the words name."""
    if words.strip().lower() == NO_GPU:
        return ()
    found: list[Gpu] = []
    for word in words.split(","):
        item = simulate.part(word.strip(), catalog)
        if item.device.kind != "gpu":
            raise UsageError(
                f"{item.device.name} is a whole machine, not a card",
                hint="describe the machine instead",
                command=f'advisor recommend --simulate "{item.device.name}"',
            )
        card = simulate.gpu_of(item, item.memory or int(item.device.memory[0]))
        found += [card] * item.count
    return tuple(msgspec.structs.replace(card, index=index) for index, card in enumerate(found))


def with_gpus(machine: Machine, found: tuple[Gpu, ...]) -> Machine:
    """With these cards and no other GPU; main memory is no longer shared."""
    basis: dict[str, Basis] = {key: value for key, value in machine.basis.items() if not key.startswith("gpus.")}
    for gpu in found:
        basis[f"gpus.{gpu.index}.memory_total_bytes"] = "simulated"
        basis[f"gpus.{gpu.index}.bandwidth_bytes_per_s"] = "catalogue" if gpu.device else "assumed"
    memory = msgspec.structs.replace(machine.memory, unified=False)
    return msgspec.structs.replace(machine, gpus=found, memory=memory, basis=basis)


def with_memory(machine: Machine, size: int) -> Machine:
    """With that much main memory, of which at most that much is free; so has a GPU that shares it."""
    held = machine.memory
    memory = msgspec.structs.replace(held, total_bytes=size, available_bytes=min(size, held.available_bytes))
    if size > held.total_bytes:
        memory = msgspec.structs.replace(memory, available_bytes=held.available_bytes + size - held.total_bytes)
    if held.limit_bytes is not None and held.limit_bytes >= size:
        memory = msgspec.structs.replace(memory, limit_bytes=None, limit_source=None)
    gpus = tuple(
        msgspec.structs.replace(
            gpu,
            memory_total_bytes=min(gpu.memory_total_bytes, size),
            memory_free_bytes=min(gpu.memory_free_bytes, size),
        )
        if gpu.integrated
        else gpu
        for gpu in machine.gpus
    )
    basis: dict[str, Basis] = {**machine.basis, "memory.total_bytes": "simulated"}
    return msgspec.structs.replace(machine, memory=memory, gpus=gpus, basis=basis)
