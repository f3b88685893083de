"""Orders for runtimes that read checkpoints: which one of the catalogue, on how many cards, and what is to be fetched.

Speeds are not predicted here: what is known of speed was measured with GGUF files.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from advisor.errors import NothingFits, RuntimeFailed, UsageError, unknown_name
from advisor.hardware import phones
from advisor.knowledge import catalog
from advisor.knowledge.profile import Checkpoint, ModelProfile, Runtime
from advisor.machine import Availability, Machine, Record
from advisor.memory.room import Room, cards_of, room_for
from advisor.running import demo, joining, repositories
from advisor.running.order import DRAFT_TOKENS, SWITCHED_OFF, Order, Setup, is_place
from advisor.units import format_bytes, format_file_size
from backends.base import Model, Options, usable

CONTEXT = 8192
LITERT = "litert"


def reads(backend: str | None) -> bool:
    """Whether a backend reads checkpoints."""
    return backend is not None and backend in catalog.load().runtimes


def configure(order: Order, *, strict: bool) -> Setup:
    """Checkpoint, cards and drafter for an order.

    Args:
        strict: whether it will be started: then it must fit, and repositories are listed.

    Raises:
        UsageError: no such model or checkpoint, or this runtime has none of it.
        NoBackend: it cannot be used here, and will be started.
        NothingFits: no checkpoint has room, and nobody insists.
        DownloadFailed: a repository cannot be read.
    """
    known = catalog.load()
    runtime = known.runtimes[order.backend or ""]
    if server := joining.server_of(runtime):
        return joining.configure(order, runtime, server, strict=strict)
    if strict:
        usable(runtime.id)  # before anything is listed, fetched or made for it
    machine = order.place()
    if order.model is not None and order.model.lower() == demo.NAME:
        own = _own(_embedded(order, runtime, strict=strict), runtime, machine)
        return msgspec.structs.replace(own, order=order)  # what is to be typed names the demo, no folder in a cache
    if order.model is not None and is_place(order.model):
        return _own(order, runtime, machine)
    if order.model is None:
        raise UsageError(
            f"which model? What is recommended are GGUF files, which {runtime.name} does not read",
            hint=f"name one of {', '.join(known.models)}",
            command=f"advisor launch 12b --backend {runtime.id} --dry-run",
        )
    profile = known.model(order.model)
    found, room = _chosen(order, profile, runtime, machine)
    if strict and not room.fits and not order.force:
        raise NothingFits(_short(profile, found, room), hint="--force starts it all the same")
    draft = order.drafter or (Path(found.drafter) if found.drafter and order.drafts else None)
    wanted = repositories.wanted(found, None if order.drafter else draft)
    files = tuple(each for one in wanted for each in (repositories.files if strict else repositories.unread)(one))
    usual = profile.sampling
    return Setup(
        backend=runtime.id,
        model=Model(
            name=profile.id,
            target=files[0].path if found.file else Path(found.repo),
            drafter=draft,
            draft_tokens=_draft_tokens(order, profile, inside=not found.drafter) if order.drafts else 0,
            context_tokens=_context(order, profile.context_tokens, profile.id),
            sampling={"temperature": usual.temperature, "top_p": usual.top_p, "top_k": float(usual.top_k)},
        ),
        options=_options(order, room, runtime, profile.id),
        drafter_reason=_reason(order, found),
        files=files,
        licence=profile.licence,
        order=order,
        repositories=wanted,
        notes=_notes(runtime, profile, machine, found, room),
    )


def _reason(order: Order, found: Checkpoint) -> str:
    if not order.drafts:
        return SWITCHED_OFF
    return "the assistant of this size" if found.drafter else "it is inside the file"


def _embedded(order: Order, runtime: Runtime, *, strict: bool) -> Order:
    """The order for the embedded pair as checkpoints, which are made from its files when they are first needed."""
    from profiles.demo import checkpoint  # noqa: PLC0415 - numpy

    if runtime.id == LITERT:
        raise UsageError(f"{runtime.name} has no demo: its models are files of its own", hint="name e2b or e4b")
    pair = checkpoint.make() if strict else checkpoint.place()
    draft = order.drafter or pair.drafter if order.drafts else None
    context = _context(msgspec.structs.replace(order, context=order.context or demo.CONTEXT), demo.CONTEXT, demo.NAME)
    return msgspec.structs.replace(order, model=str(pair.target), drafter=draft, context=context)


def _own(order: Order, runtime: Runtime, machine: Machine) -> Setup:
    """A checkpoint of the user's own; whether it fits is not known."""
    target = Path(order.model or "").expanduser().absolute()
    inside = runtime.id == LITERT
    draft = order.drafter.expanduser().absolute() if order.drafter and order.drafts else None
    given = draft is not None or (inside and order.drafts)
    return Setup(
        backend=runtime.id,
        model=Model(
            name=target.stem if inside else target.name,
            target=target,
            drafter=None if inside else draft,
            draft_tokens=(order.draft_tokens or DRAFT_TOKENS) if given else 0,
            context_tokens=_context(order, _longest(target) or order.context or CONTEXT, target.name),
        ),
        options=_options(order, Room(cards=cards_of(machine)[: 1 if machine.gpus else 0], need=0, fits=True), runtime),
        drafter_reason="as it was given" if given else "none was given",
        order=order,
        notes=(f"{runtime.name} {runtime.floor} or later: {runtime.install_line(machine.os)}",),
    )


def _longest(target: Path) -> int:
    """Tokens that a checkpoint's context may have; 0 where it does not tell, or is not here."""
    from backends import checkpoint  # noqa: PLC0415

    try:
        return checkpoint.read(target).context
    except RuntimeFailed:
        return 0


def _chosen(order: Order, profile: ModelProfile, runtime: Runtime, machine: Machine) -> tuple[Checkpoint, Room]:
    """The checkpoint asked for, else the best that fits, else the smallest."""
    mine = [one for one in profile.checkpoints if runtime.id in one.runtimes]
    if not mine:
        known = [model.id for model in catalog.load().models.values() if _has(model, runtime)]
        raise UsageError(
            f"{runtime.name} has no checkpoint of {profile.id} with its drafter",
            hint=f"it has {', '.join(known)}",
            command=f"advisor launch {known[0]} --backend {runtime.id} --dry-run" if known else "advisor models",
        )
    if order.quant is not None:
        named = [one for one in mine if one.name.lower() == order.quant.lower()]
        if not named:
            raise unknown_name(f"checkpoint of {profile.id} for {runtime.name}", order.quant, [o.name for o in mine])
        mine = named
    asked = {"context": order.context or CONTEXT, "sequences": order.parallel, "hosts": max(1, len(order.hosts))}
    asked["least"] = runtime.cards.get(profile.id, 1) if order.drafts else 1
    rooms = [(one, room_for(one, profile, machine, runtime, drafter=order.use_drafter, **asked)) for one in mine]
    fitting = [each for each in rooms if each[1].fits]
    return fitting[0] if fitting else min(rooms, key=lambda each: int(each[0].bytes))


def _has(profile: ModelProfile, runtime: Runtime) -> bool:
    return any(runtime.id in one.runtimes for one in profile.checkpoints)


class Outlook(Record, frozen=True, kw_only=True):
    """What a runtime could run on a machine."""

    model: ModelProfile
    checkpoint: Checkpoint
    room: Room

    @property
    def words(self) -> str:
        """`BF16 (24 GB) on 2 GPUs`."""
        cards = len(self.room.cards)
        place = "in main memory" if not cards else "on the GPU" if cards == 1 else f"on {cards} GPUs"
        return f"{self.checkpoint.name} ({format_file_size(int(self.checkpoint.bytes))}) {place}"


def outlook(runtime: Runtime, machine: Machine, model: str | None, context: int | None = None) -> Outlook | None:
    """The model with the best of its checkpoints, where this runtime has one with room; else the largest one that has.

    Args:
        model: the one to begin with; None: the largest.
        context: tokens, `CONTEXT` by default.
    """
    sizes = sorted(catalog.load().models.values(), key=lambda one: (one.id != model, -one.architecture.parameters))
    for profile in sizes:
        order = Order(model=profile.id, context=min(context or CONTEXT, profile.context_tokens))
        if _has(profile, runtime):
            found, room = _chosen(order, profile, runtime, machine)
            if room.fits:
                return Outlook(model=profile, checkpoint=found, room=room)
    return None


def _options(order: Order, room: Room, runtime: Runtime, model: str = "") -> Options:
    from backends import container  # noqa: PLC0415 - what few ask for

    return Options(
        container=container.chosen(runtime, room.cards, model) if order.container else None,
        port=order.port,
        detached=order.detached,
        threads=order.threads,
        gpus=room.cards,
        gpu_layers=order.gpu_layers,
        kv_type=order.kv_type,
        sequences=order.parallel,
        api_key=order.api_key,
        extra=order.extra,
        hosts=order.hosts,
    )


def _context(order: Order, longest: int, name: str) -> int:
    asked = order.context or min(CONTEXT, longest)
    if asked > longest:
        raise UsageError(f"a context of {asked:,} tokens: {name} takes 1 to {longest:,}")
    return asked


def _draft_tokens(order: Order, profile: ModelProfile, *, inside: bool) -> int:
    if inside:
        return 1  # how many is the file's own choice
    return order.draft_tokens if order.draft_tokens and order.draft_tokens > 0 else profile.drafter.draft_tokens


def _short(profile: ModelProfile, found: Checkpoint, room: Room) -> str:
    where = f"on each of {len(room.cards)} GPUs" if len(room.cards) > 1 else "on the GPU" if room.cards else "in memory"
    return f"{profile.name} {found.name} needs about {format_bytes(room.need)} {where}, which is more than there is"


def _notes(runtime: Runtime, profile: ModelProfile, machine: Machine, found: Checkpoint, room: Room) -> tuple[str, ...]:
    """What a reader of the plan should know."""
    here = next((each for each in machine.backends if each.name == runtime.id), None)
    notes = [advice] if (advice := phones.advice(profile, machine.os)) else []
    notes += [f"{runtime.name} {runtime.least(profile.id)} or later: {runtime.install_line(machine.os)}", *_state(here)]
    if machine.os not in runtime.systems:
        notes.append(f"it does not run on this system ({machine.os})")
    notes.append(f"needs {runtime.needs}")
    if here is None or here.version is None:
        notes += _as_image(runtime, room)
    least = runtime.cards.get(profile.id, 1)
    if 0 < len(room.cards) < least:
        notes.append(f"its cookbook asks for {least} GPUs for {profile.name} with its drafter")
    if not room.fits:
        notes.append(_short(profile, found, room))
    return tuple(notes)


def _as_image(runtime: Runtime, room: Room) -> list[str]:
    """Whether it could be had as a container here."""
    from backends import container  # noqa: PLC0415

    runs = container.program() if room.cards and room.cards[0].vendor in runtime.image else ""
    return [f"or as a container: {runs} is here, and --container prints what to type"] if runs else []


def _state(here: Availability | None) -> list[str]:
    if here is None or here.version is None:
        return [(here.why_not if here else None) or "not installed here"]
    return [f"{here.version} is installed" + (f": {here.why_not}" if here.why_not else "")]


def plain(setup: Setup) -> Setup:
    """The same without the drafter."""
    model = msgspec.structs.replace(setup.model, drafter=None, draft_tokens=0)
    return msgspec.structs.replace(setup, model=model, drafter_reason=SWITCHED_OFF)


def lines(setup: Setup) -> list[str]:
    """What is to be fetched, for those who read the plan."""
    return [
        f"{one.role:<9} {one.repo}{'/' + one.file if one.file else ''}, {format_file_size(one.size)}"
        for one in setup.repositories
        if not setup.files
    ]
