"""Classes of bug: a laptop's card taken for the desktop's, a Ti for the plain one, a variant for another."""

import pytest

from advisor.hardware.probes import bandwidth
from advisor.hardware.probes.host import Findings, Replay
from advisor.knowledge import names
from advisor.machine import Cpu
from tests.probes.machines import DEVICES, GIB, device


@pytest.mark.parametrize(
    ("name", "vendor", "gib", "wanted"),
    [
        ("NVIDIA GeForce RTX 4090", "nvidia", 24, "rtx-4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "nvidia", 16, "rtx-4090-laptop"),
        ("NVIDIA GeForce RTX 4090 D", "nvidia", 24, None),
        ("NVIDIA GeForce RTX 3060", "nvidia", 12, "rtx-3060-12gb"),
        ("NVIDIA GeForce RTX 3060", "nvidia", 8, "rtx-3060-8gb"),
        ("NVIDIA GeForce RTX 3060 Ti", "nvidia", 8, None),
        ("NVIDIA H100 80GB HBM3", "nvidia", 80, "h100"),
        ("NVIDIA H100 PCIe", "nvidia", 80, "h100"),
        ("AMD Radeon RX 7900 XTX", "amd", 24, "rx-7900-xtx"),
        ("Radeon RX 7900 XT", "amd", 20, "rx-7900-xt"),
        ("AMD Radeon RX 7900 GRE", "amd", 16, None),
        ("Intel(R) Arc(TM) B580 Graphics", "intel", 12, "arc-b580"),
        ("Apple M3", "apple", 16, None),
        ("Apple M1", "apple", 16, "m1"),
        ("NVIDIA Arc B580", "nvidia", 12, None),
        ("NVIDIA", "nvidia", 1, None),
        ("", "other", 0, None),
    ],
)
def test_match(name: str, vendor: str, gib: int, wanted: str | None) -> None:
    found = names.match(name, DEVICES, vendor=vendor, memory_bytes=gib * GIB)
    assert (found.id if found else None) == wanted


def test_a_generation_is_part_of_a_name() -> None:
    ada = device("rtx-4000-ada", "RTX 4000 Ada Generation", "nvidia", 360, 20)
    assert names.match("Quadro RTX 4000", [ada], vendor="nvidia") is None
    assert names.match("NVIDIA RTX 4000 Ada Generation", [ada], vendor="nvidia") is ada


@pytest.mark.parametrize(("cores", "gb", "basis"), [(2, 20, "assumed"), (32, 153, "assumed"), (96, 460, "catalogue")])
def test_a_rented_part_of_a_server_has_a_part_of_its_bandwidth(cores: int, gb: int, basis: str) -> None:
    server = device("epyc-9654", "EPYC 9654", "amd", 460.8, kind="cpu", cores=96)
    cpu = Cpu(name="AMD EPYC 9654 96-Core Processor", cores=cores, threads=cores)
    found = bandwidth.estimate(Replay(Findings(system="Linux")), cpu, [server])
    assert (found.rate // 10**9, found.basis) == (gb, basis)


def test_memory_modules_tell_their_generation() -> None:
    host = Replay(
        Findings(system="Linux", files={"/sys/devices/system/edac/mc/mc0/dimm0/dimm_mem_type": "Unbuffered-DDR5"})
    )
    found = bandwidth.estimate(host, Cpu(name="x", cores=8, threads=16), ())
    assert found == (76_800_000_000, "assumed")


def test_a_chip_inside_a_processors_name() -> None:
    found = names.inside("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", DEVICES)
    assert found is not None
    assert found.id == "strix-halo"
    assert names.inside("Intel(R) Core(TM) i7-12700", DEVICES) is None
