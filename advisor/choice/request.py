"""What is asked for, and the same with every default filled in: use case, context, floor, backend."""

from __future__ import annotations

from advisor.choice.candidates import UNREAD_MODALITIES, Prefer, Terms
from advisor.errors import NoBackend, UsageError, unknown_name
from advisor.knowledge.catalog import Catalog
from advisor.knowledge.profile import ModelProfile, UseCase
from advisor.machine import Availability, Machine, Record

BUILT_IN_BACKENDS = ("llama.cpp", "ollama", "native")
"""In the order in which they are chosen; whatever else is installed comes after them."""

LARGEST_RESERVE = 1 << 50


class Request(Record, frozen=True, kw_only=True):
    """What is asked for. None means: what the use case says, or the best choice.

    `quant`: only this file of `model`. `reserve_bytes`: memory to leave free beyond what others hold, in place of the
    usual margin.
    """

    use_case: str = "chat"
    context_tokens: int | None = None
    prefer: Prefer | None = None
    min_tokens_per_s: float | None = None
    backend: str | None = None
    model: str | None = None
    quant: str | None = None
    drafter: bool = True
    reserve_bytes: int | None = None


def resolve(request: Request, machine: Machine, catalog: Catalog) -> Terms:
    """The request with its defaults, checked.

    Raises:
        UsageError: an unknown use case, model or backend, or an impossible number.
        NoBackend: the backend asked for cannot be used here, or cannot do this.
    """
    use_case = catalog.use_case(request.use_case)
    if request.backend in catalog.runtimes:
        raise reads_checkpoints(request.backend or "", request.model)
    context = use_case.context_tokens if request.context_tokens is None else request.context_tokens
    floor = use_case.min_tokens_per_s if request.min_tokens_per_s is None else request.min_tokens_per_s
    longest = max(model.context_tokens for model in catalog.models.values())
    if not 1 <= context <= longest:
        raise UsageError(f"a context of {context} tokens: 1 to {longest} are possible", command="advisor models")
    if not 0 <= floor < float("inf"):
        raise UsageError(f"a speed of {floor} tokens per second is not possible", hint="0 asks for no minimum")
    if request.reserve_bytes is not None and not 0 <= request.reserve_bytes <= LARGEST_RESERVE:
        raise UsageError(f"a reserve of {request.reserve_bytes} bytes is not possible", hint="write it like 2 GiB")
    model = catalog.model(request.model) if request.model else None
    default: Prefer = "quality" if use_case.id == "max-quality" else "balanced"
    return Terms(
        use_case=use_case,
        context_tokens=context,
        prefer=request.prefer or default,
        min_tokens_per_s=floor,
        floor_given=request.min_tokens_per_s is not None,
        backend=choose_backend(request.backend, machine, use_case),
        backend_asked=request.backend,
        model=model.id if model else None,
        quant=the_quant(request.quant, model),
        drafter=request.drafter,
        reserve_bytes=request.reserve_bytes,
    )


def the_quant(name: str | None, model: ModelProfile | None) -> str | None:
    """The name as the catalogue spells it."""
    if name is None:
        return None
    if model is None:
        raise UsageError("a quant belongs to one model, and none is named", hint="name the model too")
    found = next((quant.name for quant in model.quants if quant.name.lower() == name.lower()), None)
    if found is None:
        raise unknown_name(f"quant of {model.id}", name, [quant.name for quant in model.quants])
    return found


def choose_backend(name: str | None, machine: Machine, use_case: UseCase) -> Availability:
    """The backend asked for, else the best that is there and takes in what the use case needs; on a simulated machine,
    or where there is none, a current llama.cpp is assumed."""
    known = {backend.name: backend for backend in machine.backends}
    if name is not None:
        if name not in known and name not in BUILT_IN_BACKENDS:
            raise unknown_name("backend", name, {*known, *BUILT_IN_BACKENDS}, command="advisor backends")
        return requested_backend(name, known.get(name), machine, use_case)
    # One on another machine computes on hardware that nobody knows here.
    usable = {
        backend.name: backend
        for backend in machine.backends
        if backend.available and not backend.host and backend.reads == "gguf"
    }
    for candidate in (*BUILT_IN_BACKENDS, *usable):
        if candidate in usable and not machine.simulated and not unread(candidate, use_case):
            return usable[candidate]
    return assumed_backend("llama.cpp")


def requested_backend(name: str, found: Availability | None, machine: Machine, use_case: UseCase) -> Availability:
    if missing := unread(name, use_case):
        raise NoBackend(
            f"the backend {name!r} takes no {missing}, which {use_case.name.lower()} needs",
            hint="llama.cpp takes images and audio.",
            command=f"advisor recommend --use-case {use_case.id} --backend llama.cpp",
        )
    if machine.simulated or (found is None and not machine.backends):
        return assumed_backend(name)
    if found is None or not found.available:
        why = (found.why_not if found else None) or "it is not installed"
        raise NoBackend(
            f"the backend {name!r} cannot be used here: {why}",
            hint=(found.hint if found else None) or "Leave out --backend to use the best one that is here.",
            command="advisor backends",
        )
    if found.host is not None:
        raise NoBackend(
            f"{name} runs on {found.host}, whose hardware is not known here",
            hint="describe that machine with --machine FILE (`advisor detect --json` there writes it) or --simulate",
            command=f"advisor recommend --backend {name} --simulate 'RTX 4090, 64GB'",
        )
    return found


def reads_checkpoints(backend: str, model: str | None) -> NoBackend:
    """The error of a backend for which nothing is recommended: files are chosen, and speeds predicted, of GGUF."""
    return NoBackend(
        f"{backend} reads checkpoints, and what is recommended are GGUF files",
        hint="launch shows its command for a model that you name; --use-case production says what to serve many with",
        command=f"advisor launch {model or '12b'} --backend {backend} --dry-run",
    )


def unread(backend: str, use_case: UseCase) -> str:
    """What the use case needs and this backend cannot take in, in words; empty when it can."""
    lacking = UNREAD_MODALITIES.get(backend, frozenset())
    return " or ".join({"image": "images"}.get(kind, kind) for kind in use_case.modalities if kind in lacking)


def assumed_backend(name: str) -> Availability:
    """A backend that nobody looked for: taken to be current, so that it runs drafters. `path` None says so."""
    return Availability(name=name, available=True, drafter=True)
