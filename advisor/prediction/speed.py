"""Time per token and per prompt, from bytes:

    time = weights / (bandwidth x efficiency) + cache / (bandwidth x cache efficiency) + layers x fixed time

summed over the devices that a token passes: what it reads is in `reads`, what a device is good for in `stages`. The
deeper the context, the more cache is read: a speed is always stated at a depth.
"""

from __future__ import annotations

from math import exp, hypot
from typing import Literal

import msgspec

from advisor.knowledge.profile import Architecture, Device, Drafter, DrafterFile
from advisor.machine import Machine, Record
from advisor.memory.footprint import KvType, Weights, active_weights, expert_weights
from advisor.memory.placement import Placement
from advisor.prediction import speculation
from advisor.prediction.constants import constants
from advisor.prediction.pace import Pace
from advisor.prediction.reads import Reads, token_reads
from advisor.prediction.speculation import Plan
from advisor.prediction.stages import Stage, both_limits, cpu_stage, gpu_stage, paced

DEFAULT_DEPTH = 2048
OFFLOADED_LAYER_MS = 0.4
"""Hand-over between GPU and processor for each layer whose experts are in main memory. RTX 3060 beside a Zen 4: 15 and
30 layers cost 15 and 27 ms, of which reading them takes about half; R9700: .9 to 1.1 ms a layer altogether."""

CACHE_DOUBT = 0.5
"""How far off the time for the cache may be, as a logarithm: cards that read weights alike differ by 1.4 to 4 in what
attention reaches of their bandwidth (RTX 3090 with 26B, RTX 4080 Laptop with 12B)."""


class Evidence(Record, frozen=True, kw_only=True):
    """What a speed rests on besides the formula. `kin`: measured itself, or only a relative, or this machine's steps.
    `reason`: in words. `formula_*`: what the formula alone says, tokens per second."""

    kin: Literal["measured", "relative", "calibrated"]
    reason: str
    date: str
    shared: bool = False
    formula_plain: float
    formula_decode: float


class Speed(Record, frozen=True, kw_only=True):
    """Tokens per second at `depth_tokens`. `decode`: with the drafter as chosen; `plain`: without; `full`: as `decode`,
    with the context full. `low`, `high`: four in five measurements lie within. `evidence`: what was measured on this
    machine, where anything was."""

    depth_tokens: int
    decode: float
    low: float
    high: float
    plain: float
    plain_low: float
    plain_high: float
    draft_tokens: int
    drafter_gain: float
    gain_low: float = 1.0
    gain_high: float = 1.0
    prefill: float
    full: float
    evidence: Evidence | None = None


class Setup(Record, frozen=True, kw_only=True):
    """What is predicted: a placed configuration on a machine. `runtime`: `vulkan`, `rocm`, `mlx` or `vllm` where
    known. `pace`, `gpu_pace`: what its processor and its GPU were timed at."""

    architecture: Architecture
    weights: Weights
    placement: Placement
    machine: Machine
    devices: dict[str, Device]
    kv_type: KvType = "f16"
    depth_tokens: int = DEFAULT_DEPTH
    context_tokens: int = DEFAULT_DEPTH
    runtime: str = ""
    pace: Pace | None = None
    gpu_pace: Pace | None = None


def predict(
    setup: Setup,
    drafter: Drafter | None,
    file: DrafterFile | None,
    output_kind: str,
    temperature: float = speculation.USUAL_TEMPERATURE,
) -> Speed:
    """The speed of one configuration, with the best draft length where it has a drafter."""
    gpu, cpu = stages(setup)
    reads = reads_of(setup)
    step, cache = step_seconds(setup, gpu, cpu, 1, reads), cache_seconds(gpu, cpu, reads)
    plain = 1 / step
    plan = Plan(draft_tokens=0, gain=1.0)
    if drafter and file:
        plan = drafting(setup, drafter, file, output_kind, temperature)
    slower, faster = spread(gpu, cpu, cache / step)
    full = step - cache + cache_seconds(gpu, cpu, reads_of(at_depth(setup, setup.context_tokens)))
    known = constants().drafting
    drafted = plan.draft_tokens > 0
    decode = plain * plan.gain
    return Speed(
        depth_tokens=setup.depth_tokens,
        decode=decode,
        low=decode * exp(-hypot(slower, known.slower if drafted else 0)),
        high=decode * exp(hypot(faster, known.faster if drafted else 0)),
        plain=plain,
        plain_low=plain * exp(-slower),
        plain_high=plain * exp(faster),
        draft_tokens=plan.draft_tokens,
        drafter_gain=plan.gain,
        gain_low=plan.gain * exp(-known.slower) if drafted else 1.0,
        gain_high=plan.gain * exp(known.faster) if drafted else 1.0,
        prefill=prefill(setup, gpu, cpu),
        full=plan.gain / full,
    )


def plain_at(setup: Setup, depth: int) -> float:
    """Tokens per second of plain decoding at another depth."""
    return 1 / step_seconds(at_depth(setup, depth), *stages(setup), 1)


def cache_seconds(gpu: Stage | None, cpu: Stage | None, reads: tuple[Reads, Reads]) -> float:
    """Time that one token's reading of the cache takes."""
    return sum(part.cache / stage.cache_per_s for stage, part in zip((gpu, cpu), reads, strict=True) if stage)


def spread(gpu: Stage | None, cpu: Stage | None, cache_share: float) -> tuple[float, float]:
    """How much slower and faster it may be: as the less certain of its devices, and more the more of the time goes
    into the cache."""
    used = [stage for stage in (gpu, cpu) if stage is not None]
    deep = CACHE_DOUBT * cache_share
    return hypot(max(stage.slower for stage in used), deep), hypot(max(stage.faster for stage in used), deep)


def reads_of(setup: Setup) -> tuple[Reads, Reads]:
    """What one token reads in the GPUs' memory and in the processor's."""
    return token_reads(setup.architecture, setup.weights, setup.placement, setup.depth_tokens)


def at_depth(setup: Setup, depth: int) -> Setup:
    return msgspec.structs.replace(setup, depth_tokens=depth)


def drafting(setup: Setup, drafter: Drafter, file: DrafterFile, output_kind: str, temperature: float) -> Plan:
    """The best way to draft here, 0 tokens included."""
    gpu, cpu = stages(setup)
    reads = reads_of(setup)
    step = step_seconds(setup, gpu, cpu, 1, reads)
    first = speculation.at_temperature(acceptance(drafter, output_kind), temperature)
    conditional = speculation.acceptances(first, drafter.acceptance_decay, speculation.MAX_DRAFT_TOKENS)
    return speculation.best_plan(
        conditional,
        lambda rows: (
            step_seconds(setup, gpu, cpu, rows, reads) / step + constants().drafting.round_cost.get(setup.runtime, 0.0)
        ),
        draft_seconds(gpu or cpu, file.bytes) / step,
    )


def draft_seconds(stage: Stage | None, size: float) -> float:
    """Time of one step of the drafter: its bytes, and what launching it and choosing a token takes."""
    if stage is None:  # pragma: no cover - a placement always has one
        return 0.0
    return size / stage.single_per_s + constants().drafting.draft_layers * stage.layer_s


def acceptance(drafter: Drafter, output_kind: str) -> float:
    """Acceptance of the first drafted token for this kind of text; of the hardest kind known when it is not
    listed."""
    known = drafter.acceptance
    return known[output_kind] if output_kind in known else min(known.values(), default=0.0)


def stages(setup: Setup) -> tuple[Stage | None, Stage | None]:
    """The GPU's and the processor's part in this placement; None where it has none."""
    mode = setup.placement.mode
    gpu = gpu_stage(setup.machine, setup.devices, setup.runtime) if mode != "cpu" else None
    cpu = cpu_stage(setup.machine) if mode != "gpu" else None
    return (
        paced(gpu, setup.gpu_pace) if gpu and setup.gpu_pace else gpu,
        paced(cpu, setup.pace) if cpu and setup.pace else cpu,
    )


def step_seconds(
    setup: Setup, gpu: Stage | None, cpu: Stage | None, rows: int, reads: tuple[Reads, Reads] | None = None
) -> float:
    """Time to decode `rows` tokens together; `reads`, where the caller has them already."""
    on_gpu, on_cpu = reads or reads_of(setup)
    total = setup.placement.cpu_expert_layers * OFFLOADED_LAYER_MS / 1000
    if gpu:
        total += stage_seconds(gpu, on_gpu, setup.architecture, rows)
    if cpu:
        total += stage_seconds(cpu, on_cpu, setup.architecture, rows)
    return total


def stage_seconds(stage: Stage, reads: Reads, architecture: Architecture, rows: int) -> float:
    """One device's part. Further rows cost arithmetic on the dense weights, and wake further experts."""
    woken = experts_ratio(architecture, rows)
    fixed = reads.layers * (stage.layer_s + (stage.expert_layer_s if architecture.experts else 0.0))
    cache = reads.cache * (1 + (rows - 1) * speculation.CACHE_ROW_COST) / stage.cache_per_s
    if stage.arithmetic_per_s:
        single = stage.single_per_s
        return fixed + cache + reads.dense / single * rows_cost(stage, reads, rows) + reads.experts * woken / single
    cost = speculation.smooth_cost(stage.row_cost)(rows)
    if stage.pace is not None:
        cost = stage.pace.cost(rows, cost, stage.layer_s)
    return fixed + cache + (reads.dense * cost + reads.experts * woken) / stage.weights_per_s


def rows_cost(stage: Stage, reads: Reads, rows: int) -> float:
    """Of reading the dense weights on a processor for so many rows, relative to one row: as it was timed here, where it
    was, for the share of the weights that such kernels take."""

    def effort(repacked: float) -> float:
        tighter = stage.arithmetic_per_s / speculation.processor_cost(rows, repacked)
        return single / both_limits(stage.weights_per_s, tighter)

    single = stage.single_per_s
    if stage.pace is None:
        return effort(reads.repacked)
    return reads.repacked * stage.pace.cost(rows, effort(1.0), stage.layer_s) + (1 - reads.repacked) * effort(0.0)


def experts_ratio(architecture: Architecture, rows: int) -> float:
    """Experts read for so many tokens together, relative to one."""
    if not architecture.experts:
        return 1.0
    woken = speculation.experts_woken(architecture.experts, architecture.experts_used, rows)
    return woken / architecture.experts_used


def prefill(setup: Setup, gpu: Stage | None, cpu: Stage | None) -> float:
    """Prompt tokens per second: two operations per active weight, less the output head (only the last token of a prompt
    needs it). Over several devices the times add up."""
    work = prompt_flops(setup.architecture)
    if setup.architecture.experts:
        work /= constants().prompt.experts_share
    share = device_compute_share(setup)
    seconds = 0.0
    if gpu:
        seconds += work * share / gpu.flops
    if cpu:
        seconds += work * (1 - share) / cpu.flops
    return 1 / seconds


def prompt_flops(architecture: Architecture) -> float:
    """Operations for one token of a prompt."""
    return 2.0 * (active_weights(architecture) - architecture.vocab * architecture.hidden)


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
