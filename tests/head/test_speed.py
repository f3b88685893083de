"""Predictions against public measurements and against what must hold."""

import msgspec
import pytest

from advisor.knowledge.catalog import load
from advisor.machine import Machine
from advisor.memory.footprint import weights
from advisor.memory.placement import Mode, Placement
from advisor.prediction import speed
from advisor.prediction.speed import Setup
from tests.head.machines import real, simulated

CATALOG = load()


def setup(model: str, quant: str, machine: Machine, *, mode: Mode = "gpu", depth: int = 512, moved: int = 0) -> Setup:
    profile = CATALOG.models[model]
    file = next(file for file in profile.quants if file.name == quant)
    layers = profile.architecture.layers
    placed = Placement(
        mode=mode,
        gpu_layers={"cpu": 0, "split": layers // 2}.get(mode, layers + 1),
        cpu_expert_layers=moved,
        device_bytes=1,
        host_bytes=1,
        budget_bytes=1,
        headroom_bytes=0,
    )
    return Setup(
        architecture=profile.architecture,
        weights=weights(profile.architecture, file),
        placement=placed,
        machine=machine,
        devices=CATALOG.devices,
        depth_tokens=depth,
    )


def plain(one: Setup) -> float:
    return speed.predict(one, None, None, "chat").plain


MEASURED = [
    # machine, model, file, tok/s measured in public with llama.cpp, tolerance as a factor
    ("RTX 3090, 64GB", "26b", "QAT-UD-Q4_K_XL", 143, 1.15),
    ("RTX 3090, 64GB", "31b", "QAT-Q4_0", 40, 1.15),
    ("Strix Halo 128GB", "31b", "QAT-Q4_0", 10.95, 1.15),
    ("Strix Halo 128GB", "26b", "QAT-Q4_0", 61.2, 1.15),
    ("Strix Halo 128GB", "31b", "Q8_0", 6.7, 1.15),
    ("M4 16GB", "e2b", "Q4_K_M", 51.9, 1.25),
    ("M4 Pro 24GB", "e4b", "Q4_K_M", 58.4, 1.25),
]


@pytest.mark.parametrize(("spec", "model", "quant", "measured", "factor"), MEASURED)
def test_plain_speed_is_near_what_was_measured(
    spec: str, model: str, quant: str, measured: float, factor: float
) -> None:
    found = plain(setup(model, quant, simulated(spec)))
    assert measured / factor <= found <= measured * factor, f"{found:.1f} tok/s predicted, {measured} measured"


@pytest.mark.parametrize(
    ("machine", "model", "measured"),
    [
        (simulated("Raspberry Pi 5 8GB"), "e2b", 8),
        (real(cores=4, bandwidth=41e9), "e4b", 8.6),
        (real(cores=8, bandwidth=83e9), "26b", 15.5),
    ],
)
def test_processor_speed_is_near_what_was_measured(machine: Machine, model: str, measured: float) -> None:
    found = plain(setup(model, "QAT-UD-Q4_K_XL", machine, mode="cpu"))
    assert measured / 1.5 <= found <= measured * 1.5


@pytest.mark.parametrize(
    ("spec", "model", "kind", "low", "high"),
    [
        ("RTX 4090, 64GB", "31b", "code", 2.0, 2.6),
        ("RTX 4090, 64GB", "26b", "chat", 1.1, 1.5),
        ("RTX 4070, 32GB", "12b", "code", 1.7, 2.4),
        ("RTX 4090, 64GB", "e4b", "chat", 1.0, 1.45),
        ("RTX 4090, 64GB", "e2b", "chat", 1.0, 1.3),
        ("M3 Max 64GB", "26b", "chat", 1.0, 1.5),
    ],
)
def test_gain_is_typical(spec: str, model: str, kind: str, low: float, high: float) -> None:
    """The ranges are those that users report."""
    drafter = CATALOG.models[model].drafter
    file = next(file for file in drafter.files if file.qat)
    found = speed.predict(setup(model, "QAT-UD-Q4_K_XL", simulated(spec)), drafter, file, kind)
    assert low <= found.drafter_gain <= high
    assert found.decode == pytest.approx(found.plain * found.drafter_gain)


def test_small_models_do_not_read_their_lookup_table() -> None:
    """Size over bandwidth is wrong by 2x for E2B."""
    reads, _ = speed.reads_of(setup("e2b", "QAT-UD-Q4_K_XL", simulated("RTX 4090, 64GB")))
    assert 1.2e9 < reads.dense < 1.5e9


def test_mixture_reads_a_sixteenth_of_its_experts() -> None:
    reads, _ = speed.reads_of(setup("26b", "QAT-UD-Q4_K_XL", simulated("RTX 4090, 64GB"), depth=0))
    assert reads.dense + reads.experts == pytest.approx(2.15e9, rel=0.03)


def test_unsloths_larger_dense_part_is_read_in_full() -> None:
    reads, _ = speed.reads_of(setup("26b", "UD-Q4_K_M", simulated("RTX 4090, 64GB"), depth=0))
    assert reads.dense + reads.experts == pytest.approx(3.2e9, rel=0.1)


def test_each_layer_moved_to_the_processor_costs_time() -> None:
    machine = simulated("RTX 4090, 64GB")
    times = [
        1 / plain(setup("26b", "QAT-UD-Q4_K_XL", machine, mode="experts-on-cpu", moved=count)) for count in (1, 9, 17)
    ]
    assert times[0] < times[1] < times[2]
    assert times[1] - times[0] == pytest.approx(times[2] - times[1])


def test_split_lies_between_its_devices() -> None:
    machine = simulated("RTX 4090, 64GB")
    on_gpu, split, on_cpu = (plain(setup("31b", "QAT-UD-Q4_K_XL", machine, mode=m)) for m in ("gpu", "split", "cpu"))
    assert on_cpu < split < on_gpu


def test_two_cards_are_no_faster_than_one() -> None:
    """A layer split works on one card after the other."""
    one = plain(setup("31b", "QAT-UD-Q4_K_XL", simulated("RTX 3090, 64GB")))
    two = plain(setup("31b", "QAT-UD-Q4_K_XL", simulated("2x RTX 3090, 64GB")))
    assert two == pytest.approx(one)


def test_depth_slows_decoding() -> None:
    machine = simulated("RTX 4090, 64GB")
    speeds = [plain(setup("12b", "QAT-UD-Q4_K_XL", machine, depth=depth)) for depth in (0, 2048, 39_000, 137_000)]
    assert speeds == sorted(speeds, reverse=True)
    assert speeds[3] < 0.8 * speeds[1]


def test_range_holds_the_estimate_and_widens_with_ignorance() -> None:
    known = simulated("RTX 4090, 64GB")
    gpu = msgspec.structs.replace(known.gpus[0], bandwidth_bytes_per_s=None, device=None)
    unknown = msgspec.structs.replace(known, gpus=(gpu,))
    sure, unsure = (
        speed.predict(setup("12b", "QAT-UD-Q4_K_XL", machine), None, None, "chat") for machine in (known, unknown)
    )
    for found in (sure, unsure):
        assert found.low < found.decode < found.high
    assert unsure.high / unsure.low > sure.high / sure.low
