"""Classes of bug: a laptop's card taken for the desktop's, a Ti for the plain one, a variant for another."""

import pytest

from advisor.probes import names
from tests.probes.machines import DEVICES, GIB


@pytest.mark.parametrize(
    ("name", "vendor", "gib", "device"),
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
def test_match(name: str, vendor: str, gib: int, device: str | None) -> None:
    found = names.match(name, DEVICES, vendor=vendor, memory_bytes=gib * GIB)
    assert (found.id if found else None) == device


def test_a_chip_inside_a_processors_name() -> None:
    found = names.inside("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", DEVICES)
    assert found is not None
    assert found.id == "strix-halo"
    assert names.inside("Intel(R) Core(TM) i7-12700", DEVICES) is None
