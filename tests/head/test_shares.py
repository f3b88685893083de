"""What each memory holds adds up, whatever the placement."""

from __future__ import annotations

import msgspec
import pytest

from advisor.choice.candidates import Candidate
from advisor.choice.ranking import Request, rank
from advisor.knowledge.catalog import load
from advisor.memory.shares import Parts, parts, shares
from advisor.pages.report import document
from tests.head.machines import NAMED, simulated

MACHINES = (*NAMED, "8x H100 SXM, 512GB", "RTX 3070, 64GB", "RTX 4060 8GB, 128GB")


def total(held: Parts) -> int:
    return sum(msgspec.structs.astuple(held))


def candidates(spec: str) -> list[Candidate]:
    """Every recommendation of a few requests."""
    found = []
    for use_case in ("chat", "vision", "long-context", "max-quality"):
        request = Request(use_case=use_case, min_tokens_per_s=0)
        try:
            ranking = rank(request, simulated(spec), load())
        except Exception as error:  # noqa: BLE001 - what fits nowhere has no memory to divide
            assert type(error).__name__ == "NothingFits"
            continue
        found += [one.candidate for one in ranking.recommendations]
    return found


@pytest.mark.parametrize("spec", MACHINES)
def test_shares_add_up(spec: str) -> None:
    for one in candidates(spec):
        device, host = shares(one.load, one.placement, one.limits)
        everything = parts(one.load, one.placement, one.limits)
        assert total(device) == one.placement.device_bytes
        assert total(host) == one.placement.host_bytes
        for name in Parts.__struct_fields__:
            assert getattr(device, name) + getattr(host, name) == getattr(everything, name), name
            assert min(getattr(device, name), getattr(host, name)) >= 0, name


def test_all_placements_are_among_them() -> None:
    modes = {one.placement.mode for spec in MACHINES for one in candidates(spec)}
    assert modes == {"gpu", "cpu", "experts-on-cpu", "split"}


def test_the_document_says_where() -> None:
    """Beside a card, lookup tables and the input embedding are in main memory; the cache is on the card."""
    pick = document(rank(Request(), simulated("RTX 4090, 64GB"), load())).recommendations[0]
    assert pick.held.device.kv_cache_bytes == pick.memory.kv_cache_bytes > 0
    assert 0 < pick.held.host.weights_bytes < pick.held.device.weights_bytes
