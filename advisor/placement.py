"""Where a configuration goes: all on the GPU, experts in main memory, layers split, or all on the processor.

A `Budget` is what may be filled without starving the rest of the machine; each of its deductions is said in words.
"""

from __future__ import annotations

from typing import Literal

from advisor.footprint import GIB, MIB, DrafterLoad, Footprint
from advisor.machine import Gpu, Machine, Record

Mode = Literal["gpu", "experts-on-cpu", "split", "cpu"]

GPU_MARGIN = GIB
"""Left free on each card: the driver's context and what runtimes allocate late. llama.cpp's own fit leaves 1024
MiB."""

DESKTOP_SHARE = GIB // 2
"""What a desktop holds of a card that nobody measured (simulated machines)."""

HOST_RESERVE = 3 * GIB
"""Main memory for the system and the user's other programs; a quarter of it where there is less than 12 GiB."""

CONTAINER_RESERVE = GIB // 2
"""Inside a memory limit there is no operating system to feed."""

SMALL_MAC = 36 * GIB
"""macOS lets the GPU wire about 2/3 of memory below this, about 3/4 from there on."""


class Budget(Record, frozen=True, kw_only=True):
    """Bytes that may be used. `cards`: per-card budgets in bytes; empty without a GPU. `notes`: the deductions in
    words."""

    cards: tuple[int, ...] = ()
    host: int
    unified: bool = False
    notes: tuple[str, ...] = ()

    @property
    def device(self) -> int:
        return sum(self.cards)


class Placement(Record, frozen=True, kw_only=True):
    """What goes where. `gpu_layers` counts as llama.cpp does: all layers and the output head are `layers + 1`.

    `budget_bytes`, `headroom_bytes`: of the GPUs where any is used, of main memory otherwise.
    """

    mode: Mode
    gpu_layers: int
    cpu_expert_layers: int = 0
    device_bytes: int
    host_bytes: int
    budget_bytes: int
    headroom_bytes: int


class Demand(Record, frozen=True, kw_only=True):
    """Bytes asked of the GPUs and of main memory."""

    device: int
    host: int


def budget(machine: Machine, *, gpu: bool = True) -> Budget:
    """What may be filled on this machine; with `gpu` false, as a backend sees it that runs on the processor only."""
    host, notes = host_budget(machine)
    cards = usable_gpus(machine) if gpu else ()
    if not cards:
        return Budget(host=host, notes=notes)
    if shares_memory(machine, cards):
        shared, note = unified_budget(machine, cards[0], host)
        return Budget(cards=(shared,), host=host, unified=True, notes=(note,))
    amounts = tuple(card_budget(card, simulated=machine.simulated) for card in cards)
    desktop = ", 0.5 GiB for a desktop" if machine.simulated else ""
    return Budget(cards=amounts, host=host, notes=(f"1 GiB of each card is left free{desktop}", *notes))


def usable_gpus(machine: Machine) -> tuple[Gpu, ...]:
    """Discrete cards where there are any: an integrated GPU beside them only slows a split, and one that is not
    known to share the system's memory brings none of its own."""
    known = tuple(gpu for gpu in machine.gpus if gpu.memory_total_bytes > GPU_MARGIN)
    discrete = tuple(gpu for gpu in known if not gpu.integrated)
    if machine.memory.unified and len(discrete) in (0, len(known)):
        return known
    return discrete


def shares_memory(machine: Machine, cards: tuple[Gpu, ...]) -> bool:
    """Whether these GPUs work in the system's memory; a card beside an integrated GPU does not."""
    return machine.memory.unified and (len(cards) == len(machine.gpus) or all(card.integrated for card in cards))


def host_budget(machine: Machine) -> tuple[int, tuple[str, ...]]:
    """Main memory less a reserve; the tighter of a container's limit and what is free now wins."""
    memory = machine.memory
    reserve = min(HOST_RESERVE, memory.total_bytes // 4)
    amount = memory.total_bytes - reserve
    notes = [f"{in_words(reserve)} of main memory is left to the system"]
    if memory.limit_bytes is not None and memory.limit_bytes - CONTAINER_RESERVE < amount:
        amount = memory.limit_bytes - CONTAINER_RESERVE
        notes = [f"memory is limited to {in_words(memory.limit_bytes)} by {memory.limit_source or 'a limit'}"]
    if not machine.simulated and memory.available_bytes < amount:
        amount = memory.available_bytes
        notes = [f"{in_words(memory.available_bytes)} of main memory is free now"]
    return max(0, amount), tuple(notes)


def card_budget(card: Gpu, *, simulated: bool) -> int:
    desktop = DESKTOP_SHARE if simulated else 0
    return max(0, min(card.memory_free_bytes, card.memory_total_bytes) - desktop - GPU_MARGIN)


def unified_budget(machine: Machine, gpu: Gpu, host: int) -> tuple[int, str]:
    """What a GPU may take of the memory that it shares with the system."""
    total = machine.memory.total_bytes
    if gpu.vendor == "apple":
        share, name = (2 / 3, "2/3") if total < SMALL_MAC else (3 / 4, "3/4")
        note = f"macOS lets the GPU use about {name} of memory"
    elif gpu.vendor == "nvidia":
        share, note = 0.9, "a tenth of the shared memory is left to the system"
    else:
        share, note = 3 / 4, "the GPU can use about 3/4 of the shared memory where the driver is set so"
    limit = int(total * share)
    if not machine.simulated and gpu.memory_total_bytes < total:
        limit, note = gpu.memory_total_bytes, "the limit that the driver reports for the GPU"
    limit = min(limit, gpu.memory_free_bytes)
    if host < limit:
        return host, f"{in_words(host)} of the shared memory can be used"
    return limit, note


def place(load: Footprint, limits: Budget) -> Placement | None:
    """The fastest placement that fits, or None: GPU, then experts in main memory, then a split, then the
    processor."""
    if limits.unified:
        return placement("gpu", unified_demand(load), limits, gpu_layers=load.layers + 1) or on_cpu(load, limits)
    if limits.cards:
        found = on_gpu(load, limits) or with_experts_on_cpu(load, limits) or split(load, limits)
        if found:
            return found
    return on_cpu(load, limits)


def placement(
    mode: Mode, demand: Demand, limits: Budget, *, gpu_layers: int = 0, cpu_expert_layers: int = 0
) -> Placement | None:
    """The placement if both memories can hold it."""
    if demand.device > limits.device or (not limits.unified and demand.host > limits.host):
        return None
    room = limits.device if demand.device else limits.host
    return Placement(
        mode=mode,
        gpu_layers=gpu_layers,
        cpu_expert_layers=cpu_expert_layers,
        device_bytes=demand.device,
        host_bytes=demand.host,
        budget_bytes=room,
        headroom_bytes=room - (demand.device or demand.host),
    )


def on_cpu(load: Footprint, limits: Budget) -> Placement | None:
    demand = Demand(device=0, host=single_copy(load))
    if demand.host > limits.host:
        return None
    return placement("cpu", demand, limits)


def on_gpu(load: Footprint, limits: Budget) -> Placement | None:
    return placement("gpu", gpu_demand(load, limits), limits, gpu_layers=load.layers + 1)


def with_experts_on_cpu(load: Footprint, limits: Budget) -> Placement | None:
    """The fewest layers whose experts leave the GPU (`--n-cpu-moe`), so that the rest fits."""
    if not load.weights.experts:
        return None
    full = gpu_demand(load, limits)
    per_layer = load.weights.experts // load.layers
    moved = -(-max(0, full.device - limits.device) // per_layer)
    if moved > load.layers:
        return None
    demand = Demand(device=full.device - moved * per_layer, host=full.host + moved * per_layer)
    return placement("experts-on-cpu", demand, limits, gpu_layers=load.layers + 1, cpu_expert_layers=moved)


def split(load: Footprint, limits: Budget) -> Placement | None:
    """As many whole layers on the GPU as fit, the head and the rest in main memory; at least a quarter of them."""
    extra = drafter_demand(load.drafter)
    fixed = load.compute + load.projector + extra.device + spread_overhead(load, limits)
    per_layer = (load.weights.layers + load.weights.experts + load.kv_cache) // load.layers
    count = min(load.layers - 1, (limits.device - fixed) // per_layer)
    if count * 4 < load.layers:
        return None
    device = fixed + count * per_layer
    host = load.weights.file + load.kv_cache - count * per_layer + extra.host
    return placement("split", Demand(device=device, host=host), limits, gpu_layers=count)


def gpu_demand(load: Footprint, limits: Budget) -> Demand:
    """A discrete GPU holds all but the lookup tables; the token embedding is there twice, once as the output head."""
    extra = drafter_demand(load.drafter)
    device = load.weights.file - load.weights.per_layer_table
    device += load.kv_cache + load.compute + load.projector + extra.device + spread_overhead(load, limits)
    return Demand(device=device, host=load.weights.per_layer_table + load.weights.embedding + extra.host)


def spread_overhead(load: Footprint, limits: Budget) -> int:
    """What each further card costs: a compute buffer of its own, and half a layer that does not pack."""
    layer = (load.weights.layers + load.weights.experts) // load.layers
    return max(0, len(limits.cards) - 1) * (load.compute + layer // 2)


def unified_demand(load: Footprint) -> Demand:
    return Demand(device=single_copy(load), host=0)


def single_copy(load: Footprint) -> int:
    """One memory, no tensor twice."""
    drafter = load.drafter.weights + load.drafter.compute if load.drafter else 0
    return load.weights.file + load.kv_cache + load.compute + load.projector + drafter


def drafter_demand(drafter: DrafterLoad | None) -> Demand:
    if drafter is None:
        return Demand(device=0, host=0)
    return Demand(device=drafter.weights + drafter.compute, host=drafter.embedding)


def in_words(amount: int) -> str:
    """Bytes for people: GiB with one decimal, MiB below one."""
    return f"{amount / GIB:.1f} GiB" if amount >= GIB else f"{amount / MIB:.0f} MiB"
