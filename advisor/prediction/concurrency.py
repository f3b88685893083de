"""Several conversations at once: what a step that they share takes, and what a drafter is still worth in it.

Both are reckoned here for everybody: for what a token costs, and for what a service can carry. Weights are read once
for all, the cache for each, and arithmetic is done for every row, which ends what drafting is worth: rows that are
wrong are free only while reading takes longer than computing.
"""

from __future__ import annotations

from collections.abc import Callable

from advisor.knowledge.profile import Architecture
from advisor.machine import Record
from advisor.prediction.speculation import CACHE_ROW_COST, smooth_cost
from advisor.prediction.speed import experts_ratio
from advisor.prediction.stages import both_limits

BATCHING = frozenset({"llama.cpp", "vllm", "ollama"})
"""Backends that decode several conversations together; the native engine answers one after the other."""
BATCH_ROW_COST = 0.12
"""Of a further conversation in a step, relative to one alone, on a GPU: weights are read once for all, the cache for
each. Assumed, as between what verification of further rows costs (.02 to .1) and reading another cache."""
PROCESSOR_ROW_COST = 0.6
"""The same on a processor, which is bound by arithmetic."""
Step = Callable[[int, int], float]
"""What a step of so many conversations takes with so many rows each; only ratios count."""


def linear(row: float) -> Step:
    """Every row more costs the same share of a step, whoever it belongs to."""
    return lambda users, rows: smooth_cost(row)(users * rows)


def assumed(*, on_gpu: bool) -> Step:
    """Where nothing is known but where it computes."""
    return linear(BATCH_ROW_COST if on_gpu else PROCESSOR_ROW_COST)


def rate(plain: float, step: Step, users: int) -> float:
    """Tokens per second of all together, where one alone has `plain`."""
    return users * plain * step(1, 1) / step(users, 1)


def gain(alone: float, step: Step, users: int, draft_tokens: int) -> float:
    """The drafter's gain with several users: the more rows a step has anyway, the dearer those that are wrong.

    A drafted step of one user costs `own` and yields `alone * own` tokens; of several, the rows of all are added.
    """
    rows = draft_tokens + 1
    own = step(1, rows) / step(1, 1)
    return max(0.0, alone * own / (step(users, rows) / step(users, 1)))


class Roofline(Record, frozen=True, kw_only=True):
    """A server's step on GPUs, in seconds. `fixed`: whatever is in it. `dense`: reading the weights that every token
    needs; `experts`: those of one token's. `row`: arithmetic of one row. `cache`: reading that of one conversation."""

    fixed: float
    dense: float
    experts: float
    row: float
    cache: float
    architecture: Architecture

    def step(self, users: int, rows: int) -> float:
        """Seconds of a step of so many conversations with so many rows each."""
        read = self.dense + self.experts * experts_ratio(self.architecture, users * rows)
        work = self.row * users * rows
        return self.fixed + 1 / both_limits(1 / read, 1 / work) + users * self.cache * (1 + (rows - 1) * CACHE_ROW_COST)
