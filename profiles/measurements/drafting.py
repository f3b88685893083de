"""What drafting costs, fitted on measured gains of Gemma 4's MTP drafters, and how well gains are predicted.

A gain is judged as the product predicts it: with the catalogue's acceptance for the kind of text, whatever the row says
of acceptance; the costs are fitted with the row's own acceptance where it tells it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from advisor.knowledge.catalog import Catalog, load
from advisor.knowledge.profile import Architecture, Drafter, DrafterFile, ModelProfile
from advisor.memory.footprint import weights
from advisor.prediction import speculation, speed
from advisor.prediction.constants import GpuClass, constants
from advisor.prediction.reads import Reads, kv_read_bytes
from advisor.prediction.stages import Stage
from profiles.measurements.placed import experts_moved
from profiles.measurements.rows import GB, MODELS, kind_of, number, quant_of, table

GROUPS = ("nvidia", "amd", "apple", "apple-mlx")
"""Row costs that are told apart; other classes take the nearest."""
GROUP_OF = {
    "nvidia": "nvidia", "nvidia-hbm": "nvidia", "gb10": "nvidia", "jetson": "nvidia", "vllm": "nvidia", "old": "apple",
    "amd": "amd", "amd-vulkan": "amd", "amd-rocm": "amd", "amd-apu": "apple", "apple": "apple", "intel": "amd",
    "other": "apple", "apple-mlx": "apple-mlx",
}  # fmt: skip

START = np.log([0.06, 0.06, 0.15, 0.35, 10.0, 0.5])
"""Row cost by group, layers that a drafted token's fixed time is worth, and what a round costs MLX, in steps."""
SPREAD = np.array([0.7, 0.7, 0.5, 0.7, 0.5, 0.7])
NOISE = 0.15

USUAL_DRAFT = 3
"""llama.cpp's default, where a row does not say how many tokens were drafted."""
MLX_DRAFTER = 2.0
"""Bytes per weight of MLX's drafters, which are BF16."""

SAME = 0.03
"""A gain within this of 1, as a logarithm, is the same speed."""

Vector = NDArray[np.float64]


class Pair(NamedTuple):
    """One measured gain. `acceptance`: of a drafted token, 0 where the row does not tell. `excluded`: why it is no fair
    pair, or empty."""

    id: str
    device: str
    kind: str
    model: str
    architecture: Architecture
    drafter: Drafter
    file: DrafterFile
    stage: Stage
    reads: Reads
    host: tuple[Stage, Reads, int] | None
    text: str
    drafted: int
    acceptance: float
    gain: float
    excluded: str


def measured(gpus: Mapping[str, GpuClass] | None = None) -> list[Pair]:
    """Every measured gain; `gpus`: constants of the classes, those on file by default."""
    known, classes = load(), gpus or constants().gpus
    pairs = (pair(line, known, classes) for line in table("gemma4.csv") if line["method"] == "mtp" and line["speedup"])
    return [one for one in pairs if one is not None]


def pair(line: dict[str, str], catalog: Catalog, gpus: Mapping[str, GpuClass]) -> Pair | None:
    """None where the model is not known."""
    model = catalog.models.get(MODELS.get(line["model"].split(" (")[0], ""))
    if model is None:
        return None
    kind = kind_of(line["class"], line["backend"], line["device"], line["runtime"])
    kind = {"nvidia-multi": "nvidia", "nvidia-unknown": "nvidia"}.get(kind, kind)
    bandwidth = number(line["bandwidth_gb_s"]) * GB or ASSUMED_BANDWIDTH.get(kind, 500 * GB)
    stage, reads = stage_of(gpus[kind], bandwidth), reads_of(line, model)
    host = None
    if moved := experts_moved(line["offload"]):
        reads, there = part_moved(reads, moved, model.architecture)
        host = (ASSUMED_HOST, there, moved)
    return Pair(
        id=line["row_id"],
        device=line["device"],
        kind=kind,
        model=model.id,
        architecture=model.architecture,
        drafter=model.drafter,
        file=drafter_file(model, kind, qat="QAT" in line["quant"]),
        stage=stage,
        reads=reads,
        host=host,
        text=text_of(line["task"]),
        drafted=int(number(line["draft_tokens"])) or USUAL_DRAFT,
        acceptance=number(line["acceptance"]) or number(line["accepted_length"]) / (number(line["draft_tokens"]) or 1),
        gain=float(line["speedup"]),
        excluded=exclusion(line),
    )


def exclusion(line: dict[str, str]) -> str:
    if line["confidence"] == "low":
        return "doubtful (confidence low)"
    if "/" in line["kv_type"] or " MTP" in line["kv_type"]:
        return "other cache type without the drafter"
    return "eager PyTorch" if line["runtime"] == "transformers" else ""


ASSUMED_BANDWIDTH = {"apple-mlx": 273 * GB, "apple": 273 * GB}
"""Where a row names no device: a card of 12-16 GB; a MacBook Pro with 48 GB."""

ASSUMED_HOST = Stage(
    weights_per_s=35 * GB, cache_per_s=10 * GB, layer_s=70e-6, slower=0, faster=0, flops=1, arithmetic_per_s=45 * GB
)
"""A desktop of eight cores, where a row says nothing of the processor beside the GPU."""


def stage_of(known: GpuClass, bandwidth: float) -> Stage:
    return Stage(
        weights_per_s=bandwidth * known.efficiency,
        cache_per_s=bandwidth * known.cache_efficiency,
        layer_s=known.layer_us / 1e6,
        expert_layer_s=known.expert_layer_us / 1e6,
        slower=0,
        faster=0,
        flops=1,
    )


def reads_of(line: dict[str, str], model: ModelProfile) -> Reads:
    architecture = model.architecture
    quant = quant_of(line, model) or quant_of(line | {"quant": ASSUMED_QUANT.get(line["quant"][:3], "Q4_K_M")}, model)
    if quant is None:  # pragma: no cover - the assumed ones are in the catalogue
        raise KeyError(line["row_id"])
    parts = weights(architecture, quant)
    share = architecture.experts_used / architecture.experts if architecture.experts else 0.0
    return Reads(
        dense=parts.layers + parts.embedding,
        experts=parts.experts * share,
        cache=kv_read_bytes(architecture, int(number(line["depth"])), "f16"),
        layers=architecture.layers,
    )


ASSUMED_QUANT = {"Q8_": "Q8_0", "bf1": "BF16", "MLX": "Q4_0", "QAT": "QAT-UD-Q4_K_XL"}
"""What a quant that no file has is nearest to, by its first letters; Q4_K_M otherwise."""


def part_moved(reads: Reads, moved: int, architecture: Architecture) -> tuple[Reads, Reads]:
    there = reads.experts * moved / architecture.layers
    return msgspec.structs.replace(reads, experts=reads.experts - there), Reads(experts=there)


def drafter_file(model: ModelProfile, kind: str, *, qat: bool) -> DrafterFile:
    file = next(file for file in model.drafter.files if file.qat == qat)
    if kind == "apple-mlx":
        return msgspec.structs.replace(file, bytes=type(file.bytes)(model.drafter.parameters * MLX_DRAFTER))
    return file


def text_of(task: str) -> str:
    """The kind of text in the catalogue's words; `mixed` for benchmarks of several."""
    words = task.lower()
    if re.search(r"mtp-bench$|mixed|^bench$|filled|range", words):
        return "mixed"
    for kind, pattern in {"code": "code|coding", "reasoning": "math", "story": r"\bstory|poem|narrative"}.items():
        if re.search(pattern, words):
            return kind
    return "chat"


def conditional(one: Pair, *, own: bool) -> tuple[float, ...]:
    """Acceptance by position: the row's where it tells one and `own` asks for it, else the catalogue's."""
    known = one.drafter.acceptance
    first = known.get(one.text, sum(known.values()) / len(known))
    if own and one.acceptance:
        first = first_of(one.acceptance, one.drafter.acceptance_decay, one.drafted)
    return speculation.acceptances(min(1.0, first), one.drafter.acceptance_decay, one.drafted)


def first_of(mean: float, decay: float, count: int) -> float:
    """The first position's acceptance that gives so many accepted tokens of `count` drafted (bisection)."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        reached = speculation.expected_tokens(speculation.acceptances(middle, decay, count)) - 1
        low, high = (middle, high) if reached < mean * count else (low, middle)
    return low


def gain_of(one: Pair, logs: Vector, *, own: bool = False) -> float:
    """Predicted gain at the row's draft length."""
    *rows, layers, round_cost = np.exp(logs).tolist()
    stage = msgspec.structs.replace(one.stage, row_cost=rows[GROUPS.index(GROUP_OF[one.kind])])

    def step(count: int) -> float:
        total = speed.stage_seconds(stage, one.reads, one.architecture, count)
        if one.host:
            there, reads, moved = one.host
            total += speed.stage_seconds(there, reads, one.architecture, count) + moved * speed.OFFLOADED_LAYER_MS / 1e3
        return total

    plain = step(1)
    draft = (one.file.bytes / stage.weights_per_s + layers * stage.layer_s) / plain
    extra = round_cost if one.kind == "apple-mlx" else 0.0
    return speculation.gain(conditional(one, own=own), lambda count: step(count) / plain + extra, draft)


def estimate(pairs: Sequence[Pair]) -> Vector:
    """The most probable costs, as logarithms; pairs of one model on one device share a weight."""
    logs = START.copy()
    number_of = Counter((one.device, one.model) for one in pairs)
    weight = np.array([number_of[one.device, one.model] ** -0.5 for one in pairs])
    actual = np.log([one.gain for one in pairs])

    def residual(at: Vector) -> Vector:
        return np.log([gain_of(one, at, own=True) for one in pairs]) - actual

    for _ in range(25):
        off = residual(logs)
        slope = np.array([(residual(logs + step) - off) / 1e-4 for step in np.eye(len(logs)) * 1e-4]).T
        now = weight / (1 + (off / NOISE / 2) ** 2)
        curvature = (slope * now[:, None]).T @ slope / NOISE**2 + np.diag(1 / SPREAD**2)
        logs = logs - np.linalg.solve(curvature, (slope * now[:, None]).T @ off / NOISE**2 + (logs - START) / SPREAD**2)
    return logs


def left_out(pairs: Sequence[Pair]) -> list[tuple[Pair, float]]:
    """Each pair's predicted gain, by costs fitted without its device."""
    result = []
    for device in sorted({one.device for one in pairs}):
        logs = estimate([one for one in pairs if one.device != device and not one.excluded])
        result += [(one, gain_of(one, logs)) for one in pairs if one.device == device]
    return result


def right_sign(found: float, actual: float) -> bool:
    """A gain called a gain, a loss a loss."""
    return (found > 1) == (actual > 1)


def clear(actual: float) -> bool:
    """Whether it is a gain or a loss at all, and not the same speed."""
    return bool(abs(np.log(actual)) >= SAME)


def fitted(gpus: Mapping[str, GpuClass]) -> dict[str, Any]:
    """`DraftingClass` of `advisor.prediction.speed`, where the classes of GPUs have these constants."""
    pairs = [one for one in measured(gpus) if not one.excluded]
    *rows, layers, round_cost = np.exp(estimate(pairs)).tolist()
    errors = np.array([np.log(found / one.gain) for one, found in left_out(pairs) if one.kind != "apple-mlx"])
    return {
        "row_cost": {kind: round(rows[GROUPS.index(group)], 3) for kind, group in sorted(GROUP_OF.items())},
        "draft_layers": round(layers, 2),
        "round_cost": {"mlx": round(round_cost, 3)},
        "slower": round(max(0.05, float(np.quantile(errors, 0.9))), 3),
        "faster": round(max(0.05, float(-np.quantile(errors, 0.1))), 3),
        "rows": len(pairs),
    }


def report() -> None:
    everything = left_out(measured())
    counted = [(one, found) for one, found in everything if not one.excluded]
    print("\nGains of drafting, left out one device at a time")
    for one, found in everything:
        mark = "" if right_sign(found, one.gain) else "  WRONG SIGN"
        mark += f"  excluded: {one.excluded}" if one.excluded else ""
        print(
            f"  {one.id} {one.device[:22]:22} {one.kind:10} {one.model:4} {one.drafted} {one.text:6}"
            f" measured {one.gain:.2f} predicted {found:.2f}{mark}"
        )
    for name, rows in (("pairs that count", counted), ("all pairs", everything)):
        errors = [abs(np.log(found / one.gain)) for one, found in rows]
        signs = np.mean([right_sign(found, one.gain) for one, found in rows])
        middle, mean = np.median(errors), np.mean(errors)
        sure = np.mean([right_sign(found, one.gain) for one, found in rows if clear(one.gain)])
        print(
            f"{name}: {len(rows)}, sign right {signs:.0%} ({sure:.0%} where it is clear),"
            f" |log error| median {middle:.3f} mean {mean:.3f}"
        )
