"""How fast prompts are read: the share of a device's FP16 peak that each class reaches, from the same rows."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np

from advisor.knowledge.catalog import Catalog, load
from advisor.prediction.speed import prompt_flops
from profiles.measurements.rows import GPU_ONLY, MODELS, kind_of, number, table

SHORTEST, DEEPEST = 256, 8192
"""Prompts between these: shorter ones do not fill a micro-batch, longer ones are attention more than weights."""

PRIOR_DEVICES = 0.3
"""Devices of all classes that a class's share is mixed with."""

ASSUMED_CORE = {"avx512": 1.6, "neon": 1.3, "board": 0.8, "none": 0.15}
"""Relative to a core with AVX2, where no row tells."""


class Prompt(NamedTuple):
    """A measured prompt: operations per second, relative to the device's peak (to one core, for processors)."""

    device: str
    kind: str
    simd: str
    moe: bool
    share: float


def plain(name: str) -> str:
    return re.sub(r"geforce|apple|radeon|amd|nvidia|gpu|[^a-z0-9]", "", name.lower())


def measured(catalog: Catalog) -> list[Prompt]:
    peaks: dict[str, float] = {}
    for device in catalog.devices.values():
        for name in (device.id, device.name, *device.aliases):
            peaks.setdefault(plain(name), device.compute_tflops * 1e12)
    found = []
    for line in table("gemma4.csv"):
        kind = kind_of(line["class"], line["backend"], line["device"], line["runtime"])
        if not counts(line, kind):
            continue
        architecture = catalog.models[MODELS[line["model"]]].architecture
        rate = float(line["prompt_tokens_per_s"]) * prompt_flops(architecture)
        peak = number(line["cores"]) if kind == "cpu" else peaks.get(plain(line["device"]), 0.0)
        if peak:
            found.append(Prompt(line["device"], kind, line["simd"], bool(architecture.experts), rate / peak))
    return found


def counts(line: dict[str, str], kind: str) -> bool:
    """Whole prompts of Gemma 4 by llama.cpp on one device."""
    whole = GPU_ONLY.match(line["offload"]) or (kind == "cpu" and line["backend"] == "cpu")
    return bool(
        line["prompt_tokens_per_s"]
        and line["confidence"] != "low"
        and line["runtime"].startswith(("llama.cpp", "ollama"))
        and line["model"] in MODELS
        and line["n_gpu"] in ("0", "1")
        and whole
        and SHORTEST <= number(line["prompt_tokens"]) <= DEEPEST
        and number(line["depth"]) <= DEEPEST
    )


def experts_share(rows: Sequence[Prompt]) -> float:
    """What the MoE reaches of a dense model's share, on the devices that have read both."""
    ratios = []
    for device in {(row.device, row.kind) for row in rows}:
        own = [row for row in rows if (row.device, row.kind) == device]
        moe, dense = ([row.share for row in own if row.moe is wanted] for wanted in (True, False))
        if moe and dense:
            ratios.append(median(moe) / median(dense))
    return median(ratios)


def fitted() -> dict[str, Any]:
    """`PromptClass` of `advisor.prediction.speed`."""
    rows = measured(load())
    experts = experts_share([row for row in rows if row.kind != "cpu"])
    logs: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        key = row.simd if row.kind == "cpu" else row.kind
        logs[key][row.device].append(float(np.log(row.share / (experts if row.moe else 1))))
    by_device = {kind: [median(values) for values in devices.values()] for kind, devices in logs.items()}
    gpus = {kind: values for kind, values in by_device.items() if kind in CLASSES}
    common = median([value for values in gpus.values() for value in values])
    own = {kind: shrunk(gpus.get(kind, []), common) for kind in CLASSES}
    share = {
        kind: own[kind] if kind in gpus else mean(own[like] for like in ALIKE.get(kind, (kind,))) for kind in CLASSES
    }
    core = float(np.exp(median(by_device["avx2"])))
    cores = {"avx2": core, "small": float(np.exp(median(by_device["small"])))}
    cores |= {level: core * factor for level, factor in ASSUMED_CORE.items()}
    return {
        "share": {kind: round(float(np.exp(value)), 3) for kind, value in share.items()},
        "experts_share": round(experts, 3),
        "core_flops": {level: float(f"{rate:.3g}") for level, rate in sorted(cores.items())},
        "rows": {
            kind: sum((row.simd if row.kind == "cpu" else row.kind) == kind for row in rows) for kind in sorted(logs)
        },
    }


ALIKE = {"amd": ("amd-rocm", "amd-vulkan"), "amd-apu": ("amd-vulkan",), "apple-mlx": ("apple",), "jetson": ("gb10",),
         "vllm": ("nvidia-hbm",)}  # fmt: skip
"""Whose share a class without rows takes."""


def shrunk(values: Sequence[float], common: float) -> float:
    """The devices' mean, drawn towards that of all."""
    return (sum(values) + PRIOR_DEVICES * common) / (len(values) + PRIOR_DEVICES)


CLASSES = ("amd", "amd-apu", "amd-rocm", "amd-vulkan", "apple", "apple-mlx", "gb10", "intel", "jetson", "nvidia",
           "nvidia-hbm", "old", "other", "vllm")  # fmt: skip


def report() -> None:
    known = fitted()
    rows = measured(load())
    errors = [
        abs(float(np.log(row.share / known["share"][row.kind] / (known["experts_share"] if row.moe else 1))))
        for row in rows
        if row.kind != "cpu"
    ]
    middle, mean = median(errors), np.mean(errors)
    print(f"\nPrompts: {len(errors)} rows on GPUs, in-sample |log error| median {middle:.2f}, mean {mean:.2f}")
