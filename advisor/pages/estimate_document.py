"""The document `advisor.estimate/1`: one configuration's memory, placement, speed and drafter at the top level, named
and counted as in `advisor.recommend/1`, and where the budget is from."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from advisor import __version__
from advisor.choice.estimate import Estimate, mapped, repacked
from advisor.machine import Basis
from advisor.pages.parts import (
    Bytes,
    Count,
    DrafterPart,
    MachinePart,
    MemoryUse,
    Part,
    PlacementPart,
    SpeedPart,
    machine_part,
    memory_use,
    speed_basis,
    speed_part,
)

SCHEMA: Final = "advisor.estimate/1"


class ModelPart(Part, frozen=True, kw_only=True):
    """What was estimated. `model`: its id in the catalogue, or null."""

    model: str | None
    name: str
    repo: str
    file: str
    file_bytes: Bytes
    quant: str
    parameters: Count
    context_tokens: Count


class QuestionPart(Part, frozen=True, kw_only=True):
    context_tokens: Count
    depth_tokens: Count
    kv_type: str
    micro_batch: Count
    backend: str
    reserve_bytes: Bytes | None


class MemoryDetail(MemoryUse, frozen=True, kw_only=True):
    """As in `recommend`, and finer. `output_bytes` is part of `compute_bytes`. `mapped_bytes`: of the file in main
    memory, which the kernel can drop and read again; all else is held for good. `repacked_bytes`: what a processor with
    AVX2 holds in another layout besides. It is not part of the total, because the pages of the file behind it are not
    needed any more once it is made."""

    kv_global_bytes: Bytes
    kv_sliding_bytes: Bytes
    output_bytes: Bytes
    mapped_bytes: Bytes
    repacked_bytes: Bytes


class BudgetPart(Part, frozen=True, kw_only=True):
    """One line of the reckoning of what may be used; those of one device add up to its budget."""

    device: str
    what: str
    bytes: int
    source: str
    basis: Basis


class EstimateDocument(Part, frozen=True, kw_only=True):
    """What one configuration needs on a machine, and how fast it is. `fits` false: no speed, negative headroom."""

    schema: Literal["advisor.estimate/1"]
    advisor_version: str
    generated_at: Annotated[str, Meta(description="RFC 3339, UTC")]
    machine: MachinePart
    model: ModelPart
    request: QuestionPart
    fits: bool
    placement: PlacementPart
    memory: MemoryDetail
    speed: SpeedPart | None
    drafter: DrafterPart
    budget: tuple[BudgetPart, ...]
    basis: dict[str, Basis]
    warnings: tuple[str, ...]


def document(found: Estimate, now: datetime | None = None) -> EstimateDocument:
    """The document of an estimate; `now`: when it was generated."""
    subject, asked, placed = found.subject, found.question, found.placement
    return EstimateDocument(
        schema=SCHEMA,
        advisor_version=__version__,
        generated_at=(now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        machine=machine_part(found.machine),
        model=ModelPart(
            model=subject.profile.id if subject.profile else None,
            name=subject.name,
            repo=subject.repo,
            file=subject.file,
            file_bytes=subject.file_bytes,
            quant=subject.quant,
            parameters=subject.architecture.parameters,
            context_tokens=subject.architecture.max_context,
        ),
        request=QuestionPart(
            context_tokens=asked.context_tokens,
            depth_tokens=asked.depth_tokens,
            kv_type=asked.kv_type,
            micro_batch=asked.micro_batch,
            backend=asked.backend.name,
            reserve_bytes=asked.reserve,
        ),
        fits=found.fits,
        placement=PlacementPart(
            mode=placed.mode,
            gpus=found.gpus,
            gpu_layers=placed.gpu_layers,
            cpu_expert_layers=placed.cpu_expert_layers,
            layers=found.load.layers,
        ),
        memory=memory_detail(found),
        speed=speed_part(found.speed) if found.speed else None,
        drafter=drafter_part(found),
        budget=tuple(msgspec.convert(msgspec.to_builtins(item), BudgetPart) for item in found.limits.items),
        basis=basis_of(found),
        warnings=found.warnings,
    )


def memory_detail(found: Estimate) -> MemoryDetail:
    """The parts as `recommend` counts them, and finer."""
    load = found.load
    return MemoryDetail(
        **msgspec.structs.asdict(memory_use(load, found.placement, found.limits)),
        kv_global_bytes=load.kv_global,
        kv_sliding_bytes=load.kv_sliding,
        output_bytes=load.output,
        mapped_bytes=mapped(found),
        repacked_bytes=repacked(found),
    )


def drafter_part(found: Estimate) -> DrafterPart:
    draft = found.draft
    return DrafterPart(
        enabled=draft is not None,
        repo=draft.file.repo if draft else None,
        file=draft.file.file if draft else None,
        file_bytes=int(draft.file.bytes) if draft else None,
        draft_tokens=found.draft_tokens if draft else 0,
        reason=found.drafter_reason,
    )


def basis_of(found: Estimate) -> dict[str, Basis]:
    """Where each number is from."""
    weights: Basis = "file" if found.subject.header else "catalogue"
    drafted: Basis = "file" if found.draft and found.draft.header else "catalogue"
    basis: dict[str, Basis] = {
        "weights_bytes": weights,
        "kv_cache_bytes": "formula",
        "compute_bytes": "formula",
        "drafter_bytes": drafted if found.draft else "formula",
        "projector_bytes": "catalogue",
        "budget_bytes": "assumed" if found.machine.simulated else "measured",
    }
    if found.speed is not None:
        guessed = found.placement.mode != "gpu" and found.machine.memory.bandwidth_bytes_per_s is None
        decode = speed_basis(found.speed, "assumed" if guessed else "formula")
        basis["decode_tokens_per_s"] = basis["plain_tokens_per_s"] = decode
        basis["drafter_gain"] = basis["prefill_tokens_per_s"] = speed_basis(found.speed, "formula")
    return basis
