"""What each backend would do with the answer, what it lacks, and the command line that goes with it. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from advisor.choice.request import BUILT_IN_BACKENDS, assumed_backend
from advisor.commands.detect import SYSTEMS, backend_text
from advisor.errors import AdvisorError
from advisor.knowledge import catalog
from advisor.machine import Availability, Machine, Record
from advisor.pages.report import RecommendationPart
from advisor.pages.terminal import rate
from advisor.running import checkpoints, joining
from advisor.running.order import Order
from advisor.tui.state import Choice, answer, machine_of

FAMILY = "Gemma 4 "


class Prospect(Record, frozen=True, kw_only=True):
    """One backend. `state`: what it is, or why it is not there. `does`: what it runs, or would run, in a sentence;
    `brief`: in a few words, or what it lacks. `helps`: what to do about that. `command`: what launches it here, or what
    mends it; empty where neither is a single line. `serves`: only its server is to be started."""

    backend: Availability
    state: str
    does: str
    brief: str
    helps: str = ""
    command: str = ""
    serves: bool = False

    @property
    def ready(self) -> bool:
        return self.backend.available

    @property
    def takes(self) -> bool:
        """Whether the answer can be reckoned for it."""
        return self.ready and not self.reads_checkpoints

    @property
    def launches(self) -> bool:
        """Whether it runs something whose speed is not reckoned."""
        return self.ready and self.reads_checkpoints and bool(self.command)

    @property
    def shows(self) -> bool:
        """Whether it runs the demo."""
        return self.ready and self.backend.name != checkpoints.LITERT

    @property
    def reads_checkpoints(self) -> bool:
        return self.backend.name in catalog.load().runtimes


class Told(NamedTuple):
    """What it does, the same in a few words, and the command that launches it."""

    does: str
    brief: str
    command: str = ""


def prospects(choice: Choice, detected: Machine | None) -> list[Prospect]:
    """All backends, those that are ready first; on a described machine all of them are assumed."""
    names = (*BUILT_IN_BACKENDS, *catalog.load().runtimes)
    here = detected.backends if choice.here and detected is not None else ()
    found = here or tuple(assumed_backend(name) for name in names)
    usual = {name: place for place, name in enumerate(names)}
    ordered = sorted(found, key=lambda one: (not one.available, usual.get(one.name, len(usual))))
    return [prospect(one, choice, detected) for one in ordered]


def prospect(backend: Availability, choice: Choice, detected: Machine | None) -> Prospect:
    """One of them."""
    told = runs(backend, choice, detected)
    serves = servable(backend)
    lacks = "its server does not run" if serves else (backend.why_not or "not here").partition(": ")[0]
    assumed = backend.available and backend.version is None and backend.path is None
    lacking = not backend.available or backend.why_not or (detected is not None and detected.gpus)
    said = backend_text(backend).removeprefix(backend.name).strip(": ")
    return Prospect(
        backend=backend,
        state="assumed to be current" if assumed else said,
        does=told.does,
        brief=told.brief if backend.available else lacks,
        helps=(backend.hint or "") if lacking and backend.hint != backend.mend else "",
        command=told.command if backend.available else backend.mend or "",
        serves=serves,
    )


def runs(backend: Availability, choice: Choice, detected: Machine | None) -> Told:
    """What it would run; why it would run nothing."""
    reads_checkpoints = backend.name in catalog.load().runtimes
    try:
        return (runs_checkpoint if reads_checkpoints else runs_pick)(backend, choice, detected)
    except AdvisorError as error:
        return Told(error.message, error.message)
    except LookupError:
        return Told("", "")


def runs_pick(backend: Availability, choice: Choice, detected: Machine | None) -> Told:
    """The pick with that backend, as if it were there."""
    if not backend.available and detected is not None:
        detected = msgspec.structs.replace(detected, backends=(assumed_backend(backend.name),))
    pick = answer(msgspec.structs.replace(choice, backend=backend.name), detected, catalog.load()).pick
    speed = f"about {rate(pick.speed.decode_tokens_per_s)} tok/s"
    return Told(
        f"{pick.name} {pick.quant} {where(pick)}, {speed}",
        f"{pick.name.removeprefix(FAMILY)} {where(pick)}, {speed}",
        pick.command,
    )


def where(pick: RecommendationPart) -> str:
    return {"gpu": "on the GPU", "cpu": "on the processor"}.get(pick.placement.mode, "on GPU and processor")


def runs_checkpoint(backend: Availability, choice: Choice, detected: Machine | None) -> Told:
    """The checkpoint that it would run. Nothing is known of its speed."""
    known = catalog.load()
    machine, runtime = machine_of(choice, detected, known), known.runtimes[backend.name]
    if machine.os not in runtime.systems:
        said = f"{runtime.name} does not run on {SYSTEMS.get(machine.os, machine.os)}"
        return Told(said, said)
    if choice.here and (server := joining.server_of(runtime)):
        order = Order(backend=backend.name)
        return Told(f"what the server at {server} has; it is used as it is", "what its server has", order.typed())
    found = checkpoints.outlook(runtime, machine, usual_model(choice, detected), choice.context_tokens)
    if found is None:
        return Told(f"no checkpoint that {runtime.name} reads has room here", "no checkpoint has room here")
    order = Order(
        model=found.model.id,
        backend=backend.name,
        context=choice.context_tokens,
        use_drafter=choice.drafter,
        gpu=choice.gpu if choice.here else None,
        memory=choice.memory if choice.here else None,
    )
    return Told(
        f"{found.model.name} {found.words}; its speed is not predicted",
        f"{found.model.name.removeprefix(FAMILY)} {found.words}",
        order.typed(),
    )


def usual_model(choice: Choice, detected: Machine | None) -> str | None:
    """The model that is the answer with any backend; None where there is none."""
    try:
        return answer(msgspec.structs.replace(choice, backend=None), detected, catalog.load()).pick.model
    except AdvisorError:
        return choice.model


def servable(backend: Availability) -> bool:
    """Whether it is installed here and nothing but its server is missing, which can be started."""
    if backend.available or not backend.path or backend.host:
        return False
    from backends.base import load  # noqa: PLC0415

    try:
        return load(backend.name).shared
    except AdvisorError:
        return False
