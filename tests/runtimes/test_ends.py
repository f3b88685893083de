"""Servers that die, are ended or interrupted: an error that says why, and no process that stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest
from click.testing import CliRunner, Result

from advisor.cli import cli
from advisor.errors import RuntimeFailed
from advisor.running import sessions
from backends import group
from backends.base import Model, Watch, load
from tests.runtimes.conftest import SERVERS, Install, asked, faults, question, readable


@pytest.mark.parametrize(
    ("name", "fault", "said"),
    [
        ("vllm", "mid-stream", "ended with code 1"),
        *((name, "mid-stream-0", "with code 0 although it failed") for name in (*SERVERS, "litert")),
    ],
)
def test_dying_in_mid_stream(
    name: str, fault: str, said: str, install: Install, *, pair: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(name)
    faults(monkeypatch, fault, "workers")
    backend, plan = asked(name, readable(name, pair, tmp_path))
    endpoint = backend.start(plan)
    try:
        with pytest.raises(RuntimeFailed) as caught:
            question(backend, endpoint)
        assert said in caught.value.message
        assert "illegal memory access" in caught.value.message
        assert not group.members(endpoint.pid), "its workers hold the memory no more"
        with pytest.raises(RuntimeFailed):
            backend.stats(endpoint)
    finally:
        backend.stop(endpoint)


@pytest.mark.parametrize(("name", "detached"), [("vllm", False), ("vllm", True), ("litert", False)])
def test_workers_that_survive_are_ended(
    detached: bool, name: str, install: Install, *, pair: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(name)
    faults(monkeypatch, "workers", "deaf")
    monkeypatch.setattr(group, "SLOW", (0.3, 0.3))
    backend, plan = asked(name, readable(name, pair, tmp_path), detached=detached)
    endpoint = backend.start(plan)
    assert len(group.members(endpoint.pid)) >= 3
    load(name).stop(endpoint)
    assert not group.members(endpoint.pid)
    backend.stop(endpoint)


@pytest.mark.parametrize("name", ["vllm", "litert"])
def test_interrupted_while_it_starts(
    name: str, install: Install, *, pair: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(name)
    faults(monkeypatch, "slow-start", "deaf", "workers")
    monkeypatch.setattr(group, "SLOW", (0.2, 0.2))
    backend, plan = asked(name, readable(name, pair, tmp_path))
    pids: list[int] = []

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
