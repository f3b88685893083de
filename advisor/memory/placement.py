"""Where a configuration goes: all on the GPU, experts in main memory, layers split, or all on the processor.

What may be filled at all is reckoned in `budgets`.
"""

from __future__ import annotations

from typing import Literal

from advisor.machine import Record
from advisor.memory.budgets import Budget, budget, in_words, usable_gpus
from advisor.memory.footprint import DrafterLoad, Footprint

__all__ = ["Budget", "Mode", "Placement", "budget", "in_words", "place", "placement", "single_copy", "usable_gpus"]

Mode = Literal["gpu", "experts-on-cpu", "split", "cpu"]


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


def wanted(load: Footprint, limits: Budget) -> Placement:
    """What it would take where nothing fits: all on the GPU where there is one, else all on the processor. The headroom
    is negative."""
    if limits.unified:
        demand = unified_demand(load)
    else:
        demand = gpu_demand(load, limits) if limits.cards else Demand(device=0, host=single_copy(load))
    on_device = bool(limits.cards)
    room = limits.device if on_device else limits.host
    return Placement(
        mode="gpu" if on_device else "cpu",
        gpu_layers=load.layers + 1 if on_device else 0,
        device_bytes=demand.device,
        host_bytes=demand.host,
        budget_bytes=room,
        headroom_bytes=room - (demand.device if on_device else demand.host),
    )


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
    # The experts' rows are computed in main memory, in a scratch buffer as large as the GPU's.
    scratch = load.compute - load.output - load.staging
    demand = Demand(device=full.device - moved * per_layer, host=full.host + moved * per_layer + scratch)
    return placement("experts-on-cpu", demand, limits, gpu_layers=load.layers + 1, cpu_expert_layers=moved)


def split(load: Footprint, limits: Budget) -> Placement | None:
    """As many whole layers on the GPU as fit, the head and the rest in main memory; at least a quarter of them."""
    extra = drafter_demand(load.drafter)
    fixed = load.compute - load.output + load.projector + extra.device + spread_overhead(load, limits)
    per_layer = (load.weights.layers + load.weights.experts + load.kv_cache) // load.layers
    count = min(load.layers - 1, (limits.device - fixed) // per_layer)
    if count * 4 < load.layers:
        return None
    device = fixed + count * per_layer
    host = load.weights.file + load.kv_cache + load.compute - count * per_layer + extra.host
    return placement("split", Demand(device=device, host=host), limits, gpu_layers=count)


def gpu_demand(load: Footprint, limits: Budget) -> Demand:
    """A discrete GPU holds all but the lookup tables; the token embedding is there twice, once as the output head."""
    extra = drafter_demand(load.drafter)
    held = load.weights
    device = held.file - held.per_layer_table - held.metadata + load.kv_cache + load.projector + extra.device
    device += load.compute - load.output + spread_overhead(load, limits)
    host = held.per_layer_table + held.embedding + held.metadata + load.output + load.staging + extra.host
    return Demand(device=device, host=host)


def spread_overhead(load: Footprint, limits: Budget) -> int:
    """What each further card costs: a compute buffer of its own, and half a layer that does not pack."""
    layer = (load.weights.layers + load.weights.experts) // load.layers
    return max(0, len(limits.cards) - 1) * (load.compute - load.output + layer // 2)


def second_compute(load: Footprint, mode: Mode, limits: Budget) -> int:
    """Scratch beyond the first device's: of further cards, and in main memory beside a GPU. Both sides need a whole one
    where both compute layers."""
    if mode == "cpu":
        return 0
    whole = mode in ("split", "experts-on-cpu")
    return spread_overhead(load, limits) + (load.compute - load.output if whole else load.staging)


def drafter_held(load: Footprint, mode: Mode, limits: Budget) -> int:
    """All that the drafter adds, on whatever devices."""
    if load.drafter is None:
        return 0
    demand = drafter_demand(load.drafter)
    if mode == "cpu":
        return demand.device
    return demand.device + (load.drafter.staging if limits.unified else demand.host)


def unified_demand(load: Footprint) -> Demand:
    staging = load.staging + (load.drafter.staging if load.drafter else 0)
    return Demand(device=single_copy(load) + staging, host=0)


def single_copy(load: Footprint) -> int:
    """One memory: no tensor twice, but for the tied head where the file is not mapped."""
    weights = load.weights.file + load.second_head
    return weights + load.kv_cache + load.compute + load.projector + drafter_demand(load.drafter).device


def drafter_demand(drafter: DrafterLoad | None) -> Demand:
    if drafter is None:
        return Demand(device=0, host=0)
    return Demand(device=drafter.weights + drafter.compute + drafter.output, host=drafter.embedding + drafter.staging)
