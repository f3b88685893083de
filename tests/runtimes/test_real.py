"""vLLM and mlx-vlm for real, on processors, with the demo pair as checkpoints: `make test-runtimes`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from click.testing import CliRunner

from advisor.cli import cli
from advisor.errors import OutOfMemory, RuntimeFailed
from advisor.knowledge import catalog
from advisor.running import demo, sessions
from advisor.running.client import Done, Text, joined
from advisor.running.processes import members
from backends.base import Backend, Endpoint, Model, Options, Watch, load
from backends.conformance import Bench
from profiles.demo import checkpoint
from tests.runtimes.eager import Eager
from tests.runtimes.spoiled import blank, scrambled

pytest_plugins = ["backends.conformance.plugin"]
pytestmark = [
    pytest.mark.runtimes,
    pytest.mark.skipif(not os.environ.get("ADVISOR_RUNTIMES"), reason="on demand: make test-runtimes"),
]

LIMIT_S = 900.0
"""For a rule: vLLM takes most of a minute to start on two cores."""
QUESTION = [{"role": "user", "content": demo.QUESTION}]
TOKENS = 100
PROGRAMS = {name: os.environ.get(runtime.variable, "") for name, runtime in catalog.load().runtimes.items()}
"""As this process was given them: other tests of this folder hide what is installed."""


@pytest.fixture(scope="module", params=["mlx", "vllm"])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    runtime = catalog.load().runtimes[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(sessions.STATE, str(tmp_path_factory.mktemp("state")))
        patch.setenv(runtime.variable, PROGRAMS[runtime.id])
        made = Eager() if runtime.id == "vllm" else load(runtime.id)
        found = made.detect()
        if not found.available:
            pytest.skip(f"{runtime.name}: {found.why_not}")
        yield made


@pytest.fixture(scope="module")
def conformance(backend: Backend) -> Iterator[Bench]:
    with Bench(backend, limit_s=LIMIT_S) as bench:
        yield bench


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    pair = checkpoint.make(tmp_path_factory.mktemp("pair"))
    return msgspec.structs.replace(demo.pair(), target=pair.target, drafter=pair.drafter)


@pytest.fixture(autouse=True)
def alone() -> None:
    """The module's environment stays as it is: its server outlives a test."""


def test_conforms(rule: Callable[[], None]) -> None:
    rule()


def answer(backend: Backend, model: Model) -> tuple[str, Done]:
    """The same answer twice: the first one pays for what is made once."""
    endpoint = backend.start(backend.plan(model, Options()))
    try:
        with joined(backend, endpoint) as client:
            for _ in range(2):
                *texts, done = client.chat(QUESTION, temperature=0, max_tokens=TOKENS)
    finally:
        backend.stop(endpoint)
    assert not members(endpoint.pid or 0)
    assert isinstance(done, Done)
    return "".join(each.text for each in texts if isinstance(each, Text)), done


def plain(model: Model) -> Model:
    return msgspec.structs.replace(model, drafter=None, draft_tokens=0)


def test_the_answer_is_the_same_and_drafts_are_right(backend: Backend, model: Model, capsys) -> None:
    said, one = answer(backend, plain(model))
    drafted, other = answer(backend, model)
    without, counted = one.timings, other.timings
    with capsys.disabled():
        speeds = (
            f"{without.predicted_per_second:.0f} tokens/s plain, {counted.predicted_per_second:.0f} with the drafter"
        )
        print(f"\n{backend.name}: {speeds}, {counted.draft_n_accepted} of {counted.draft_n} drafted tokens accepted")
    assert said == drafted
    assert not without.draft_n
    assert counted.draft_n > TOKENS / 2
    # The pair was trained on this question.
    assert counted.draft_n_accepted > 0.8 * counted.draft_n


def test_a_drafter_that_knows_nothing_is_counted_as_never_right(backend: Backend, model: Model, tmp_path: Path) -> None:
    """Only its weights are other ones: no configuration tells, the counters do."""
    folder = scrambled(model.drafter, tmp_path / "scrambled")
    said, done = answer(backend, msgspec.structs.replace(model, drafter=folder))
    assert said
    assert done.timings.draft_n > TOKENS
    assert done.timings.draft_n_accepted < 0.1 * done.timings.draft_n


def test_a_drafter_that_is_never_right_is_left_out_where_that_is_wanted(
    backend: Backend, model: Model, tmp_path: Path
) -> None:
    """As a script has it done: started with the drafter, seen to be useless, and started again without."""
    folder = blank(model.drafter, tmp_path / "blank")
    words = ["launch", str(model.target), "--drafter", str(folder), "--backend", backend.name, "--detach", "--json"]
    eager = ["--", "--enforce-eager"] if backend.name == "vllm" else []
    done = CliRunner().invoke(cli, [*words, "--useless-drafter", "drop", *eager])
    try:
        assert done.exception is None, done.output
        assert "nothing that the drafter proposes is right" in done.stderr
        told = json.loads(done.stdout)
        assert told["drafter"]["enabled"] is False
        assert [each.pid for each in sessions.everything()] == [told["pid"]]
    finally:
        for each in sessions.everything():
            sessions.end(each)


def test_memory_that_is_not_there_is_said(backend: Backend, model: Model) -> None:
    """vLLM asks for its cache at the start."""
    if backend.name != "vllm":
        pytest.skip("mlx-vlm asks for memory while it answers")
    too_much = ("--kv-cache-memory-bytes", str(1 << 50))
    with pytest.raises(OutOfMemory, match="vLLM is out of memory") as caught:
        backend.start(backend.plan(model, Options(extra=too_much)))
    assert "needs less" in caught.value.hint


def test_killed_in_mid_stream_it_is_an_error_and_leaves_nothing(backend: Backend, model: Model) -> None:
    endpoint = backend.start(backend.plan(model, Options()))
    try:
        with joined(backend, endpoint) as client:
            events = client.chat([{"role": "user", "content": "def f(x):"}], max_tokens=1500, ignore_eos=True)
            assert isinstance(next(events), Text)
            for each in processes(endpoint):
                each.kill()
            with pytest.raises(RuntimeFailed):
                list(events)
    finally:
        backend.stop(endpoint)
    assert not members(endpoint.pid or 0)


def processes(endpoint: Endpoint) -> list[psutil.Process]:
    """The server, and no worker of it: its guard and what that started."""
    guard = psutil.Process(endpoint.pid)
    return [guard, *guard.children()] if "attached.py" in " ".join(guard.cmdline()) else [guard]


def test_interrupted_while_it_starts_it_leaves_nothing(backend: Backend, model: Model) -> None:
    pids: list[int] = []

    def progress(_what: str, seconds: int, _size: int | None) -> None:
        if seconds >= 1:
            raise KeyboardInterrupt

    watch = Watch(progress=progress, spawned=lambda endpoint: pids.append(endpoint.pid or 0))
    with pytest.raises(KeyboardInterrupt):
        backend.start(backend.plan(model, Options()), watch)
    assert not members(pids[0])
