"""Request and machine to recommendations: one pick, the runners-up, and what was rejected and why.

Every file of the catalogue is tried with and without its drafter. What survives memory, capability and the speed
floor is ordered by a utility that weighs quality (published benchmarks by use case) against speed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from math import log

from advisor.candidates import Candidate, Prefer, Rejected, Terms, evaluate
from advisor.catalog import Catalog, ModelProfile, Quant
from advisor.errors import NoBackend, NothingFits, UsageError, unknown_name
from advisor.machine import Availability, Machine, Record
from advisor.reasons import nothing_fits, reasons, too_slow, warnings

BUILT_IN_BACKENDS = ("llama.cpp", "ollama", "native")
"""In the order in which they are chosen; whatever else is installed comes after them."""

SPEED_WEIGHT: dict[Prefer, float] = {"quality": 0.02, "balanced": 0.1, "speed": 0.5}
"""What a doubling of speed is worth against quality: the exponent of speed in quality x speed^weight. At 0.1 a
model that is 3.5 times as fast may be 12 % worse; at 0.02 speed only decides between files of almost the same
quality."""

SPEED_THAT_SUFFICES = 400.0
"""Tokens per second beyond which faster is no better for one person."""

HYBRID_PENALTY = 0.1
"""For a model that is partly beside the GPU: its prompts are read slowly, long contexts slow it further, and the
estimate is rougher. A model that is all on the GPU wins until it is about 10 % worse."""

OFFICIAL_BONUS = 0.004
"""Between files of almost the same quality: the model's makers, and files trained for their format."""

LOWEST_USABLE = 3.0
"""Tokens per second below which nothing is recommended, unless the user asks for it: a page takes three minutes."""

FEWEST_BITS = 4
"""Below, a smaller model at 4 bits answers better: 31B at 2 bits loses a fifth of its quality."""


class Request(Record, frozen=True, kw_only=True):
    """What is asked for. None means: what the use case says, or the best choice."""

    use_case: str = "chat"
    context_tokens: int | None = None
    prefer: Prefer | None = None
    min_tokens_per_s: float | None = None
    backend: str | None = None
    model: str | None = None
    drafter: bool = True


class Recommendation(Record, frozen=True, kw_only=True):
    """A candidate in its place. `reasons` and `warnings` are whole sentences without a full stop."""

    rank: int
    candidate: Candidate
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


class Ranking(Record, frozen=True, kw_only=True):
    """The answer to a request on a machine."""

    machine: Machine
    terms: Terms
    recommendations: tuple[Recommendation, ...]
    rejected: tuple[Rejected, ...]


def rank(request: Request, machine: Machine, catalog: Catalog) -> Ranking:
    """The recommendations for this request.

    Raises:
        UsageError: an unknown use case, model or backend, or an impossible number.
        NoBackend: the backend asked for cannot be used here.
        NothingFits: no file fits the memory, or none is fast enough.
    """
    terms = resolve(request, machine, catalog)
    capable, rejected = by_capability(terms, catalog)
    fitting: list[Candidate] = []
    for model, quant in capable:
        found = evaluate(model, quant, terms, machine, catalog)
        if isinstance(found, Candidate):
            fitting.append(found)
        else:
            rejected.append(found)
    if not fitting:
        raise nothing_fits(capable, terms, machine)
    fast, slow = by_speed(fitting, terms)
    if not fast:
        raise too_slow(fitting, terms)
    picks = best_of_each_model(fast, terms)
    shown = {pick.model.id for pick in picks}
    rejected += [slow_one for slow_one in slow if slow_one.model not in shown]
    recommendations = tuple(
        Recommendation(
            rank=position,
            candidate=pick,
            reasons=reasons(pick, picks, terms),
            warnings=warnings(pick, terms, machine),
        )
        for position, pick in enumerate(picks, start=1)
    )
    rejected.sort(key=nearest_first(catalog))
    return Ranking(machine=machine, terms=terms, recommendations=recommendations, rejected=tuple(rejected))


def nearest_first(catalog: Catalog) -> Callable[[Rejected], tuple[int, bool, int]]:
    """Orders what was rejected: by model, the file that was nearest to fitting first."""
    models = list(catalog.models)
    sizes = {(model.id, quant.name): int(quant.bytes) for model in catalog.models.values() for quant in model.quants}
    return lambda one: (models.index(one.model), one.code == "capability", sizes[one.model, one.quant])


# ---- The request


def resolve(request: Request, machine: Machine, catalog: Catalog) -> Terms:
    use_case = catalog.use_case(request.use_case)
    context = use_case.context_tokens if request.context_tokens is None else request.context_tokens
    floor = use_case.min_tokens_per_s if request.min_tokens_per_s is None else request.min_tokens_per_s
    longest = max(model.context_tokens for model in catalog.models.values())
    if not 1 <= context <= longest:
        raise UsageError(f"a context of {context} tokens: 1 to {longest} are possible", command="advisor models")
    if not 0 <= floor < float("inf"):
        raise UsageError(f"a speed of {floor} tokens per second is not possible", hint="0 asks for no minimum.")
    default: Prefer = "quality" if use_case.id == "max-quality" else "balanced"
    return Terms(
        use_case=use_case,
        context_tokens=context,
        prefer=request.prefer or default,
        min_tokens_per_s=floor,
        floor_given=request.min_tokens_per_s is not None,
        backend=choose_backend(request.backend, machine),
        backend_asked=request.backend,
        model=catalog.model(request.model).id if request.model else None,
        drafter=request.drafter,
    )


def choose_backend(name: str | None, machine: Machine) -> Availability:
    """The backend asked for, else the best that is there; on a simulated machine llama.cpp, unless asked otherwise."""
    known = {backend.name: backend for backend in machine.backends}
    if name is not None:
        if name not in known and name not in BUILT_IN_BACKENDS:
            raise unknown_name("backend", name, {*known, *BUILT_IN_BACKENDS}, command="advisor backends")
        return requested_backend(name, known.get(name), machine)
    usable = {backend.name: backend for backend in machine.backends if backend.available}
    for candidate in (*BUILT_IN_BACKENDS, *usable):
        if candidate in usable and not machine.simulated:
            return usable[candidate]
    return assumed_backend("llama.cpp")


def requested_backend(name: str, found: Availability | None, machine: Machine) -> Availability:
    if machine.simulated or (found is None and not machine.backends):
        return assumed_backend(name)
    if found is None or not found.available:
        why = (found.why_not if found else None) or "it is not installed"
        raise NoBackend(
            f"the backend {name!r} cannot be used here: {why}",
            hint=(found.hint if found else None) or "Leave out --backend to use the best one that is here.",
            command="advisor backends",
        )
    return found


def assumed_backend(name: str) -> Availability:
    """A backend that nobody looked for: taken to be current, so that it runs drafters. `path` None says so."""
    return Availability(name=name, available=True, drafter=True)


# ---- Candidates


def by_capability(terms: Terms, catalog: Catalog) -> tuple[list[tuple[ModelProfile, Quant]], list[Rejected]]:
    """The files that could do the work, whatever the machine; and those that could not."""
    capable: list[tuple[ModelProfile, Quant]] = []
    rejected: list[Rejected] = []
    for model in catalog.models.values():
        if terms.model not in (None, model.id):
            continue
        lacking = capability_gap(model, terms)
        for quant in model.quants:
            gap = lacking or bits_gap(quant)
            if gap:
                rejected.append(Rejected(model=model.id, quant=quant.name, code="capability", reason=gap))
            else:
                capable.append((model, quant))
    if not capable:
        raise NothingFits(
            f"{rejected[0].model} cannot do this: {rejected[0].reason}"
            if rejected
            else "the catalogue has no such model",
            hint="Another model, use case or context is needed.",
            command=f"advisor recommend --use-case {terms.use_case.id}",
        )
    return capable, rejected


def capability_gap(model: ModelProfile, terms: Terms) -> str:
    """Why a model cannot do the work; empty when it can."""
    missing = [kind for kind in terms.use_case.modalities if kind not in model.modalities]
    if missing:
        return f"{model.name} takes no {' or '.join(missing)}"
    if terms.context_tokens > model.context_tokens:
        return f"{model.name} reaches {model.context_tokens:,} tokens of context, not {terms.context_tokens:,}"
    return ""


def bits_gap(quant: Quant) -> str:
    match = re.search(r"Q(\d)", quant.name)
    if match and int(match[1]) < FEWEST_BITS:
        return f"{match[1]}-bit files lose more than a smaller model at {FEWEST_BITS} bits does"
    return ""


# ---- Order


def by_speed(fitting: list[Candidate], terms: Terms) -> tuple[list[Candidate], list[Rejected]]:
    """Those that reach the floor, and the rest. Where none reaches the use case's own floor, the floor gives way,
    down to what is still usable: a slow answer that is called slow helps more than none. A floor that the user set
    does not."""
    floor = effective_floor(fitting, terms)
    fast = [one for one in fitting if one.speed.decode >= floor]
    slow = [
        Rejected(
            model=one.model.id,
            quant=one.quant.name,
            code="speed",
            reason=f"about {one.speed.decode:.1f} tok/s, below the {floor:g} asked for"
            if floor == terms.min_tokens_per_s
            else f"about {one.speed.decode:.1f} tok/s, too slow to use",
        )
        for one in fitting
        if one.speed.decode < floor
    ]
    return fast, slow


def effective_floor(fitting: list[Candidate], terms: Terms) -> float:
    best = max(one.speed.decode for one in fitting)
    if terms.floor_given or best >= terms.min_tokens_per_s:
        return terms.min_tokens_per_s
    # Not the fastest alone: within reach of it, quality still counts.
    return max(min(LOWEST_USABLE, terms.min_tokens_per_s), 0.6 * best)


def best_of_each_model(candidates: Iterable[Candidate], terms: Terms) -> list[Candidate]:
    """The best file of each model, the best model first."""
    best: dict[str, Candidate] = {}
    for candidate in candidates:
        held = best.get(candidate.model.id)
        if held is None or utility(candidate, terms) > utility(held, terms):
            best[candidate.model.id] = candidate
    return sorted(best.values(), key=lambda candidate: utility(candidate, terms), reverse=True)


def utility(candidate: Candidate, terms: Terms) -> float:
    """log(quality x speed^weight), and a little for official files."""
    speed = min(max(candidate.speed.decode, 0.01), SPEED_THAT_SUFFICES)
    official = candidate.quant.qat + (candidate.quant.publisher == "google")
    hybrid = candidate.placement.mode in ("experts-on-cpu", "split")
    worth = log(max(candidate.quality, 0.01)) + SPEED_WEIGHT[terms.prefer] * log(speed)
    return worth + OFFICIAL_BONUS * official - HYBRID_PENALTY * hybrid


# ---- In words
