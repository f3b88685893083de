"""One file of the catalogue on one machine: what it needs, where it goes, how fast and how good it is, with a
drafter or not."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

import msgspec

from advisor import paths
from advisor.knowledge.catalog import Catalog
from advisor.knowledge.profile import Drafter, DrafterFile, ModelProfile, Quant, UseCase
from advisor.machine import Availability, Machine, Record
from advisor.memory.footprint import Footprint, KvType, Shape, footprint
from advisor.memory.placement import Budget, Placement, budget, in_words, place, single_copy, usable_gpus
from advisor.prediction.speculation import WORTHWHILE_GAIN
from advisor.prediction.speed import DEFAULT_DEPTH, Setup, Speed, predict

if TYPE_CHECKING:
    from advisor.prediction.known import Known

Prefer = Literal["balanced", "quality", "speed"]
Code = Literal["memory", "speed", "capability", "backend"]

CPU_ONLY_BACKENDS = frozenset({"native"})
"""As shipped: the native engine's llama.cpp is compiled for the processor."""

UNREAD_MODALITIES: dict[str, frozenset[str]] = {
    "native": frozenset({"image", "audio", "video"}),
    "ollama": frozenset({"audio", "video"}),
}
"""What a backend cannot take in although the model could: the native engine loads no projector, and Ollama's library
offers Gemma 4 with text and images only (its tags, October 2026)."""

SLOW_GPU = 0.75
"""Of main memory's bandwidth; a GPU reaches more of its own than a processor does."""
LEAST_MEMORY_RATE = 10_000_000_000

LOWER_IS_BETTER = frozenset({"omnidocbench", "fleurs"})


class Terms(Record, frozen=True, kw_only=True):
    """The request with every default filled in. `floor_given`: the user set the floor, so it holds whatever it
    costs."""

    use_case: UseCase
    context_tokens: int
    prefer: Prefer
    min_tokens_per_s: float
    floor_given: bool
    backend: Availability
    backend_asked: str | None
    model: str | None
    drafter: bool
    quant: str | None = None
    reserve_bytes: int | None = None
    kv_type: KvType = "f16"


class DrafterChoice(Record, frozen=True, kw_only=True):
    """Whether to draft, with what, and why (not)."""

    enabled: bool
    file: DrafterFile | None
    draft_tokens: int
    reason: str


class Candidate(Record, frozen=True, kw_only=True):
    """One configuration that fits, with all that is known of it."""

    model: ModelProfile
    quant: Quant
    drafter: DrafterChoice
    load: Footprint
    placement: Placement
    limits: Budget
    gpus: tuple[int, ...]
    """The GPUs that are used, by index."""
    idle_gpus: int = 0
    """Cards that are not needed."""
    speed: Speed
    quality: float
    benchmarks: dict[str, float]


class Rejected(Record, frozen=True, kw_only=True):
    """A file that is not recommended."""

    model: str
    quant: str
    code: Code
    reason: str


class Site(Record, frozen=True, kw_only=True):
    """Where candidates are tried: the machine as the backend sees it, and what of it may be filled."""

    machine: Machine
    limits: Budget
    catalog: Catalog
    alone: Site | None = None
    """With several cards, the fastest of them by itself: what fits there entirely is only slowed down by the others."""
    qualities: dict[str, float] = {}
    """Of each model at full precision for this use case, 0..1; reckoned anew where it is not here."""
    known: Known | None = None
    """What was measured on this machine, where anything was."""


def site_of(terms: Terms, machine: Machine, catalog: Catalog, *, gpu: bool | None = None) -> Site:
    """The machine as the chosen backend sees it; with `gpu` given, as one would that has the GPUs or not."""
    if gpu is None:
        gpu = uses_gpus(terms, machine)
    seen = machine if gpu else without_gpus(machine)
    qualities = {model.id: quality_parts(model, terms.use_case, catalog) for model in catalog.models.values()}
    site = survey(seen, budget(machine, gpu=gpu, reserve=terms.reserve_bytes), catalog, terms.reserve_bytes, qualities)
    return msgspec.structs.replace(site, known=measured_on(machine))


def measured_on(machine: Machine) -> Known | None:
    """What is known of this machine from trials; whoever never made one does not pay for the question."""
    try:
        nothing = machine.simulated or not paths.measurements_file().exists()
    except (OSError, RuntimeError):
        nothing = True
    if nothing:
        return None
    from advisor.prediction import known  # noqa: PLC0415

    return known.of(machine)


def survey(
    seen: Machine, limits: Budget, catalog: Catalog, reserve: int | None, qualities: dict[str, float] | None = None
) -> Site:
    """The site of a machine as the backend sees it, and of its fastest card by itself where there are several."""
    site = Site(machine=seen, limits=limits, catalog=catalog, qualities=qualities or {})
    cards = usable_gpus(seen)
    if len(cards) < 2 or limits.unified:  # noqa: PLR2004 - several
        return site
    one = msgspec.structs.replace(seen, gpus=(max(cards, key=lambda gpu: gpu.bandwidth_bytes_per_s or 0),))
    alone = msgspec.structs.replace(site, machine=one, limits=budget(one, reserve=reserve))
    return msgspec.structs.replace(site, alone=alone)


def settle(load: Footprint, site: Site) -> tuple[Site, Placement | None]:
    """Where it goes: the fastest card alone if that holds everything, else the whole site; None if it does not fit."""
    if site.alone is not None:
        placed = place(load, site.alone.limits)
        if placed is not None and placed.mode == "gpu":
            return site.alone, placed
    return site, place(load, site.limits)


def gpus_used(site: Site, placed: Placement) -> tuple[int, ...]:
    """The indexes of the GPUs that a placement uses."""
    return () if placed.mode == "cpu" else tuple(gpu.index for gpu in usable_gpus(site.machine))


def uses_gpus(terms: Terms, machine: Machine) -> bool:
    return not computes_on_cpu(terms.backend) and not gpus_are_slow(machine)


def computes_on_cpu(backend: Availability) -> bool:
    """Whether a backend leaves GPUs alone: by its kind, or because the build that is here knows none."""
    return backend.name in CPU_ONLY_BACKENDS or backend.devices == ()


def gpus_are_slow(machine: Machine) -> bool:
    """Whether the GPUs read their memory more slowly than the processor reads its own: an old card in a server is
    better left out."""
    rates = [gpu.bandwidth_bytes_per_s for gpu in usable_gpus(machine)]
    known = [rate for rate in rates if rate is not None]
    memory = machine.memory.bandwidth_bytes_per_s or LEAST_MEMORY_RATE
    return bool(rates) and len(known) == len(rates) and max(known) < SLOW_GPU * memory


def evaluate(model: ModelProfile, quant: Quant, terms: Terms, site: Site) -> Candidate | Rejected:
    """One file on this machine: with its drafter where that is faster, without it otherwise."""
    file = drafter_file(model.drafter, quant)
    plain = configuration(model, quant, terms, site, None)
    if plain is None:
        return Rejected(
            model=model.id, quant=quant.name, code="memory", reason=memory_gap(model, quant, terms, site.limits)
        )
    refusal = no_drafter(terms, file)
    if refusal or file is None:
        return plain_candidate(plain, refusal)
    drafted = configuration(model, quant, terms, site, file)
    if drafted is None:
        return plain_candidate(plain, "its buffers do not fit beside the model")
    if drafted.placement.mode != plain.placement.mode:
        room = room_for_drafter(model, quant, terms, site, file)
        fits = f"; with {room:,} tokens of context it fits" if room else ""
        return plain_candidate(plain, f"its memory would push part of the model off the GPU{fits}")
    gain = drafted.speed.decode / plain.speed.plain
    return drafted if gain >= WORTHWHILE_GAIN else plain_candidate(plain, loss_in_words(drafted, gain))


def plain_candidate(plain: Candidate, reason: str) -> Candidate:
    choice = DrafterChoice(enabled=False, file=None, draft_tokens=0, reason=reason)
    return msgspec.structs.replace(plain, drafter=choice)


def no_drafter(terms: Terms, file: DrafterFile | None) -> str:
    """Why no drafter comes into question; empty when one does."""
    if not terms.drafter:
        return "switched off in the request"
    if file is None:
        return "the catalogue has no drafter file for this model"
    if not terms.backend.drafter:
        version = f" {terms.backend.version}" if terms.backend.version else ""
        return f"{terms.backend.name}{version} does not run Gemma's drafters"
    return ""


def room_for_drafter(model: ModelProfile, quant: Quant, terms: Terms, site: Site, file: DrafterFile) -> int:
    """The longest context, in eighths of the one asked for, with which model and drafter are all on the GPU; 0 if
    none."""
    for eighths in range(7, 0, -1):
        context = terms.context_tokens * eighths // 8
        shorter = msgspec.structs.replace(terms, context_tokens=max(1, context))
        placed = place(demand(model, quant, shorter, file), site.limits)
        if placed is not None and placed.mode == "gpu":
            return context
    return 0


def loss_in_words(drafted: Candidate, gain: float) -> str:
    if (evidence := drafted.speed.evidence) and evidence.kin == "measured":
        return f"its gain is {gain:.2f}x, {evidence.reason}"
    if drafted.speed.draft_tokens == 0:
        return "no draft length is expected to be faster than plain decoding here"
    return f"the expected gain is only {gain:.2f}x, below {WORTHWHILE_GAIN}x"


def configuration(
    model: ModelProfile,
    quant: Quant,
    terms: Terms,
    site: Site,
    file: DrafterFile | None,
) -> Candidate | None:
    """One file, with this drafter or none, placed and timed; None where it does not fit."""
    load = demand(model, quant, terms, file)
    settled, placed = settle(load, site)
    if placed is None:
        return None
    setup = Setup(
        architecture=model.architecture,
        weights=load.weights,
        placement=placed,
        machine=settled.machine,
        devices=site.catalog.devices,
        kv_type=terms.kv_type,
        depth_tokens=min(DEFAULT_DEPTH, terms.context_tokens),
        context_tokens=terms.context_tokens,
    )
    drafter, output = model.drafter if file else None, terms.use_case.output_kind
    if site.known is None:
        speed = predict(setup, drafter, file, output)
    else:
        from advisor.prediction.known import Question  # noqa: PLC0415
        from advisor.prediction.measurements import FileId  # noqa: PLC0415

        asked = Question(
            model=model.id,
            quant=quant.name,
            file=FileId(name=PurePosixPath(quant.file).name, size=int(quant.bytes)),
            backend=terms.backend.name,
            placement=placed.mode,
            depth_tokens=setup.depth_tokens,
            output=output,
            drafting=file is not None,
        )
        speed = site.known.predicted(setup, drafter, file, asked)
    scores = site.qualities.get(model.id) or quality_parts(model, terms.use_case, site.catalog)
    choice = DrafterChoice(
        enabled=file is not None and speed.draft_tokens > 0,
        file=file,
        draft_tokens=speed.draft_tokens,
        reason=gain_in_words(speed),
    )
    return Candidate(
        model=model,
        quant=quant,
        drafter=choice,
        load=load,
        placement=placed,
        limits=settled.limits,
        gpus=gpus_used(settled, placed),
        idle_gpus=len(site.limits.cards) - 1 if settled is site.alone else 0,
        speed=speed,
        quality=100 * scores * quant.quality,
        benchmarks={name: model.benchmarks[name] for name in terms.use_case.weights if name in model.benchmarks},
    )


def gain_in_words(speed: Speed) -> str:
    """What drafting is worth: expected, or as measured."""
    if speed.evidence and speed.evidence.kin == "measured":
        gain = f"{drafted_in_words(speed.draft_tokens)} at a time gives {speed.drafter_gain:.2f}x the speed"
        return f"{gain}, {speed.evidence.reason}"
    expected = f"{drafted_in_words(speed.draft_tokens)} at a time should give {speed.drafter_gain:.2f}x the speed"
    calibrated = speed.evidence and speed.evidence.kin == "calibrated"
    return f"{expected}, by the cost of several tokens at once that was measured here" if calibrated else expected


def drafted_in_words(count: int) -> str:
    return "drafting one token" if count == 1 else f"drafting {count} tokens"


def demand(model: ModelProfile, quant: Quant, terms: Terms, file: DrafterFile | None) -> Footprint:
    shape = Shape(
        context_tokens=terms.context_tokens,
        kv_type=terms.kv_type,
        sequences=terms.use_case.concurrent_users,
        backend=terms.backend.name,
    )
    multimodal = any(kind != "text" for kind in terms.use_case.modalities)
    return footprint(
        model.architecture,
        quant,
        shape,
        drafter=model.drafter,
        drafter_file=file,
        draft_tokens=model.drafter.draft_tokens if file else 0,
        projector=model.projector if multimodal else None,
    )


def drafter_file(drafter: Drafter, quant: Quant) -> DrafterFile | None:
    """The drafter's file for a target: QAT with QAT, the smaller one first (it is read once per drafted token)."""
    matching = [file for file in drafter.files if file.qat == quant.qat] or list(drafter.files)
    return min(matching, key=lambda file: file.bytes, default=None)


def without_gpus(machine: Machine) -> Machine:
    """The machine as a backend sees it that runs on the processor only."""
    return msgspec.structs.replace(machine, gpus=())


def quality_parts(model: ModelProfile, use_case: UseCase, catalog: Catalog) -> float:
    """0..1: the use case's benchmarks, each relative to the best of the five sizes, by its weights."""
    total = sum(use_case.weights.values())
    return sum(weight * relative(name, model, catalog) for name, weight in use_case.weights.items()) / (total or 1)


def relative(name: str, model: ModelProfile, catalog: Catalog) -> float:
    """A score relative to the best of the catalogue; 0 where it is not published."""
    if name not in model.benchmarks:
        return 0.0
    scores = [other.benchmarks[name] for other in catalog.models.values() if name in other.benchmarks]
    if name in LOWER_IS_BETTER:
        return min(scores) / max(model.benchmarks[name], 1e-9)
    return model.benchmarks[name] / (max(scores) or 1)


def memory_gap(model: ModelProfile, quant: Quant, terms: Terms, limits: Budget) -> str:
    needed = least_memory(model, quant, terms)
    return f"needs {in_words(needed)}, and {in_words(most_memory(limits))} can be used"


def least_memory(model: ModelProfile, quant: Quant, terms: Terms) -> int:
    """What it needs without a drafter."""
    return single_copy(demand(model, quant, terms, None))


def most_memory(limits: Budget) -> int:
    """What could be filled at most: GPUs and main memory together, where they are apart."""
    return max(limits.device, limits.host) if limits.unified else limits.device + limits.host
