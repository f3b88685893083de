"""What a ranking looks like: the document `advisor.recommend/1` as records, and its JSON Schema.

Fields are only added within a schema number. Names, units and meaning are the contract; `terminal` prints the same for
people.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from advisor import __version__
from advisor.choice.candidates import Candidate, Code, Prefer, Rejected, Terms
from advisor.choice.ranking import Ranking, Recommendation, Role
from advisor.choice.upgrade import NextStep
from advisor.knowledge import catalog
from advisor.machine import Basis, Machine
from advisor.memory.placement import usable_gpus
from advisor.memory.shares import shares
from advisor.pages.parts import (
    Bytes,
    CostPart,
    Count,
    DrafterPart,
    HeldPart,
    MachinePart,
    MemoryParts,
    MemoryUse,
    Part,
    PlacementPart,
    Rate,
    SpeedPart,
    cost_part,
    in_bytes,
    machine_part,
    memory_use,
    speed_basis,
    speed_part,
)
from advisor.services.service import Service
from advisor.services.serving import propose

if TYPE_CHECKING:
    from advisor.money.cost import Price

SCHEMA: Final = "advisor.recommend/1"


class RequestPart(Part, frozen=True, kw_only=True):
    """The request with its defaults filled in; `backend` is null where the choice was left to advisor."""

    use_case: str
    context_tokens: Count
    prefer: Prefer
    min_tokens_per_s: Rate
    backend: str | None
    drafter: bool


class QualityPart(Part, frozen=True, kw_only=True):
    """`score`: 0..100, the use case's benchmarks relative to the best size, times what the file keeps."""

    score: Rate
    benchmarks: dict[str, float]


class RecommendationPart(Part, frozen=True, kw_only=True):
    """`roles`: what it is the answer to; the first is always the `pick`, which is also `best` or `fastest` where no
    alternative is clearly ahead in that."""

    rank: Annotated[int, Meta(ge=1)]
    roles: tuple[Role, ...]
    model: str
    name: str
    repo: str
    file: str
    file_bytes: Bytes
    quant: str
    backend: str
    drafter: DrafterPart
    placement: PlacementPart
    memory: MemoryUse
    held: HeldPart
    speed: SpeedPart
    quality: QualityPart
    cost: CostPart | None
    basis: dict[str, Basis]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    command: str


class RejectedPart(Part, frozen=True, kw_only=True):
    model: str
    quant: str
    code: Code
    reason: str


class BudgetItemPart(Part, frozen=True, kw_only=True):
    """A line of the reckoning of what may be filled: what is there, or (negative) what is not to be used."""

    device: str
    what: str
    bytes: int
    source: str
    basis: Basis


class NextStepPart(Part, frozen=True, kw_only=True):
    """The nearest hardware on which a better model would be the pick. `quality_gain`: 1.05 is 5 % better."""

    model: str
    name: str
    quant: str
    hardware: str
    quality_gain: Rate
    decode_tokens_per_s: Rate
    reason: str


class Document(Part, frozen=True, kw_only=True):
    """Which Gemma 4 suits a machine, and why. `trades`: what the pick was weighed against, in sentences. `budget`: what
    may be filled, device by device; the items of a device add up. `service`: what to serve many users with, null where
    the use case has one."""

    schema: Literal["advisor.recommend/1"]
    advisor_version: str
    generated_at: Annotated[str, Meta(description="RFC 3339, UTC", extra_json_schema={"format": "date-time"})]
    machine: MachinePart
    request: RequestPart
    recommendations: Annotated[tuple[RecommendationPart, ...], Meta(min_length=1)]
    rejected: tuple[RejectedPart, ...]
    trades: tuple[str, ...]
    next_step: NextStepPart | None
    budget: tuple[BudgetItemPart, ...]
    service: Service | None = None


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the document."""
    (schema,), definitions = msgspec.json.schema_components([Document], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{SCHEMA.replace('/', ':')}",
        "title": f"advisor recommend --json ({SCHEMA})",
        **schema,
        "$defs": definitions,
    }


def document(
    ranking: Ranking,
    *,
    options: Mapping[str, str] | None = None,
    price: Price | None = None,
    now: datetime | None = None,
) -> Document:
    """The document of a ranking.

    Args:
        ranking: what was decided.
        options: the options of the command line that the launch command must repeat: `--backend`, `--gpu`, `--memory`.
        price: what the machine costs, for `cost`.
        now: when it was generated; the present by default.
    """
    terms = ranking.terms
    return Document(
        schema=SCHEMA,
        advisor_version=__version__,
        generated_at=(now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        machine=machine_part(ranking.machine),
        request=RequestPart(
            use_case=terms.use_case.id,
            context_tokens=terms.context_tokens,
            prefer=terms.prefer,
            min_tokens_per_s=terms.min_tokens_per_s,
            backend=terms.backend_asked,
            drafter=terms.drafter,
        ),
        recommendations=tuple(
            recommendation_part(entry, ranking, options or {}, price) for entry in ranking.recommendations
        ),
        rejected=tuple(rejected_part(entry) for entry in ranking.rejected),
        trades=ranking.trades,
        next_step=next_step_part(ranking.next_step),
        budget=tuple(
            BudgetItemPart(device=item.device, what=item.what, bytes=item.bytes, source=item.source, basis=item.basis)
            for item in ranking.recommendations[0].candidate.limits.items
        ),
        service=propose(terms, ranking.recommendations[0].candidate, ranking.machine, catalog.load()),
    )


def rejected_part(entry: Rejected) -> RejectedPart:
    return RejectedPart(model=entry.model, quant=entry.quant, code=entry.code, reason=entry.reason)


def next_step_part(step: NextStep | None) -> NextStepPart | None:
    if step is None:
        return None
    return NextStepPart(
        model=step.model,
        name=step.name,
        quant=step.quant,
        hardware=step.hardware,
        quality_gain=round(step.quality_gain, 3),
        decode_tokens_per_s=round(step.decode_tokens_per_s, 2),
        reason=step.reason,
    )


def recommendation_part(
    entry: Recommendation, ranking: Ranking, options: Mapping[str, str], price: Price | None
) -> RecommendationPart:
    pick = entry.candidate
    device, host = shares(pick.load, pick.placement, pick.limits)
    return RecommendationPart(
        rank=entry.rank,
        roles=entry.roles,
        model=pick.model.id,
        name=pick.model.name,
        repo=pick.quant.repo,
        file=pick.quant.file,
        file_bytes=int(pick.quant.bytes),
        quant=pick.quant.name,
        backend=ranking.terms.backend.name,
        drafter=drafter_part(pick),
        placement=PlacementPart(
            mode=pick.placement.mode,
            gpus=pick.gpus,
            gpu_layers=pick.placement.gpu_layers,
            cpu_expert_layers=pick.placement.cpu_expert_layers,
            layers=pick.load.layers,
        ),
        memory=memory_use(pick.load, pick.placement, pick.limits),
        held=HeldPart(device=MemoryParts(**in_bytes(device)), host=MemoryParts(**in_bytes(host))),
        speed=speed_part(pick.speed),
        quality=QualityPart(score=round(pick.quality, 1), benchmarks=pick.benchmarks),
        cost=cost_part(price, pick.model.id, pick.speed),
        basis=basis_of(pick, ranking.machine),
        reasons=entry.reasons,
        warnings=entry.warnings,
        command=launch_command(pick, ranking, options),
    )


def drafter_part(pick: Candidate) -> DrafterPart:
    choice = pick.drafter
    return DrafterPart(
        enabled=choice.enabled,
        repo=choice.file.repo if choice.file else None,
        file=choice.file.file if choice.file else None,
        file_bytes=int(choice.file.bytes) if choice.file else None,
        draft_tokens=choice.draft_tokens,
        reason=choice.reason,
    )


def basis_of(pick: Candidate, machine: Machine) -> dict[str, Basis]:
    """Where each number of a recommendation is from."""
    bandwidth: Basis = "assumed" if on_assumed_bandwidth(pick, machine) else "formula"
    return {
        "weights_bytes": "file" if pick.placement.device_bytes == 0 or pick.limits.unified else "formula",
        "kv_cache_bytes": "formula",
        "compute_bytes": "formula",
        "drafter_bytes": "formula" if pick.load.drafter else "file",
        "projector_bytes": "file",
        "budget_bytes": "assumed" if machine.simulated else "measured",
        "decode_tokens_per_s": speed_basis(pick.speed, bandwidth),
        "plain_tokens_per_s": speed_basis(pick.speed, bandwidth),
        "drafter_gain": speed_basis(pick.speed, "formula"),
        "prefill_tokens_per_s": speed_basis(pick.speed, "formula"),
        "score": "catalogue",
        "benchmarks": "catalogue",
    }


def on_assumed_bandwidth(pick: Candidate, machine: Machine) -> bool:
    """Whether the speed rests on a bandwidth that nobody measured and no catalogue knows."""
    mode = pick.placement.mode
    if mode != "cpu" and any(gpu.bandwidth_bytes_per_s is None for gpu in usable_gpus(machine)):
        return True
    known = machine.memory.bandwidth_bytes_per_s is not None
    assumed = machine.basis.get("memory.bandwidth_bytes_per_s") == "assumed"
    return mode != "gpu" and (assumed or not known)


def launch_command(pick: Candidate, ranking: Ranking, options: Mapping[str, str]) -> str:
    """What to type: the model, the file where it is not the first choice, and what differs from the defaults."""
    words = ["advisor", "launch", pick.model.id, "--quant", pick.quant.name]
    terms = ranking.terms
    # Only llama-server can be told: each of its conversations has as much of the context as is its share.
    users = terms.use_case.concurrent_users if terms.backend.name == "llama.cpp" else 1
    words += ["--context", str(terms.context_tokens // users)]
    words += ["--parallel", str(users)] if users > 1 else []
    if pick.load.projector:
        words.append("--projector")
        # With it any backend will do that takes in images.
        words += ["--backend", terms.backend.name] if hears(terms) and "--backend" not in options else []
    for option, value in options.items():
        words += [option, value]
    if not pick.drafter.enabled:
        words.append("--no-drafter")
    return shlex.join(words)


def hears(terms: Terms) -> bool:
    """Whether it is about sounds."""
    return "audio" in terms.use_case.modalities
