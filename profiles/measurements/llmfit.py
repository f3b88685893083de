"""llmfit's estimate of decoding speed, for comparison on the same rows.

Formula: llmfit-core/src/fit.rs (`estimate_tps`) and models.rs of AlexsJones/llmfit, read at commit 3f44fd3 of
2026-08-22 (version 1.1.10, the newest public source); model records: the catalogue inside llmfit 1.1.17 from PyPI.
Written anew from what it computes, its options at their defaults: the model all on one GPU whose bandwidth it knows, or
all on the processor.
"""

from __future__ import annotations

from typing import NamedTuple

EFFICIENCY = 0.55

BYTES_OF_DENSE = {"Q2": 0.25, "Q3": 0.375, "Q4": 0.5, "Q5": 0.625, "Q6": 0.75, "Q8": 1.0, "BF": 2.0, "F1": 2.0}
"""Per weight, by the first letters of a quant's name; it takes any other name for 4 bits."""
BYTES_OF_EXPERTS = {"Q2": 0.37, "Q3": 0.48, "Q4": 0.58, "Q5": 0.68, "Q6": 0.80, "Q8": 1.05, "BF": 2.0, "F1": 2.0}

PROCESSOR_CONSTANT = {"x86": 70.0, "arm": 90.0}
PROCESSOR_SPEED = {"Q2": 1.35, "Q3": 1.25, "Q4": 1.15, "Q5": 1.0, "Q6": 0.95, "Q8": 0.8, "BF": 0.6, "F1": 0.6}
MANY_CORES, BONUS_OF_MANY_CORES = 8, 1.1
PROCESSOR_ONLY = 0.3
"""Its factor for a model that runs on the processor."""

FIXED_BYTES = 3.2
"""What it counts for each weight of an MoE outside the experts, at any quant."""
PRESSURE_FROM, PRESSURE_FLOOR = 0.60, 0.30


class Model(NamedTuple):
    """Its record: all parameters and, for the MoE, those of the active experts and the rest, in 1e9."""

    parameters: float
    active_experts: float = 0.0
    fixed: float = 0.0
    idle_share: float = 0.0


MODELS = {
    "e2b": Model(5.123),
    "e4b": Model(7.996),
    "12b": Model(11.960),
    "26b": Model(25.806, active_experts=1.4274, fixed=2.5249, idle_share=1 - 8 / 128),
    "31b": Model(31.273),
}


def on_gpu(model: str, quant: str, bandwidth: float, memory_gb: float | None) -> float:
    """Tokens per second; `bandwidth` in bytes per second."""
    known, rate = MODELS[model], bandwidth / 1e9
    if not known.active_experts:
        return rate / (known.parameters * per_weight(BYTES_OF_DENSE, quant)) * EFFICIENCY
    size = per_weight(BYTES_OF_EXPERTS, quant)
    read = known.active_experts * size + known.fixed * FIXED_BYTES
    return rate / read * pressure(known, known.parameters * size / memory_gb if memory_gb else 0.0)


def pressure(model: Model, filled: float) -> float:
    """Its penalty for an MoE that fills most of the memory."""
    if not PRESSURE_FROM <= filled <= 1:
        return 1.0
    return max(PRESSURE_FLOOR, 1 - (filled - PRESSURE_FROM) * model.idle_share)


def on_processor(model: str, quant: str, cores: int, *, arm: bool) -> float:
    known = MODELS[model]
    parameters = 4.0 if known.active_experts else known.parameters
    speed = PROCESSOR_CONSTANT["arm" if arm else "x86"] / parameters * per_weight(PROCESSOR_SPEED, quant)
    return speed * (BONUS_OF_MANY_CORES if cores >= MANY_CORES else 1.0) * PROCESSOR_ONLY


def per_weight(table: dict[str, float], quant: str) -> float:
    name = quant.upper().replace("QAT", "").replace("UD", "").strip(" -")
    return table.get(name[:2], table["Q4"])
