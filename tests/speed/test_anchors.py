"""Published speeds of machines as people name them, and what must hold between predictions."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.errors import ProfileError
from advisor.machine import Cpu, Gpu, Machine, Memory
from advisor.prediction import speed
from advisor.prediction.constants import constants
from advisor.prediction.stages import READ_TEST_SHARE, gpu_kind, vector_level
from tests.head.machines import real, simulated
from tests.head.test_speed import CATALOG, plain, setup

ANCHORS = [
    # machine, model, file, depth, tok/s, tolerance as a factor
    ("RTX 3090, 64GB", "26b", "QAT-UD-Q4_K_XL", 512, 152.8, 1.2),  # localmaxxing, llama-bench
    ("RTX 3090, 64GB", "31b", "Q4_K_M", 0, 38.9, 1.1),
    ("RTX 3090, 64GB", "e4b", "Q4_K_M", 0, 147, 1.15),
    ("RTX 5090, 64GB", "31b", "QAT-UD-Q4_K_XL", 82, 68.5, 1.15),
    ("RTX 5060 Ti 16GB, 32GB", "26b", "QAT-UD-Q4_K_XL", 0, 121.3, 1.15),
    ("RTX 4070, 32GB", "12b", "Q4_K_M", 37, 48.9, 1.15),
    ("RTX 4070, 32GB", "12b", "Q4_K_M", 120_053, 30.8, 1.25),
    ("H100 SXM, 256GB", "26b", "Q8_0", 2048, 184.5, 1.2),
    ("DGX Spark", "12b", "QAT-Q4_0", 0, 29.5, 1.1),
    ("DGX Spark", "e2b", "QAT-Q4_0", 0, 118.3, 1.1),
    ("Strix Halo 128GB", "31b", "Q8_0", 0, 6.65, 1.1),
    ("Strix Halo 128GB", "26b", "UD-Q4_K_M", 0, 52.9, 1.1),
    ("M4 Pro 24GB", "26b", "UD-Q4_K_M", 38, 60, 1.25),
    ("M1 Pro 16GB", "12b", "Q4_0", 0, 22.2, 1.15),
    ("Arc Pro B70, 64GB", "12b", "Q8_0", 0, 32.4, 1.25),
]


@pytest.mark.parametrize(("spec", "model", "quant", "depth", "measured", "factor"), ANCHORS)
def test_published_speeds(*, spec: str, model: str, quant: str, depth: int, measured: float, factor: float) -> None:
    found = plain(setup(model, quant, simulated(spec), depth=depth))
    assert measured / factor <= found <= measured * factor, f"{found:.1f} predicted, {measured} measured"


@pytest.mark.parametrize(
    ("machine", "model", "measured", "factor"),
    [
        (real(cores=4, bandwidth=41.6e9), "e4b", 8.6, 1.35),  # Xeon E-2176G
        (real(cores=6, bandwidth=46.9e9), "e2b", 20.5, 1.3),  # i7-10750H
        (real(cores=8, bandwidth=83.2e9), "26b", 15.5, 1.6),  # Zen 4; without what AVX-512 adds
        (simulated("Raspberry Pi 5 8GB"), "e2b", 8, 1.3),
    ],
)
def test_published_speeds_of_processors(machine: Machine, model: str, measured: float, factor: float) -> None:
    found = plain(setup(model, "QAT-UD-Q4_K_XL", machine, mode="cpu", depth=0))
    assert measured / factor <= found <= measured * factor


def test_two_cores_are_bound_by_arithmetic_and_sixteen_by_memory() -> None:
    """Measured: two cores move 13-18 GB/s of weights, whatever the memory could."""
    slow, fast = (
        plain(setup("12b", "QAT-UD-Q4_K_XL", real(cores=2, bandwidth=rate), mode="cpu")) for rate in (6e10, 2e11)
    )
    assert fast < 1.1 * slow
    few, many = (plain(setup("12b", "QAT-UD-Q4_K_XL", real(cores=n, bandwidth=6e10), mode="cpu")) for n in (16, 64))
    assert many < 1.1 * few


def test_measured_and_specified_bandwidth_are_not_the_same() -> None:
    """A test that reads reaches about three quarters of what makers specify; constants are for the latter."""
    specified = real(cores=8, bandwidth=80e9)
    measured = msgspec.structs.replace(
        real(cores=8, bandwidth=80e9 * READ_TEST_SHARE), basis={"memory.bandwidth_bytes_per_s": "measured"}
    )
    one, other = (plain(setup("e4b", "QAT-UD-Q4_K_XL", machine, mode="cpu")) for machine in (specified, measured))
    assert one == pytest.approx(other)


def card(name: str, bandwidth: float, vendor: str = "nvidia") -> Machine:
    gpu = Gpu(
        name=name,
        vendor=vendor,  # type: ignore[arg-type]
        index=0,
        memory_total_bytes=24 << 30,
        memory_free_bytes=24 << 30,
        bandwidth_bytes_per_s=int(bandwidth),
    )
    return msgspec.structs.replace(real(), gpus=(gpu,))


MODELS = st.sampled_from(["e2b", "e4b", "12b", "26b", "31b"])


@settings(deadline=None)
@given(MODELS, st.floats(1e10, 8e12), st.floats(1, 10), st.integers(0, 131_072))
def test_more_bandwidth_is_never_slower(model: str, rate: float, factor: float, depth: int) -> None:
    slow, fast = (plain(setup(model, "QAT-UD-Q4_K_XL", card("x", each), depth=depth)) for each in (rate, rate * factor))
    assert fast >= slow * 0.9999


@settings(deadline=None)
@given(MODELS, st.integers(0, 131_072), st.integers(0, 131_072), st.sampled_from(["gpu", "cpu", "split"]))
def test_deeper_is_never_faster(model: str, one: int, other: int, mode: str) -> None:
    machine = card("RTX 3090", 936e9)
    near, far = (plain(setup(model, "QAT-UD-Q4_K_XL", machine, mode=mode, depth=d)) for d in sorted((one, other)))  # type: ignore[arg-type]
    assert far <= near


@settings(deadline=None)
@given(st.integers(1, 29), st.integers(1, 29))
def test_more_experts_in_main_memory_are_never_faster(one: int, other: int) -> None:
    machine = card("RTX 3060", 360e9)
    few, many = (
        plain(setup("26b", "QAT-UD-Q4_K_XL", machine, mode="experts-on-cpu", moved=n)) for n in sorted((one, other))
    )
    assert many <= few


@settings(deadline=None, max_examples=40)
@given(MODELS, st.floats(5e10, 4e12), st.sampled_from(["chat", "code", "story", "?"]), st.floats(0, 2))
def test_drafting_never_predicts_a_loss_and_ranges_hold_it(model: str, rate: float, kind: str, heat: float) -> None:
    drafter = CATALOG.models[model].drafter
    found = speed.predict(setup(model, "QAT-UD-Q4_K_XL", card("x", rate)), drafter, drafter.files[0], kind, heat)
    assert found.drafter_gain >= 1
    assert found.low < found.decode < found.high
    assert found.gain_low <= found.drafter_gain <= found.gain_high
    assert found.plain_low < found.plain < found.plain_high


@pytest.mark.parametrize(
    ("name", "vendor", "kind"),
    [
        ("NVIDIA GeForce RTX 3090", "nvidia", "nvidia"),
        ("NVIDIA GeForce GTX 1080 Ti", "nvidia", "old"),
        ("NVIDIA GeForce GTX 1660 SUPER", "nvidia", "nvidia"),
        ("Tesla P40", "nvidia", "old"),
        ("Tesla P100-PCIE-16GB", "nvidia", "old"),
        ("Tesla T4", "nvidia", "nvidia"),
        ("NVIDIA A100-SXM4-80GB", "nvidia", "nvidia-hbm"),
        ("NVIDIA H100 80GB HBM3", "nvidia", "nvidia-hbm"),
        ("NVIDIA RTX A6000", "nvidia", "nvidia"),
        ("NVIDIA GB10", "nvidia", "gb10"),
        ("Orin (nvgpu)", "nvidia", "jetson"),
        ("AMD Radeon RX 7900 XTX", "amd", "amd"),
        ("AMD Instinct MI300X", "amd", "amd-rocm"),
        ("Intel Arc B580", "intel", "intel"),
        ("Apple M3 Max", "apple", "apple"),
        ("Adreno X1-85", "other", "other"),
    ],
)
def test_classes_by_the_names_that_drivers_report(name: str, vendor: str, kind: str) -> None:
    machine = card(name, 5e11, vendor)
    assert gpu_kind(machine.gpus[0], machine) == kind


def test_every_class_has_all_its_constants() -> None:
    known = constants()
    for name, one in known.gpus.items():
        assert 0.2 < one.efficiency <= 1, name
        assert name in known.prompt.share
        assert name in known.drafting.row_cost
    levels = ("avx512", "avx2", "neon", "board", "small", "none")
    assert set(levels) == set(known.cpu.core_bytes_per_s) == set(known.prompt.core_flops)


@pytest.mark.parametrize(
    ("os", "name", "features", "level"),
    [
        ("linux", "AMD EPYC", ("avx2", "avx512f"), "avx512"),
        ("linux", "x", (), "avx2"),
        ("linux", "Raspberry Pi 5", ("neon",), "board"),
        ("linux", "Cortex-A725", ("neon",), "neon"),
        ("android", "Snapdragon 8 Elite", ("neon",), "small"),
        ("linux", "Pentium", ("sse4_2",), "none"),
    ],
)
def test_vector_levels(os: str, name: str, features: tuple[str, ...], level: str) -> None:
    memory = Memory(total_bytes=1, available_bytes=1)
    machine = Machine(os=os, cpu=Cpu(name=name, cores=4, threads=4, features=features), memory=memory)
    assert vector_level(machine) == level


def test_constants_that_cannot_be_read_are_an_error_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setattr("advisor.prediction.constants.files", lambda _: tmp_path)
    constants.cache_clear()
    try:
        with pytest.raises(ProfileError, match=r"speed\.json"):
            constants()
    finally:
        constants.cache_clear()
