"""The next step up: the nearest hardware on which a better model would be the pick.

Found by trying, not by arithmetic: each rung of a ladder is a machine, and the same ranking decides on it.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from advisor.choice.candidates import Candidate, Terms, evaluate, site_of
from advisor.choice.score import score
from advisor.hardware.simulate import parse
from advisor.knowledge.catalog import Catalog
from advisor.knowledge.profile import ModelProfile, Quant
from advisor.machine import Machine, Record
from advisor.memory.placement import in_words, usable_gpus

NOTICEABLE = 1.02
"""Two per cent of quality: less than that is no step."""


class Rung(NamedTuple):
    """A machine to step up to: how to describe it to `simulate`, and to people."""

    spec: str
    words: str


CARDS = (
    Rung("RTX 3060 12GB, 32GB", "a GPU like the RTX 3060 12GB"),
    Rung("RTX 5060 Ti 16GB, 32GB", "a GPU like the RTX 5060 Ti 16GB"),
    Rung("RTX 3090, 64GB", "a GPU like the RTX 3090 24GB"),
    Rung("RTX 5090, 64GB", "a GPU like the RTX 5090 32GB"),
    Rung("RTX PRO 6000, 128GB", "a GPU like the RTX PRO 6000 96GB"),
    Rung("H100 SXM, 256GB", "a GPU like the H100 80GB"),
)
MACS = (
    Rung("M4 16GB", "a Mac like the M4 16GB"),
    Rung("M4 Pro 24GB", "a Mac like the M4 Pro 24GB"),
    Rung("M4 Pro 48GB", "a Mac like the M4 Pro 48GB"),
    Rung("M4 Max 64GB", "a Mac like the M4 Max 64GB"),
    Rung("M3 Ultra 96GB", "a Mac like the M3 Ultra 96GB"),
)
PROCESSORS = (
    Rung("cpu, 16GB", "a PC with 8 cores and 16 GiB of memory"),
    Rung("cpu, 32GB", "a PC with 8 cores and 32 GiB of memory"),
)
"""From the cheapest up. Prices move, their order hardly does."""


class NextStep(Record, frozen=True, kw_only=True):
    """What the better model would be, on what, and how much better. `quality_gain`: 1.05 is 5% better."""

    model: str
    name: str
    quant: str
    hardware: str
    quality_gain: float
    decode_tokens_per_s: float
    reason: str


Files = tuple[tuple[ModelProfile, Quant], ...]


def next_step(pick: Candidate, terms: Terms, machine: Machine, catalog: Catalog, files: Files) -> NextStep | None:
    """The first rung with a better model, or None: the pick is the best there is, or the request allows no other.

    Args:
        files: what to try on each rung, one file of each model.
    """
    if not any(larger(model, pick) for model, _ in files):
        return None
    if more := with_more_memory(machine):
        found = best(more, terms, catalog, files)
        if found and better(found, pick):
            return step(found, pick, f"{in_words(more.memory.total_bytes)} of main memory instead")
    for rung in ladder(machine):
        found = on_rung(rung, terms, catalog, files)
        if found and better(found, pick):
            return step(found, pick, rung.words)
    return None


def larger(model: ModelProfile, pick: Candidate) -> bool:
    return model.architecture.parameters > pick.model.architecture.parameters


def better(found: Candidate, pick: Candidate) -> bool:
    return found.model.id != pick.model.id and found.quality > NOTICEABLE * pick.quality


def step(found: Candidate, pick: Candidate, hardware: str) -> NextStep:
    gain = found.quality / pick.quality
    return NextStep(
        model=found.model.id,
        name=found.model.name,
        quant=found.quant.name,
        hardware=hardware,
        quality_gain=gain,
        decode_tokens_per_s=found.speed.decode,
        reason=f"{found.model.name}, {100 * (gain - 1):.0f}% better at about {found.speed.decode:.0f} tok/s, "
        f"takes {hardware}",
    )


def ladder(machine: Machine) -> tuple[Rung, ...]:
    if any(gpu.vendor == "apple" for gpu in machine.gpus):
        return MACS
    return CARDS if usable_gpus(machine) else PROCESSORS + CARDS


def with_more_memory(machine: Machine) -> Machine | None:
    """The same machine with twice the main memory, where memory can be added: in PCs, not on boards and in SoCs."""
    memory = machine.memory
    if memory.unified or "neon" in machine.cpu.features or memory.limit_bytes is not None:
        return None
    doubled = msgspec.structs.replace(
        memory, total_bytes=2 * memory.total_bytes, available_bytes=memory.available_bytes + memory.total_bytes
    )
    return msgspec.structs.replace(machine, memory=doubled)


_seen: dict[tuple[object, ...], tuple[Catalog, Candidate | None]] = {}
"""The rungs do not depend on the machine: a program that asks ten thousand times tries each of them once."""


def on_rung(rung: Rung, terms: Terms, catalog: Catalog, files: Files) -> Candidate | None:
    """The pick on a rung."""
    key = (
        rung.spec, terms.use_case.id, terms.context_tokens, terms.prefer, terms.min_tokens_per_s, terms.floor_given,
        terms.backend.name, terms.backend.drafter, terms.model, terms.quant, terms.drafter, terms.reserve_bytes,
        terms.kv_type,
    )  # fmt: skip
    held = _seen.get(key)
    if held is not None and held[0] is catalog:
        return held[1]
    if len(_seen) > 10_000:  # noqa: PLR2004 - a bound, so that a service does not grow for ever
        _seen.clear()
    found = best(parse(rung.spec, catalog), terms, catalog, files)
    _seen[key] = (catalog, found)
    return found


def best(machine: Machine, terms: Terms, catalog: Catalog, files: Files) -> Candidate | None:
    """The highest score of what fits and reaches the floor."""
    site = site_of(terms, machine, catalog)
    found = (evaluate(model, quant, terms, site) for model, quant in files)
    running = [one for one in found if isinstance(one, Candidate) and one.speed.decode >= terms.min_tokens_per_s]
    return max(running, key=lambda one: score(one, terms), default=None)
