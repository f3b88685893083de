"""A service for many users: vLLM or SGLang where the GPUs are there for it, the pick's own backend elsewhere."""

from __future__ import annotations

from typing import Literal

import msgspec

from advisor.choice.candidates import Candidate, Terms, quality_parts
from advisor.choice.request import Request, reads_checkpoints, resolve
from advisor.errors import NoBackend
from advisor.knowledge.catalog import Catalog
from advisor.knowledge.profile import ModelProfile, Runtime
from advisor.machine import Machine
from advisor.memory.room import cards_of, divisions
from advisor.prediction import concurrency, speculation
from advisor.prediction.stages import gpu_kind
from advisor.running.order import Order
from advisor.services.rack import Rack
from advisor.services.service import Load, Service

RECKONED = ("vllm", "sglang")
"""Runtimes whose speed with several users is reckoned."""
UNSUITED = frozenset({"old", "jetson", "amd-apu", "other", "intel"})
"""Classes of GPU that vLLM and SGLang are not made for."""


def propose(terms: Terms, pick: Candidate, machine: Machine, catalog: Catalog) -> Service | None:
    """What to serve a use case of several users with; None where one person works alone."""
    if terms.use_case.concurrent_users < 2:  # noqa: PLR2004 - several
        return None
    if terms.backend_asked is not None:
        return own_backend(pick, terms, f"{terms.backend_asked} was asked for")
    runtime = catalog.runtimes[chosen_backend(machine)]
    if reason := unsuited(machine, runtime):
        return own_backend(pick, terms, reason)
    found = [
        one
        for model in catalog.models.values()
        if terms.model in (None, model.id) and (one := best_of(model, terms, machine, catalog, runtime))
    ]
    least = f"{terms.use_case.concurrent_users} users at {terms.min_tokens_per_s:g} tokens/s"
    if not found:
        return own_backend(pick, terms, f"no checkpoint for {runtime.name} that fits serves {least} here")

    def quality(model: str) -> float:
        return quality_parts(catalog.models[model], terms.use_case, catalog)

    best = max(found, key=lambda one: quality(one.model))
    room = f"{best.name} ({best.quant}) only, for {best.users} users at once"
    own = own_backend(pick, terms, f"{runtime.name} has room here for {room}")
    return own if quality(own.model) > quality(best.model) and own.users >= terms.use_case.concurrent_users else best


def chosen_backend(machine: Machine) -> Literal["vllm", "sglang"]:
    there = {one.name for one in machine.backends if one.available}
    return "sglang" if "sglang" in there and "vllm" not in there else "vllm"


def unsuited(machine: Machine, runtime: Runtime) -> str:
    """Why this machine is none for such a runtime; empty where it is."""
    cards = cards_of(machine)
    if machine.os not in runtime.systems:
        return f"{runtime.name} does not run on {machine.os}"
    if not cards:
        return f"{runtime.name} needs a GPU, and there is none"
    kind = gpu_kind(cards[0], machine)
    if kind in UNSUITED or cards[0].integrated:
        return f"{runtime.name} is not made for {cards[0].name}"
    return ""


def best_of(model: ModelProfile, terms: Terms, machine: Machine, catalog: Catalog, runtime: Runtime) -> Service | None:
    """The model's best checkpoint on the fewest cards that serve as many users as fast as the use case wants."""
    if any(kind not in model.modalities for kind in terms.use_case.modalities):
        return None
    if terms.context_tokens > model.context_tokens:
        return None
    cards = cards_of(machine)
    counts = divisions(cards, runtime.cards.get(model.id, 1) if terms.drafter else 1)
    for found in (one for one in model.checkpoints if runtime.id in one.runtimes):
        whole = Rack(
            model=model, found=found, cards=cards, terms=terms, runtime=runtime, machine=machine, catalog=catalog
        )
        racks = [msgspec.structs.replace(whole, cards=cards[:count]) for count in counts]
        able = [one for one in racks if one.users >= terms.use_case.concurrent_users]
        if able:
            # Weights are held once by each server, so that fewer servers hold more conversations, and several lose less
            # time to handing over.
            most = max(able, key=lambda one: one.users * (len(cards) // len(one.cards)))
            return most.service(copies=len(cards) // len(most.cards))
    return None


# ---- One user


def for_one(runtime: Runtime, terms: Terms, machine: Machine, catalog: Catalog) -> tuple[str, str] | None:
    """What a runtime could run here for one user, in words, and the command that shows it; None where nothing fits.

    Its speed is said where it is reckoned: on GPUs that such servers are made for.
    """
    from advisor.running import checkpoints  # noqa: PLC0415

    found = checkpoints.outlook(runtime, machine, terms.model, terms.context_tokens)
    if found is None or machine.os not in runtime.systems:
        return None
    speed = ""
    if runtime.id in RECKONED and not unsuited(machine, runtime):
        load = Rack(
            model=found.model,
            found=found.checkpoint,
            cards=found.room.cards,
            terms=terms,
            runtime=runtime,
            machine=machine,
            catalog=catalog,
        ).load(1)
        speed = f", about {load.tokens_per_s:.0f} tokens/s for one user ({load.low:.0f} to {load.high:.0f}, assumed)"
    order = Order(model=found.model.id, backend=runtime.id, use_drafter=terms.drafter)
    instead = "" if terms.model in (None, found.model.id) else f"not for {terms.model}, but "
    said = f"{runtime.name} has room here {instead}for {found.model.name} {found.words}{speed}"
    return said, f"{order.typed()} --dry-run"


# ---- Where there is no GPU for them


def check(request: Request, machine: Machine, catalog: Catalog) -> None:
    """Raises NoBackend, with what would run there, where the backend asked for reads checkpoints."""
    if request.backend in catalog.runtimes:
        raise not_recommended(request, machine, catalog)


def not_recommended(request: Request, machine: Machine, catalog: Catalog) -> NoBackend:
    """`reads_checkpoints`, with what that runtime would run here."""
    terms = resolve(msgspec.structs.replace(request, backend=None, quant=None), machine, catalog)
    error = reads_checkpoints(request.backend or "", terms.model)
    if terms.use_case.concurrent_users > 1:
        error.hint = "leave out --backend: for several users vLLM and SGLang are weighed against the pick"
        error.command = f"advisor recommend --use-case {terms.use_case.id}"
    elif found := for_one(catalog.runtimes[request.backend or ""], terms, machine, catalog):
        error.hint, error.command = found
    return error


def own_backend(pick: Candidate, terms: Terms, reason: str) -> Service:
    """The pick with the conversations that it was placed for."""
    users = terms.use_case.concurrent_users
    context = terms.context_tokens // users  # which is what they share
    name = terms.backend.name
    batches = name in concurrency.BATCHING
    step = concurrency.assumed(on_gpu=pick.placement.mode == "gpu")
    drafts = pick.drafter.draft_tokens if pick.drafter.enabled else 0

    def load(count: int) -> Load:
        plain = concurrency.rate(pick.speed.plain, step, count) if batches else pick.speed.plain
        gain = pick.speed.drafter_gain if drafts else 1.0
        if batches and drafts:
            gain = concurrency.gain(gain, step, count, drafts)
        rate, half = plain * gain, 0.5 if count > 1 else 1.0
        return Load(
            users=count,
            tokens_per_s=rate,
            low=half * rate * pick.speed.low / pick.speed.decode,
            high=rate * pick.speed.high / pick.speed.decode / half,
            each=rate / count,
            plain_tokens_per_s=plain,
            drafter_gain=gain,
        )

    loads = tuple(map(load, (1, users)))
    served = users if loads[-1].each >= terms.min_tokens_per_s else int(loads[0].each >= terms.min_tokens_per_s)
    pays = [one.users for one in loads if one.drafter_gain >= speculation.WORTHWHILE_GAIN]
    how = "decodes {} together" if batches else "answers {} one after the other"
    return Service(
        backend=name,
        backend_available=terms.backend.available,
        model=pick.model.id,
        name=pick.model.name,
        quant=pick.quant.name,
        repo=pick.quant.repo,
        drafter=pick.drafter.file.repo if pick.drafter.enabled and pick.drafter.file else "",
        draft_tokens=drafts,
        drafter_pays_up_to=max(pays, default=0),
        gpus=pick.gpus,
        copies=1,
        context_tokens=context,
        depth_tokens=pick.speed.depth_tokens,
        weights_bytes=pick.load.weights.file,
        cache_bytes=pick.load.kv_cache,
        cache_bytes_per_sequence=pick.load.kv_cache // users,
        sequences=users,
        users=served,
        loads=loads,
        basis={
            "weights_bytes": "file",
            "cache_bytes": "formula",
            "cache_bytes_per_sequence": "formula",
            "sequences": "catalogue",
            "loads": "assumed",
        },
        reasons=(reason, f"{name} {how.format(f'{users} conversations of {context:,} tokens')}"),
        command=Order(
            model=pick.model.id,
            backend=name,
            quant=pick.quant.name,
            context=context,
            parallel=users,
            use_drafter=bool(drafts),
        ).typed(),
    )
