"""What the documents share: a machine, a placement, memory, speed and cost as records, and how each is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from advisor.machine import Basis, Machine
from advisor.memory.budgets import Budget
from advisor.memory.footprint import Footprint
from advisor.memory.placement import Mode, Placement
from advisor.memory.shares import Parts, parts
from advisor.prediction.speed import Evidence, Speed

if TYPE_CHECKING:
    from advisor.money.cost import Price

Bytes = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
Rate = Annotated[float, Meta(ge=0)]


class Part(Struct, frozen=True, kw_only=True):
    """Base of the document's records."""


class CpuPart(Part, frozen=True, kw_only=True):
    name: str
    cores: Count
    threads: Count
    features: tuple[str, ...]


class MemoryPart(Part, frozen=True, kw_only=True):
    total_bytes: Bytes
    available_bytes: Bytes
    limit_bytes: Bytes | None
    limit_source: str | None
    bandwidth_bytes_per_s: Bytes | None
    unified: bool


class GpuPart(Part, frozen=True, kw_only=True):
    name: str
    vendor: str
    index: Count
    memory_total_bytes: Bytes
    memory_free_bytes: Bytes
    bandwidth_bytes_per_s: Bytes | None


class BackendPart(Part, frozen=True, kw_only=True):
    name: str
    available: bool
    version: str | None
    drafter: bool
    why_not: str | None


class MachinePart(Part, frozen=True, kw_only=True):
    os: str
    simulated: bool
    cpu: CpuPart
    memory: MemoryPart
    gpus: tuple[GpuPart, ...]
    backends: tuple[BackendPart, ...]
    basis: dict[str, Basis]


class DrafterPart(Part, frozen=True, kw_only=True):
    enabled: bool
    repo: str | None
    file: str | None
    file_bytes: Bytes | None
    draft_tokens: Count
    reason: str


class PlacementPart(Part, frozen=True, kw_only=True):
    """`gpu_layers` as llama.cpp counts: all layers and the output head are one more than the model has layers. `gpus`:
    the indexes of those that are used; of several, one alone where it holds everything."""

    mode: Mode
    gpus: tuple[Count, ...]
    gpu_layers: Count
    cpu_expert_layers: Count
    layers: Count


class MemoryParts(Part, frozen=True, kw_only=True):
    """Bytes by what they are for."""

    weights_bytes: Bytes
    kv_cache_bytes: Bytes
    compute_bytes: Bytes
    drafter_bytes: Bytes
    projector_bytes: Bytes


class MemoryUse(MemoryParts, frozen=True, kw_only=True):
    """The five parts add up to `total_bytes`, and so do `device_bytes` and `host_bytes`. Beside a discrete GPU the
    token embedding is held twice (once as the output head), so `weights_bytes` is more than the file.
    `budget_bytes` and `headroom_bytes`: of the GPUs where any is used, of main memory otherwise."""

    total_bytes: Bytes
    device_bytes: Bytes
    host_bytes: Bytes
    budget_bytes: Bytes
    headroom_bytes: int


class HeldPart(Part, frozen=True, kw_only=True):
    """The parts of `memory` by where they are: in the memory of the GPUs, or in main memory. Each adds up to its bytes
    there."""

    device: MemoryParts
    host: MemoryParts


class EvidencePart(Part, frozen=True, kw_only=True):
    """`kin`: `measured` for these very files, only a `relative` of them (another quant or size), or `calibrated` by
    what this machine's processor takes for a step. `shared`: somebody else measured it, on the same hardware."""

    kin: Literal["measured", "relative", "calibrated"]
    reason: str
    date: str
    shared: bool
    formula_plain: Rate
    formula_decode: Rate


class SpeedPart(Part, frozen=True, kw_only=True):
    """Tokens per second of one user at `depth_tokens`; `low` and `high` hold about four times in five.
    `plain_low` and `plain_high`: the same of plain decoding. `full_context_tokens_per_s`: as `decode_tokens_per_s`,
    with the whole context in use."""

    depth_tokens: Count
    decode_tokens_per_s: Rate
    low: Rate
    high: Rate
    plain_tokens_per_s: Rate
    plain_low: Rate
    plain_high: Rate
    drafter_gain: Rate
    prefill_tokens_per_s: Rate
    full_context_tokens_per_s: Rate
    evidence: EvidencePart | None = None


class HostedPart(Part, frozen=True, kw_only=True):
    """What a service asks for the same model per million tokens, on that day."""

    provider: str
    input: Rate
    output: Rate
    currency: str
    date: str
    source: str


class CostPart(Part, frozen=True, kw_only=True):
    """Money per million tokens of answers, and of prompts."""

    per_million_tokens: Rate
    per_million_prompt_tokens: Rate
    currency: str
    assumptions: tuple[str, ...]
    hosted: tuple[HostedPart, ...]


def machine_part(machine: Machine) -> MachinePart:
    """The machine, less what only `advisor detect` shows."""
    fields: dict[str, Any] = msgspec.to_builtins(machine)
    return msgspec.convert(fields, MachinePart)


def cost_part(price: Price | None, model: str, speed: Speed) -> CostPart | None:
    """What `model`, by its id in the catalogue, costs at this speed."""
    if price is None:
        return None
    from advisor.money.cost import cost  # noqa: PLC0415 - and its file of prices: seldom asked for

    found = cost(price, model, speed.decode, speed.prefill, speed.depth_tokens)
    return CostPart(
        per_million_tokens=round(found.per_million_tokens, 4),
        per_million_prompt_tokens=round(found.per_million_prompt_tokens, 4),
        currency=found.currency,
        assumptions=found.assumptions,
        hosted=tuple(
            HostedPart(
                provider=each.provider,
                input=each.input,
                output=each.output,
                currency=each.currency,
                date=each.date,
                source=each.source,
            )
            for each in found.hosted
        ),
    )


def memory_use(load: Footprint, placed: Placement, limits: Budget) -> MemoryUse:
    """The parts as they are allocated."""
    return MemoryUse(
        **in_bytes(parts(load, placed, limits)),
        total_bytes=placed.device_bytes + placed.host_bytes,
        device_bytes=placed.device_bytes,
        host_bytes=placed.host_bytes,
        budget_bytes=placed.budget_bytes,
        headroom_bytes=placed.headroom_bytes,
    )


def in_bytes(held: Parts) -> dict[str, int]:
    """The parts by their names in the document."""
    return {f"{name}_bytes": size for name, size in msgspec.structs.asdict(held).items()}


def speed_part(speed: Speed) -> SpeedPart:
    return SpeedPart(
        depth_tokens=speed.depth_tokens,
        decode_tokens_per_s=round(speed.decode, 2),
        low=round(speed.low, 2),
        high=round(speed.high, 2),
        plain_tokens_per_s=round(speed.plain, 2),
        plain_low=round(speed.plain_low, 2),
        plain_high=round(speed.plain_high, 2),
        drafter_gain=round(speed.drafter_gain, 3),
        prefill_tokens_per_s=round(speed.prefill, 1),
        full_context_tokens_per_s=round(speed.full, 2),
        evidence=evidence_part(speed.evidence),
    )


def evidence_part(found: Evidence | None) -> EvidencePart | None:
    if found is None:
        return None
    return EvidencePart(
        kin=found.kin,
        reason=found.reason,
        date=found.date,
        shared=found.shared,
        formula_plain=round(found.formula_plain, 2),
        formula_decode=round(found.formula_decode, 2),
    )


def speed_basis(speed: Speed, otherwise: Basis) -> Basis:
    """Where a speed is from: measured here, by others on the same hardware, or by the formula."""
    if speed.evidence is None or speed.evidence.kin != "measured":
        return otherwise
    return "catalogue" if speed.evidence.shared else "measured"
