"""What a token reads: the layers' weights, the output head, the experts that it is routed to, and the cache so far.

The per-layer embedding of the small models is looked up, not read.
"""

from __future__ import annotations

import msgspec

from advisor.knowledge.profile import Architecture
from advisor.machine import Record
from advisor.memory.footprint import (
    KV_BYTES_PER_32_ELEMENTS,
    KvType,
    Weights,
    global_kv_elements,
    local_kv_elements,
)
from advisor.memory.placement import Placement


class Reads(Record, frozen=True, kw_only=True):
    """Bytes that one token reads in one memory, and through how many layers. `cache` counts 16 bits per element: a
    quantised cache is smaller but not faster (RTX 3060, E4B: f16 and q4_0 cost the same for each further token).
    `repacked`: share of the weights that a processor's multi-row kernels take."""

    dense: float = 0
    experts: float = 0
    cache: float = 0
    layers: float = 0
    repacked: float = 1.0


def token_reads(architecture: Architecture, weights: Weights, placed: Placement, depth: int) -> tuple[Reads, Reads]:
    """What one token reads in the GPUs' memory and in the processor's, `depth` tokens into its context."""
    experts = 0.0
    if architecture.experts:
        experts = weights.experts * architecture.experts_used / architecture.experts
    head = weights.embedding
    whole = Reads(
        dense=weights.layers,
        experts=experts,
        cache=kv_read_bytes(architecture, depth, "f16"),
        layers=architecture.layers,
        repacked=repacked_share(weights),
    )
    if placed.mode == "gpu":
        return more(whole, dense=head), Reads()
    if placed.mode == "cpu":
        return Reads(), more(whole, dense=head)
    if placed.mode == "experts-on-cpu":
        moved = experts * placed.cpu_expert_layers / architecture.layers
        return more(whole, dense=head, experts=-moved), Reads(experts=moved)
    share = placed.gpu_layers / architecture.layers
    return part(whole, share), more(part(whole, 1 - share), dense=head)


def more(reads: Reads, *, dense: float = 0.0, experts: float = 0.0) -> Reads:
    return msgspec.structs.replace(reads, dense=reads.dense + dense, experts=reads.experts + experts)


def part(reads: Reads, share: float) -> Reads:
    return Reads(
        dense=reads.dense * share,
        experts=reads.experts * share,
        cache=reads.cache * share,
        layers=reads.layers * share,
        repacked=reads.repacked,
    )


def repacked_share(weights: Weights) -> float:
    """Share of the streamed weights that a processor's multi-row kernels take."""
    return min(1.0, weights.repacked / max(1, weights.layers + weights.embedding + weights.experts))


def kv_read_bytes(architecture: Architecture, depth: int, kv_type: KvType) -> float:
    """What attention reads at a depth: every layer reads a cache, also those that share another layer's."""
    globals_ = global_kv_elements(architecture) * architecture.global_layers / max(1, architecture.kv_own_global)
    sliding = architecture.layers - architecture.global_layers
    locals_ = local_kv_elements(architecture) * sliding / max(1, architecture.kv_own_local)
    elements = globals_ * depth + locals_ * min(depth, architecture.window)
    return elements * KV_BYTES_PER_32_ELEMENTS[kv_type] / 32
