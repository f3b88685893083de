"""A device as it turns bytes into tokens: of which class it is, and at which rates it reads and computes."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from math import hypot

import msgspec

from advisor.knowledge.profile import Device
from advisor.machine import Gpu, Machine, Record
from advisor.memory.placement import usable_gpus
from advisor.prediction.constants import GpuClass, constants
from advisor.prediction.pace import Pace

READ_TEST_SHARE = 0.78
"""Of the specified bandwidth, what a test that only reads reaches: constants are for specified bandwidths."""

ASSUMED_BANDWIDTH = {"nvidia": 300e9, "amd": 300e9, "intel": 200e9, "apple": 100e9, "other": 100e9}
ASSUMED_CPU_BANDWIDTH = 40e9
"""Two channels of DDR4-2666."""

ASSUMED_FLOPS_PER_BANDWIDTH = 75.0
"""FP16 operations per byte of bandwidth where the device is not in the catalogue: about an RTX 3090, or an M3 Max."""

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


def both_limits(memory: float, arithmetic: float) -> float:
    """The rate under two limits: the tighter, and a little less where they are alike."""
    return float((memory**-4 + arithmetic**-4) ** -0.25)


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
