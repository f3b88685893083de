"""Machines for the tests: the ones people name, described as they would describe them."""

from advisor.hardware.simulate import parse
from advisor.knowledge.catalog import load
from advisor.machine import Availability, Cpu, Machine, Memory

GIB = 1 << 30

NAMED = (
    "RTX 4090, 64GB",
    "RTX 5090, 64GB",
    "RTX 4060 Ti 16GB, 32GB",
    "RTX 3060 12GB, 32GB",
    "RTX 4060, 16GB",
    "2x RTX 3090, 128GB",
    "H100 SXM, 256GB",
    "M3 Max 64GB",
    "M1 8GB",
    "Strix Halo 128GB",
    "Raspberry Pi 5 8GB",
    "cpu, 16GB",
)


def simulated(spec: str) -> Machine:
    return parse(spec, load())


def real(*backends: Availability, memory: int = 32, cores: int = 8, bandwidth: float = 80e9) -> Machine:
    """A machine as detected: a processor with AVX2 and no GPU."""
    return Machine(
        os="linux",
        cpu=Cpu(name="test", cores=cores, threads=2 * cores, features=("avx2",)),
        memory=Memory(
            total_bytes=memory * GIB, available_bytes=(memory - 1) * GIB, bandwidth_bytes_per_s=int(bandwidth)
        ),
        backends=backends,
    )
