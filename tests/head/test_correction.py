"""What the user corrects is replaced, and nothing else."""

from __future__ import annotations

import msgspec
import pytest

from advisor.choice.ranking import Request, rank
from advisor.errors import UsageError
from advisor.hardware.correction import corrected
from advisor.knowledge.catalog import load
from advisor.machine import Availability
from tests.head.machines import GIB, real, simulated

CATALOG = load()
LLAMA_CPP = Availability(name="llama.cpp", available=True, version="b10605", drafter=True)


def test_nothing_to_correct() -> None:
    machine = real(LLAMA_CPP)
    assert corrected(machine, CATALOG) is machine


def test_a_card_that_was_not_seen() -> None:
    machine = corrected(real(LLAMA_CPP), CATALOG, gpu="2x RTX 3090")
    assert [gpu.index for gpu in machine.gpus] == [0, 1]
    assert {gpu.memory_total_bytes for gpu in machine.gpus} == {24 * GIB}
    assert machine.backends == (LLAMA_CPP,)
    assert not machine.simulated
    pick = rank(Request(), machine, CATALOG).recommendations[0].candidate
    assert pick.placement.mode == "gpu"


def test_a_card_that_is_none() -> None:
    machine = corrected(simulated("RTX 4090, 64GB"), CATALOG, gpu="None")
    assert machine.gpus == ()
    assert not any(key.startswith("gpus.") for key in machine.basis)


def test_an_unknown_card_by_its_memory() -> None:
    (gpu,) = corrected(real(), CATALOG, gpu="GPU 24GB").gpus
    assert gpu.memory_total_bytes == 24 * GIB


def test_less_memory_and_more() -> None:
    machine = real(memory=32)
    less = corrected(machine, CATALOG, memory="8GB").memory
    assert (less.total_bytes, less.available_bytes) == (8 * GIB, 8 * GIB)
    more = corrected(machine, CATALOG, memory="64GB").memory
    assert (more.total_bytes, more.available_bytes) == (64 * GIB, 63 * GIB), "what others hold stays held"


def test_less_memory_that_the_gpu_shares() -> None:
    machine = corrected(simulated("M3 Max 64GB"), CATALOG, memory="36GB")
    assert machine.gpus[0].memory_total_bytes == 36 * GIB
    assert machine.memory.unified


def test_a_limit_that_no_longer_limits() -> None:
    machine = real(memory=32)
    limited = msgspec.structs.replace(machine.memory, limit_bytes=16 * GIB, limit_source="a cgroup")
    machine = msgspec.structs.replace(machine, memory=limited)
    assert corrected(machine, CATALOG, memory="8GB").memory.limit_bytes is None
    assert corrected(machine, CATALOG, memory="24GB").memory.limit_bytes == 16 * GIB


@pytest.mark.parametrize(("gpu", "memory"), [("M3 Max", None), ("RTX 409O", None), (None, "much"), ("", None)])
def test_what_cannot_be(gpu: str | None, memory: str | None) -> None:
    with pytest.raises(UsageError) as raised:
        corrected(real(), CATALOG, gpu=gpu, memory=memory)
    assert raised.value.hint
