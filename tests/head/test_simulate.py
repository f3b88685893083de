"""Machines in words and in files."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.errors import UsageError
from advisor.hardware.simulate import parse, read
from advisor.knowledge.catalog import load
from tests.head.machines import GIB, NAMED, real, simulated

CATALOG = load()


def test_card_and_memory() -> None:
    machine = simulated("RTX 4090, 64GB")
    assert [(gpu.name, gpu.memory_total_bytes, gpu.vendor) for gpu in machine.gpus] == [
        ("GeForce RTX 4090", 24 * GIB, "nvidia")
    ]
    assert machine.memory.total_bytes == 64 * GIB
    assert machine.simulated
    assert machine.basis["memory.total_bytes"] == "simulated"


@pytest.mark.parametrize("spec", ["RTX 2080 Ti, 32GB", "Radeon 780M, 32GB", "RTX 3090 Ti"])
def test_letters_of_a_name_are_no_unit(spec: str) -> None:
    assert len(simulated(spec).gpus) == 1


def test_two_cards() -> None:
    machine = simulated("2x RTX 3090, 128GB")
    assert [gpu.index for gpu in machine.gpus] == [0, 1]
    assert machine.memory.total_bytes == 128 * GIB
    assert simulated("2xRTX 3090,128GB") == simulated("2 x rtx 3090, 128 GB") == machine


def test_different_cards() -> None:
    assert len(simulated("RTX 3090, RTX 3060, 64GB").gpus) == 2


def test_soc_shares_its_memory() -> None:
    machine = simulated("M3 Max 64GB")
    assert machine.memory.unified
    assert machine.memory.total_bytes == machine.gpus[0].memory_total_bytes == 64 * GIB
    assert machine.os == "macos"
    assert simulated("M3 Max, 64GB") == machine


def test_size_tells_devices_apart() -> None:
    assert simulated("M3 Max 36GB").gpus[0].device != simulated("M3 Max 64GB").gpus[0].device


def test_card_with_its_size() -> None:
    assert simulated("RTX 3060 12GB, 32GB").gpus[0].memory_total_bytes == 12 * GIB
    assert simulated("RTX 4060 Ti 16GB, 32GB").gpus[0].memory_total_bytes == 16 * GIB


def test_no_gpu() -> None:
    machine = simulated("cpu, 16GB")
    assert machine.gpus == ()
    assert simulated("16GB") == machine


def test_board_without_a_usable_gpu() -> None:
    machine = simulated("Raspberry Pi 5 8GB")
    assert machine.gpus == ()
    assert (machine.cpu.cores, machine.memory.total_bytes) == (4, 8 * GIB)


def test_missing_memory_is_assumed_and_said_to_be() -> None:
    machine = simulated("RTX 4090")
    assert machine.memory.total_bytes == 64 * GIB
    assert machine.basis["memory.total_bytes"] == "assumed"


@pytest.mark.parametrize("spec", ["RTX 4090, 64 GiB", "rtx4090,64g", " RTX 4090 ,64gb", "GeForce RTX 4090, 65536 MiB"])
def test_spelling_is_forgiven(spec: str) -> None:
    assert simulated(spec) == simulated("RTX 4090, 64GB")


def test_decimal_sizes_of_makers_who_count_so() -> None:
    assert simulated("DGX Spark 128GB").memory.total_bytes == 128 * 10**9


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("RTX 4099, 64GB", "RTX 4099"),
        ("RTX 4090 23GB, 64GB", "24GB"),
        ("M3 Max 63GB", "48GB, 64GB, 128GB"),
        ("M3 Max 64GB, 128GB", "two sizes"),
        ("M3 Max, RTX 4090", "whole machine"),
        ("2x M3 Max", "whole machine"),
        ("cpu, RTX 4090, 64GB", "no GPU"),
        ("RTX 4090, 64GB, 32GB", "2 sizes"),
        ("RTX 4090,, 64GB", "empty"),
        ("", "empty"),
        (" , ", "empty"),
        ("0x RTX 4090", "0 devices"),
        ("999x RTX 4090", "999 devices"),
        ("RTX 4090, 0GB", "not a size"),
        ("RTX 4090, 900TB", "plausible"),
        ("RTX 4090, 1MB", "plausible"),
        ("-1x RTX 4090", "unknown device"),
        ("RTX 4090, -64GB", "unknown device"),
        ("\x00", "unknown device"),
    ],
)
def test_nonsense_is_explained(spec: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        simulated(spec)
    assert said in raised.value.message + raised.value.hint
    assert raised.value.hint


@pytest.mark.parametrize(
    ("spec", "near"),
    [
        ("RTX 409, 64GB", "GeForce RTX 4090"),
        ("rtx 9999, 64GB", "GeForce RTX 5090"),
        ("RX 9999", "Radeon RX 9070"),
        ("MacBook Pro M3 Max 64GB", "Apple M3 Max"),
        ("RTX 5090 + 64GB", "GeForce RTX 5090"),
    ],
)
def test_near_names_are_offered(spec: str, near: str) -> None:
    with pytest.raises(UsageError) as raised:
        simulated(spec)
    assert raised.value.message.startswith("unknown device")
    assert near in raised.value.hint


@pytest.mark.parametrize(
    ("spec", "mib"),
    [("T4, 64GB", 15360), ("A10G, 64GB", 23040), ("2x A10G 24GB", 23040), ("RTX 4090, 64GB", 24576), ("H100", 81920)],
)
def test_error_correction_takes_its_part_where_it_has_no_memory_of_its_own(spec: str, mib: int) -> None:
    """As nvidia-smi shows them: a T4 15,360 MiB, an A10G 23,028."""
    assert {gpu.memory_total_bytes >> 20 for gpu in simulated(spec).gpus} == {mib}


def test_a_comma_that_was_left_out_is_offered() -> None:
    with pytest.raises(UsageError) as raised:
        simulated("RTX 4090 64GB")
    assert raised.value.command.endswith('--simulate "GeForce RTX 4090, 64GB"')
    assert simulated("GeForce RTX 4090, 64GB").memory.total_bytes == 64 << 30


@given(st.text(max_size=60))
def test_any_text_is_a_machine_or_a_usage_error(spec: str) -> None:
    try:
        parse(spec, CATALOG)
    except UsageError as error:
        assert error.message


class TestFile:
    @pytest.mark.parametrize("spec", NAMED)
    def test_round_trip(self, spec: str, tmp_path: Path) -> None:
        path = tmp_path / "machine.json"
        path.write_bytes(msgspec.json.encode(simulated(spec)))
        assert read(path) == simulated(spec)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"cpu": {"name": "x", "cores": "four", "threads": 4}}, "cpu.cores"),
            ({"cpu": {"name": "x", "cores": 0, "threads": 4}}, "cpu.cores: 0"),
            ({"cpu": None}, "cpu"),
            ({"memory": {"total_bytes": -5, "available_bytes": 1}}, "memory.total_bytes: -5"),
            ({"memory": {"total_bytes": 10**30, "available_bytes": 1}}, "memory.total_bytes"),
            ({"memory": {"total_bytes": 1.5, "available_bytes": 1}}, "memory.total_bytes"),
            ({"gpus": [{"name": "x"}]}, "gpus[0]"),
            ({"gpus": {"a": 1}}, "gpus"),
            ({"colour": "red"}, "colour"),
        ],
    )
    def test_wrong_key_is_named(self, change: dict[str, object], said: str, tmp_path: Path) -> None:
        path = tmp_path / "machine.json"
        path.write_bytes(msgspec.json.encode(msgspec.to_builtins(real()) | change))
        with pytest.raises(UsageError) as raised:
            read(path)
        assert str(path) in raised.value.message
        assert said in raised.value.message

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b"[" * 100_000, b'{"cpu": NaN}', b" " * (2 << 20)]
    )
    def test_not_a_machine(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "machine.json"
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"machine\.json"):
            read(path)

    def test_no_file(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none.json", tmp_path, Path("a\0b")):
            with pytest.raises(UsageError):
                read(path)
