"""Request and machine to recommendations: one pick, the runners-up, and what was rejected and why.

Every file of the catalogue is tried with and without its drafter. What survives memory, capability and the speed
floor is ordered by its score (`score`): quality by published benchmarks against speed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from advisor.choice.candidates import Candidate, Rejected, Site, Terms, computes_on_cpu, evaluate, site_of
from advisor.choice.reasons import nothing_fits, reasons, too_slow, warnings
from advisor.choice.request import Request, resolve
from advisor.choice.score import score
from advisor.choice.trades import trades
from advisor.choice.upgrade import NextStep, next_step
from advisor.errors import NoBackend, NothingFits
from advisor.knowledge.catalog import Catalog
from advisor.knowledge.profile import ModelProfile, Quant
from advisor.machine import Machine, Record
from advisor.memory.placement import usable_gpus

__all__ = ["Ranking", "Recommendation", "Request", "Role", "rank"]

Role = Literal["pick", "best", "balanced", "fastest"]

LOWEST_USABLE = 3.0
"""Tokens per second below which nothing is recommended, unless the user asks for it: a page takes three minutes."""

FEWEST_BITS = 4
"""Below, a smaller model at 4 bits answers better: 31B at 2 bits loses a fifth of its quality."""

DIFFERENT_QUALITY = 1.01
DIFFERENT_SPEED = 1.15
"""What an alternative must be ahead of the pick, to be worth a second thought."""


class Recommendation(Record, frozen=True, kw_only=True):
    """A candidate in its place. `reasons` and `warnings` are whole sentences without a full stop. `roles`: what it is
    the answer to; an alternative that stands for nothing special has none."""

    rank: int
    candidate: Candidate
    roles: tuple[Role, ...] = ()
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


class Ranking(Record, frozen=True, kw_only=True):
    """The answer to a request on a machine. `running`: every file that fits and is fast enough, the best first; the
    recommendations are one of each model. `next_step`: the nearest hardware whose pick would be a better model."""

    machine: Machine
    terms: Terms
    recommendations: tuple[Recommendation, ...]
    rejected: tuple[Rejected, ...]
    running: tuple[Candidate, ...] = ()
    trades: tuple[str, ...] = ()
    next_step: NextStep | None = None


def rank(request: Request, machine: Machine, catalog: Catalog) -> Ranking:
    """The recommendations for this request.

    Raises:
        UsageError: an unknown use case, model or backend, or an impossible number.
        NoBackend: the backend asked for cannot be used here, or nothing is left that it can run.
        NothingFits: no file fits the memory, or none is fast enough.
    """
    terms = resolve(request, machine, catalog)
    site = site_of(terms, machine, catalog)
    capable, rejected = by_capability(terms, catalog)
    fitting, unfit = by_memory(capable, terms, site)
    fast, slow = by_speed(fitting, terms)
    rejected += idle_gpus(unfit + slow, terms, machine, catalog)
    if not fast:
        raise no_candidate(rejected, capable, fitting, terms, machine)
    rejected.sort(key=nearest_first(catalog))
    picks = selection(fast, terms)
    pick = picks[0]
    return Ranking(
        machine=machine,
        terms=terms,
        recommendations=tuple(
            Recommendation(
                rank=position,
                candidate=one,
                roles=roles(one, picks, terms),
                reasons=reasons(one, picks, terms),
                warnings=warnings(one, terms, machine),
            )
            for position, one in enumerate(picks, start=1)
        ),
        rejected=tuple(rejected),
        running=tuple(sorted(fast, key=lambda one: score(one, terms), reverse=True)),
        trades=trades(pick, fast),
        next_step=next_step(pick, terms, machine, catalog, first_choices(capable)),
    )


def nearest_first(catalog: Catalog) -> Callable[[Rejected], tuple[int, bool, int]]:
    """Orders what was rejected: by model, the file that was nearest to fitting first."""
    models = list(catalog.models)
    sizes = {(model.id, quant.name): int(quant.bytes) for model in catalog.models.values() for quant in model.quants}
    return lambda one: (models.index(one.model), one.code == "capability", sizes[one.model, one.quant])


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
            if terms.quant not in (None, quant.name):
                continue
            gap = lacking or bits_gap(quant)
            if gap:
                rejected.append(Rejected(model=model.id, quant=quant.name, code="capability", reason=gap))
            elif gap := library_gap(model, quant, terms):
                rejected.append(Rejected(model=model.id, quant=quant.name, code="backend", reason=gap))
            else:
                capable.append((model, quant))
    if not capable:
        raise NothingFits(
            f"{rejected[0].model} cannot do this: {rejected[0].reason}"
            if len({one.model for one in rejected}) == 1
            else f"no model of the catalogue can do this: {'; '.join(dict.fromkeys(one.reason for one in rejected))}",
            hint="choose another model, use case or context",
            command=f"advisor recommend --use-case {terms.use_case.id}",
        )
    return capable, rejected


def library_gap(model: ModelProfile, quant: Quant, terms: Terms) -> str:
    """Why a file does not suit a backend that has a library of its own, and others of the model in it; empty when it
    does, or was asked for."""
    library = terms.backend.name
    if library in quant.tags or terms.quant or not any(library in other.tags for other in model.quants):
        return ""
    return f"{library}'s library does not have it: sent from a file it would take its place on the disk twice"


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


def by_memory(
    capable: Iterable[tuple[ModelProfile, Quant]], terms: Terms, site: Site
) -> tuple[list[Candidate], list[Rejected]]:
    fitting: list[Candidate] = []
    rejected: list[Rejected] = []
    for model, quant in capable:
        found = evaluate(model, quant, terms, site)
        if isinstance(found, Candidate):
            fitting.append(found)
        else:
            rejected.append(found)
    return fitting, rejected


def idle_gpus(rejected: list[Rejected], terms: Terms, machine: Machine, catalog: Catalog) -> list[Rejected]:
    """What would fit and be fast if the backend used the GPUs of this machine is the backend's fault."""
    if not computes_on_cpu(terms.backend) or not usable_gpus(machine):
        return rejected
    site = site_of(terms, machine, catalog, gpu=True)
    other = "a build for the GPU" if terms.backend.name == "llama.cpp" else "llama.cpp"
    said = f"{terms.backend.name} runs on the processor only here; {other} would use the GPU"
    found = []
    for one in rejected:
        model = catalog.models[one.model]
        tried = evaluate(model, next(quant for quant in model.quants if quant.name == one.quant), terms, site)
        helps = isinstance(tried, Candidate) and tried.speed.decode >= terms.min_tokens_per_s
        found.append(msgspec.structs.replace(one, code="backend", reason=f"{one.reason}; {said}") if helps else one)
    return found


def no_candidate(
    rejected: list[Rejected],
    capable: list[tuple[ModelProfile, Quant]],
    fitting: list[Candidate],
    terms: Terms,
    machine: Machine,
) -> NoBackend | NothingFits:
    """The error where nothing is left, by what is to blame: the backend, the speed or the memory."""
    if any(one.code == "backend" for one in rejected):
        return NoBackend(
            f"nothing is left that {terms.backend.name} could run: it uses the processor and main memory only",
            hint="llama.cpp would use the GPU.",
            command=f"advisor recommend --use-case {terms.use_case.id} --backend llama.cpp",
        )
    return too_slow(fitting, terms) if fitting else nothing_fits(capable, terms, machine)


def first_choices(capable: Iterable[tuple[ModelProfile, Quant]]) -> tuple[tuple[ModelProfile, Quant], ...]:
    """Of each model the 4-bit file that keeps most: what people begin with."""
    best: dict[str, tuple[ModelProfile, Quant]] = {}
    for model, quant in capable:
        held = best.get(model.id)
        if "Q4" in quant.name and (held is None or quant.quality > held[1].quality):
            best[model.id] = (model, quant)
    return tuple(best.values())


# ---- Order


def by_speed(fitting: list[Candidate], terms: Terms) -> tuple[list[Candidate], list[Rejected]]:
    """Those that reach the floor, and the rest. Where none reaches the use case's own floor, the floor gives way,
    down to what is still usable: a slow answer that is called slow helps more than none. A floor that the user set
    does not."""
    if not fitting:
        return [], []
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
    return min(LOWEST_USABLE, terms.min_tokens_per_s)


def selection(fast: list[Candidate], terms: Terms) -> list[Candidate]:
    """One file of each model, the best first. The pick decides alone; of the models that would be the best or the
    fastest instead, the file is the one that makes them so."""
    chosen: dict[str, Candidate] = {}
    for one in fast:
        held = chosen.get(one.model.id)
        if held is None or score(one, terms) > score(held, terms):
            chosen[one.model.id] = one
    pick = max(chosen.values(), key=lambda one: score(one, terms))
    quality = preferring("quality", terms)
    for one in (max(fast, key=lambda one: one.speed.decode), max(fast, key=lambda one: score(one, quality))):
        if one.model.id != pick.model.id:
            chosen[one.model.id] = one
    others = [one for one in chosen.values() if one is not pick]
    return [pick, *sorted(others, key=lambda one: score(one, terms), reverse=True)]


def preferring(prefer: Literal["quality", "balanced"], terms: Terms) -> Terms:
    return msgspec.structs.replace(terms, prefer=prefer)


def roles(one: Candidate, picks: list[Candidate], terms: Terms) -> tuple[Role, ...]:
    """What it stands for. The pick keeps a role unless another is clearly ahead in it."""
    pick = picks[0]
    balanced = max(picks, key=lambda other: score(other, preferring("balanced", terms)))
    best = max(picks, key=lambda other: other.quality)
    fastest = max(picks, key=lambda other: other.speed.decode)
    held: dict[Role, Candidate] = {
        "pick": pick,
        "best": best if best.quality >= DIFFERENT_QUALITY * pick.quality else pick,
        "balanced": balanced,
        "fastest": fastest if fastest.speed.decode >= DIFFERENT_SPEED * pick.speed.decode else pick,
    }
    return tuple(role for role, holder in held.items() if holder is one)
