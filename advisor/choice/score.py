"""What a candidate is worth: one number, by which everything is ordered.

`log(quality)`, plus what its speed is worth, less what is inconvenient. Speed counts fully up to the use case's comfort
level and little beyond it, down to nothing at five times as much; below the floor everything else loses against
candidates that reach it.
"""

from __future__ import annotations

from math import log, log2

from advisor.choice.candidates import Candidate, Prefer, Terms
from advisor.machine import Record


class Taste(Record, frozen=True, kw_only=True):
    """What a doubling of speed is worth, in log(quality) / log(2): `below` the comfort level and `beyond` it.

    `plenty`: how many times the comfort level is still worth something. `beside`: what is lost where a model is not all
    on the GPU: its prompts are read slowly, and the estimate is rougher.
    """

    below: float
    beyond: float
    plenty: float = 5.0
    beside: float = 0.06


TASTES: dict[Prefer, Taste] = {
    "quality": Taste(below=0.03, beyond=0.008, plenty=16.0, beside=0.02),
    "balanced": Taste(below=0.15, beyond=0.06),
    "speed": Taste(below=0.6, beyond=0.4, plenty=16.0),
}
"""Balanced: half the comfortable speed costs as much as 10 % of quality; twice of it is worth 4 %."""

BELOW_FLOOR = 3.0
"""More than any two models differ in quality: what reaches the floor wins. Among those that do not, half the speed
costs half the quality (`SLOPE_BELOW_FLOOR`)."""
SLOPE_BELOW_FLOOR = 1.0

PATIENCE_MINUTES = 2.0
IMPATIENCE = 0.03
"""For each doubling of the time that a full context takes to read, beyond what people wait: a model split between GPU
and processor may answer fast enough and still read a book for an hour."""

OFFICIAL = 0.004
"""Between files of almost the same quality: the model's makers, and files trained for their format."""

ENOUGH_BITS = 9.0
LAVISH = 0.004
"""For each doubling of the bits of a weight beyond: 16 are better than 8 by less than benchmarks can tell, and take
twice the memory, the download and the time."""


def score(candidate: Candidate, terms: Terms) -> float:
    """What the candidate is worth under these terms; only differences mean anything."""
    official = candidate.quant.qat + (candidate.quant.publisher == "google")
    worth = log(max(candidate.quality, 0.01)) + OFFICIAL * official
    bits = 8 * candidate.quant.bytes / candidate.model.architecture.parameters
    worth -= LAVISH * log2(max(1.0, bits / ENOUGH_BITS))
    worth += speed_worth(felt_speed(candidate, terms), terms) - IMPATIENCE * long_reading(candidate, terms)
    if candidate.placement.mode != "gpu":
        worth -= TASTES[terms.prefer].beside
    if candidate.speed.decode < terms.min_tokens_per_s:
        worth -= BELOW_FLOOR
    return worth


def felt_speed(candidate: Candidate, terms: Terms) -> float:
    """Tokens per second over a context that fills up: between the speed near its beginning and at its end. Without the
    drafter's gain where several users are served: their tokens fill the batch that drafting would use."""
    speed = candidate.speed
    gain = speed.drafter_gain if terms.use_case.concurrent_users > 1 else 1.0
    start, end = max(speed.decode / gain, 1e-3), max(speed.full / gain, 1e-3)
    return 2 / (1 / start + 1 / end)


def long_reading(candidate: Candidate, terms: Terms) -> float:
    """How often the time to read a full context must be halved until people would wait for it."""
    minutes = terms.context_tokens / max(candidate.speed.prefill, 1e-3) / 60
    return log2(max(1.0, minutes / PATIENCE_MINUTES))


def speed_worth(tokens_per_s: float, terms: Terms) -> float:
    """Zero at the comfort level."""
    taste = TASTES[terms.prefer]
    comfort = max(terms.use_case.comfort_tokens_per_s, terms.min_tokens_per_s, 1.0)
    floor = min(terms.min_tokens_per_s or terms.use_case.min_tokens_per_s, comfort)
    if tokens_per_s >= comfort:
        return taste.beyond * log(min(tokens_per_s / comfort, taste.plenty))
    worth = taste.below * log(max(tokens_per_s, floor) / comfort)
    return worth - SLOPE_BELOW_FLOOR * log(floor / tokens_per_s) if tokens_per_s < floor else worth
