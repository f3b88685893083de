"""Time per token and per prompt, from bytes:

    time = weights / (bandwidth x efficiency) + cache / (bandwidth x cache efficiency) + layers x fixed time

summed over the devices that a token passes. The constants are in `profiles/speed.json`, fitted on public measurements
by `profiles/measurements/fit.py`, which prints how far off they are on devices that they were not fitted on.

A token reads the layers' weights, the output head, the experts it is routed to, and the KV cache up to the present
depth; the per-layer embedding of the small models is looked up, not read. A speed is therefore always stated at a
depth.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib.resources import files
from math import exp, hypot
from typing import Literal

import msgspec

from advisor.errors import ProfileError
from advisor.knowledge.profile import Architecture, Device, Drafter, DrafterFile
from advisor.machine import Gpu, Machine, Record
from advisor.memory.footprint import (
    KV_BYTES_PER_32_ELEMENTS,
    KvType,
    Weights,
    active_weights,
    expert_weights,
    global_kv_elements,
    local_kv_elements,
)
from advisor.memory.placement import Placement, usable_gpus
from advisor.prediction import speculation
from advisor.prediction.pace import Pace
from advisor.prediction.speculation import Plan

DEFAULT_DEPTH = 2048


class GpuClass(Record, frozen=True, kw_only=True):
    """How a class of GPU and runtime turns its bandwidth into tokens.

    `efficiency`, `cache_efficiency`: shares of the specified bandwidth at which weights and the cache are read.
    `layer_us`: fixed time of a layer in microseconds: launches, small matrices; `expert_layer_us`: more with routed
    experts. `slower`, `faster`: four in five measurements lie within, as logarithms. `rows`, `devices`: what it was
    fitted on; `rows_of_other_models` helped.
    """

    efficiency: float
    layer_us: float
    expert_layer_us: float
    cache_efficiency: float
    slower: float
    faster: float
    rows: int
    rows_of_other_models: int
    devices: int


class CpuClass(Record, frozen=True, kw_only=True):
    """The same for processors. `core_bytes_per_s`: weights that one core can multiply, by its widest instructions."""

    efficiency: float
    core_bytes_per_s: dict[str, float]
    layer_us: float
    cache_efficiency: float
    slower: float
    faster: float
    rows: int
    rows_of_other_models: int
    devices: int


class PromptClass(Record, frozen=True, kw_only=True):
    """Reading a prompt. `share`: of the FP16 peak, by class of GPU. `experts_share`: of that, what an MoE reaches.
    `core_flops`: of one core, by its widest instructions."""

    share: dict[str, float]
    experts_share: float
    core_flops: dict[str, float]
    rows: dict[str, int]


class DraftingClass(Record, frozen=True, kw_only=True):
    """What drafting costs. `row_cost`: of each further row verified, relative to reading the dense weights, by class of
    GPU. `draft_layers`: fixed time of a drafted token in layers of the class. `round_cost`: of a round, in plain steps,
    by runtimes that pay one. `slower`, `faster`: of the gain, as logarithms."""

    row_cost: dict[str, float]
    draft_layers: float
    round_cost: dict[str, float]
    slower: float
    faster: float
    rows: int


class Constants(Record, frozen=True, kw_only=True):
    """`profiles/speed.json`."""

    note: str
    gpus: dict[str, GpuClass]
    cpu: CpuClass
    prompt: PromptClass
    drafting: DraftingClass


@functools.cache
def constants() -> Constants:
    """Raises: ProfileError: the file is missing or not what the fit writes."""
    try:
        return msgspec.json.decode((files("profiles") / "speed.json").read_bytes(), type=Constants)
    except (OSError, msgspec.DecodeError) as error:
        raise ProfileError(
            f"profiles/speed.json: {error}", hint="Write it with: python -m profiles.measurements.fit"
        ) from error


READ_TEST_SHARE = 0.78
"""Of the specified bandwidth, what a test that only reads reaches: constants are for specified bandwidths."""

ASSUMED_BANDWIDTH = {"nvidia": 300e9, "amd": 300e9, "intel": 200e9, "apple": 100e9, "other": 100e9}
ASSUMED_CPU_BANDWIDTH = 40e9
"""Two channels of DDR4-2666."""

ASSUMED_FLOPS_PER_BANDWIDTH = 75.0
"""FP16 operations per byte of bandwidth where the device is not in the catalogue: about an RTX 3090, or an M3 Max."""

OFFLOADED_LAYER_MS = 0.4
"""Hand-over between GPU and processor for each layer whose experts are in main memory. RTX 3060 beside a Zen 4: 15 and
30 layers cost 15 and 27 ms, of which reading them takes about half; R9700: .9 to 1.1 ms a layer altogether."""

CACHE_DOUBT = 0.5
"""How far off the time for the cache may be, as a logarithm: cards that read weights alike differ by 1.4 to 4 in what
attention reaches of their bandwidth (RTX 3090 with 26B, RTX 4080 Laptop with 12B)."""

UNKNOWN_BANDWIDTH = 0.3
"""Wider range where the bandwidth is assumed; also where the class of GPU was hardly measured."""
HARDLY_MEASURED = 8

SHARED_BANDWIDTH = 150e9
"""Integrated GPUs of AMD above this (Strix Halo) behave as the discrete ones do, the others share two channels."""

OLD = re.compile(r"\bgtx[ -](?:9|10)\d0|\b(?:tesla|quadro)?[ -]?p\d0\b|\bp\d00\b|jetson[ -]tx|\bvega\b|pro[ -]v3\d0")
"""GPUs without the integer instructions that llama.cpp's kernels are made for."""
JETSON = re.compile(r"jetson|orin|\bthor\b|xavier")
HBM = re.compile(r"\b(?:a30|[abhv][1-3]00|gh200)\b")
INSTINCT = re.compile(r"\bmi\d{2,3}")

BOARD = re.compile(r"raspberry|cortex-a(?:5|7)\d\b|\brk3\d|rockchip|orange pi", re.IGNORECASE)
"""Small ARM boards: their cores multiply about half of what Apple's and servers' do."""


class Stage(Record, frozen=True, kw_only=True):
    """One kind of memory and what computes on it. Rates in bytes per second, times in seconds. `cache_per_s`: of the
    cache, at 16 bits. `arithmetic_per_s`: weights that its cores can multiply, where that may be the tighter limit,
    else 0. `slower`, `faster`: its range, as logarithms."""

    weights_per_s: float
    cache_per_s: float
    layer_s: float
    expert_layer_s: float = 0.0
    slower: float
    faster: float
    row_cost: float = 0.0
    flops: float
    arithmetic_per_s: float = 0.0
    pace: Pace | None = None
    """What it was timed at: its rates are by it already."""

    @property
    def single_per_s(self) -> float:
        """Bytes per second of the dense weights, for a single token."""
        return both_limits(self.weights_per_s, self.arithmetic_per_s) if self.arithmetic_per_s else self.weights_per_s


class Reads(Record, frozen=True, kw_only=True):
    """Bytes that one token reads in one memory, and through how many layers. `cache` counts 16 bits per element: a
    quantised cache is smaller but not faster (RTX 3060, E4B: f16 and q4_0 cost the same for each further token).
    `repacked`: share of the weights that a processor's multi-row kernels take."""

    dense: float = 0
    experts: float = 0
    cache: float = 0
    layers: float = 0
    repacked: float = 1.0


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
    reads = token_reads(setup)
    step, cache = step_seconds(setup, gpu, cpu, 1, reads), cache_seconds(gpu, cpu, reads)
    plain = 1 / step
    plan = Plan(draft_tokens=0, gain=1.0)
    if drafter and file:
        plan = drafting(setup, drafter, file, output_kind, temperature)
    slower, faster = spread(gpu, cpu, cache / step)
    full = step - cache + cache_seconds(gpu, cpu, token_reads(at_depth(setup, setup.context_tokens)))
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


def at_depth(setup: Setup, depth: int) -> Setup:
    return msgspec.structs.replace(setup, depth_tokens=depth)


def drafting(setup: Setup, drafter: Drafter, file: DrafterFile, output_kind: str, temperature: float) -> Plan:
    """The best way to draft here, 0 tokens included."""
    gpu, cpu = stages(setup)
    reads = token_reads(setup)
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
    on_gpu, on_cpu = reads or token_reads(setup)
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


def paced(stage: Stage, pace: Pace) -> Stage:
    """The device as it was timed: whatever limits it, weights go by so many times as fast."""
    layer_s = pace.believed(stage.layer_s, pace.layer_s)
    factor = pace.factor(layer_s, stage.single_per_s)
    return msgspec.structs.replace(
        stage,
        weights_per_s=stage.weights_per_s * factor,
        arithmetic_per_s=stage.arithmetic_per_s * factor,
        layer_s=layer_s,
        flops=pace.believed(stage.flops, pace.flops),
        pace=pace,
    )


def both_limits(memory: float, arithmetic: float) -> float:
    """The rate under two limits: the tighter, and a little less where they are alike."""
    return float((memory**-4 + arithmetic**-4) ** -0.25)


def experts_ratio(architecture: Architecture, rows: int) -> float:
    """Experts read for so many tokens together, relative to one."""
    if not architecture.experts:
        return 1.0
    woken = speculation.experts_woken(architecture.experts, architecture.experts_used, rows)
    return woken / architecture.experts_used


def token_reads(setup: Setup) -> tuple[Reads, Reads]:
    """What one token reads in the GPUs' memory and in the processor's."""
    architecture, placed = setup.architecture, setup.placement
    experts = 0.0
    if architecture.experts:
        experts = setup.weights.experts * architecture.experts_used / architecture.experts
    head = setup.weights.embedding
    whole = Reads(
        dense=setup.weights.layers,
        experts=experts,
        cache=kv_read_bytes(architecture, setup.depth_tokens, "f16"),
        layers=architecture.layers,
        repacked=repacked_share(setup.weights),
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


def gpu_stage(machine: Machine, devices: Mapping[str, Device], runtime: str = "") -> Stage | None:
    """The GPUs as one: a layer split gives each card its share of the bytes, one after the other."""
    cards = usable_gpus(machine)
    if not cards:
        return None
    return cards_stage(cards, tuple(devices.get(card.device or "") for card in cards), machine.memory.unified, runtime)


@functools.lru_cache(maxsize=64)
def cards_stage(cards: tuple[Gpu, ...], devices: tuple[Device | None, ...], unified: bool, runtime: str) -> Stage:
    """`gpu_stage` of cards which the catalogue knows as `devices`; kept, for every file is asked about on them."""
    known = constants()
    kinds = [kind_of(card, unified=unified, runtime=runtime) for card in cards]
    classes = [known.gpus[kind] for kind in kinds]
    memory = sum(card.memory_total_bytes for card in cards) or 1
    shares = [card.memory_total_bytes / memory for card in cards]
    rates = [bandwidth(card, device) for card, device in zip(cards, devices, strict=True)]
    peaks = [flops(device, rate) for device, rate in zip(devices, rates, strict=True)]
    wider = max(doubt(card, one) for card, one in zip(cards, classes, strict=True))
    return Stage(
        weights_per_s=in_turn(shares, [rate * one.efficiency for rate, one in zip(rates, classes, strict=True)]),
        cache_per_s=in_turn(shares, [rate * one.cache_efficiency for rate, one in zip(rates, classes, strict=True)]),
        layer_s=sum(share * one.layer_us for share, one in zip(shares, classes, strict=True)) / 1e6,
        expert_layer_s=sum(share * one.expert_layer_us for share, one in zip(shares, classes, strict=True)) / 1e6,
        slower=hypot(max(one.slower for one in classes), wider),
        faster=hypot(max(one.faster for one in classes), wider),
        row_cost=max(known.drafting.row_cost[kind] for kind in kinds),
        flops=in_turn(shares, [peak * known.prompt.share[kind] for peak, kind in zip(peaks, kinds, strict=True)]),
    )


def in_turn(shares: list[float], rates: list[float]) -> float:
    """The rate of devices that work one after the other, each on its share."""
    return 1 / sum(share / rate for share, rate in zip(shares, rates, strict=True))


def doubt(gpu: Gpu, known: GpuClass) -> float:
    """How much wider its range is for what is not known of it."""
    if gpu.bandwidth_bytes_per_s is None:
        return UNKNOWN_BANDWIDTH
    measured = known.rows + known.rows_of_other_models
    return UNKNOWN_BANDWIDTH * max(0.0, 1 - measured / HARDLY_MEASURED)


def gpu_kind(gpu: Gpu, machine: Machine, runtime: str = "") -> str:
    """The GPU's class: a key of `Constants.gpus`."""
    return kind_of(gpu, unified=machine.memory.unified, runtime=runtime)


def kind_of(gpu: Gpu, *, unified: bool, runtime: str = "") -> str:
    """As `gpu_kind`; `unified`: the GPU works in main memory."""
    name = f"{gpu.device or ''} {gpu.name}".lower()
    if OLD.search(name):
        return "old"
    if gpu.vendor == "nvidia":
        return nvidia_kind(name, unified=unified, runtime=runtime)
    if gpu.vendor == "amd":
        return amd_kind(gpu, name, unified=unified, runtime=runtime)
    if gpu.vendor == "apple":
        return "apple-mlx" if runtime == "mlx" else "apple"
    if gpu.vendor == "intel":
        return "amd-apu" if gpu.integrated else "intel"
    return "other"


def nvidia_kind(name: str, *, unified: bool, runtime: str) -> str:
    if runtime == "vllm":
        return "vllm"
    if "gb10" in name:
        return "gb10"
    if unified or JETSON.search(name):
        return "jetson"
    return "nvidia-hbm" if HBM.search(name) else "nvidia"


def amd_kind(gpu: Gpu, name: str, *, unified: bool, runtime: str) -> str:
    """Runtimes use Vulkan on AMD's integrated GPUs, and ROCm alone on its accelerators."""
    if gpu.integrated or unified:
        return "amd-vulkan" if (gpu.bandwidth_bytes_per_s or 0) > SHARED_BANDWIDTH else "amd-apu"
    if INSTINCT.search(name):
        return "amd-rocm"
    return f"amd-{runtime}" if runtime in ("vulkan", "rocm") else "amd"


def bandwidth(gpu: Gpu, device: Device | None) -> float:
    """Bytes per second."""
    if gpu.bandwidth_bytes_per_s:
        return float(gpu.bandwidth_bytes_per_s)
    return float(device.bandwidth) if device else ASSUMED_BANDWIDTH[gpu.vendor]


def flops(device: Device | None, rate: float) -> float:
    """Dense FP16 operations per second."""
    if device and device.compute_tflops > 0:
        return device.compute_tflops * 1e12
    return rate * ASSUMED_FLOPS_PER_BANDWIDTH


def cpu_stage(machine: Machine) -> Stage:
    """The processor: its memory and its cores, whichever is slower."""
    known = machine.memory.bandwidth_bytes_per_s is not None
    return cores_stage(
        memory_rate(machine), max(1, machine.cpu.cores), vector_level(machine), 0.0 if known else UNKNOWN_BANDWIDTH
    )


@functools.lru_cache(maxsize=64)
def cores_stage(memory: float, cores: int, level: str, wider: float) -> Stage:
    """`cpu_stage` of so many cores with these vector instructions; `memory` in bytes per second."""
    known, prompt = constants().cpu, constants().prompt
    limits = both_limits(memory * known.efficiency, cores * known.core_bytes_per_s[level])
    return Stage(
        weights_per_s=memory * known.efficiency,
        cache_per_s=limits * known.cache_efficiency,
        layer_s=known.layer_us / 1e6,
        slower=hypot(known.slower, wider),
        faster=hypot(known.faster, wider),
        flops=cores * prompt.core_flops[level],
        arithmetic_per_s=cores * known.core_bytes_per_s[level],
    )


def memory_rate(machine: Machine) -> float:
    """Bandwidth of main memory as makers specify it, also where it was measured."""
    rate = float(machine.memory.bandwidth_bytes_per_s or ASSUMED_CPU_BANDWIDTH)
    measured = machine.basis.get("memory.bandwidth_bytes_per_s") == "measured"
    return rate / READ_TEST_SHARE if measured else rate


def vector_level(machine: Machine) -> str:
    """The widest vector instructions that llama.cpp has kernels for; AVX2 is assumed where nothing is known."""
    features = machine.cpu.features
    if machine.os in ("android", "ios"):
        return "small"
    if BOARD.search(machine.cpu.name):
        return "board"
    if any(feature.startswith("avx512") for feature in features):
        return "avx512"
    if "avx2" in features or not features:
        return "avx2"
    return "neon" if "neon" in features or "asimd" in features else "none"
