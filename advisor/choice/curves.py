"""How a choice changes with what it is used for: speed by depth, memory by context."""

from __future__ import annotations

import msgspec

from advisor.choice.candidates import Candidate, Terms, demand, site_of
from advisor.knowledge.catalog import Catalog
from advisor.machine import Machine
from advisor.memory.placement import place
from advisor.prediction.speed import DEFAULT_DEPTH, Setup, predict

Curve = tuple[tuple[float, float], ...]
"""Points (x, y), x ascending."""

LEAST_CONTEXT = 1024


def speed_by_depth(one: Candidate, terms: Terms, machine: Machine, catalog: Catalog, points: int = 24) -> Curve:
    """Tokens per second with 0 to all tokens of the context in use, placed and drafted as chosen:
    the figures `decode` and `full` of its speed, and what is between them."""
    site = site_of(terms, machine, catalog)
    file = one.drafter.file if one.drafter.enabled else None
    setup = Setup(
        architecture=one.model.architecture,
        weights=one.load.weights,
        placement=one.placement,
        machine=site.alone.machine if site.alone and one.idle_gpus else site.machine,
        devices=catalog.devices,
        kv_type=terms.kv_type,
        depth_tokens=min(DEFAULT_DEPTH, terms.context_tokens),
        context_tokens=terms.context_tokens,
    )

    def at(depth: int) -> float:
        filled = msgspec.structs.replace(setup, context_tokens=depth)
        return predict(filled, one.model.drafter if file else None, file, terms.use_case.output_kind).full

    known = one.speed.full / at(terms.context_tokens)  # by what was measured here, where anything was
    return tuple((depth, known * at(depth)) for depth in steps(0, terms.context_tokens, points))


def memory_by_context(one: Candidate, terms: Terms, points: int = 24) -> Curve:
    """Bytes in all memories, for contexts up to the longest that the model has and that fits where it is placed now."""
    file = one.drafter.file if one.drafter.enabled else None
    found = []
    for context in steps(LEAST_CONTEXT, one.model.context_tokens, points):
        longer = msgspec.structs.replace(terms, context_tokens=context)
        placed = place(demand(one.model, one.quant, longer, file), one.limits)
        if placed is None or placed.mode != one.placement.mode:
            break
        found.append((context, placed.device_bytes + placed.host_bytes))
    return tuple(found)


def steps(first: int, last: int, count: int) -> list[int]:
    """Whole numbers from first to last, evenly spread."""
    width = max(0, last - first)
    return sorted({first + width * index // max(1, count - 1) for index in range(count)})
