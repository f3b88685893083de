"""The calibration: real steps of a real runtime, kept with the hardware and the build."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import msgspec
import pytest

from advisor import calibration, measurements
from advisor.errors import Interrupted, NoBackend, RuntimeFailed
from advisor.machine import Availability, Cpu, Machine, Memory
from tests.launch.conftest import ask

HERE = Machine(
    os="linux",
    cpu=Cpu(name="test", cores=2, threads=4),
    memory=Memory(total_bytes=8 << 30, available_bytes=4 << 30, bandwidth_bytes_per_s=10**10),
    basis={"memory.bandwidth_bytes_per_s": "measured"},
    backends=(Availability(name="native", available=True, version="1.0", build="CPU"),),
)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "DEMO_S", 0.5)
    monkeypatch.setattr(calibration, "LIKE_12B_S", 0.5)


@pytest.mark.engine
def test_it_measures_and_is_recalled(store: Path, brief: None) -> None:
    assert calibration.is_wanted(HERE)
    *begun, found = calibration.run(HERE)
    assert tuple(begun) == calibration.stages()
    assert isinstance(found, calibration.Calibration)
    assert found.memory_bytes_per_s == 10**10
    demo, wide = found.costs
    assert demo.seconds.keys() == wide.seconds.keys() == set(range(1, 17))
    assert wide.bytes > 10 * demo.bytes
    assert all(taken > 0 for taken in (*demo.seconds.values(), *wide.seconds.values()))
    assert wide.relative[1] == 1
    again = calibration.recalled(HERE)
    assert again is not None
    assert again.costs[1].seconds == pytest.approx(wide.seconds)
    assert again.memory_bytes_per_s == 10**10
    assert not calibration.is_wanted(HERE)
    assert ask("trial", "--history")["measurements"]


def test_another_build_or_machine_asks_for_another(store: Path) -> None:
    costs = calibration.Costs(model="demo", seconds={rows: rows / 100 for rows in range(1, 17)}, times=3, bytes=10)
    found = calibration.Calibration(machine="x", build="y", memory_bytes_per_s=None, costs=(costs,))
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
