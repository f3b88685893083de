"""Environments that look as if a runtime was installed there, whose program is the tests' own server."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from advisor.errors import AdvisorError
from advisor.knowledge import catalog
from advisor.running import sessions
from advisor.running.client import Timings
from backends.base import Backend, Endpoint, LaunchPlan, Model, Options, load
from tests.fakes import runtimes

VERSIONS = {"vllm": "0.32.0", "sglang": "0.5.23", "mlx": "0.7.10", "litert": "0.18.1"}
SERVERS = ("vllm", "sglang", "mlx")
"""Those that count drafts."""
HIDDEN, VOCAB = 64, 512

Install = Callable[..., Path]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state and a cache of the test's own, nothing installed, and no network."""
    settle(tmp_path, monkeypatch)
    yield tmp_path
    for session in sessions.everything():
        sessions.end(session)


def settle(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv(sessions.STATE, str(folder / "state"))
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    patch.setenv("HF_HUB_CACHE", str(folder / "hub"))
    patch.setenv("HF_HUB_OFFLINE", "1")
    for runtime in catalog.load().runtimes.values():
        if runtime.variable:
            patch.setenv(runtime.variable, str(folder / "nowhere"))
        if runtime.address:
            patch.setenv(runtime.address, "")
    patch.setattr(sessions, "FIRST_PORT", 0)
    patch.setattr(sessions, "LAST_PORT", -1)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a runtime into an environment of its own."""

    def put(name: str, version: str = "", *, package: str = "") -> Path:
        return environment(tmp_path / f"env-{name}", name, monkeypatch, version=version, package=package)

    return put


def environment(root: Path, name: str, patch: pytest.MonkeyPatch, *, version: str = "", package: str = "") -> Path:
    """An environment with the runtime's program and its package's folder; the variable names the program."""
    runtime = catalog.load().runtimes[name]
    program = root / "bin" / runtime.program
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{runtimes.__file__}" {name} "$@"\n')
    program.chmod(0o755)
    folder = (package or runtime.packages[0]).replace("-", "_")
    (root / f"lib/python3.11/site-packages/{folder}-{version or VERSIONS[name]}.dist-info").mkdir(parents=True)
    patch.setenv(runtime.variable, str(program))
    return program


@pytest.fixture
def pair(tmp_path: Path) -> Model:
    """Two checkpoints that belong together."""
    return checkpoints(tmp_path)


def checkpoints(folder: Path) -> Model:
    return Model(
        name="tiny",
        target=target(folder / "tiny"),
        drafter=drafter(folder / "tiny-assistant"),
        draft_tokens=3,
        context_tokens=2048,
    )


def target(folder: Path, *, kind: str = "gemma4", hidden: int = HIDDEN, vocab: int = VOCAB) -> Path:
    text = {"hidden_size": hidden, "vocab_size": vocab}
    return written(folder, {"model_type": kind, **({"text_config": text} if kind == "gemma4" else text)})


def drafter(folder: Path, *, kind: str = "gemma4_assistant", hidden: int = HIDDEN, vocab: int = VOCAB) -> Path:
    told = {"model_type": kind, "backbone_hidden_size": hidden, "text_config": {"vocab_size": vocab}}
    return written(folder, told)


def written(folder: Path, told: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(told))
    return folder


def one_file(folder: Path) -> Model:
    """A model of LiteRT-LM, with its drafter inside."""
    file = folder / "tiny.litertlm"
    file.write_bytes(b"LITERTLM")
    return Model(name="tiny", target=file, draft_tokens=1, context_tokens=2048)


def readable(name: str, pair: Model, folder: Path) -> Model:
    """What a runtime reads: the pair, or one file."""
    return one_file(folder) if name == "litert" else pair


def asked(name: str, model: Model, **options) -> tuple[Backend, LaunchPlan]:
    backend = load(name)
    return backend, backend.plan(model, Options(**options))


def refused(name: str, model: Model, **options) -> AdvisorError:
    """The error of a start that leaves no process behind."""
    backend, plan = asked(name, model, **options)
    before = {each.pid for each in psutil.Process().children(recursive=True)}
    with pytest.raises(AdvisorError) as caught:
        backend.start(plan)
    left = [each.pid for each in psutil.Process().children(recursive=True) if each.pid not in before]
    assert not left, "processes are left behind"
    assert caught.value.message
    return caught.value


def question(backend: Backend, endpoint: Endpoint) -> Timings:
    with backend.client(endpoint) as client:
        *_, done = client.chat([{"role": "user", "content": "why"}], temperature=0, max_tokens=40)
    return done.timings


def faults(patch: pytest.MonkeyPatch, *names: str) -> None:
    patch.setenv("FAULTS", ",".join(names))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
