"""From what was asked for to what is to be started: model, placement, drafter, files.

`configure` decides; it is pure but for reading headers and the list of files. `starting` starts what it decides.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from advisor.errors import NothingFits, UsageError
from advisor.hardware import phones
from advisor.knowledge import catalog
from advisor.knowledge.catalog import Catalog
from advisor.machine import Availability, Machine, Record
from advisor.running import arrangement, checkpoints, tried
from advisor.running.order import ADAPTS, DEMO, DRAFT_TOKENS, NATIVE, SWITCHED_OFF, Order, Setup, is_file
from backends.base import Model, Options

if TYPE_CHECKING:
    from advisor.choice.candidates import Candidate
    from advisor.choice.estimate import Estimate
    from advisor.choice.subject import Draft, Subject


def configure(order: Order, *, strict: bool = True, measured: bool = True) -> Setup:
    """Model, placement and drafter for an order. Nothing is fetched but listings and headers.

    Args:
        strict: whether a repository that cannot be read is an error; otherwise its files are named `hf:repo/file`.
        measured: whether a trial of these files decides about the drafter and its length, where the user does not.

    Raises:
        UsageError: no such model, quant or number.
        NothingFits: it needs more memory than there is.
        NoBackend: the backend asked for cannot be used here.
        DownloadFailed: the repository cannot be read.
        RuntimeFailed: a file is not what it should be.
    """
    if checkpoints.reads(order.backend):
        setup = checkpoints.configure(order, strict=strict)
        return tried.chosen(setup) if measured else setup
    if order.hosts:
        raise UsageError("several hosts serve one model with vLLM or SGLang only", hint="add --backend vllm")
    if order.model is not None and order.model.lower() == DEMO:
        setup = _demo(order)
    elif order.model is not None and is_file(order.model):
        setup = _own_file(order)
    else:
        setup = _of_catalogue(order, strict=strict)
    return tried.chosen(setup) if measured else setup


def _demo(order: Order) -> Setup:
    from advisor.files import gguf  # noqa: PLC0415
    from advisor.running import demo  # noqa: PLC0415

    if order.quant is not None:
        raise UsageError("the demo has one file", hint="leave out --quant")
    drafts = order.drafts
    model = demo.pair(drafter=drafts)
    if order.drafter is not None:
        gguf.pair(model.target, order.drafter)
    longest = gguf.read(model.target).context_length
    backend = order.backend or NATIVE
    model = msgspec.structs.replace(
        model,
        drafter=order.drafter or model.drafter,
        draft_tokens=_draft_tokens(order, backend, model.draft_tokens) if drafts else 0,
        context_tokens=_context(order.context or model.context_tokens, longest, DEMO),
    )
    return Setup(
        backend=backend,
        model=model,
        options=_options(order),
        drafter_reason="the embedded pair" if drafts else SWITCHED_OFF,
        expected_bytes=_in_one_memory(model, order, backend),
        order=order,
    )


def _in_one_memory(model: Model, order: Order, backend: str) -> int:
    """Bytes that files which fit everywhere need; on which machine does not matter."""
    from advisor.choice import estimate, subject  # noqa: PLC0415
    from advisor.files import gguf  # noqa: PLC0415
    from advisor.memory.placement import single_copy  # noqa: PLC0415

    about = subject.from_header(gguf.read(model.target), "local file", catalog.load())
    asked = estimate.question(
        about,
        Availability(name=backend, available=True),
        context=model.context_tokens,
        kv_type=order.kv_type,
        sequences=order.parallel,
    )
    draft = subject.given_draft(gguf.read(model.drafter), about) if model.drafter else None
    return single_copy(estimate.demand(about, asked, draft))


def _draft_tokens(order: Order, backend: str, expected: int) -> int:
    if order.draft_tokens is not None:
        return order.draft_tokens
    return ADAPTS if backend == NATIVE else expected or DRAFT_TOKENS


def _context(asked: int, longest: int, name: str) -> int:
    if not 1 <= asked <= longest:
        raise UsageError(f"a context of {asked:,} tokens: {name} takes 1 to {longest:,}")
    return asked


def _options(order: Order) -> Options:
    return Options(
        port=order.port,
        detached=order.detached,
        threads=order.threads,
        gpu_layers=order.gpu_layers,
        kv_type=order.kv_type,
        sequences=order.parallel,
        api_key=order.api_key,
        extra=order.extra,
    )


def _own_file(order: Order) -> Setup:
    """A GGUF of the user's own, placed as the estimate says. Its drafter is the one given, or one that is here."""
    from advisor.choice import subject  # noqa: PLC0415
    from advisor.files import gguf, pairing  # noqa: PLC0415

    path = Path(order.model or "").expanduser()
    if order.quant is not None:
        raise UsageError("--quant chooses among the catalogue's files; the file given has its own", hint="leave it out")
    if order.projector:
        raise UsageError("--projector fetches the catalogue's file", hint="with a file of your own: -- --mmproj FILE")
    where = _site(order)
    about = subject.from_header(gguf.read_whole(path), "local file", where.catalog)
    match = pairing.of(path, order.drafter) if order.drafts else None
    order = msgspec.structs.replace(order, drafter=match.path if match else None)
    found = _estimate(order, about, where, none_known="none was given, and none that belongs to it is here")
    setup = _placed(order, found, path, order.drafter if found.draft else None)
    return msgspec.structs.replace(setup, files=pairing.files(path, match if setup.model.drafter else None))


def _of_catalogue(order: Order, *, strict: bool) -> Setup:
    """A size of the catalogue, or the recommendation, with the files that it needs."""
    from advisor.choice import subject  # noqa: PLC0415
    from advisor.files import pairing, store  # noqa: PLC0415

    where = _site(order)
    order = _recommended(order, where)
    profile = where.catalog.model(order.model or "")
    about = subject.from_catalogue(profile, order.quant)
    found = _estimate(order, about, where, none_known="the catalogue has none for this model")
    if about.quant_record is None:
        raise AssertionError
    draft = found.draft.file if found.draft and not order.drafter else None
    wanted = store.needed(profile, about.quant_record, draft, profile.projector if order.projector else None)
    tagged = about.quant_record.tags.get(where.backend.name)
    # What the backend's own library has comes from there, whole; the drafter it has not.
    files = store.locate([one for one in wanted if one.role == "drafter" or not tagged], strict=strict)
    if order.drafter is not None and found.draft:
        files = (*files, pairing.as_given(order.drafter, qat=about.quant_record.qat).file)
    setup = _placed(order, found, store.at(files, "target") or Path(about.file), store.at(files, "drafter"))
    own = profile.sampling
    sampling = {"temperature": own.temperature, "top_p": own.top_p, "top_k": float(own.top_k)}
    model = msgspec.structs.replace(
        setup.model, projector=store.at(files, "projector"), tag=tagged.name if tagged else "", sampling=sampling
    )
    said = phones.advice(profile, where.machine.os)
    return msgspec.structs.replace(
        setup, model=model, files=files, licence=profile.licence, notes=(said,) if said else ()
    )


class _Site(Record, frozen=True, kw_only=True):
    """What an order is about: this machine, what can run models on it, and what there is to run."""

    machine: Machine
    backend: Availability
    catalog: Catalog


def _site(order: Order) -> _Site:
    from advisor.choice.request import choose_backend  # noqa: PLC0415

    known = catalog.load()
    machine = order.place()
    chosen = choose_backend(order.backend, machine, known.use_case("vision" if order.projector else "chat"))
    return _Site(machine=machine, backend=chosen, catalog=known)


def _recommended(order: Order, where: _Site) -> Order:
    """The order with what `advisor recommend` says for all that it leaves open."""
    if order.model is not None:
        order = msgspec.structs.replace(order, model=where.catalog.model(order.model).id)
    if order.model is not None and order.quant is not None:
        return order
    try:
        pick = _pick(order, where)
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


def _pick(order: Order, where: _Site) -> Candidate:
    """The first choice for an order, however slow where its model is named: who names one has decided that."""
    from advisor.choice.ranking import Request, rank  # noqa: PLC0415

    request = Request(model=order.model, backend=order.backend, context_tokens=order.context, drafter=order.drafts)
    try:
        return rank(request, where.machine, where.catalog).recommendations[0].candidate
    except NothingFits:
        if order.model is None:
            raise
    request = msgspec.structs.replace(request, min_tokens_per_s=0.0)
    return rank(request, where.machine, where.catalog).recommendations[0].candidate


def _estimate(order: Order, about: Subject, where: _Site, *, none_known: str) -> Estimate:
    """Where it goes and what it takes. A drafter is used wherever there is room: whoever leaves it out says so.

    Raises:
        NothingFits: it needs more memory than there is, and nobody insists.
    """
    from advisor.choice import estimate, subject  # noqa: PLC0415
    from advisor.files import gguf  # noqa: PLC0415

    asked = estimate.question(
        about,
        where.backend,
        context=order.context,
        kv_type=order.kv_type,
        projector=order.projector,
        sequences=order.parallel,
    )
    draft = None
    if order.drafts:
        given = subject.given_draft(gguf.read(order.drafter), about) if order.drafter else None
        draft = given or (subject.usual_draft(about) if about.header is None else None)
    refusal = estimate.no_drafter_reason(where.backend, switched_off=not order.drafts, draft=draft)
    if draft is None and where.backend.drafter:
        refusal = none_known if order.drafts else SWITCHED_OFF

    def attempt(one: Draft | None, reason: str) -> Estimate:
        return estimate.estimate(about, asked, one, reason, machine=where.machine, catalog=where.catalog)

    found = attempt(None if refusal else draft, refusal)
    if not found.fits and not order.force:
        raise NothingFits(
            "; ".join([f"{found.subject.name} {found.subject.quant}", *found.warnings]),
            hint="a shorter --context or a smaller file needs less; --force starts it all the same",
            command="advisor recommend",
        )
    little = found.drafter_reason.startswith(("the expected gain", "its gain is"))
    if found.draft is None and draft is not None and little:
        return attempt(msgspec.structs.replace(draft, given=True), "")
    return found


def estimated(order: Order, setup: Setup) -> Estimate:
    """What another order would need where this one was placed; nothing is read but the catalogue.

    Raises:
        AdvisorError: it cannot be, or needs more memory than there is.
    """
    from advisor.choice import subject  # noqa: PLC0415

    found = setup.estimate
    if found is None:
        raise UsageError(f"nothing is known of {setup.model.name}")
    where = _Site(machine=found.machine, backend=found.question.backend, catalog=catalog.load())
    about = found.subject
    if about.header is None:
        about = subject.from_catalogue(where.catalog.model(order.model or ""), order.quant)
    elif order.use_drafter:
        order = msgspec.structs.replace(order, drafter=setup.model.drafter)
    return _estimate(order, about, where, none_known="")


def _placed(order: Order, found: Estimate, target: Path, drafter: Path | None) -> Setup:
    """An estimate as what to start. Layers that the user placed himself are not what was estimated."""
    backend = found.question.backend.name
    own = order.gpu_layers is not None
    speed = found.speed.decode if found.speed and not own else None
    return Setup(
        backend=backend,
        model=Model(
            name=found.subject.profile.id if found.subject.profile else target.stem,
            target=target,
            drafter=drafter,
            draft_tokens=_draft_tokens(order, backend, found.draft_tokens) if drafter else 0,
            context_tokens=found.question.context_tokens,
        ),
        options=arrangement.arranged(_options(order), found),
        drafter_reason=found.drafter_reason,
        expected_tokens_per_s=speed,
        expected_bytes=None if own else found.placement.device_bytes + found.placement.host_bytes,
        order=order,
        estimate=None if own else found,
    )
