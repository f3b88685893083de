"""The engine dies, hangs or starves, and the parent only says so. ADVISOR_FULL=1 kills it 200 times."""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from advisor.errors import RuntimeFailed
from advisor.running.client import Client, Done
from backends.base import Endpoint, LaunchPlan, Model, Options
from backends.native import Native, death, process
from tests.engine import random_pair
from tests.engine.conftest import FULL
from tests.engine.random_pair import Pair, Shape

pytestmark = pytest.mark.engine

KILLS = 200 if FULL else 10
WITHIN = 15.0
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGBUS, signal.SIGFPE)
HELLO = [{"role": "user", "content": "hello " * 200}]
SHARED = Path("/dev/shm")


@pytest.fixture
def own_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder in which nothing but ours can be left."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def plan(backend: Native, pair: Pair, **options: int) -> LaunchPlan:
    model = Model(name="endless", target=pair.target, drafter=pair.drafter, draft_tokens=3, context_tokens=16384)
    return backend.plan(model, Options(**options))  # type: ignore[arg-type]


def ask(backend: Native, endpoint: Endpoint, limit: int) -> Iterator[object]:
    with Client(endpoint.base_url, endpoint.model, cause=lambda: backend.cause(endpoint)) as client:
        yield from client.chat(HELLO, max_tokens=limit)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def shared() -> set[str]:
    return {file.name for file in SHARED.iterdir()} if SHARED.is_dir() else set()


def descriptors() -> int:
    return psutil.Process().num_fds() if hasattr(psutil.Process, "num_fds") else 0


def killed(backend: Native, endpoint: Endpoint, sign: signal.Signals, after: float) -> float:
    """Seconds from killing the engine, `after` seconds into a request, to the error."""
    assert endpoint.pid is not None
    when: list[float] = []

    def kill() -> None:
        when.append(time.monotonic())
        os.kill(endpoint.pid or 0, sign)

    timer = threading.Timer(after, kill)
    timer.start()
    with pytest.raises(RuntimeFailed) as raised:
        for event in ask(backend, endpoint, 15000):
            assert not isinstance(event, Done), "it was not killed"
    ended = time.monotonic()
    timer.join()
    said = raised.value.message
    assert sign.name in said or death.LESS in raised.value.hint, said
    return ended - when[0]


def test_killed_at_random_moments(endless_pair: Pair, own_tmp: Path) -> None:
    chance = random.Random(11)
    backend = Native()
    before, memory, open_files = children(), shared(), descriptors()
    slowest = 0.0
    for _ in range(KILLS):
        endpoint = backend.start(plan(backend, endless_pair, threads=1))
        try:
            took = killed(backend, endpoint, chance.choice(SIGNALS), chance.uniform(0, 0.25))
        finally:
            backend.stop(endpoint)
        assert took < WITHIN
        slowest = max(slowest, took)
    print(f"{KILLS} kills, the slowest report after {slowest:.2f} s")
    endpoint = backend.start(plan(backend, endless_pair, threads=1))
    assert isinstance(list(ask(backend, endpoint, 5))[-1], Done)
    backend.stop(endpoint)
    assert children() == before
    assert not [name for name in shared() - memory if "advisor" in name or "ggml" in name]
    assert not list(own_tmp.iterdir())
    assert descriptors() <= open_files + 2


def test_a_hang_is_noticed(endless_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Native()
    endpoint = backend.start(plan(backend, endless_pair))
    monkeypatch.setattr(process, "SILENCE", 2.5)  # of one that runs: a start may be slow beside other work
    began = time.monotonic()
    try:
        with pytest.raises(RuntimeFailed, match="hung"):
            for event in ask(backend, endpoint, 15000):
                assert not isinstance(event, Done)
                if time.monotonic() - began < 100:
                    os.kill(endpoint.pid or 0, signal.SIGSTOP)
                    began -= 100
        assert time.monotonic() - began - 100 < 60
    finally:
        backend.stop(endpoint)
    assert not psutil.pid_exists(endpoint.pid or 0)


def test_an_engine_without_progress_gives_no_sign_of_life(
    endless_pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The server's own thread is well, llama.cpp's is not."""
    backend = Native()
    program = (
        "import time, backends.native.target as t, backends.native.server as s\n"
        "step = t.Target.step\n"
        "calls = []\n"
        "def slow(*a, **b):\n"
        "    calls.append(1)\n"
        "    time.sleep(600 if len(calls) > 300 else 0)\n"
        "    return step(*a, **b)\n"
        "t.Target.step = slow\n"
        "s.main()\n"
    )
    made = plan(backend, endless_pair)
    argv = (sys.executable, "-c", program, *made.argv[made.argv.index("--target") :], "--stuck", "1")
    endpoint = backend.start(msgspec.structs.replace(made, argv=argv))
    monkeypatch.setattr(process, "SILENCE", 2.5)
    began = time.monotonic()
    try:
        with pytest.raises(RuntimeFailed, match="hung"):
            list(ask(backend, endpoint, 15000))
        assert time.monotonic() - began < 60
    finally:
        backend.stop(endpoint)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
@pytest.mark.parametrize("mebibytes", [400, 700])
def test_no_memory(endless_pair: Pair, mebibytes: int, own_tmp: Path) -> None:
    backend = Native()
    model = Model(name="large", target=endless_pair.target, context_tokens=2_000_000)
    made = backend.plan(model, Options(threads=1))
    limited = ("sh", "-c", f'ulimit -v {mebibytes << 10}; exec "$@"', "sh", *made.argv)
    with pytest.raises(RuntimeFailed) as raised:
        backend.start(msgspec.structs.replace(made, argv=limited))
    assert "memory" in raised.value.message.lower() or "context" in raised.value.message
    assert raised.value.hint


def test_an_assertion_in_llama_cpp(tmp_path: Path, own_tmp: Path) -> None:
    """A file that our own check refuses, given to llama.cpp all the same."""
    path = tmp_path / "asserts.gguf"
    random_pair.write_target(path, Shape(width=128, ffn=256, heads=4, sliding=(True, True, True, True, True, False)))
    backend = Native()
    made = backend.plan(Model(name="asserts", target=path), Options(threads=1))
    unchecked = "import advisor.files.gguf as g; g._check_layers = lambda _: None"
    program = f"{unchecked}; from backends.native.server import main; main()"
    argv = (sys.executable, "-c", program, *made.argv[made.argv.index("--target") :])
    engine = process.Process.start(argv)
    try:
        with pytest.raises(RuntimeFailed) as raised:
            engine.wait_ready()
    finally:
        engine.stop()
    assert "GGML_ASSERT" in raised.value.message
    assert "log is" in raised.value.hint


def test_words_for_deaths(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo\n\nthree\nfour\n")
    assert death.last_lines(log) == ["two", "three", "four"]
    assert "code 3: two; three; four" in death.cause(3, log).message
    crashed = death.cause(-signal.SIGSEGV, log)
    assert "SIGSEGV" in crashed.message
    assert "--gpu-layers 0" in crashed.hint
    assert crashed.command == death.REBUILD
    assert "signal 99" in death.cause(-99, log).message
    ill = death.cause(-signal.SIGILL, log)
    assert "processor does not have" in ill.message
    assert ill.command == death.REBUILD
    log.write_text("terminate called after throwing an instance of 'std::bad_alloc'\n")
    assert "no more memory" in death.cause(-signal.SIGABRT, log).message
    log.write_text("x.cpp:7: GGML_ASSERT(a) failed\nmore\nand more\nand more\n")
    assert death.last_lines(log) == ["x.cpp:7: GGML_ASSERT(a) failed"]
    assert death.last_lines(tmp_path / "none") == []
