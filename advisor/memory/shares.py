"""What each memory holds of a placed configuration: the same parts, told apart by device.

`Placement` says how many bytes go to the GPUs and to main memory; this says which.
"""

from __future__ import annotations

from advisor.machine import Record
from advisor.memory.budgets import Budget
from advisor.memory.footprint import Footprint
from advisor.memory.placement import Placement, drafter_demand, drafter_held, second_compute


class Parts(Record, frozen=True, kw_only=True):
    """Bytes by what they are for. `compute`: scratch and output buffers of the target. `drafter`: all that it adds."""

    weights: int
    kv_cache: int
    compute: int
    drafter: int
    projector: int


def parts(load: Footprint, placed: Placement, limits: Budget) -> Parts:
    """All memories together; whatever they hold beyond the other parts is weights."""
    drafter = drafter_held(load, placed.mode, limits)
    compute = load.compute + second_compute(load, placed.mode, limits)
    rest = load.kv_cache + compute + drafter + load.projector
    return Parts(
        weights=placed.device_bytes + placed.host_bytes - rest,
        kv_cache=load.kv_cache,
        compute=compute,
        drafter=drafter,
        projector=load.projector,
    )


def shares(load: Footprint, placed: Placement, limits: Budget) -> tuple[Parts, Parts]:
    """What the GPUs hold, and what main memory holds. Each adds up to its bytes of the placement."""
    everything = parts(load, placed, limits)
    nothing = Parts(weights=0, kv_cache=0, compute=0, drafter=0, projector=0)
    if not placed.host_bytes:
        return everything, nothing
    if not placed.device_bytes:
        return nothing, everything
    host = beside_gpu(load, placed)
    device = Parts(
        weights=everything.weights - host.weights,
        kv_cache=everything.kv_cache - host.kv_cache,
        compute=everything.compute - host.compute,
        drafter=everything.drafter - host.drafter,
        projector=everything.projector - host.projector,
    )
    return device, host


def beside_gpu(load: Footprint, placed: Placement) -> Parts:
    """Main memory beside a discrete GPU: lookup tables, the experts or layers that stay there with their part of the
    cache, and the buffers of what computes there."""
    compute = load.output + load.staging if placed.mode == "gpu" else load.compute
    cache = load.kv_cache - placed.gpu_layers * (load.kv_cache // load.layers) if placed.mode == "split" else 0
    drafter = drafter_demand(load.drafter).host
    return Parts(
        weights=placed.host_bytes - cache - compute - drafter,
        kv_cache=cache,
        compute=compute,
        drafter=drafter,
        projector=0,
    )
