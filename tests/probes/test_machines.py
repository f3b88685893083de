"""Every machine in `machines/`: what detection makes of it, and that a recommendation can be made for what it makes.

Classes of bug: an integrated GPU counted as a big card; the host's memory instead of the limit; N/A read as 0 or as all
of main memory; a MIG instance taken for the whole card; a card counted twice; an error of a tool that nobody sees.
"""

from functools import cache
from pathlib import Path

import click.testing
import msgspec
import pytest

from advisor.commands import recommend
from advisor.errors import NoBackend, NothingFits
from advisor.knowledge import catalog
from advisor.knowledge.profile import Device
from advisor.machine import Machine
from tests.probes.machines import NAMES, Expected, ExpectedGpu, fixture, machine

GIB = 1 << 30
REPLAYED = "nvidia-ml-py"
"""A replay has no NVML, so each machine with NVIDIA's driver notes that too."""


@cache
def devices() -> tuple[Device, ...]:
    return tuple(catalog.load().devices.values())


@cache
def detected(name: str) -> Machine:
    return machine(name, devices=devices())


def in_gib(size: int) -> float:
    return round(size / GIB, 2)


def in_gb(rate: int | None) -> float | None:
    return None if rate is None else round(rate / 1e9, 1)


def as_expected(found: Machine) -> Expected:
    """The machine in the words of a fixture, so that a difference reads as one."""
    limit = found.memory.limit_bytes
    return Expected(
        environment=found.environment,  # type: ignore[arg-type]
        cores=found.cpu.cores,
        threads=found.cpu.threads,
        memory_gib=in_gib(found.memory.total_bytes),
        available_gib=in_gib(found.memory.available_bytes),
        limit_gib=None if limit is None else in_gib(limit),
        bandwidth=found.basis["memory.bandwidth_bytes_per_s"],
        gb_per_s=in_gb(found.memory.bandwidth_bytes_per_s) or 0,
        unified=found.memory.unified,
        gpus=tuple(
            ExpectedGpu(
                name=gpu.name,
                vendor=gpu.vendor,
                gib=in_gib(gpu.memory_total_bytes),
                free_gib=in_gib(gpu.memory_free_bytes),
                device=gpu.device,
                integrated=gpu.integrated,
                memory=found.basis[f"gpus.{place}.memory_total_bytes"],
                bandwidth=found.basis.get(f"gpus.{place}.bandwidth_bytes_per_s"),
                gb_per_s=in_gb(gpu.bandwidth_bytes_per_s),
            )
            for place, gpu in enumerate(found.gpus)
        ),
    )


def test_there_are_enough() -> None:
    assert len(NAMES) >= 34


@pytest.mark.parametrize("name", NAMES)
def test_what_is_detected(name: str) -> None:
    expected = fixture(name).expected
    assert as_expected(detected(name)) == msgspec.structs.replace(expected, problems=())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_noted(name: str) -> None:
    said = [problem.message for problem in detected(name).problems if REPLAYED not in problem.message]
    phrases = fixture(name).expected.problems
    assert len(said) == len(phrases)
    assert all(phrase in message for phrase, message in zip(phrases, said, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_known_is_said_with_a_way_to_tell_it(name: str) -> None:
    found = detected(name)
    hints = [problem.hint or "" for problem in found.problems]
    for place, gpu in enumerate(found.gpus):
        basis = found.basis.get(f"gpus.{place}.bandwidth_bytes_per_s")
        if not gpu.integrated and basis in (None, "assumed"):
            assert any("--gpu-bandwidth" in hint or "--machine" in hint for hint in hints)


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_recommended_for(name: str, tmp_path: Path) -> None:
    """As a user does it: detect --json into a file, recommend --machine from it. A pick, or a typed error."""
    file = tmp_path / "machine.json"
    file.write_bytes(msgspec.json.encode(detected(name)))
    assert msgspec.json.decode(file.read_bytes(), type=Machine) == detected(name)
    runner = click.testing.CliRunner()
    result = runner.invoke(recommend.command, ["--machine", str(file), "--json"], standalone_mode=False)
    if result.exception is None:
        answer = msgspec.json.decode(result.stdout)
        assert answer["recommendations"]
    else:
        assert isinstance(result.exception, NothingFits | NoBackend), result.exception
        assert str(result.exception)
