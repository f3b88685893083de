"""Time per token and per prompt, from bytes: `t = bytes / (bandwidth x efficiency) + fixed`, summed over devices.

A token reads the layers' weights, the output head, the experts it is routed to, and the KV cache up to the present
depth; the per-layer embedding of the small models is looked up, not read. A speed is therefore always stated at a
depth.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, hypot

import msgspec

from advisor import speculation
from advisor.catalog import Architecture, Device, Drafter, DrafterFile
from advisor.footprint import (
    KV_BYTES_PER_32_ELEMENTS,
    KvType,
    Weights,
    active_weights,
    expert_weights,
    global_kv_elements,
    local_kv_elements,
)
from advisor.machine import Cpu, Gpu, Machine, Record
from advisor.placement import Placement, usable_gpus
from advisor.speculation import Cost, Plan

DEFAULT_DEPTH = 2048


class HardwareClass(Record, frozen=True, kw_only=True):
    """How a kind of device turns bandwidth into tokens.

    `efficiency`: share of the spec-sheet bandwidth that decoding reaches. `fixed_ms`: launches, small matrices,
    routing and sampling, per token. `error`: mean |log error| of the fit. `row_cost`: of each further row when
    several tokens are decoded together, in steps. `compute_share`: of the FP16 peak that reading a prompt reaches.
    """

    efficiency: float
    fixed_ms: float
    error: float
    row_cost: float
    compute_share: float
    source: str


GPU_CLASSES = {
    "nvidia": HardwareClass(
        efficiency=0.88, fixed_ms=3.9, error=0.12, row_cost=0.05, compute_share=0.5,
        source="fit over 48 public llama.cpp measurements, in-sample error 9 %",
    ),
    "gb10": HardwareClass(
        efficiency=0.77, fixed_ms=2.6, error=0.12, row_cost=0.05, compute_share=0.3,
        source="fit over 13 public measurements, in-sample error 8 %",
    ),
    "apple": HardwareClass(
        efficiency=0.89, fixed_ms=8.0, error=0.15, row_cost=0.15, compute_share=0.6,
        source="fit over 54 public measurements, in-sample error 11 %; row cost: losses of drafting reported on Macs",
    ),
    "amd": HardwareClass(
        efficiency=0.88, fixed_ms=4.4, error=0.2, row_cost=0.08, compute_share=0.25,
        source="between the fits over 4 Vulkan and 6 ROCm measurements of an R9700, in-sample error 17-26 %",
    ),
    "amd-apu": HardwareClass(
        efficiency=0.86, fixed_ms=3.8, error=0.12, row_cost=0.05, compute_share=0.25,
        source="fit over 21 public measurements, mostly Strix Halo, in-sample error 6 %",
    ),
    "other": HardwareClass(
        efficiency=0.6, fixed_ms=6.0, error=0.4, row_cost=0.15, compute_share=0.2,
        source="assumed: hardly measured in public",
    ),
}  # fmt: skip

CPU_CLASS = HardwareClass(
    efficiency=0.65, fixed_ms=2.0, error=0.3, row_cost=0.2, compute_share=1.0,
    source="Raspberry Pi 5 (8 tok/s on E2B), Xeon E-2176G (8.6 on E4B), desktop Zen 4 (15.5 on 26B), 2-core Xeon VM",
)  # fmt: skip

CORE_BYTES_PER_S = {"avx512": 8e9, "avx2": 6.5e9, "neon": 4e9, "": 2e9}
"""4-bit weights that one core can multiply per second: few cores are bound by arithmetic, not by memory.
A 2-core Xeon VM with AVX-512 moves 13-18 GB/s; a Xeon E-2176G (AVX2, 4 cores) 25; a Raspberry Pi 5 (NEON, 4 cores)
11."""

CORE_FLOPS = {"avx512": 110e9, "avx2": 70e9, "neon": 25e9, "": 10e9}
"""Arithmetic of one core while a prompt is read; assumed from common llama.cpp prompt speeds."""

ASSUMED_BANDWIDTH = {"nvidia": 300e9, "amd": 300e9, "intel": 200e9, "apple": 100e9, "other": 100e9}
ASSUMED_CPU_BANDWIDTH = 40e9
"""Two channels of DDR4-2666."""

ASSUMED_FLOPS_PER_BANDWIDTH = 75.0
"""FP16 operations per byte of bandwidth where the device is not in the catalogue: about an RTX 3090, or an M3 Max."""

KV_EFFICIENCY = 0.5
"""Of the rate at which weights are read. RTX 4080 Laptop, 12B: 45 tok/s at 2K depth, 24 at 137K."""

OFFLOADED_LAYER_MS = 0.3
"""Hand-over between GPU and processor for each layer whose experts are in main memory. R9700: 0/4/8/16/30 layers give
121/73/51/38/28 tok/s."""

DRAFTER_FIXED_SHARE = 0.4
"""Fixed time of a drafter's step relative to the target's: four layers and a dense head. RTX 3090, 26B: each drafted
token costs about 0.4 steps."""

MOE_PREFILL_SHARE = 0.55
"""Small matrices and scattered rows: how much of the dense rate an MoE's prompt reaches."""

RANGE_OF_ERROR = 1.6
"""From a mean |log error| to a range that holds about four times in five."""

DRAFTING_ERROR = 0.15
"""What acceptance adds: it depends on the text."""


class Stage(Record, frozen=True, kw_only=True):
    """One kind of memory and what computes on it. `compute_bound`: decoding is limited by arithmetic."""

    bytes_per_s: float
    fixed_s: float
    error: float
    row_cost: float
    flops: float
    compute_bound: bool = False


class Reads(Record, frozen=True, kw_only=True):
    """Bytes that one token reads, by where they are. `kv` counts what the cache costs, in bytes of weights."""

    device_dense: float = 0
    device_experts: float = 0
    host_dense: float = 0
    host_experts: float = 0


class Speed(Record, frozen=True, kw_only=True):
    """Tokens per second at `depth_tokens`. `decode`: with the drafter as chosen; `plain`: without; `full`: as `decode`,
    with the context full."""

    depth_tokens: int
    decode: float
    low: float
    high: float
    plain: float
    plain_low: float
    plain_high: float
    draft_tokens: int
    drafter_gain: float
    prefill: float
    full: float


class Setup(Record, frozen=True, kw_only=True):
    """What is predicted: a placed configuration on a machine."""

    architecture: Architecture
    weights: Weights
    placement: Placement
    machine: Machine
    devices: dict[str, Device]
    kv_type: KvType = "f16"
    depth_tokens: int = DEFAULT_DEPTH
    context_tokens: int = DEFAULT_DEPTH


def predict(setup: Setup, drafter: Drafter | None, file: DrafterFile | None, output_kind: str) -> Speed:
    """The speed of one configuration, with the best draft length where it has a drafter."""
    gpu, cpu = stages(setup)
    plain = 1 / step_seconds(setup, gpu, cpu, 1)
    plan = drafting(setup, drafter, file, output_kind) if drafter and file else Plan(draft_tokens=0, gain=1.0)
    error = max(stage.error for stage in (gpu, cpu) if stage is not None)
    with_drafter = hypot(error, DRAFTING_ERROR) if plan.draft_tokens else error
    decode = plain * plan.gain
    return Speed(
        depth_tokens=setup.depth_tokens,
        decode=decode,
        low=decode * exp(-RANGE_OF_ERROR * with_drafter),
        high=decode * exp(RANGE_OF_ERROR * with_drafter),
        plain=plain,
        plain_low=plain * exp(-RANGE_OF_ERROR * error),
        plain_high=plain * exp(RANGE_OF_ERROR * error),
        draft_tokens=plan.draft_tokens,
        drafter_gain=plan.gain,
        prefill=prefill(setup, gpu, cpu),
        full=plan.gain / step_seconds(at_depth(setup, setup.context_tokens), gpu, cpu, 1),
    )


def at_depth(setup: Setup, depth: int) -> Setup:
    return msgspec.structs.replace(setup, depth_tokens=depth)


def drafting(setup: Setup, drafter: Drafter, file: DrafterFile, output_kind: str) -> Plan:
    """The best way to draft here, 0 tokens included."""
    gpu, cpu = stages(setup)
    on = gpu or cpu
    if on is None:  # pragma: no cover - a placement always has one
        return Plan(draft_tokens=0, gain=1.0)
    step = step_seconds(setup, gpu, cpu, 1)
    draft = file.bytes / on.bytes_per_s + DRAFTER_FIXED_SHARE * on.fixed_s
    first = acceptance(drafter, output_kind)
    conditional = speculation.acceptances(first, drafter.acceptance_decay, speculation.MAX_DRAFT_TOKENS)
    return speculation.best_plan(conditional, lambda rows: step_seconds(setup, gpu, cpu, rows) / step, draft / step)


def acceptance(drafter: Drafter, output_kind: str) -> float:
    """Acceptance of the first drafted token for this kind of text; of the hardest kind known when it is not
    listed."""
    known = drafter.acceptance
    return known[output_kind] if output_kind in known else min(known.values(), default=0.0)


def stages(setup: Setup) -> tuple[Stage | None, Stage | None]:
    """The GPU's and the processor's part in this placement; None where it has none."""
    mode = setup.placement.mode
    gpu = gpu_stage(setup.machine, setup.devices) if mode != "cpu" else None
    cpu = cpu_stage(setup.machine) if mode != "gpu" else None
    return gpu, cpu


def step_seconds(setup: Setup, gpu: Stage | None, cpu: Stage | None, rows: int) -> float:
    """Time to decode `rows` tokens together."""
    reads = token_reads(setup)
    woken = experts_ratio(setup.architecture, rows)
    total = 0.0
    if gpu:
        cost = row_cost(gpu)(rows)
        total += gpu.fixed_s + (reads.device_dense * cost + reads.device_experts * woken) / gpu.bytes_per_s
    if cpu:
        cost = row_cost(cpu)(rows)
        total += cpu.fixed_s + (reads.host_dense * cost + reads.host_experts * woken) / cpu.bytes_per_s
        total += setup.placement.cpu_expert_layers * OFFLOADED_LAYER_MS / 1000
    return total


def row_cost(stage: Stage) -> Cost:
    return speculation.repacked_cost if stage.compute_bound else speculation.smooth_cost(stage.row_cost)


def experts_ratio(architecture: Architecture, rows: int) -> float:
    """Experts read for so many tokens together, relative to one."""
    if not architecture.experts:
        return 1.0
    woken = speculation.experts_woken(architecture.experts, architecture.experts_used, rows)
    return woken / architecture.experts_used


def token_reads(setup: Setup) -> Reads:
    """Bytes that one token reads, by device."""
    architecture, placed = setup.architecture, setup.placement
    cache = kv_read_bytes(architecture, setup.depth_tokens, setup.kv_type) / KV_EFFICIENCY
    layers, head = setup.weights.layers + cache, setup.weights.embedding
    experts = 0.0
    if architecture.experts:
        experts = setup.weights.experts * architecture.experts_used / architecture.experts
    if placed.mode == "gpu":
        return Reads(device_dense=layers + head, device_experts=experts)
    if placed.mode == "cpu":
        return Reads(host_dense=layers + head, host_experts=experts)
    if placed.mode == "experts-on-cpu":
        moved = experts * placed.cpu_expert_layers / architecture.layers
        return Reads(device_dense=layers + head, device_experts=experts - moved, host_experts=moved)
    share = placed.gpu_layers / architecture.layers
    return Reads(
        device_dense=layers * share,
        device_experts=experts * share,
        host_dense=layers * (1 - share) + head,
        host_experts=experts * (1 - share),
    )


def kv_read_bytes(architecture: Architecture, depth: int, kv_type: KvType) -> float:
    """What attention reads at a depth: every layer reads a cache, also those that share another layer's."""
    globals_ = global_kv_elements(architecture) * architecture.global_layers / max(1, architecture.kv_own_global)
    sliding = architecture.layers - architecture.global_layers
    locals_ = local_kv_elements(architecture) * sliding / max(1, architecture.kv_own_local)
    elements = globals_ * depth + locals_ * min(depth, architecture.window)
    return elements * KV_BYTES_PER_32_ELEMENTS[kv_type] / 32


def prefill(setup: Setup, gpu: Stage | None, cpu: Stage | None) -> float:
    """Prompt tokens per second: two operations per active weight, less the output head (only the last token of a prompt
    needs it). Over several devices the times add up."""
    architecture = setup.architecture
    work = 2.0 * (active_weights(architecture) - architecture.vocab * architecture.hidden)
    if architecture.experts:
        work /= MOE_PREFILL_SHARE
    share = device_compute_share(setup)
    seconds = 0.0
    if gpu:
        seconds += work * share / gpu.flops
    if cpu:
        seconds += work * (1 - share) / cpu.flops
    return 1 / seconds


def device_compute_share(setup: Setup) -> float:
    """Share of a prompt's arithmetic that the GPU does."""
    architecture, placed = setup.architecture, setup.placement
    if placed.mode in ("gpu", "cpu"):
        return 1.0 if placed.mode == "gpu" else 0.0
    if placed.mode == "split":
        return placed.gpu_layers / architecture.layers
    active_experts = expert_weights(architecture) * architecture.experts_used / architecture.experts
    moved = active_experts * placed.cpu_expert_layers / architecture.layers
    return 1 - moved / active_weights(architecture)


def gpu_stage(machine: Machine, devices: Mapping[str, Device]) -> Stage | None:
    """The GPUs as one: a layer split gives each card its share of the bytes, one after the other."""
    cards = usable_gpus(machine)
    if not cards:
        return None
    kinds = [GPU_CLASSES[class_name(card, machine)] for card in cards]
    memory = sum(card.memory_total_bytes for card in cards) or 1
    shares = [card.memory_total_bytes / memory for card in cards]
    rates = [gpu_bandwidth(card, devices) * kind.efficiency for card, kind in zip(cards, kinds, strict=True)]
    peaks = [gpu_flops(card, devices) * kind.compute_share for card, kind in zip(cards, kinds, strict=True)]
    unknown = any(card.bandwidth_bytes_per_s is None for card in cards)
    return Stage(
        bytes_per_s=1 / sum(share / rate for share, rate in zip(shares, rates, strict=True)),
        fixed_s=max(kind.fixed_ms for kind in kinds) / 1000,
        error=max(kind.error for kind in kinds) + (0.3 if unknown else 0.0),
        row_cost=max(kind.row_cost for kind in kinds),
        flops=1 / sum(share / peak for share, peak in zip(shares, peaks, strict=True)),
    )


def class_name(gpu: Gpu, machine: Machine) -> str:
    """The key of `GPU_CLASSES`."""
    if gpu.vendor == "nvidia":
        return "gb10" if machine.memory.unified else "nvidia"
    if gpu.vendor == "amd":
        return "amd-apu" if gpu.integrated or machine.memory.unified else "amd"
    return "apple" if gpu.vendor == "apple" else "other"


def gpu_bandwidth(gpu: Gpu, devices: Mapping[str, Device]) -> float:
    if gpu.bandwidth_bytes_per_s:
        return float(gpu.bandwidth_bytes_per_s)
    device = devices.get(gpu.device or "")
    return float(device.bandwidth) if device else ASSUMED_BANDWIDTH[gpu.vendor]


def gpu_flops(gpu: Gpu, devices: Mapping[str, Device]) -> float:
    """Dense FP16 operations per second."""
    device = devices.get(gpu.device or "")
    if device and device.compute_tflops > 0:
        return device.compute_tflops * 1e12
    return gpu_bandwidth(gpu, devices) * ASSUMED_FLOPS_PER_BANDWIDTH


def cpu_stage(machine: Machine) -> Stage:
    """The processor: the slower of its memory and its cores."""
    memory = (machine.memory.bandwidth_bytes_per_s or ASSUMED_CPU_BANDWIDTH) * CPU_CLASS.efficiency
    level = vector_level(machine.cpu)
    arithmetic = max(1, machine.cpu.cores) * CORE_BYTES_PER_S[level]
    unknown = machine.memory.bandwidth_bytes_per_s is None
    return Stage(
        bytes_per_s=min(memory, arithmetic),
        fixed_s=CPU_CLASS.fixed_ms / 1000,
        error=CPU_CLASS.error + (0.2 if unknown else 0.0),
        row_cost=CPU_CLASS.row_cost,
        flops=max(1, machine.cpu.cores) * CORE_FLOPS[level] * CPU_CLASS.compute_share,
        compute_bound=arithmetic < memory,
    )


def vector_level(cpu: Cpu) -> str:
    """The widest vector instructions that llama.cpp has kernels for; AVX2 is assumed where nothing is known."""
    features = cpu.features
    if any(feature.startswith("avx512") for feature in features):
        return "avx512"
    if "avx2" in features or not features:
        return "avx2"
    return "neon" if "neon" in features or "asimd" in features else ""
