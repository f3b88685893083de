"""What to start where memory did not suffice: the least loss first, clearly smaller, and typed as it is printed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from advisor import cli
from advisor.errors import OutOfMemory
from advisor.hardware import detection, simulate
from advisor.knowledge import catalog
from advisor.running import launching, smaller
from advisor.running.order import Order, Setup
from tests.launch.conftest import DEMO

GIB = 1 << 30
Machine = Callable[[str], None]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No files of the user's, no Hub, no llama-server."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("LLAMA_SERVER", raising=False)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Machine:
    def pretend(spec: str) -> None:
        machine = simulate.parse(spec, catalog.load())
        monkeypatch.setattr(detection, "detect", lambda *_args, **_options: machine)

    return pretend


def device_bytes(setup: Setup) -> int:
    assert setup.estimate is not None
    return setup.estimate.placement.device_bytes


@pytest.mark.parametrize("short", [0, GIB // 4, 2 * GIB, 6 * GIB])
def test_it_needs_clearly_less_of_the_memory_that_was_short(on: Machine, short: int) -> None:
    on("RTX 4090, 64GB")
    setup = launching.configure(Order(model="12b", quant="Q8_0", context=16384), strict=False)
    found = smaller.choice(setup, short, on_gpu=True)
    assert found is not None
    order, _ = found
    then = launching.estimated(order, setup)
    assert device_bytes(setup) - then.placement.device_bytes >= max(short, device_bytes(setup) // 20)


def test_conversations_go_before_the_context_and_the_context_before_the_model(on: Machine) -> None:
    on("RTX 3060 12GB, 32GB")
    setup = launching.configure(Order(model="12b", context=16384, parallel=4, kv_type="q8_0"), strict=False)
    seen, short = [], 1
    for _ in range(60):
        found = smaller.choice(setup, short, on_gpu=True)
        if found is None:
            break
        order, needs = found
        seen.append((order.parallel, order.context, order.use_drafter, order.model))
        assert order.kv_type == "q8_0" and needs > 0
        short = device_bytes(setup) - launching.estimated(order, setup).placement.device_bytes + 1
    assert found is None, "there is an end to it"
    parallel = [each[0] for each in seen]
    assert parallel == sorted(parallel, reverse=True) and parallel[0] == 2 and parallel[-1] == 1
    first_context = next(place for place, each in enumerate(seen) if each[1] != 16384)
    assert all(each[3] == "12b" for each in seen[: first_context + 1])
    assert seen[-1][3] == "e2b", "the last resort is the smallest model"


@pytest.mark.parametrize("spec", ["RTX 3060 12GB, 32GB", "cpu, 16GB", "M3 Max 64GB"])
@pytest.mark.parametrize("short", [1, GIB, 3 * GIB])
def test_the_command_is_that_choice(on: Machine, spec: str, short: int, capsys: pytest.CaptureFixture[str]) -> None:
    on(spec)
    setup = launching.configure(Order(model="12b", context=8192, threads=3, extra=("--no-mmap",)), strict=False)
    error = smaller.advised(OutOfMemory("out of memory", size=short, on_gpu="RTX" in spec), setup)
    program, *words = shlex.split(error.command)
    assert program == "advisor" and "in all instead of" in error.hint
    at = words.index("--")
    assert cli.run([*words[:at], "--dry-run", "--json", *words[at:]]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["expected"]["total_bytes"] < (setup.expected_bytes or 0)
    argv = plan["plan"]["argv"]
    assert argv[argv.index("--threads") + 1] == "3" and argv[-1] == "--no-mmap"


def test_a_file_of_the_users_own_stays_what_it_is(on: Machine) -> None:
    on("cpu, 16GB")
    own = DEMO / "demo.gguf"
    setup = launching.configure(Order(model=str(own), context=2048, backend="llama.cpp"))
    assert setup.model.drafter is not None
    error = smaller.advised(OutOfMemory("out of memory", size=1), setup)
    assert shlex.split(error.command) == [
        "advisor",
        "launch",
        str(own),
        "--backend",
        "llama.cpp",
        "--context",
        "2048",
        "--no-drafter",
    ]
    hopeless = OutOfMemory("out of memory", hint="as it was", size=GIB)
    assert smaller.advised(hopeless, setup) is hopeless
