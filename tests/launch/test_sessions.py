"""Sessions on record: names and ports, the dead, recycled process ids, files that were cut off in the middle."""

from __future__ import annotations

import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from advisor.errors import RuntimeFailed, UsageError
from advisor.running import sessions
from advisor.running.sessions import Session
from backends.base import Endpoint, LaunchPlan, Model, Options
from backends.native import Native
from backends.native.process import HELD

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


def endpoint(pid: int) -> Endpoint:
    return Endpoint(base_url="http://127.0.0.1:1/v1", model="demo", backend="native", pid=pid, name="demo")


def started(pid: int, *, detached: bool = False) -> Session:
    plan = msgspec.structs.replace(PLAN, options=Options(detached=detached))
    return sessions.started(sessions.claim("demo", plan), endpoint(pid))


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


def test_where_nothing_can_be_kept_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sessions.STATE, str(Path(os.devnull) / "state"))
    assert sessions.everything() == sessions.clear() == []
    with pytest.raises(RuntimeFailed, match="the folder for state cannot be made") as error:
        sessions.claim("demo", PLAN)
    assert sessions.STATE in error.value.hint


def test_a_session_that_is_starting_cannot_be_talked_to() -> None:
    sessions.claim("demo", PLAN)
    with pytest.raises(UsageError, match="nothing is running"):
        sessions.find()


def test_the_dead_are_seen_as_dead_and_cleared(child: subprocess.Popen[bytes]) -> None:
    session = started(child.pid, detached=True)
    assert sessions.is_alive(session)
    child.kill()
    child.wait()
    assert not sessions.is_alive(session) and sessions.everything() == [session]
    assert sessions.clear() == [] and sessions.everything() == []


def test_the_dead_are_left_to_those_who_wait_for_them(child: subprocess.Popen[bytes]) -> None:
    session = started(child.pid)
    child.kill()
    child.wait()
    assert sessions.clear() == [session] and not sessions.was_stopped(session), "its launch says why it died"
    sessions.forget(session)
    assert sessions.clear() == []


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
    with pytest.raises(RuntimeFailed, match="No space"):
        sessions.started(session, session.endpoint)
    assert sessions.everything() == [session]
    assert not list(state.glob(".demo-*"))


def test_a_writer_that_is_killed_leaves_a_whole_file(child: subprocess.Popen[bytes], state: Path) -> None:
    session = started(child.pid)
    endless = (
        "import sys, msgspec\n"
        "from advisor.running import sessions\n"
        "session = sessions.everything()[0]\n"
        "print('writing', flush=True)\n"
        "while True:\n"
        "    sessions.started(session, msgspec.structs.replace(session.endpoint, model='x' * 100_000))\n"
        "    sessions.started(session, session.endpoint)\n"
    )
    for wait_s in (0.0, 0.01, 0.023, 0.04):
        with subprocess.Popen([sys.executable, "-c", endless], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None and writer.stdout.readline()
            time.sleep(wait_s)
            writer.kill()
        (left,) = sessions.everything()
        assert left.model in (session.model, "x" * 100_000)
        assert sessions.find(session.name).pid == session.pid, "nobody is kept waiting by a lock of the dead"
        sessions.started(session, session.endpoint)
    sessions.clear()
    assert [path.name for path in state.iterdir() if path.name.startswith(".")] == [".lock"]


# ---- Starting


def test_a_server_is_on_record_before_it_does_anything(tmp_path: Path) -> None:
    """What `held.py` starts waits for the word, keeps its process id, and never runs where nobody says it."""
    mark = tmp_path / "ran"
    program = [sys.executable, "-c", f"open({str(mark)!r}, 'w').write(str(__import__('os').getpid()))"]
    for word, runs in ((b"", False), (b"\n", True)):
        process = subprocess.Popen([sys.executable, "-I", str(HELD), *program], stdin=subprocess.PIPE)
        born = sessions.birth(process.pid)
        time.sleep(0.1)
        assert not mark.exists()
        process.communicate(word)
        assert mark.exists() is runs and born
    assert mark.read_text() == str(process.pid)


def test_a_program_that_cannot_become_one_is_said() -> None:
    process = subprocess.run([sys.executable, "-I", HELD, "/nowhere"], input=b"\n", capture_output=True, check=False)
    assert process.returncode == 127 and b"error: /nowhere cannot be started" in process.stderr


def test_a_server_that_loads_is_known_and_can_be_stopped(child: subprocess.Popen[bytes]) -> None:
    claimed = sessions.claim("demo", PLAN)
    assert sessions.stoppable() == []
    session = sessions.spawned(claimed, endpoint(child.pid))
    assert (session.status, session.pid, session.birth) == ("starting", child.pid, sessions.birth(child.pid))
    assert sessions.running() == [] and sessions.stoppable() == [session]
    assert sessions.find(among=sessions.stoppable) == session
    backend = Recording()
    sessions.end(session, backend)
    assert backend.stopped == [child.pid] and sessions.was_stopped(session)


def test_one_whose_launch_died_is_running_once_it_answers(child: subprocess.Popen[bytes]) -> None:
    class Healthy(http.server.BaseHTTPRequestHandler):
        status = 503

        def do_GET(self) -> None:
            self.send_response(Healthy.status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = msgspec.structs.replace(endpoint(child.pid), base_url=f"http://127.0.0.1:{server.server_port}/v1")
        session = sessions.spawned(sessions.claim("demo", PLAN), where)
        assert sessions.running() == [], "its launch lives, and will say so itself"
        orphan = msgspec.structs.replace(session, starter="1:somebody who has gone")
        sessions._write(orphan)
        assert sessions.running() == []
        Healthy.status = 200
        assert [each.name for each in sessions.running()] == ["demo"]
        assert sessions.everything()[0].status == "running"
        server.shutdown()


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
