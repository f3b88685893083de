"""What drafting is worth: acceptance, the cost of verifying, the best draft length and the gain.

All costs are in units of one plain decoding step, so that the prediction (from formulas) and an engine's controller
(from what it measured) share these functions. Source of the formula: speculative decoding's expected run length over
its cost; of the numbers: public measurements of Gemma 4 with its MTP drafters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from advisor.machine import Record

MAX_DRAFT_TOKENS = 8
"""Gemma's drafters are accepted too seldom beyond this for one user to gain."""

WORTHWHILE_GAIN = 1.05
"""Below this a drafter is not worth its memory, nor the risk that the estimate is wrong."""

ROWS_OF_REPACKED_KERNELS = {1: 1.0, 2: 1.61, 3: 1.86, 4: 1.40, 6: 2.21, 8: 2.35}
"""Cost of decoding n tokens together on a processor whose few cores are bound by arithmetic, in plain steps.

Mean of E2B, E4B and 12B at Q4_0, llama-bench, 2-core Xeon with AVX-512. Not monotone: llama.cpp's repacked kernels
work on four rows at a time and fall back to one row at a time for the rest, so that 4 rows cost less than 2.
"""

CACHE_ROW_COST = 0.25
"""Of a row more, relative to reading the cache once: the rows verified together share most of it."""

USUAL_TEMPERATURE = 1.0
"""What Gemma 4 is sampled at, and what acceptances in the catalogue are for."""

TEMPERATURE_LOSS = 0.08
"""Relative acceptance lost per unit of temperature, as both distributions flatten. Assumed: reports only say that high
temperatures are accepted less (llama.cpp#23398)."""

SINGLE_ROW_COST = 0.8
"""Of a row more in kernels that take one row at a time: its arithmetic, less the reading that they share. Assumed."""

Cost = Callable[[int], float]
"""Cost in plain steps of decoding so many tokens together; cost(1) is 1."""


class Plan(Record, frozen=True, kw_only=True):
    """How to draft: `draft_tokens` 0 means plain decoding is fastest. `gain`: expected speed relative to plain."""

    draft_tokens: int
    gain: float


def acceptances(first: float, decay: float, count: int) -> tuple[float, ...]:
    """Conditional acceptance of each drafted position when each is `decay` times the one before."""
    return tuple(first * decay**position for position in range(count))


def at_temperature(acceptance: float, temperature: float) -> float:
    """Acceptance when the target is sampled at another temperature than `USUAL_TEMPERATURE`."""
    return min(1.0, max(0.0, acceptance * (1 - TEMPERATURE_LOSS * (temperature - USUAL_TEMPERATURE))))


def expected_tokens(conditional: Sequence[float]) -> float:
    """Tokens that one round yields: 1 + a1 + a1*a2 + ... (the first one comes from the target itself)."""
    total, reached = 1.0, 1.0
    for acceptance in conditional:
        reached *= acceptance
        total += reached
    return total


def gain(conditional: Sequence[float], verify: Cost, draft_cost: float) -> float:
    """Speed with `len(conditional)` drafted tokens relative to plain decoding.

    Args:
        conditional: acceptance of each position, given that those before it were accepted.
        verify: the target's cost of decoding so many rows.
        draft_cost: of one step of the drafter.
    """
    drafted = len(conditional)
    return expected_tokens(conditional) / (verify(drafted + 1) + drafted * draft_cost)


def best_plan(conditional: Sequence[float], verify: Cost, draft_cost: float) -> Plan:
    """The draft length with the highest gain, zero included; every length is tried, because costs need not be
    smooth."""
    plans = [
        Plan(draft_tokens=count, gain=gain(conditional[:count], verify, draft_cost))
        for count in range(len(conditional) + 1)
    ]
    return max(plans, key=lambda plan: plan.gain)


def experts_woken(experts: int, used: int, tokens: int) -> float:
    """Expected distinct experts that `tokens` tokens are routed to: experts * (1 - (1 - used/experts)^tokens)."""
    return experts * (1 - (1 - used / experts) ** tokens)


def smooth_cost(per_row: float) -> Cost:
    """While decoding is bound by bandwidth, each further row costs the same small share of a step."""
    return lambda rows: 1 + per_row * (rows - 1)


def repacked_cost(rows: int) -> float:
    """`ROWS_OF_REPACKED_KERNELS`, between its entries the dearer neighbour, beyond them in proportion to fours."""
    if rows in ROWS_OF_REPACKED_KERNELS:
        return ROWS_OF_REPACKED_KERNELS[rows]
    last = max(ROWS_OF_REPACKED_KERNELS)
    if rows > last:
        return ROWS_OF_REPACKED_KERNELS[last] * rows / last
    below = max(known for known in ROWS_OF_REPACKED_KERNELS if known < rows)
    above = min(known for known in ROWS_OF_REPACKED_KERNELS if known > rows)
    return max(ROWS_OF_REPACKED_KERNELS[below], ROWS_OF_REPACKED_KERNELS[above])


def processor_cost(rows: int, repacked: float = 1.0) -> float:
    """Arithmetic of decoding n tokens together on a processor, in plain steps.

    Args:
        repacked: share of the weights in the layout for several rows at a time (Q4_0, Q4_K, IQ4_NL); the rest takes
            one row at a time.
    """
    return repacked * repacked_cost(rows) + (1 - repacked) * smooth_cost(SINGLE_ROW_COST)(rows)
