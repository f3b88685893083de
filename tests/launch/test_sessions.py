"""Sessions on record: names and ports, the dead, recycled process ids, files that were cut off in the middle."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from advisor import sessions
from advisor.errors import RuntimeFailed, UsageError
from advisor.sessions import Session
from backends.base import Endpoint, LaunchPlan, Model, Options
from backends.native import Native

PLAN = LaunchPlan(backend="native", model=Model(name="demo", target=Path("demo.gguf")), options=Options())


class Recording(Native):
    """Notes what it is told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped: list[int | None] = []

    def stop(self, endpoint: Endpoint) -> None:
        self.stopped.append(endpoint.pid)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def started(pid: int) -> Session:
    endpoint = Endpoint(base_url="http://127.0.0.1:1/v1", model="demo", backend="native", pid=pid, name="demo")
    return sessions.started(sessions.claim("demo", PLAN), endpoint)


def test_a_session_is_found_by_name_and_alone_without(child: subprocess.Popen[bytes]) -> None:
    session = started(child.pid)
    assert sessions.find("demo") == session == sessions.find()
    assert sessions.everything() == [session]
    second = started(child.pid)
    assert second.name == "demo-2" and second.port != session.port
    with pytest.raises(UsageError, match="2 sessions"):
        sessions.find()
    with pytest.raises(UsageError, match="unknown session 'dmo'") as error:
        sessions.find("dmo")
    assert "demo" in error.value.hint


def test_a_session_that_is_starting_cannot_be_talked_to() -> None:
    sessions.claim("demo", PLAN)
    with pytest.raises(UsageError, match="nothing is running"):
        sessions.find()


def test_the_dead_are_seen_as_dead_and_cleared(child: subprocess.Popen[bytes]) -> None:
    session = started(child.pid)
    assert sessions.is_alive(session)
    child.kill()
    child.wait()
    assert not sessions.is_alive(session) and sessions.everything() == [session]
    assert sessions.clear() == [] and sessions.everything() == []


def test_one_that_ended_and_waits_to_be_collected_is_dead(child: subprocess.Popen[bytes]) -> None:
    session = started(child.pid)
    os.kill(child.pid, 9)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
    assert not sessions.is_alive(session)


def test_a_recycled_process_id_is_never_stopped(child: subprocess.Popen[bytes]) -> None:
    session = msgspec.structs.replace(started(child.pid), birth="another process, long gone")
    backend = Recording()
    sessions.end(session, backend)
    assert backend.stopped == [] and child.poll() is None
    assert sessions.everything() == []


def test_ending_tells_whoever_waits(child: subprocess.Popen[bytes]) -> None:
    session = started(child.pid)
    seen: list[bool] = []

    class Watching(Recording):
        def stop(self, endpoint: Endpoint) -> None:
            seen.append(sessions.was_stopped(session))

    assert not sessions.was_stopped(session)
    sessions.end(session, Watching())
    assert seen == [True] and sessions.was_stopped(session)


def test_a_file_that_is_no_session_is_passed_over(state: Path, child: subprocess.Popen[bytes]) -> None:
    session = started(child.pid)
    (state / "broken.json").write_text('{"name": "bro')
    (state / ".demo-x").write_text("a write that was cut off")
    assert sessions.everything() == [session]


def test_a_write_that_fails_leaves_the_old_file(
    child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    session = started(child.pid)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        sessions.started(session, session.endpoint)
    assert sessions.everything() == [session]
    assert not list(state.glob(".demo-*"))


def test_many_at_once_never_share_a_name_or_a_port(state: Path) -> None:
    found: list[Session] = []
    threads = [threading.Thread(target=lambda: found.append(sessions.claim("demo", PLAN))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({session.name for session in found}) == len({session.port for session in found}) == 12


def test_a_port_that_is_taken_is_refused_with_its_owner() -> None:
    first = sessions.claim("demo", PLAN)
    with pytest.raises(RuntimeFailed, match="used by the session 'demo'"):
        sessions.claim("other", PLAN, port=first.port)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RuntimeFailed, match="another program"):
            sessions.claim("other", PLAN, port=taken.getsockname()[1])


@pytest.mark.parametrize(
    ("name", "shown"), [("My Model (v2)", "my-model-v2"), ("../../etc", "etc"), ("", "model"), ("é", "é")]
)
def test_names_are_fit_for_files(name: str, shown: str, state: Path) -> None:
    session = sessions.claim(name, PLAN)
    assert session.name == shown
    assert [path.parent for path in state.glob("*.json")] == [state]


def test_forgetting_leaves_a_later_session_of_the_name(child: subprocess.Popen[bytes]) -> None:
    session = started(child.pid)
    sessions.forget(msgspec.structs.replace(session, since="long ago"))
    assert sessions.everything() == [session]


def test_a_backend_is_asked_only_for_what_lives(child: subprocess.Popen[bytes]) -> None:
    backend = Recording()
    sessions.end(started(child.pid), backend)
    assert backend.stopped == [child.pid]
