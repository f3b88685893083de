"""Reading memory, and keeping what was read."""

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from advisor.hardware.probes import bandwidth, readtest
from advisor.hardware.probes.bandwidth import Note
from advisor.hardware.probes.host import Local
from advisor.hardware.probes.readtest import Reading
from advisor.knowledge.catalog import load
from advisor.machine import Cpu, Memory

MIB = 1 << 20
GIB = 1 << 30
CPU = Cpu(name="test", cores=2, threads=4)
MEMORY = Memory(total_bytes=16 * GIB, available_bytes=12 * GIB)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gemma-advisor" / "memory.json"


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Reading | None]:
    """What the next readings give, the last of them for ever; how often one was taken is what is gone."""
    queue: list[Reading | None] = [Reading(30e9, 512 * MIB, 2, busy=False)]
    monkeypatch.setattr(readtest, "measure", lambda *_: queue.pop(0) if len(queue) > 1 else queue[0])
    return queue


def test_a_reading_is_quick_and_plausible() -> None:
    begin = time.perf_counter()
    found = readtest.measure(2, 0, 2 * GIB)
    assert time.perf_counter() - begin < 30, "a third of a second on a machine left to itself"
    if found is not None:  # too busy a machine gives none
        assert 0.3e9 < found.rate < 2e12
        assert found.buffer <= 2 * GIB // readtest.AVAILABLE_SHARE


def test_a_buffer_within_the_cache_is_told_apart() -> None:
    """What fits the caches is read at least as fast; a reading of memory must not be of that kind."""
    small = large = None
    for _ in range(20):
        small, large = (one_size(size) for size in (MIB // 2, 192 * MIB))
        if small > 0.9 * large:
            break
    assert small is not None
    assert large is not None
    assert small > 0.9 * large


def one_size(size: int) -> float:

    buffer = mmap.mmap(-1, size)
    piece, readtest.PIECE = readtest.PIECE, min(readtest.PIECE, size)
    try:
        found = readtest.scanned(buffer, size, 1, 0)
    finally:
        readtest.PIECE = piece
        buffer.close()
    assert found is not None
    return found.rate


@pytest.mark.parametrize(
    ("caches", "available"),
    [(0, 100 * MIB), (0, 0), (600 * MIB, 4 * GIB), (2 * GIB, 64 * GIB)],
)
def test_no_reading_where_memory_is_short_or_caches_are_huge(caches: int, available: int) -> None:
    assert readtest.measure(4, caches, available) is None


@pytest.mark.usefixtures("readings")
def test_a_reading_is_taken_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bandwidth.measured(Local(), CPU, MEMORY) == 30e9
    assert cache.exists()
    monkeypatch.setattr(bandwidth, "reading", lambda *_: pytest.fail("taken again"))
    assert bandwidth.measured(Local(), CPU, MEMORY) == 30e9


@pytest.mark.usefixtures("readings")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"machine": "x", "rate": 1e99, "at": 0}',
        b'{"machine": 7, "rate": 5000000000, "at": 0}',
        b"x" * 100_000,
    ],
)
def test_whatever_else_the_file_holds_is_ignored(cache: Path, content: bytes) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_bytes(content)
    assert bandwidth.measured(Local(), CPU, MEMORY) == 30e9
    assert msgspec.json.decode(cache.read_bytes(), type=Note).rate == 30e9


@pytest.mark.usefixtures("readings")
@pytest.mark.parametrize(
    "changed",
    [
        {"rate": 10**15},
        {"rate": -5},
        {"machine": "another"},
        {"at": time.time() + 10**6},
        {"at": time.time() - 2 * bandwidth.KEPT_S},
        {"busy": True, "rate": 20 * 10**9, "at": time.time() - 2 * bandwidth.RETRY_S},
    ],
)
def test_a_note_that_cannot_be_of_this_machine_now_is_not_believed(cache: Path, changed: dict[str, object]) -> None:
    good = Note(machine=bandwidth.fingerprint(Local(), CPU, MEMORY), rate=77 * 10**9, at=time.time())
    bandwidth.keep(cache, good)
    assert bandwidth.measured(Local(), CPU, MEMORY) == 77e9
    bandwidth.keep(cache, msgspec.structs.replace(good, **changed))
    assert bandwidth.measured(Local(), CPU, MEMORY) == 30e9


def test_a_disturbed_reading_does_not_replace_a_faster_one(cache: Path, readings: list[Reading | None]) -> None:
    machine = bandwidth.fingerprint(Local(), CPU, MEMORY)
    bandwidth.keep(cache, Note(machine=machine, rate=40 * 10**9, at=time.time() - 2 * bandwidth.RETRY_S, busy=True))
    readings[0] = Reading(10e9, 512 * MIB, 2, busy=True)
    assert bandwidth.measured(Local(), CPU, MEMORY) == 40e9


@pytest.mark.usefixtures("cache")
def test_without_a_reading_it_is_estimated(readings: list[Reading | None]) -> None:
    readings[0] = None
    found = bandwidth.best(Local(), CPU, MEMORY, ())
    assert found.basis == "assumed"
    assert found.rate > 0


@pytest.mark.usefixtures("readings")
def test_a_folder_that_cannot_be_written_costs_no_more_than_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert bandwidth.best(Local(), CPU, MEMORY, ()) == (30 * 10**9, "measured")


@pytest.mark.usefixtures("cache", "readings")
def test_only_this_machines_own_memory_is_read(tmp_path: Path) -> None:
    """Neither another machine that is replayed, nor that of a chip whose GPU reads it faster than the processor."""
    devices = load().devices.values()
    assert bandwidth.best(Local(tmp_path), CPU, MEMORY, devices).basis == "assumed"
    assert bandwidth.best(Local(), CPU, MEMORY, devices).basis == "measured"
    chip, processor = (Cpu(name=name, cores=8, threads=16) for name in ("Apple M1", "AMD Ryzen 7 7700X"))
    assert bandwidth.best(Local(), chip, MEMORY, devices).basis == "catalogue"
    assert bandwidth.best(Local(), processor, MEMORY, devices).basis == "measured"


def test_caches_are_added_up(tmp_path: Path) -> None:
    for number, shared in enumerate(("0-1", "0-1", "2-3", "2-3")):
        for index, size in enumerate(("32K", "512K", "32768K")):
            folder = tmp_path / f"sys/devices/system/cpu/cpu{number}/cache/index{index}"
            folder.mkdir(parents=True)
            (folder / "size").write_text(size)
            (folder / "shared_cpu_list").write_text(shared)
    assert bandwidth.last_level_caches(Local(tmp_path)) == 64 * MIB
    assert bandwidth.last_level_caches(Local(tmp_path / "none")) == 0


def test_a_kept_reading_needs_neither_ctypes_threads_nor_numpy(cache: Path) -> None:

    code = (
        "import sys, time; from advisor.hardware.probes import bandwidth;"
        "from advisor.hardware.probes.host import Local;"
        "from advisor.machine import Cpu, Memory; c = Cpu(name='test', cores=2, threads=4);"
        f"m = Memory(total_bytes={MEMORY.total_bytes}, available_bytes=1);"
        "print(bandwidth.measured(Local(), c, m), 'numpy' in sys.modules,"
        "'advisor.hardware.probes.readtest' in sys.modules)"
    )
    machine = bandwidth.fingerprint(Local(), CPU, MEMORY)
    bandwidth.keep(cache, Note(machine=machine, rate=5 * 10**9, at=time.time()))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.split() == ["5000000000", "False", "False"]
