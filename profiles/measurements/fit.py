"""Fits `profiles/speed.json` on the public measurements beside it and prints how far off it is.

    python -m profiles.measurements.fit            write the constants, print the tables
    python -m profiles.measurements.fit --check    fail where the constants on file are not what the rows give

The formula is `advisor.prediction.speed`'s: time per token = weights / (bandwidth x efficiency) + cache / (bandwidth x
cache efficiency) + layers x fixed time. Each class of hardware has four constants, fitted on the logarithm of
the time with a prior at its family's, the family's at that of all: few rows move a class little. Residuals have
heavy tails, so that a machine which was not left to itself does not bend a class; rows of one model on one
device share a weight that grows with the root of their number.

Errors are what a newcomer would see: every device is predicted by constants fitted without any row of that device.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from advisor.prediction.constants import GpuClass
from advisor.prediction.stages import both_limits
from profiles.measurements import drafting, llmfit, placed, prompts
from profiles.measurements.rows import RUNTIMES_OF_THEIR_OWN, Row, measured, others, runtimes

TARGET = Path(__file__).parent.parent / "speed.json"

Vector = NDArray[np.float64]

FAMILY = {
    "nvidia": "all nvidia", "nvidia-hbm": "all nvidia", "gb10": "all nvidia", "jetson": "all nvidia",
    "amd-vulkan": "amd", "amd-rocm": "amd", "amd-apu": "amd", "amd": "all", "all nvidia": "all",
    "apple": "all", "intel": "all", "old": "all", "vllm": "all nvidia", "apple-mlx": "apple",
}  # fmt: skip
"""Where a class's prior is from. `amd` is also the class of an AMD card under a runtime that is not known."""

APART = frozenset({"old", "amd-apu", "jetson", "intel", "vllm", "apple-mlx"})
"""Classes that are no evidence for their family: hardware or runtime of another kind."""

START = np.log([1 / 0.87, 80e-6, 35e-6, 1 / 0.4])
"""Efficiency, seconds per layer, more per layer with routed experts, cache efficiency: about what figures of one card
give (RTX 3090); where the fit starts."""
SPREAD = np.array([0.10, 0.35, 0.35, 0.35])
"""How much classes of a family differ, as a standard deviation of the logarithm."""
SPREAD_APART = 3.0

NOISE = 0.10
"""Of one measurement, as a standard deviation of the logarithm; twice this far off, a row begins to count less."""
NOISE_OF_PROCESSORS = 0.15
OTHER_MODEL = 0.3
"""Weight of a row of another family of models."""

PROCESSOR_START = np.log([0.62, 9e9, 7e9, 9e9, 2.5e9, 60e-6, 0.27])
"""Share of the memory's rate; bytes per second that a core multiplies with AVX-512, AVX2 and NEON, and one of a
phone (`small`: most of its cores are); seconds per layer; cache efficiency."""
PROCESSOR_SPREAD = np.array([0.15, 0.3, 0.3, 0.3, 0.3, 0.5, 0.3])
LEVELS = ("avx512", "avx2", "neon", "small")

SETTLED = 1e-6

SAME = 0.01
"""Two fits are the same when no constant differs by more than this, absolutely or of its size."""

UNMEASURED = {"board": 4.5e9, "none": 2e9}
"""Bytes per second that a core multiplies where no row says it. `board`: a Raspberry Pi 5 is known with other runtimes
(8 tok/s on E2B with LiteRT-LM), where its memory is the limit. `none`: no vector instructions with kernels."""

COVERAGE = 0.8
PRIOR_ROWS = 10.0
"""Rows of all classes that a class's range is mixed with."""


class Judged(NamedTuple):
    """A row and the logarithm of measured over predicted time: positive where it is slower than predicted."""

    row: Row
    error: float
    llmfit: float


def features(row: Row) -> Vector:
    return np.array([row.read / row.bandwidth, row.layers, row.moe_layers, row.cache / row.bandwidth])


def gpu_time(row: Row, constants: Vector) -> float:
    return float(features(row) @ np.exp(constants))


def processor_time(row: Row, constants: Vector) -> float:
    share, *cores, layer, cache = np.exp(constants)
    rate = both_limits(row.bandwidth * share, row.cores * dict(zip(LEVELS, cores, strict=True))[row.simd])
    return float((row.read + row.cache / cache) / rate + row.layers * layer)


def weight_of(rows: Sequence[Row]) -> Vector:
    number = Counter((row.device, row.model) for row in rows)
    return np.array([number[row.device, row.model] ** -0.5 * (1 if row.gemma else OTHER_MODEL) for row in rows])


def estimate(
    rows: Sequence[Row], time: Callable[[Row, Vector], float], prior: Vector, spread: Vector, noise: float
) -> Vector:
    """The most probable logarithms of the constants (Gauss-Newton, weights of a Cauchy tail)."""
    constants = prior.copy()
    if not rows:
        return constants
    weight, actual = weight_of(rows), np.log([row.seconds for row in rows])

    def residual(at: Vector) -> Vector:
        return np.log([time(row, at) for row in rows]) - actual

    for _ in range(30):
        off = residual(constants)
        steps = np.eye(len(constants)) * 1e-5
        slope = np.array([(residual(constants + step) - off) / 1e-5 for step in steps]).T
        now = weight / (1 + (off / noise / 2) ** 2)
        curvature = (slope * now[:, None]).T @ slope / noise**2 + np.diag(1 / spread**2)
        step = np.linalg.solve(curvature, (slope * now[:, None]).T @ off / noise**2 + (constants - prior) / spread**2)
        constants = constants - step
        if np.abs(step).max() < SETTLED:
            break
    return constants


def kinship(kind: str) -> tuple[str, ...]:
    """The class, its family and all that its rows are evidence for."""
    if kind not in FAMILY or kind in APART:
        return (kind,)
    return (kind, *kinship(FAMILY[kind])) if FAMILY[kind] in FAMILY else (kind, FAMILY[kind])


def fitted(rows: Sequence[Row]) -> dict[str, Vector]:
    """Constants of every class, families first."""
    found = {"all": estimate(kin(rows, "all"), gpu_time, START, SPREAD * 2, NOISE)}
    for kind in ("all nvidia", "amd", *(name for name in FAMILY if name not in ("all nvidia", "amd"))):
        spread = SPREAD * (SPREAD_APART if kind in APART else 1)
        found[kind] = estimate(kin(rows, kind), gpu_time, found[FAMILY[kind]], spread, NOISE)
    cpu = kin(rows, "cpu")
    found["cpu"] = estimate(cpu, processor_time, PROCESSOR_START, PROCESSOR_SPREAD, NOISE_OF_PROCESSORS)
    return found


def kin(rows: Iterable[Row], kind: str) -> list[Row]:
    return [row for row in rows if kind in kinship(row.kind)]


def predicted(row: Row, constants: dict[str, Vector]) -> float:
    """Seconds per token."""
    if row.kind == "cpu":
        return processor_time(row, constants["cpu"])
    return gpu_time(row, constants[row.kind])


def judged(row: Row, constants: dict[str, Vector]) -> Judged:
    return Judged(row, float(np.log(row.seconds / predicted(row, constants))), compared(row))


def compared(row: Row) -> float:
    """Error of llmfit's formula, on the same scale."""
    if row.kind == "cpu":
        speed = llmfit.on_processor(row.model, row.quant.strip("~"), row.cores, arm=row.simd in ("neon", "small"))
    else:
        speed = llmfit.on_gpu(row.model, row.quant.strip("~"), row.bandwidth, row.memory_gb or None)
    return float(np.log(speed / row.tokens_per_s))


def left_out(rows: Sequence[Row], support: Sequence[Row], asked: Sequence[Row]) -> list[Judged]:
    """`asked`, each predicted without any row of its device."""
    result: list[Judged] = []
    for device in sorted({row.device for row in asked}):
        constants = fitted([row for row in (*rows, *support) if row.device != device])
        result += [judged(row, constants) for row in asked if row.device == device]
    return result


class Range(NamedTuple):
    """How much slower and faster than predicted four in five are, as logarithms."""

    slower: float
    faster: float


def ranges(found: Sequence[Judged]) -> dict[str, Range]:
    """By class, mixed with that of all GPUs: the 10th and 90th percentile of what was left out."""
    gpus = [one for one in found if one.row.kind not in ("cpu", *RUNTIMES_OF_THEIR_OWN)]
    common = percentiles(gpus)
    result = {"all": common}
    for kind in (*FAMILY, "cpu"):
        own = [one for one in found if one.row.kind == kind]
        share = len(own) / (len(own) + PRIOR_ROWS)
        mine = percentiles(own) if own else common
        result[kind] = Range(*(share * a + (1 - share) * b for a, b in zip(mine, common, strict=True)))
    return result


def percentiles(found: Sequence[Judged]) -> Range:
    """Rows of one device and model share a weight, as in the fit; never narrower than one measurement's noise."""
    off = np.array([one.error for one in found])
    order = np.argsort(off)
    weight = weight_of([one.row for one in found])[order]
    place = (np.cumsum(weight) - weight / 2) / weight.sum()
    low, high = np.interp([(1 - COVERAGE) / 2, (1 + COVERAGE) / 2], place, off[order])
    return Range(max(NOISE / 2, float(high)), max(NOISE / 2, float(-low)))


def covered(found: Sequence[Judged]) -> list[tuple[str, bool]]:
    """Whether each row lies in a range calibrated on the other devices."""
    result = []
    for device in sorted({one.row.device for one in found}):
        known = ranges([one for one in found if one.row.device != device])
        for one in found:
            if one.row.device == device:
                span = known[one.row.kind]
                result.append((one.row.kind, -span.faster <= one.error <= span.slower))
    return result


def profile(rows: Sequence[Row], support: Sequence[Row], found: Sequence[Judged]) -> dict[str, Any]:
    """What goes into `profiles/speed.json`."""
    constants, spans = fitted([*rows, *support]), ranges(found)
    classes = {kind: gpu_class(kind, constants[kind], spans[kind], rows, support) for kind in sorted(FAMILY)}
    for kind in ("all", "all nvidia"):
        classes.pop(kind, None)
    classes["other"] = gpu_class("all", constants["all"], spans["all"], [], [])
    return {
        "note": "Written by `python -m profiles.measurements.fit`; times in microseconds, rates in bytes per second.",
        "gpus": classes,
        "cpu": processor_class(constants["cpu"], spans["cpu"], [row for row in (*rows, *support) if row.kind == "cpu"]),
        "prompt": prompts.fitted(),
        "drafting": drafting.fitted(msgspec.convert(classes, dict[str, GpuClass])),
    }


def gpu_class(
    kind: str, constants: Vector, span: Range, rows: Sequence[Row], support: Sequence[Row]
) -> dict[str, float | int]:
    inverse, layer, experts, cache = np.exp(constants).tolist()
    own = [row for row in (*rows, *support) if row.kind == kind and row.gemma]
    return {
        "efficiency": round(1 / inverse, 3),
        "layer_us": round(layer * 1e6, 1),
        "expert_layer_us": round(experts * 1e6, 1),
        "cache_efficiency": round(1 / cache, 3),
        "slower": round(span.slower, 3),
        "faster": round(span.faster, 3),
        "rows": len(own),
        "rows_of_other_models": sum(row.kind == kind and not row.gemma for row in support),
        "devices": len({row.device for row in own}),
    }


def processor_class(constants: Vector, span: Range, rows: Sequence[Row]) -> dict[str, Any]:
    share, *cores, layer, cache = np.exp(constants).tolist()
    return {
        "efficiency": round(share, 3),
        "core_bytes_per_s": {name: float(f"{rate:.3g}") for name, rate in zip(LEVELS, cores, strict=True)} | UNMEASURED,
        "layer_us": round(layer * 1e6, 1),
        "cache_efficiency": round(cache, 3),
        "slower": round(span.slower, 3),
        "faster": round(span.faster, 3),
        "rows": sum(row.gemma for row in rows),
        "rows_of_other_models": sum(not row.gemma for row in rows),
        "devices": len({row.device for row in rows}),
    }


def table(title: str, groups: Mapping[str, Sequence[Judged]]) -> None:
    head = f"{'':26}{'rows':>5}{'devices':>8}   {'advisor median':>14} {'mean':>6}   {'llmfit median':>13} {'mean':>6}"
    print(f"\n{title}\n{head}")
    for name, found in groups.items():
        ours, theirs = np.abs([one.error for one in found]), np.abs([one.llmfit for one in found])
        devices = len({one.row.device for one in found})
        print(
            f"{name:26}{len(found):5}{devices:8}   {np.median(ours):14.3f} {ours.mean():6.3f}"
            f"   {np.median(theirs):13.3f} {theirs.mean():6.3f}"
        )


def by(found: Iterable[Judged], key: Callable[[Judged], str]) -> dict[str, list[Judged]]:
    groups: dict[str, list[Judged]] = {}
    for one in sorted(found, key=key):
        groups.setdefault(key(one), []).append(one)
    return groups


def evaluated() -> tuple[list[Row], list[Row], list[Judged]]:
    """Rows that count, rows of other models, and what leaving one device out gives."""
    rows = [row for row in measured() if not row.excluded]
    support = [*(row for row in others() if not row.excluded), *runtimes()]
    return rows, support, left_out(rows, support, rows)


def main(arguments: Sequence[str]) -> int:
    rows, support, found = evaluated()
    apart = left_out(rows, support, runtimes())
    content = profile(rows, support, [*found, *apart])
    if "--check" in arguments:
        same = TARGET.exists() and alike(msgspec.json.decode(TARGET.read_bytes()), content)
        print(f"{TARGET.name} is {'what the rows give' if same else 'NOT what the rows give: run the fit'}")
        return 0 if same else 1
    TARGET.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    report(rows, support, found, apart)
    placed.report()
    prompts.report()
    drafting.report()
    return 0


def alike(one: Any, other: Any) -> bool:
    """The same tree with the same numbers, but for what another processor's arithmetic may change."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float | int):
        return abs(one - other) <= SAME * max(1.0, abs(other))
    return bool(one == other)


def report(rows: Sequence[Row], support: Sequence[Row], found: list[Judged], apart: list[Judged]) -> None:
    everything = measured()
    print("Rows of gemma4.csv with a plain speed:", len(everything))
    for reason, number in Counter(row.excluded or "COUNT" for row in everything).most_common():
        print(f"  {number:4} {reason}")
    print(f"Rows of other models and runtimes that help with the fit: {len(support)}")
    table("Left out one device at a time, |log error|", {"all rows that count": found})
    table("By class", by(found, lambda one: one.row.kind))
    table("By model", by(found, lambda one: one.row.model))
    table("By device", by(found, lambda one: one.row.device))
    table("Other runtimes, left out likewise", by(apart, lambda one: one.row.kind))
    inside = covered(found)
    print(f"\nInside low..high: {np.mean([yes for _, yes in inside]):.0%} of {len(inside)}")
    for kind, number in Counter(kind for kind, _ in inside).items():
        print(f"  {kind:12} {sum(yes for name, yes in inside if name == kind)} of {number}")
    table("Every row the formula can be asked about, excluded ones too", excluded_too(rows, support, everything))


def excluded_too(rows: Sequence[Row], support: Sequence[Row], everything: Sequence[Row]) -> dict[str, list[Judged]]:
    """By reason of exclusion; the device is left out of the fit as before."""
    askable = [row for row in everything if row.read and row.bandwidth and row.kind in (*FAMILY, "cpu")]
    askable = [row for row in askable if row.kind != "cpu" or row.simd]
    found = left_out(rows, support, askable)
    return {"all": found} | by(found, lambda one: one.row.excluded[:24] or "count")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
