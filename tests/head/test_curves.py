"""Curves go through the figures of the pick, and the right way."""

from __future__ import annotations

import pytest

from advisor.choice.curves import memory_by_context, speed_by_depth, steps
from advisor.choice.ranking import Request, rank
from advisor.knowledge.catalog import load
from advisor.prediction.speed import DEFAULT_DEPTH
from tests.head.machines import NAMED, simulated

CATALOG = load()


@pytest.mark.parametrize("spec", [*NAMED, "8x H100 SXM, 512GB"])
def test_curves_hold_the_picks_own_figures(spec: str) -> None:
    machine = simulated(spec)
    ranking = rank(Request(context_tokens=8 * DEFAULT_DEPTH, min_tokens_per_s=0), machine, CATALOG)
    pick = ranking.recommendations[0].candidate
    speeds = dict(speed_by_depth(pick, ranking.terms, machine, CATALOG, points=9))
    assert speeds[DEFAULT_DEPTH] == pytest.approx(pick.speed.decode)
    assert speeds[8 * DEFAULT_DEPTH] == pytest.approx(pick.speed.full)
    assert list(speeds.values()) == sorted(speeds.values(), reverse=True), "never faster with more to read"
    memory = memory_by_context(pick, ranking.terms)
    assert [y for _, y in memory] == sorted(y for _, y in memory)
    assert all(y <= pick.limits.device + pick.limits.host for _, y in memory)
    assert memory[0][1] <= pick.placement.device_bytes + pick.placement.host_bytes


def test_steps() -> None:
    assert steps(0, 8, 3) == [0, 4, 8]
    assert steps(5, 5, 4) == [5]
    assert steps(9, 5, 4) == [9]
