"""`launch`, `ps`, `logs` and `stop` with the native engine, as processes of their own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from advisor import cli
from advisor.running import sessions
from tests.launch.conftest import DEMO, advisor, ask, wait_for

pytestmark = pytest.mark.engine


def test_a_dry_run_prints_the_exact_command_and_starts_nothing() -> None:
    done = advisor("launch", "demo", "--dry-run", "--port", "18999", "--no-drafter")
    assert done.returncode == 0
    assert all(line.startswith("looking at ") for line in done.stderr.splitlines()), "said of what takes a while"
    argv = shlex.split(done.stdout)
    assert argv[argv.index("--target") + 1] == str(DEMO / "demo.gguf")
    assert argv[argv.index("--port") + 1] == "18999" and "--drafter" not in argv
    assert sessions.everything() == []


def test_a_size_by_the_name_of_its_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "12b").mkdir()
    for name in ("12b", "google/gemma-4-12B-it"):
        assert ask("launch", name, "--backend", "native", "--dry-run")["model"] == "12b"


def test_a_detached_session_from_launch_to_stop() -> None:
    made = ask("launch", str(DEMO / "demo.gguf"), "--drafter", str(DEMO / "demo-drafter.gguf"), "--context", "1024",
               "--backend", "native", "--detach")  # fmt: skip
    assert made["schema"] == "advisor.launch/1" and made["backend"] == "native"
    assert made["name"] == "demo" and made["context_tokens"] == 1024
    assert set(made["drafter"]) >= {"enabled", "active", "drafted", "accepted", "acceptance", "reason"}
    assert made["drafter"]["enabled"] is True
    assert sessions.birth(made["pid"]), "it outlives the program that started it"

    listed = ask("ps")["sessions"]
    assert [each["name"] for each in listed] == ["demo"]
    assert listed[0]["status"] == "running" and listed[0]["stats"]["predicted_tokens"] > 0
    assert advisor("logs", "demo").returncode == 0

    assert ask("stop") == {"schema": "advisor.stop/1", "stopped": ["demo"]}
    assert not sessions.birth(made["pid"])
    gone = advisor("stop", "demo", "--json")
    assert gone.returncode == 2 and json.loads(gone.stdout)["error"]["message"] == "nothing is running"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_however_the_launch_ends_the_server_goes_too(number: int) -> None:
    with launched("demo") as process:
        session = sessions.find()
        process.send_signal(number)
        process.wait(60)
        wait_for(lambda: not sessions.birth(session.pid))
        if number != signal.SIGKILL:
            assert process.returncode == 130
            assert sessions.everything() == []


def test_a_launch_that_is_ended_after_its_document_prints_no_second_one() -> None:
    with launched("demo", "--json", begins='{"schema":"advisor.launch/1"') as process:
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest) == (130, "")
    assert "interrupted" in errors


def test_stop_ends_the_launch_with_0_and_a_death_with_6() -> None:
    with launched("demo") as process:
        assert advisor("stop").returncode == 0
        assert process.wait(60) == 0
    with launched("demo") as process:
        os.kill(sessions.find().pid, signal.SIGKILL)
        assert process.wait(60) == 6
        assert "killed" in (process.stderr.read() if process.stderr else "")
        assert sessions.everything() == []


def launched(*words: str, begins: str = "Ready") -> subprocess.Popen[str]:
    """A launch in the foreground, once it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "advisor", "launch", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith(begins), process.stderr.read() if process.stderr else ""
    return process


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nothing.gguf"], 6, "there is no file"),
        (["./nothing"], 6, "there is no file"),
        (["google/gemma-4-99B-it"], 2, "unknown model"),
        (["demo", "--quant", "Q8_0"], 2, "one file"),
        (["demo", "--context", "999999"], 2, "takes 1 to 2,048"),
        (["demo", "--draft-tokens", "many"], 2, "--draft-tokens"),
        (["demo", "--drafter", "x.gguf", "--no-drafter"], 2, "exclude"),
        (["demo", "--drafter", str(DEMO / "demo.gguf")], 2, "as model and as drafter"),
        (["demo", "stray"], 2, "unexpected argument 'stray'"),
        (["demo", "--backend", "nothing"], 2, "unknown backend"),
        (["demo", "--backend", "native", "--", "--nonsense"], 6, "--nonsense"),
    ],
)
def test_errors_are_typed_and_leave_nothing(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["launch", "--json", *words]) == code
    assert message in json.loads(capsys.readouterr().out)["error"]["message"]
    assert sessions.everything() == []
