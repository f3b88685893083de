"""What may be used: every item with its source, and the items add up."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.machine import Gpu, Machine, Memory
from advisor.memory.budgets import Budget, budget
from advisor.memory.footprint import GIB
from tests.head.machines import NAMED, real, simulated


def sums(found: Budget) -> dict[str, int]:
    by_device: dict[str, int] = {}
    for item in found.items:
        by_device[item.device] = by_device.get(item.device, 0) + item.bytes
    return by_device


def adds_up(found: Budget) -> None:
    left = sums(found)
    if found.unified:
        assert left == {"shared memory": found.device}
        return
    assert left.pop("main memory") == found.host
    assert tuple(left.values()) == found.cards
    assert all(item.source for item in found.items)


@pytest.mark.parametrize("spec", NAMED)
@pytest.mark.parametrize("reserve", [None, 0, 2 * GIB, 1 << 50])
def test_items_add_up(spec: str, reserve: int | None) -> None:
    found = budget(simulated(spec), reserve=reserve)
    adds_up(found)
    assert found.host >= 0
    assert all(card >= 0 for card in found.cards)


@pytest.mark.parametrize("spec", NAMED)
def test_a_reserve_moves_the_budget_by_itself(spec: str) -> None:
    machine = simulated(spec)
    none, some = budget(machine, reserve=0), budget(machine, reserve=GIB)
    assert none.host - some.host == GIB
    if not none.unified:
        assert [before - after for before, after in zip(none.cards, some.cards, strict=True)] == [GIB] * len(none.cards)


def test_what_others_hold_counts_towards_the_usual_margin_but_not_towards_a_reserve() -> None:
    machine = with_memory(real(memory=32), available_bytes=31 * GIB)
    assert budget(machine).host == 29 * GIB
    assert budget(machine, reserve=3 * GIB).host == 28 * GIB


def test_a_containers_limit() -> None:
    machine = with_memory(real(memory=64), limit_bytes=8 * GIB, limit_source="cgroup v2", available_bytes=6 * GIB)
    found = budget(machine)
    adds_up(found)
    assert found.host == 6 * GIB
    assert any(item.source == "cgroup v2" and item.bytes == -56 * GIB for item in found.items)


def test_a_mac_says_its_wired_limit() -> None:
    gpu = Gpu(
        name="Apple M2",
        vendor="apple",
        index=0,
        memory_total_bytes=12 * GIB,
        memory_free_bytes=11 * GIB,
        integrated=True,
    )
    machine = unified(real(memory=16), gpu)
    found = budget(machine)
    adds_up(found)
    assert found.device == 11 * GIB
    assert any("wired limit" in item.source for item in found.items)


def test_an_apu_says_gtt_or_carve_out() -> None:
    gpu = Gpu(
        name="Radeon 8060S",
        vendor="amd",
        index=0,
        memory_total_bytes=96 * GIB,
        memory_free_bytes=95 * GIB,
        integrated=True,
    )
    found = budget(unified(real(memory=128), gpu))
    adds_up(found)
    assert found.device == 95 * GIB
    assert any("GTT" in item.source for item in found.items)


@given(
    total=st.integers(GIB // 2, 1 << 42),
    free=st.floats(0, 1),
    limit=st.one_of(st.none(), st.integers(1, 1 << 42)),
    reserve=st.one_of(st.none(), st.integers(0, 1 << 43)),
)
def test_no_budget_is_negative_or_more_than_there_is(
    total: int, free: float, limit: int | None, reserve: int | None
) -> None:
    machine = with_memory(real(), total_bytes=total, available_bytes=int(total * free), limit_bytes=limit)
    found = budget(machine, reserve=reserve)
    adds_up(found)
    assert 0 <= found.host <= min(total, int(total * free))
    assert limit is None or limit >= total or found.host <= limit


def with_memory(machine: Machine, **changes: object) -> Machine:
    return msgspec.structs.replace(machine, memory=msgspec.structs.replace(machine.memory, **changes))


def unified(machine: Machine, gpu: Gpu) -> Machine:
    memory = msgspec.structs.replace(machine.memory, unified=True)
    assert isinstance(memory, Memory)
    return msgspec.structs.replace(machine, memory=memory, gpus=(gpu,))
