"""From what was asked for to an endpoint that answers, with the proof that its drafter works.

`configure` decides (pure but for reading headers and the list of files), `open_session` starts, `prove` asks once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from advisor import catalog, sessions
from advisor.catalog import Catalog
from advisor.errors import AdvisorError, NothingFits, RuntimeFailed, UsageError
from advisor.machine import Availability, Machine, Record
from advisor.sessions import Session
from advisor.store import File
from backends.base import Backend, Endpoint, LaunchPlan, Model, Options, Stats

if TYPE_CHECKING:
    from advisor.estimate import Estimate
    from advisor.subject import Draft, Subject

DEMO = "demo"
NATIVE = "native"
DRAFT_TOKENS = 3
"""Drafted a round where nobody says otherwise and nothing is known."""
ADAPTS = -1
"""The native engine's own choice: as many as pay."""
PORT_TRIES = 5
QUESTION = "Explain in a few sentences how a small drafter makes a large language model answer faster."
PROOF_TOKENS = 48
SWITCHED_OFF = "it was switched off"


class Order(Record, frozen=True, kw_only=True):
    """What was asked for. None: the best choice. `draft_tokens` 0: plain decoding; `force`: even what does not fit."""

    model: str | None = None
    backend: str | None = None
    quant: str | None = None
    context: int | None = None
    drafter: Path | None = None
    use_drafter: bool = True
    draft_tokens: int | None = None
    port: int = 0
    detached: bool = False
    projector: bool = False
    force: bool = False
    extra: tuple[str, ...] = ()


class Setup(Record, frozen=True, kw_only=True):
    """What will be started. `drafter_reason`: why there is a drafter, or none. `files`: of the catalogue, some of them
    still to be fetched. `expected_*`: the estimate, where there is one; tokens per second and bytes."""

    backend: str
    model: Model
    options: Options
    drafter_reason: str
    files: tuple[File, ...] = ()
    licence: str = ""
    expected_tokens_per_s: float | None = None
    expected_bytes: int | None = None


class Proof(Record, frozen=True, kw_only=True):
    """What the first answer showed. `reason`: why the drafter is off; empty where it is active.

    `tokens_per_step`: tokens that each round of the target gave, the drafts that were right and one of its own.
    """

    active: bool
    drafted: int
    accepted: int
    acceptance: float | None
    tokens_per_step: float | None
    tokens_per_s: float | None
    memory_bytes: int | None
    reason: str


# ---- Deciding


def configure(order: Order, *, strict: bool = True) -> Setup:
    """Model, placement and drafter for an order. Nothing is fetched but listings and headers.

    Args:
        strict: whether a repository that cannot be read is an error; otherwise its files are named `hf:repo/file`.

    Raises:
        UsageError: no such model, quant or number.
        NothingFits: it needs more memory than there is.
        NoBackend: the backend asked for cannot be used here.
        DownloadFailed: the repository cannot be read.
        RuntimeFailed: a file is not what it should be.
    """
    if order.model is not None and order.model.lower() == DEMO:
        return _demo(order)
    if order.model is not None and is_file(order.model):
        return _own_file(order)
    return _of_catalogue(order, strict=strict)


def is_file(name: str) -> bool:
    """Whether MODEL means a file and not a size of the catalogue."""
    return name.lower().endswith(".gguf") or "/" in name or Path(name).expanduser().exists()


def _demo(order: Order) -> Setup:
    from advisor import demo, gguf  # noqa: PLC0415

    if order.quant is not None:
        raise UsageError("the demo has one file", hint="leave out --quant")
    drafting = _drafting(order)
    model = demo.pair(drafter=drafting)
    if order.drafter is not None:
        gguf.pair(model.target, order.drafter)
    longest = gguf.read(model.target).context_length
    return Setup(
        backend=order.backend or NATIVE,
        model=msgspec.structs.replace(
            model,
            drafter=order.drafter or model.drafter,
            draft_tokens=_draft_tokens(order, order.backend or NATIVE, model.draft_tokens) if drafting else 0,
            context_tokens=_context(order.context or model.context_tokens, longest, DEMO),
        ),
        options=_options(order),
        drafter_reason="the embedded pair" if drafting else SWITCHED_OFF,
    )


def _draft_tokens(order: Order, backend: str, expected: int) -> int:
    if order.draft_tokens is not None:
        return order.draft_tokens
    return ADAPTS if backend == NATIVE else expected or DRAFT_TOKENS


def _context(asked: int, longest: int, name: str) -> int:
    if not 1 <= asked <= longest:
        raise UsageError(f"a context of {asked:,} tokens: {name} takes 1 to {longest:,}")
    return asked


def _options(order: Order) -> Options:
    return Options(port=order.port, detached=order.detached, extra=order.extra)


def _own_file(order: Order) -> Setup:
    """A GGUF of the user's own, placed as the estimate says. Its drafter is the one given, or one that is here."""
    from advisor import gguf, pairing, subject  # noqa: PLC0415

    path = Path(order.model or "").expanduser()
    if order.quant is not None:
        raise UsageError("--quant chooses among the catalogue's files; the file given has its own", hint="leave it out")
    if order.projector:
        raise UsageError("--projector fetches the catalogue's file", hint="with a file of your own: -- --mmproj FILE")
    where = _site(order)
    about = subject.from_header(gguf.read_whole(path), "local file", where.catalog)
    match = pairing.of(path, order.drafter) if _drafting(order) else None
    order = msgspec.structs.replace(order, drafter=match.path if match else None)
    found = _estimate(order, about, where, none_known="none was given, and none that belongs to it is here")
    setup = _placed(order, found, path, order.drafter if found.draft else None)
    return msgspec.structs.replace(setup, files=pairing.files(path, match if setup.model.drafter else None))


def _of_catalogue(order: Order, *, strict: bool) -> Setup:
    """A size of the catalogue, or the recommendation, with the files that it needs."""
    from advisor import store, subject  # noqa: PLC0415

    where = _site(order)
    order = _recommended(order, where)
    profile = where.catalog.model(order.model or "")
    about = subject.from_catalogue(profile, order.quant)
    found = _estimate(order, about, where, none_known="the catalogue has none for this model")
    if about.quant_record is None:
        raise AssertionError
    draft = found.draft.file if found.draft and not order.drafter else None
    wanted = store.needed(profile, about.quant_record, draft, profile.projector if order.projector else None)
    files = store.locate(wanted, strict=strict)
    drafter = store.at(files, "drafter") or (order.drafter if found.draft else None)
    setup = _placed(order, found, store.at(files, "target") or Path(about.file), drafter)
    model = msgspec.structs.replace(setup.model, projector=store.at(files, "projector"))
    return msgspec.structs.replace(setup, model=model, files=files, licence=profile.licence)


class _Site(Record, frozen=True, kw_only=True):
    """What an order is about: this machine, what can run models on it, and what there is to run."""

    machine: Machine
    backend: Availability
    catalog: Catalog


def _site(order: Order) -> _Site:
    from advisor.detection import detect  # noqa: PLC0415
    from advisor.request import choose_backend  # noqa: PLC0415

    known = catalog.load()
    machine = detect(known.devices.values())
    chosen = choose_backend(order.backend, machine, known.use_case("vision" if order.projector else "chat"))
    return _Site(machine=machine, backend=chosen, catalog=known)


def _recommended(order: Order, where: _Site) -> Order:
    """The order with what `advisor recommend` says for all that it leaves open."""
    from advisor.ranking import Request, rank  # noqa: PLC0415

    if order.model is not None:
        order = msgspec.structs.replace(order, model=where.catalog.model(order.model).id)
    if order.model is not None and order.quant is not None:
        return order
    request = Request(model=order.model, backend=order.backend, context_tokens=order.context, drafter=_drafting(order))
    try:
        pick = rank(request, where.machine, where.catalog).recommendations[0].candidate
    except NothingFits:
        if order.model is not None and order.force:
            return order
        raise
    return msgspec.structs.replace(
        order,
        model=pick.model.id,
        quant=pick.quant.name,
        use_drafter=order.use_drafter and (pick.drafter.enabled or order.drafter is not None),
    )


def _drafting(order: Order) -> bool:
    return order.use_drafter and order.draft_tokens != 0


def _estimate(order: Order, about: Subject, where: _Site, *, none_known: str) -> Estimate:
    """Where it goes and what it takes. A drafter is used wherever there is room: whoever leaves it out says so.

    Raises:
        NothingFits: it needs more memory than there is, and nobody insists.
    """
    from advisor import estimate, gguf, subject  # noqa: PLC0415

    asked = estimate.question(about, where.backend, context=order.context, projector=order.projector)
    draft = None
    if _drafting(order):
        given = subject.given_draft(gguf.read(order.drafter), about) if order.drafter else None
        draft = given or (subject.usual_draft(about) if about.header is None else None)
    refusal = estimate.no_drafter_reason(where.backend, switched_off=not _drafting(order), draft=draft)
    if draft is None and where.backend.drafter:
        refusal = none_known if _drafting(order) else SWITCHED_OFF

    def attempt(one: Draft | None, reason: str) -> Estimate:
        return estimate.estimate(about, asked, one, reason, machine=where.machine, catalog=where.catalog)

    found = attempt(None if refusal else draft, refusal)
    if not found.fits and not order.force:
        raise NothingFits(
            "; ".join([f"{found.subject.name} {found.subject.quant}", *found.warnings]),
            hint="a shorter --context or a smaller file needs less; --force starts it all the same",
            command="advisor recommend",
        )
    if found.draft is None and draft is not None and found.drafter_reason.startswith("the expected gain"):
        return attempt(msgspec.structs.replace(draft, given=True), "")
    return found


def _placed(order: Order, found: Estimate, target: Path, drafter: Path | None) -> Setup:
    """An estimate as what to start."""
    placed = found.placement
    on_gpu = placed.mode != "cpu"
    # Where no GPU is known, llama.cpp may still know one: it is left to decide.
    decided = found.fits and (on_gpu or bool(found.machine.gpus))
    return Setup(
        backend=found.question.backend.name,
        model=Model(
            name=found.subject.profile.id if found.subject.profile else target.stem,
            target=target,
            drafter=drafter,
            draft_tokens=_draft_tokens(order, found.question.backend.name, found.draft_tokens) if drafter else 0,
            context_tokens=found.question.context_tokens,
        ),
        options=msgspec.structs.replace(
            _options(order),
            gpu_layers=placed.gpu_layers if decided else None,
            cpu_expert_layers=placed.cpu_expert_layers if decided else 0,
            kv_type=found.question.kv_type,
        ),
        drafter_reason=found.drafter_reason,
        expected_tokens_per_s=found.speed.decode if found.speed else None,
        expected_bytes=placed.device_bytes + placed.host_bytes,
    )


# ---- Starting


def planned(backend: Backend, setup: Setup, *, port: int = 0, log: Path | None = None) -> LaunchPlan:
    """What starting would take, on that port and with that log."""
    options = msgspec.structs.replace(setup.options, port=port or setup.options.port, log=log)
    return backend.plan(setup.model, options)


def open_session(backend: Backend, setup: Setup) -> Session:
    """Start it and enter it among the sessions.

    Raises:
        AdvisorError: as `Backend.start`; nothing of it is left then.
    """
    for attempt in range(1, PORT_TRIES + 1):
        session = sessions.claim(setup.model.name, planned(backend, setup), port=setup.options.port)
        plan = planned(backend, setup, port=session.port, log=sessions.log_of(session.name))
        try:
            return sessions.started(session, backend.start(plan))
        except RuntimeFailed:
            sessions.forget(session)
            # Somebody else may have taken the port in the meantime; then another one will do.
            if setup.options.port or attempt == PORT_TRIES or sessions.can_bind(session.port):
                raise
        except BaseException:
            sessions.forget(session)
            raise
    raise AssertionError


def prove(backend: Backend, session: Session, *, drafter_reason: str = "") -> Proof:
    """Ask something and look whether tokens were drafted.

    Args:
        drafter_reason: why there is no drafter, where there is none.

    Raises:
        RuntimeFailed: the server does not answer.
    """
    from advisor.client import joined  # noqa: PLC0415 - an HTTP library takes longer to import than a plan to make
    from advisor.demo import collect  # noqa: PLC0415

    endpoint = session.endpoint
    with joined(backend, endpoint) as client:
        question = [{"role": "user", "content": QUESTION}]
        timings = collect(client.chat(question, temperature=0, max_tokens=PROOF_TOKENS)).timings
    drafted, accepted = timings.draft_n or 0, timings.draft_n_accepted or 0
    tokens = (timings.predicted_n or 0) - 1  # the first one belongs to the prompt
    return Proof(
        active=drafted > 0,
        drafted=drafted,
        accepted=accepted,
        acceptance=accepted / drafted if drafted else None,
        tokens_per_step=tokens / (tokens - accepted) if drafted and tokens > accepted else None,
        tokens_per_s=timings.predicted_per_second,
        memory_bytes=_memory(backend, endpoint),
        reason="" if drafted else _why_plain(backend, session, drafter_reason),
    )


def _memory(backend: Backend, endpoint: Endpoint) -> int | None:
    try:
        found: Stats = backend.stats(endpoint)
    except AdvisorError:
        return None
    return found.memory_bytes


def _why_plain(backend: Backend, session: Session, reason: str) -> str:
    if not session.drafter:
        return reason or "none was given"
    # Backends that can tell from their log do; the interface does not ask it of the others.
    asked: Callable[[Endpoint], str] | None = getattr(backend, "why_plain", None)
    return asked(session.endpoint) if asked else "plain decoding is faster here, as measured while answering"


def attend(backend: Backend, session: Session) -> None:
    """Wait until the session ends.

    Raises:
        RuntimeFailed: its process died; returns where `advisor stop` ended it.
    """
    while sessions.is_alive(session):
        time.sleep(0.2)
    if not sessions.was_stopped(session):
        raise backend.cause(session.endpoint)
