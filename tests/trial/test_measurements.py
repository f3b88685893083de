"""The store: what is kept is there, and nothing that happens to the file costs what was kept before."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from filelock import FileLock

from advisor.errors import RuntimeFailed
from advisor.prediction import measurements
from tests.trial.examples import MACHINE, measurement

NEWER = msgspec.json.encode(measurement(v=2, model="from a later release"))


def test_what_is_kept_is_recalled_in_order(store: Path) -> None:
    first, second = measurement(tokens_per_s=1.5), measurement(kind="code", acceptance=(0.9, 0.7))
    measurements.keep(first)
    measurements.keep(second)
    assert measurements.recall() == (first, second)


def test_nothing_is_recalled_of_another_machine(store: Path) -> None:
    measurements.keep(measurement(), measurement(machine="ba9876543210", model=MACHINE))
    assert [each.machine for each in measurements.recall(MACHINE)] == [MACHINE]


def test_no_file_holds_nothing(store: Path) -> None:
    assert measurements.recall() == ()
    assert measurements.forget() == 0
    assert not store.exists()


def test_damaged_and_newer_lines_are_skipped_and_kept(store: Path) -> None:
    measurements.keep(measurement())
    odd = [b'{"v": 1, "source": "tri', b'{"v": 2, "speed": {"of": "light"}}', NEWER, b"\xff\xfe\x00", b"[]", b"null"]
    with store.open("ab") as out:
        out.write(b"\n".join(odd) + b"\n")
    measurements.keep(measurement(model="31b"))
    assert [each.model for each in measurements.recall()] == ["12b", "31b"]
    assert measurements.forget(lambda each: each.model == "12b") == 1
    assert [each.model for each in measurements.recall()] == ["31b"]
    assert all(line in store.read_bytes().split(b"\n") for line in odd)


def test_fields_that_a_later_release_adds_are_no_damage(store: Path) -> None:
    measurements.keep(measurement())
    store.write_bytes(store.read_bytes().replace(b'{"v":1', b'{"v":1,"colour":"blue"'))
    assert measurements.recall() == (measurement(),)


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_line_that_broke_off_costs_itself_only(store: Path, cut: int) -> None:
    measurements.keep(measurement(model="a"), measurement(model="b"))
    whole = store.read_bytes()
    store.write_bytes(whole[:-cut])
    measurements.keep(measurement(model="c"))
    survivors = ["a", "b", "c"] if cut == 1 else ["a", "c"]  # the end of the line alone was lost
    assert [each.model for each in measurements.recall()] == survivors


def test_every_prefix_of_a_write_leaves_what_was_there(store: Path) -> None:
    measurements.keep(measurement(model="before"))
    start = len(store.read_bytes())
    measurements.keep(measurement(model="during"))
    whole = store.read_bytes()
    for end in range(start, len(whole), 7):
        store.write_bytes(whole[:end])
        measurements.keep(measurement(model="after"))
        assert [each.model for each in measurements.recall()] == ["before", "after"], end


def _write(folder: str, name: str, count: int) -> None:
    os.environ["GEMMA_ADVISOR_STATE"] = folder
    for number in range(count):
        measurements.keep(measurement(model=name, n=number), measurement(model=name, n=number, kind="code"))


def test_two_writers_at_once_lose_nothing(store: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write, args=(str(store.parent), name, 40)) for name in "ab"]
    for each in writers:
        each.start()
    while any(each.is_alive() for each in writers):
        measurements.recall()  # a reader takes no lock, and never fails
        time.sleep(0.005)
    found = measurements.recall()
    for name in "ab":
        assert [each.n for each in found if each.model == name] == [n for n in range(40) for _ in range(2)]


def test_who_rewrites_the_file_is_alone(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody appends while it is replaced would be lost."""
    measurements.keep(measurement())
    monkeypatch.setattr(measurements, "LOCK_S", 0.1)
    with FileLock(store.with_suffix(".lock")):
        for change in (lambda: measurements.keep(measurement()), lambda: measurements.forget(lambda _: True)):
            with pytest.raises(RuntimeFailed, match="another advisor holds"):
                change()
    assert len(measurements.recall()) == 1


def test_a_writer_that_is_killed_leaves_whole_lines(store: Path) -> None:
    code = (
        "from advisor.prediction import measurements\nfrom tests.trial.examples import measurement\n"
        "while True: measurements.keep(*[measurement(n=n) for n in range(1, 20)])"
    )
    child = subprocess.Popen([sys.executable, "-c", code], env=os.environ.copy())
    while not (store.exists() and store.stat().st_size > 50_000):
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    before = len(measurements.recall())
    measurements.keep(measurement(model="afterwards"))
    assert before >= 19
    assert measurements.recall()[-1].model == "afterwards"
    assert len(measurements.recall()) == before + 1


def test_a_full_disk_is_told_and_leaves_the_file_as_it_was(store: Path) -> None:
    """Of a real file system's kind: the kernel writes a part and then refuses."""
    measurements.keep(measurement())
    before = store.read_bytes()
    code = (
        "import resource, signal\n"
        "from advisor.prediction import measurements\nfrom advisor.errors import RuntimeFailed\n"
        "from tests.trial.examples import measurement\n"
        f"signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 100}, {len(before) + 100}))\n"
        "try: measurements.keep(measurement(model='more'), measurement(model='and more'))\n"
        "except RuntimeFailed as error: print(error.message, '|', error.hint)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "cannot be kept" in said
    assert "free some space" in said
    assert store.read_bytes() == before


def test_a_write_that_fails_outright_leaves_the_file_as_it_was(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measurements.keep(measurement())
    before = store.read_bytes()

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RuntimeFailed, match="No space left"):
        measurements.keep(measurement(model="more"))
    assert store.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    occupied = tmp_path / "file"
    occupied.write_text("no folder")
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("GEMMA_ADVISOR_STATE", str(occupied))
        with pytest.raises(RuntimeFailed, match="cannot be kept"):
            measurements.keep(measurement())
        assert measurements.recall() == ()


def test_forgetting_everything_leaves_nothing(store: Path) -> None:
    measurements.keep(measurement())
    with store.open("ab") as out:
        out.write(b"damaged\n")
    assert measurements.forget() == 1
    assert not store.exists()


def test_the_file_stays_small_and_keeps_the_newest(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "LARGEST", 20_000)
    measurements.keep(measurement(model="alone", kind="story", n=99))
    with store.open("ab") as out:
        out.write(b'{"v": 9}\n')
    for number in range(1, 200):
        measurements.keep(measurement(n=number))
    assert store.stat().st_size <= 20_000
    assert measurements.recall()[-1].n == 199
    assert any(each.model == "alone" for each in measurements.recall())
    assert b'{"v": 9}' in store.read_bytes()


def test_another_machines_lines_cost_next_to_nothing(store: Path) -> None:
    """3 ms for a full store on a quiet machine."""
    each = [measurement(machine="ba9876543210", kind=f"kind {n}", acceptance=(0.9,) * 8) for n in range(1200)]
    mine = [measurement(kind=f"kind {n}", acceptance=(0.9,) * 8) for n in range(200)]
    measurements.keep(*each, *mine)
    mine_only, all_of_them = [], []
    for _ in range(9):
        begun = time.process_time()
        assert len(measurements.recall(MACHINE)) == 200
        mine_only.append(time.process_time() - begun)
        begun = time.process_time()
        assert len(measurements.recall()) == 1400
        all_of_them.append(time.process_time() - begun)
    assert min(mine_only) < 0.6 * min(all_of_them)


def test_a_file_is_known_by_its_contents(tmp_path: Path) -> None:
    one, copy, other = tmp_path / "one", tmp_path / "copy", tmp_path / "other"
    content = bytearray(os.urandom(1 << 20))
    one.write_bytes(content)
    copy.write_bytes(content)
    content[-10] ^= 1
    other.write_bytes(content)
    assert measurements.identify(one).same(measurements.identify(copy))
    assert not measurements.identify(one).same(measurements.identify(other))
    assert measurements.identify(one).mark != ""
    (tmp_path / "empty").touch()
    assert measurements.identify(tmp_path / "empty").size == 0
    with pytest.raises(RuntimeFailed, match="missing"):
        measurements.identify(tmp_path / "missing")


@pytest.mark.parametrize(
    ("depth", "name"),
    [(0, "1K"), (1024, "1K"), (1025, "4K"), (4096, "4K"), (5000, "16K"), (65536, "64K"), (262144, "256K")],
)
def test_context_classes(depth: int, name: str) -> None:
    assert measurements.context_class(depth) == name
