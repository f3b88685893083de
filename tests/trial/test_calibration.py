"""The calibration: real steps of a real runtime, kept with the hardware and the build."""

from __future__ import annotations

import threading
import time
from math import sqrt
from pathlib import Path
from typing import Any

import msgspec
import pytest

from advisor.choice.ranking import Recommendation, Request, rank
from advisor.commands.calibrate import lines
from advisor.errors import Interrupted, NoBackend, RuntimeFailed
from advisor.files import gguf
from advisor.knowledge import catalog
from advisor.machine import Availability, Cpu, Gpu, Machine, Memory
from advisor.prediction import known, measurements, speed
from advisor.prediction.measurements import FileId
from advisor.prediction.pace import (
    DEMO,
    DEMO_LAYERS,
    LAYERS,
    MORE_LAYERS,
    MORE_PASSED,
    PASSED,
    WIDE,
    WIDER,
    Pace,
    disturbed,
)
from advisor.running import demo
from advisor.trials import calibration
from advisor.trials.costs import Calibration, Costs
from backends.native import synthetic
from tests.launch.conftest import ask
from tests.trial.examples import keep

HERE = Machine(
    os="linux",
    cpu=Cpu(name="test", cores=2, threads=4),
    memory=Memory(total_bytes=8 << 30, available_bytes=4 << 30, bandwidth_bytes_per_s=10**10),
    basis={"memory.bandwidth_bytes_per_s": "measured"},
    backends=(Availability(name="native", available=True, version="1.0", build="CPU", drafter=True),),
)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "DEMO_S", 0.5)
    monkeypatch.setattr(calibration, "LIKE_12B_S", 0.5)
    monkeypatch.setattr(synthetic, "LIKE_12B", synthetic.LIKE_12B._replace(ffn=6144))


@pytest.mark.engine
def test_it_measures_and_is_recalled(store: Path, brief: None) -> None:
    assert calibration.is_wanted(HERE)
    *begun, found = calibration.run(HERE)
    assert tuple(begun) == calibration.stages()
    assert isinstance(found, Calibration)
    assert found.memory_bytes_per_s == 10**10
    demo, wide = found.costs
    assert demo.seconds.keys() == wide.seconds.keys() == set(range(1, 17))
    assert wide.bytes > 10 * demo.bytes
    assert all(taken > 0 for taken in (*demo.seconds.values(), *wide.seconds.values()))
    assert wide.relative[1] == 1
    assert wide.prompt_tokens >= 128
    assert wide.prompt_s > 0
    again = calibration.recalled(HERE)
    assert again is not None
    assert again.costs[1].seconds == pytest.approx(wide.seconds)
    assert again.costs[1].prompt_tokens_per_s == pytest.approx(wide.prompt_tokens_per_s)
    assert again.memory_bytes_per_s == 10**10
    assert not calibration.is_wanted(HERE)
    assert ask("trial", "--history")["measurements"]


def test_another_build_or_machine_asks_for_another(store: Path) -> None:
    costs = Costs(model="demo", seconds={rows: rows / 100 for rows in range(1, 17)}, times=3, bytes=10)
    found = Calibration(machine="x", build="y", memory_bytes_per_s=None, costs=(costs,))
    here = found.__class__(
        machine=measurements.fingerprint(HERE), build="1.0 CPU", memory_bytes_per_s=None, costs=(costs,)
    )
    measurements.keep(*calibration.kept(found, HERE))
    assert calibration.is_wanted(HERE)
    measurements.keep(*calibration.kept(here, HERE))
    assert not calibration.is_wanted(HERE)


def test_without_the_engine_it_says_so(store: Path) -> None:
    bare = Machine(os="linux", cpu=HERE.cpu, memory=HERE.memory)
    with pytest.raises(NoBackend, match="native engine"):
        list(calibration.run(bare))
    assert not calibration.is_wanted(bare)


def test_a_runtime_that_fails_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(RuntimeFailed, match="decoding with broken failed"):
        calibration._timed("broken", broken, 0.1, threading.Event())


@pytest.mark.engine
def test_stopped_it_ends_at_once_and_keeps_nothing(store: Path) -> None:
    stop = threading.Event()
    steps = calibration.run(HERE, stop)
    next(steps)
    next(steps)
    threading.Timer(0.3, stop.set).start()
    began = time.monotonic()
    with pytest.raises(Interrupted):
        next(steps)
    assert time.monotonic() - began < calibration.DEMO_S, "nobody waits for what is measured"
    assert calibration.is_wanted(HERE)


def test_declined_it_is_not_offered_for_this_build_again(store: Path) -> None:
    calibration.decline(HERE)
    assert not calibration.is_wanted(HERE)
    newer = msgspec.structs.replace(HERE.backends[0], version="1.1")
    assert calibration.is_wanted(msgspec.structs.replace(HERE, backends=(newer,)))


def test_show_without_one(state: Path) -> None:
    assert ask("calibrate", "--show")["costs"] == []


# ---- What it is good for

CATALOG = catalog.load()
WIDE_BYTES = 280_000_000


def calibrated(
    step: float, row: float, *, usual: float = 1.05, machine: Machine = HERE, prompt: float | None = None
) -> None:
    """Remember a calibration: a step's seconds, what each further row costs of it, and tokens a second of a prompt."""
    seconds = {rows: step * (1 + row * (rows - 1)) for rows in range(1, 17)}
    costs = Costs(
        model=WIDE,
        seconds=seconds,
        usual={rows: usual * taken for rows, taken in seconds.items()},
        times=20,
        bytes=WIDE_BYTES,
        prompt_tokens=128 if prompt else 0,
        prompt_s=128 / prompt if prompt else 0.0,
    )
    found = Calibration(
        machine=measurements.fingerprint(machine),
        build=measurements.build_of(machine, "native"),
        memory_bytes_per_s=None,
        costs=(costs,),
    )
    measurements.keep(*calibration.kept(found, machine))


def pick(machine: Machine = HERE, **request: Any) -> Recommendation:
    asked = Request(model="e2b", quant="QAT-UD-Q4_K_XL", min_tokens_per_s=0.01, **request)
    return rank(asked, machine, CATALOG).recommendations[0]


def test_it_corrects_speeds_of_the_runtime_that_was_timed(store: Path) -> None:
    before = pick().candidate.speed
    calibrated(2 * expected_step(), 0.1)
    after = pick().candidate.speed
    assert after.plain == pytest.approx(before.plain / 2, rel=0.08)  # what a step takes besides weights is as it was
    assert after.evidence is not None
    assert after.evidence.kin == "calibrated"
    assert after.evidence.reason.startswith("calibrated here on ")
    assert "times what the formula says" in after.evidence.reason
    assert after.evidence.formula_plain == pytest.approx(before.plain)
    assert pick().candidate == pick().candidate


def expected_step() -> float:
    """What the formula says of the timed layers."""
    stage = speed.cpu_stage(HERE)
    return WIDE_BYTES / speed.both_limits(stage.weights_per_s, stage.arithmetic_per_s) + LAYERS * stage.layer_s


def test_the_cost_of_rows_decides_whether_drafting_pays(store: Path) -> None:
    calibrated(expected_step(), 0.15)
    dearer = pick().candidate.speed
    measurements.forget()
    calibrated(expected_step(), 0.02)
    cheap = pick().candidate
    assert cheap.drafter.enabled
    assert cheap.speed.drafter_gain > 1.05 * dearer.drafter_gain
    assert cheap.speed.plain == pytest.approx(dearer.plain)
    assert "measured here" in cheap.drafter.reason
    measurements.forget()
    calibrated(expected_step(), 1.0)
    assert not pick().candidate.drafter.enabled


@pytest.mark.parametrize(
    "changed",
    [
        Availability(name="native", available=True, version="1.1", build="CPU"),
        Availability(name="native", available=True, version="1.0", build="CUDA"),
    ],
)
def test_another_build_retires_it(store: Path, changed: Availability) -> None:
    calibrated(1.0, 0.5)
    assert pick(msgspec.structs.replace(HERE, backends=(changed,))).candidate.speed.evidence is None
    assert pick().candidate.speed.evidence is not None


def test_another_driver_or_machine_retires_it(store: Path) -> None:
    calibrated(1.0, 0.5)
    more = msgspec.structs.replace(HERE.memory, total_bytes=16 << 30)
    assert pick(msgspec.structs.replace(HERE, memory=more)).candidate.speed.evidence is None
    measurements.forget()
    gpu = Gpu(name="old", vendor="nvidia", index=0, memory_total_bytes=1 << 30, memory_free_bytes=1 << 30, driver="1")
    calibrated(1.0, 0.5, machine=msgspec.structs.replace(HERE, gpus=(gpu,)))
    newer = msgspec.structs.replace(gpu, driver="2")
    assert known.of(msgspec.structs.replace(HERE, gpus=(gpu,))) is not None
    assert known.of(msgspec.structs.replace(HERE, gpus=(newer,))) is None


def test_what_was_timed_beside_other_work_is_not_believed(store: Path) -> None:
    calibrated(1.0, 0.5, usual=1.6)
    assert pick().candidate.speed.evidence is None
    found = calibration.recalled(HERE)
    assert found is not None
    assert "calibrate again" in lines(found)[-1]


def test_one_token_that_took_longer_than_several_is_not_believed() -> None:
    """A pause that hit each of its few times: two threads wait for each other, and one of them for its processor."""
    steps = {rows: 0.01 * rows for rows in range(1, 17)}
    assert disturbed(steps, steps) == 1
    assert disturbed(steps | {1: 0.86}, steps | {1: 0.86}) > 40
    assert disturbed(steps | {8: 0.86}, steps | {8: 0.86}) == 1, "a pause of others makes none look quicker"
    assert disturbed(steps, {rows: 1.6 * taken for rows, taken in steps.items()}) == pytest.approx(1.6)


def test_a_build_for_gpus_says_nothing_of_the_processor(store: Path) -> None:
    cuda = Availability(name="native", available=True, version="1.0", build="CUDA")
    here = msgspec.structs.replace(HERE, backends=(cuda,))
    calibrated(1.0, 0.5, machine=here)
    assert known.of(here) is None


# ---- On a GPU

CARD = Gpu(
    name="RTX 4060", vendor="nvidia", index=0, memory_total_bytes=8 << 30, memory_free_bytes=8 << 30,
    bandwidth_bytes_per_s=272 * 10**9, driver="1", device="rtx-4060",
)  # fmt: skip
WITH_GPU = msgspec.structs.replace(
    HERE,
    gpus=(CARD,),
    backends=(
        Availability(name="native", available=True, version="1.0", build="CUDA", drafter=True),
        Availability(name="llama.cpp", available=True, version="9", build="CUDA", drafter=True),
    ),
)
BEGUN, LAYER, RATE, FLOPS = 150e-6, 40e-6, 120e9, 15e12
"""What a step takes besides its layers, a layer besides its weights, bytes and operations a second."""
SHAPES = {DEMO: (15, 14_000_000), WIDE: (2, 280_000_000), WIDER: (6, 840_000_000)}


def timed_on_gpu(name: str, _model: Path, _seconds: float, _stop: object, placement: str = "cpu") -> Costs:
    """A machine of which all is known: each further row costs a tenth of reading the weights."""
    layers, size = SHAPES[name]
    weights = size / RATE if name != DEMO else 0.0
    seconds = {rows: BEGUN + layers * LAYER + weights * (1 + 0.1 * (rows - 1)) for rows in range(1, 17)}
    slower = 1 if placement == "gpu" else 10
    passed = {DEMO: 0, WIDE: PASSED, WIDER: MORE_PASSED}[name]
    return Costs(
        model=name,
        seconds={rows: taken * slower for rows, taken in seconds.items()},
        times=9,
        bytes=size,
        placement=placement,
        prompt_tokens=512,
        prompt_s=512 * 2 * passed / FLOPS * slower + BEGUN,
    )


def test_a_gpu_is_timed_where_the_runtime_is_built_for_it(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_timed", timed_on_gpu)
    monkeypatch.setattr(synthetic, "write", lambda *_: None)
    assert len(calibration.stages(WITH_GPU)) == 4
    assert len(calibration.stages(HERE)) == len(calibration.stages()) == 3
    *_, found = calibration.run(WITH_GPU)
    assert isinstance(found, Calibration)
    assert [(one.model, one.placement) for one in found.costs] == [
        (DEMO, "cpu"), (WIDE, "cpu"), (DEMO, "gpu"), (WIDE, "gpu"), (WIDER, "gpu"),
    ]  # fmt: skip
    assert found.gpu_bytes_per_s == pytest.approx(560e6 / (560e6 / RATE + 4 * LAYER))
    assert any("the GPU goes through layers" in line for line in lines(found))
    again = calibration.recalled(WITH_GPU)
    assert again is not None
    assert again.gpu_bytes_per_s == pytest.approx(found.gpu_bytes_per_s)
    assert again.cost(WIDE, "cpu") != again.cost(WIDE, "gpu")
    there = known.of(WITH_GPU)
    assert there is not None
    assert there.pace is None, "steps of a build for GPUs on the processor are not believed"
    pace = there.gpu_pace
    assert pace is not None
    assert pace.layer_s == pytest.approx(LAYER)
    assert pace.flops == pytest.approx(FLOPS)
    assert pace.factor(LAYER, RATE) == pytest.approx(1.0)
    assert [pace.cost(rows, 1.0, LAYER) for rows in (1, 4, 16)] == pytest.approx([1.0, 1.3, 2.5])


def test_predictions_on_the_gpu_follow_it_half(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of llama.cpp: advisor leaves GPUs to it."""
    before = pick(WITH_GPU, backend="llama.cpp").candidate.speed
    monkeypatch.setattr(calibration, "_timed", timed_on_gpu)
    monkeypatch.setattr(synthetic, "write", lambda *_: None)
    list(calibration.run(WITH_GPU))
    after = pick(WITH_GPU, backend="llama.cpp").candidate
    assert after.placement.mode == "gpu"
    assert after.speed.evidence is not None
    assert after.speed.evidence.kin == "calibrated"
    assert after.speed.plain < before.plain
    whole = FLOPS / speed.prompt_flops(CATALOG.model("e2b").architecture)
    assert after.speed.prefill == pytest.approx(sqrt(before.prefill * whole))
    assert pick(WITH_GPU, backend="native").candidate.speed.evidence is None


def test_a_gpu_that_cannot_be_timed_is_told_and_the_rest_is_kept(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str, model: Path, seconds: float, stop: object, placement: str = "cpu") -> Costs:
        if placement == "gpu":
            raise RuntimeFailed("out of memory")
        return timed_on_gpu(name, model, seconds, stop, placement)

    monkeypatch.setattr(calibration, "_timed", full)
    monkeypatch.setattr(synthetic, "write", lambda *_: None)
    *_, found = calibration.run(WITH_GPU)
    assert isinstance(found, Calibration)
    assert "the GPU could not be timed: out of memory" in lines(found)
    again = calibration.recalled(WITH_GPU)
    assert again is not None
    assert [one.placement for one in again.costs] == ["cpu", "cpu"]
    assert known.of(WITH_GPU) is None


def test_what_each_token_of_a_prompt_passes_is_counted_from_the_shapes() -> None:
    assert (synthetic.passed(synthetic.LIKE_12B), synthetic.passed(synthetic.MORE_LAYERS)) == (PASSED, MORE_PASSED)
    assert (len(synthetic.LIKE_12B.sliding), len(synthetic.MORE_LAYERS.sliding)) == (LAYERS, MORE_LAYERS)
    assert gguf.read(demo.pair().target).number("block_count") == DEMO_LAYERS


def test_a_prompt_timed_on_the_processor_is_predicted_by(store: Path) -> None:
    before = pick().candidate.speed
    calibrated(expected_step(), 0.1, prompt=100.0)
    after = pick().candidate.speed
    assert after.prefill == pytest.approx(100.0 * 2 * PASSED / speed.prompt_flops(CATALOG.model("e2b").architecture))
    assert after.prefill != before.prefill
    measurements.forget()
    calibrated(expected_step(), 0.1)
    assert pick().candidate.speed.prefill == pytest.approx(before.prefill), "an older calibration has no prompt"


def test_other_runtimes_with_its_kernels_believe_half(store: Path) -> None:
    server = Availability(name="llama.cpp", available=True, version="9600", build="CPU", drafter=True, devices=())
    here = msgspec.structs.replace(HERE, backends=(*HERE.backends, server))
    before = pick(here, backend="llama.cpp").candidate.speed
    calibrated(2 * expected_step(), 0.1)
    after = pick(here, backend="llama.cpp").candidate.speed
    assert after.plain == pytest.approx(before.plain / sqrt(2), rel=0.08)
    assert after.evidence is not None
    assert "half of it" in after.evidence.reason


def test_several_rows_cost_what_was_timed_and_of_another_runtime_the_mean() -> None:
    own = Pace(seconds=1.0, bytes=1, layers=2, rows=(1.0, 2.0, 4.0), date="")
    assert [own.cost(rows, 1.0) for rows in (1, 2, 3, 6)] == [1.0, 2.0, 4.0, 8.0]
    half = msgspec.structs.replace(own, trust=0.5)
    assert half.cost(3, 1.0) == pytest.approx(2.0)
    assert half.cost(2, 8.0) == pytest.approx(4.0)


def test_a_trial_of_the_same_model_is_worth_more_and_one_of_another_size_less(store: Path) -> None:
    calibrated(2 * expected_step(), 0.1)

    def trial(model: str) -> None:
        file = CATALOG.model(model).quants[-1]
        keep(
            HERE,
            "native",
            model=model,
            quant=file.name,
            target=FileId(name="x", size=int(file.bytes)),
            placement="cpu",
            tokens_per_s=1.0,
            expected_tokens_per_s=1.0,
        )

    trial("e4b")
    found = pick().candidate.speed.evidence
    assert found is not None
    assert found.kin == "calibrated"
    trial("e2b")
    found = pick().candidate.speed.evidence
    assert found is not None
    assert found.kin == "relative"
