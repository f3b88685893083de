"""One configuration on one machine: a file of the catalogue or any Gemma 4 GGUF, its memory, where it goes, its speed.

`recommend` chooses among many; this answers for the one that was named, also where it does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import msgspec

from advisor.choice import candidates
from advisor.choice.candidates import Site, computes_on_cpu, gpus_used, settle, survey, without_gpus
from advisor.choice.reasons import idle_gpu
from advisor.choice.subject import Draft, Subject
from advisor.errors import RuntimeFailed, UsageError
from advisor.files import shapes
from advisor.hardware import simulate
from advisor.knowledge.catalog import Catalog
from advisor.machine import Availability, Machine, Record
from advisor.memory.budgets import Budget, budget, in_words
from advisor.memory.footprint import DrafterLoad, Footprint, KvType, Shape, assembled, drafter_load, repacks
from advisor.memory.placement import Placement, wanted
from advisor.prediction import known
from advisor.prediction.measurements import FileId, identify
from advisor.prediction.speculation import WORTHWHILE_GAIN
from advisor.prediction.speed import DEFAULT_DEPTH, Setup, Speed, predict

LARGEST_MICRO_BATCH = 1 << 16
DEFAULT_CONTEXT = 8192
OUTPUT_KIND = "chat"


class Question(Record, frozen=True, kw_only=True):
    """How the subject is to run. `reserve`: bytes to leave free on each device, None for the usual margins.
    `projector`: bytes of the multimodal projector, 0 without. `sequences`: conversations at once, each with the whole
    context."""

    context_tokens: int
    depth_tokens: int
    kv_type: KvType
    micro_batch: int
    backend: Availability
    reserve: int | None = None
    projector: int = 0
    sequences: int = 1


class Estimate(Record, frozen=True, kw_only=True):
    """The answer. `fits` false: `placement` is what it would take, and there is no speed. `gpus`: the
    indexes of those that are used."""

    subject: Subject
    question: Question
    machine: Machine
    limits: Budget
    load: Footprint
    placement: Placement
    gpus: tuple[int, ...]
    fits: bool
    speed: Speed | None
    draft: Draft | None
    draft_tokens: int
    drafter_reason: str
    warnings: tuple[str, ...]


def question(
    subject: Subject,
    backend: Availability,
    *,
    context: int | None = None,
    depth: int | None = None,
    kv_type: KvType = "f16",
    micro_batch: int = 512,
    reserve: int | None = None,
    projector: bool = False,
    sequences: int = 1,
) -> Question:
    """How it is to run, with the defaults filled in.

    Raises:
        UsageError: a number that cannot be.
    """
    longest = subject.architecture.max_context
    tokens = min(DEFAULT_CONTEXT, longest) if context is None else context
    if not 1 <= tokens <= longest:
        raise UsageError(f"a context of {tokens:,} tokens: {subject.name} takes 1 to {longest:,}")
    at = min(DEFAULT_DEPTH, tokens) if depth is None else depth
    if not 0 <= at <= tokens:
        raise UsageError(f"a depth of {at:,} tokens: 0 to the context's {tokens:,} are possible")
    if not 1 <= micro_batch <= LARGEST_MICRO_BATCH:
        raise UsageError(f"a micro-batch of {micro_batch:,} rows: 1 to {LARGEST_MICRO_BATCH:,} are possible")
    if projector and subject.profile is None:
        raise UsageError(f"no projector is known for {subject.name}", hint="leave out --projector")
    return Question(
        context_tokens=tokens,
        depth_tokens=at,
        kv_type=kv_type,
        micro_batch=micro_batch,
        backend=backend,
        reserve=reserve,
        projector=int(subject.profile.projector.bytes) if projector and subject.profile else 0,
        sequences=sequences,
    )


def estimate(
    subject: Subject, asked: Question, draft: Draft | None, refusal: str, *, machine: Machine, catalog: Catalog
) -> Estimate:
    """Memory, placement and speed of one configuration.

    Args:
        draft: the drafter that could be loaded, or None.
        refusal: why there is none, in words.
    """
    where = site(asked, machine, catalog)
    plain = attempt(subject, asked, None, where)
    if draft is None:
        return finished(plain, refusal, machine)
    drafted = attempt(subject, asked, draft, where)
    if not draft.given and (reason := better_without(plain, drafted)):
        return finished(plain, reason, machine)
    return finished(drafted, gain_in_words(drafted), machine)


def site(asked: Question, machine: Machine, catalog: Catalog) -> Site:
    """The machine as the backend sees it, and what of it may be filled."""
    gpu = not computes_on_cpu(asked.backend)
    seen = machine if gpu else without_gpus(machine)
    place = survey(seen, budget(machine, gpu=gpu, reserve=asked.reserve), catalog, asked.reserve)
    return msgspec.structs.replace(place, known=candidates.measured_on(machine))


def attempt(subject: Subject, asked: Question, draft: Draft | None, where: Site) -> Estimate:
    """The configuration with this drafter or none."""
    load = demand(subject, asked, draft)
    where, placed = settle(load, where)
    speed = None
    if placed is not None:
        setup = Setup(
            architecture=subject.architecture,
            weights=load.weights,
            placement=placed,
            machine=where.machine,
            devices=where.catalog.devices,
            kv_type=asked.kv_type,
            depth_tokens=asked.depth_tokens,
            context_tokens=asked.context_tokens,
        )
        drafter, file = (draft.record, draft.file) if draft else (None, None)
        if where.known is None:
            speed = predict(setup, drafter, file, OUTPUT_KIND)
        else:
            what = known.Question(
                model=subject.profile.id if subject.profile else subject.name,
                quant=subject.quant,
                file=identity(subject),
                backend=asked.backend.name,
                placement=placed.mode,
                depth_tokens=asked.depth_tokens,
                output=OUTPUT_KIND,
                drafting=draft is not None,
            )
            speed = where.known.predicted(setup, drafter, file, what)
    return Estimate(
        subject=subject,
        question=asked,
        machine=where.machine,
        limits=where.limits,
        load=load,
        placement=placed or wanted(load, where.limits),
        gpus=gpus_used(where, placed) if placed else (),
        fits=placed is not None,
        speed=speed,
        draft=draft,
        draft_tokens=(speed.draft_tokens if speed else 0) or (draft.record.draft_tokens if draft else 0),
        drafter_reason="",
        warnings=(),
    )


def identity(subject: Subject) -> FileId:
    """The file that is estimated: by its contents where it is here."""
    if subject.header is not None and subject.header.path.is_file():
        return identify(subject.header.path)
    return FileId(name=PurePosixPath(subject.file).name, size=subject.file_bytes)


def demand(subject: Subject, asked: Question, draft: Draft | None) -> Footprint:
    shape = Shape(
        context_tokens=asked.context_tokens * asked.sequences,
        kv_type=asked.kv_type,
        sequences=asked.sequences,
        micro_batch=asked.micro_batch,
        backend=asked.backend.name,
    )
    return assembled(
        subject.architecture,
        subject.weights,
        shape,
        drafter=draft_load(subject, draft, shape) if draft else None,
        draft_tokens=draft.record.draft_tokens if draft else 0,
        projector=asked.projector,
    )


def draft_load(subject: Subject, draft: Draft, shape: Shape) -> DrafterLoad:
    if draft.header is not None:
        return shapes.drafter_load(draft.header, subject.architecture, shape)
    return drafter_load(subject.architecture, draft.record, draft.file, shape)


def better_without(plain: Estimate, drafted: Estimate) -> str:
    """Why the drafter that nobody asked for is left out; empty where it pays."""
    if plain.speed is None:
        return "without memory for the model there is none for a drafter"
    if drafted.speed is None:
        return "its buffers do not fit beside the model"
    if drafted.placement.mode != plain.placement.mode:
        return "its memory would push part of the model off the GPU; with a shorter context it may fit"
    gain = drafted.speed.decode / plain.speed.plain
    if gain < WORTHWHILE_GAIN and drafted.speed.evidence and drafted.speed.evidence.kin == "measured":
        return f"its gain is {gain:.2f}x, {drafted.speed.evidence.reason}"
    if gain < WORTHWHILE_GAIN:
        return f"the expected gain is only {gain:.2f}x, below {WORTHWHILE_GAIN}x; --drafter FILE counts it all the same"
    return ""


def gain_in_words(drafted: Estimate) -> str:
    tokens = "one token" if drafted.draft_tokens == 1 else f"{drafted.draft_tokens} tokens"
    if drafted.speed and drafted.speed.evidence and drafted.speed.evidence.kin == "measured":
        if drafted.speed.drafter_gain < WORTHWHILE_GAIN:
            return f"counted as asked for; plain decoding is as fast, {drafted.speed.evidence.reason}"
        return candidates.gain_in_words(drafted.speed)
    if drafted.speed is None:
        return f"counted with {tokens} at a time"
    if drafted.draft and not drafted.draft.record.acceptance:
        return f"counted with {tokens} at a time, as asked for; nothing is known of its acceptance"
    if drafted.speed.draft_tokens == 0:
        return "counted as asked for; plain decoding is expected to be faster here"
    return candidates.gain_in_words(drafted.speed)


def finished(found: Estimate, reason: str, machine: Machine) -> Estimate:
    done = msgspec.structs.replace(found, drafter_reason=reason, machine=machine)
    return msgspec.structs.replace(done, warnings=tuple(warnings(done)))


def repacked(found: Estimate) -> int:
    """What a processor with AVX2 holds in another layout beside the mapped file: of the part that is on it."""
    if not repacks(found.machine.cpu) or not is_mapped(found):
        return 0
    mode = found.placement.mode
    if mode == "cpu":
        return found.load.repacked
    held = found.load.weights
    if mode == "split":
        return held.repacked * max(0, found.load.layers - found.placement.gpu_layers) // found.load.layers
    if mode == "experts-on-cpu":
        moved = held.experts * found.placement.cpu_expert_layers // found.load.layers
        return min(held.repacked, moved)
    return 0


def is_mapped(found: Estimate) -> bool:
    """Whether the backend maps the file; where it does not, a repacked matrix takes the place of the file's own."""
    return Shape(context_tokens=1, backend=found.question.backend.name).caller.mapped


def mapped(found: Estimate) -> int:
    """Bytes of the file that are mapped into main memory: the kernel can drop them, and reads them again."""
    held = found.load.weights
    mode = found.placement.mode
    if not is_mapped(found):
        return 0
    if mode == "cpu" or found.limits.unified:
        return held.file
    moved = found.placement.cpu_expert_layers
    if mode == "experts-on-cpu":
        return held.per_layer_table + held.embedding + held.experts * moved // found.load.layers
    if mode == "split":
        on_cpu = (held.layers + held.experts) * (found.load.layers - found.placement.gpu_layers) // found.load.layers
        return held.per_layer_table + held.embedding + on_cpu
    return held.per_layer_table + held.embedding


def warnings(found: Estimate) -> Iterator[str]:
    yield from simulate.assumptions(found.machine)
    if not found.fits:
        short = -found.placement.headroom_bytes
        where = "main memory" if found.placement.mode == "cpu" else "GPU memory"
        yield (
            f"it does not fit: {in_words(max(0, short))} of {where} more would be needed"
            if short > 0
            else ("it does not fit: main memory is too small for the part that stays there")
        )
    copy = repacked(found)
    if copy and found.placement.host_bytes + copy > found.limits.host:
        if found.question.backend.name == "native":
            advice = "expect a slow start"
        else:
            advice = "`--no-repack` avoids it, at the price of slower prompts"
        yield (
            f"for this processor llama.cpp copies {in_words(copy)} of the weights into another layout; the file's own "
            f"pages have to be dropped for it while loading: {advice}"
        )
    if shapes.mapped_on_demand(found.subject.weights):
        table = in_words(found.subject.weights.per_layer_table)
        yield f"the lookup table of {table} is read from the file row by row and need not be in memory"
    if computes_on_cpu(found.question.backend) and found.machine.gpus:
        yield idle_gpu(found.question.backend)


def no_drafter_reason(backend: Availability, *, switched_off: bool, draft: Draft | None) -> str:
    """Why no drafter comes into question; empty when one does.

    Raises:
        RuntimeFailed: the user named one, and the backend runs none.
    """
    if switched_off:
        return "switched off in the request"
    if not backend.drafter:
        version = f" {backend.version}" if backend.version else ""
        if draft is not None and draft.given:
            raise RuntimeFailed(f"{backend.name}{version} does not run Gemma's drafters", hint="leave out --drafter")
        return f"{backend.name}{version} does not run Gemma's drafters"
    return "" if draft else "none is known for this model"
