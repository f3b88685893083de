"""`advisor run` and `chat` of a size: fetched from a local Hub, started, asked and gone; ctrl-c leaves nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from advisor.files.download import PART
from advisor.knowledge import catalog
from advisor.running import sessions
from tests.engine import random_pair
from tests.engine.random_pair import TARGET
from tests.fakes.hub import Hub, serve
from tests.fakes.terminal import CTRL_D, Terminal
from tests.launch.conftest import advisor, wait_for

pytestmark = pytest.mark.engine

ADVISOR = [sys.executable, "-m", "advisor"]
E2B = ("e2b", "--backend", "native")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A pair as wide as E2B and small otherwise, under the names that the catalogue knows."""
    folder = tmp_path_factory.mktemp("e2b")
    model = catalog.load().model("e2b")
    width = model.architecture.hidden
    random_pair.write_target(folder / "target", TARGET._replace(width=width), endless=True)
    random_pair.write_drafter(folder / "drafter", backbone=width)
    target, drafter = (folder / "target").read_bytes(), (folder / "drafter").read_bytes()
    return {quant.file: target for quant in model.quants} | {file.file: drafter for file in model.drafter.files}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> Iterator[Hub]:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    model = catalog.load().model("e2b")
    with serve() as made:
        for repo in {each.repo for each in (*model.quants, *model.drafter.files)}:
            made.add(repo, **files)
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        yield made


def test_a_size_is_fetched_asked_and_gone(hub: Hub) -> None:
    done = advisor("run", *E2B, "hello", "--max-tokens", "12", "--draft-tokens", "2", "--json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert (answer["model"], answer["backend"], answer["timings"]["predicted_n"]) == ("e2b", "native", 12)
    assert answer["drafter"]["active"], "with the drafter of the catalogue"
    for said in ("target ", "drafter ", "to fetch", "licence", "`advisor launch e2b --detach` keeps it"):
        assert said in done.stderr
    assert sessions.everything() == []
    fetched = len(hub.asked)
    again = advisor("run", *E2B, "hello", "--max-tokens", "2")
    assert again.returncode == 0 and len(hub.asked) == fetched and "here (Hugging Face cache)" in again.stderr


def started(*words: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([*ADVISOR, *words], stdout=pipe, stderr=pipe, text=True, errors="replace")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_it_answers(hub: Hub, number: int) -> None:
    with started("run", *E2B, "hello", "--max-tokens", "100000") as process:
        assert process.stdout is not None
        process.stdout.read(1)
        [session] = sessions.running()
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert sessions.everything() == [] and not sessions.is_alive(session)
    assert not psutil.wait_procs(children, timeout=60)[1]


def test_ctrl_c_while_it_is_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.bytes_per_s = 2_000_000
    with started("run", *E2B, "hello") as process:
        wait_for(lambda: any(part.stat().st_size > 100_000 for part in tmp_path.glob(f"hf/hub/*/blobs/*{PART}")))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert sessions.everything() == []
    [kept] = tmp_path.glob(f"hf/hub/*/blobs/*{PART}")
    size = kept.stat().st_size
    hub.bytes_per_s = 0
    hub.asked.clear()
    assert advisor("run", *E2B, "hello", "--max-tokens", "2").returncode == 0
    assert hub.asked[0][0] >= size > 100_000, "the same command goes on there"


def test_ctrl_c_while_it_starts(hub: Hub) -> None:
    assert advisor("run", *E2B, "hello", "--max-tokens", "1").returncode == 0
    with started("run", *E2B, "hello", "--max-tokens", "100000") as process:
        parent = psutil.Process(process.pid)
        wait_for(lambda: bool(sessions.everything()) or not parent.is_running())
        process.send_signal(signal.SIGINT)
        children = parent.children(recursive=True)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    wait_for(lambda: sessions.everything() == [])
    assert not psutil.wait_procs(children, timeout=60)[1]


def test_chat_of_a_size(hub: Hub) -> None:
    with Terminal([*ADVISOR, "chat", *E2B]) as terminal:
        at = terminal.wait_for(r"e2b on native; drafter .*\n> ")
        assert sessions.running()[0].model == "e2b"
        terminal.type("hello\n")
        answering = terminal.wait_for(r"answering, \d+ tokens", since=at)
        terminal.type("\x03")
        stopped = terminal.wait_for(r"\(stopped.*\n> ", since=answering)
        terminal.type(CTRL_D)
        assert terminal.end() == 0
        assert "Traceback" not in terminal.text[stopped:]
    assert sessions.everything() == []


def test_a_full_disk_and_a_closed_repository_are_said(hub: Hub) -> None:
    hub.token = "wanted"
    done = advisor("run", *E2B, "hello", "--json")
    assert done.returncode == 5 and json.loads(done.stdout)["error"]["code"] == "download"
    assert "HF_TOKEN" in json.loads(done.stdout)["error"]["hint"]


# ---- Sessions of other shells


def test_without_model_it_is_the_session_that_runs(hub: Hub) -> None:
    assert advisor("launch", "demo", "--backend", "native", "--detach").returncode == 0
    done = advisor("run", "Which model fits 16 GB?", "--json", "--max-tokens", "8")
    assert json.loads(done.stdout)["model"] == "demo" and "for this answer" not in done.stderr
    [session] = sessions.running()
    plain = json.loads(advisor("run", "demo", "hello", "--no-drafter", "--json").stdout)
    drafted = json.loads(advisor("run", "demo", "hello", "--draft-tokens", "2", "--json").stdout)
    assert (plain["drafter"]["active"], drafted["drafter"]["active"]) == (False, True)
    late = advisor("run", "demo", "hello", "--threads", "1")
    assert late.returncode == 2 and "--threads comes too late" in late.stderr
    assert "advisor stop demo" in late.stderr
    assert advisor("launch", "demo", "--backend", "native", "--detach").returncode == 0
    two = advisor("run", "hello")
    assert two.returncode == 2 and "demo, demo-2" in two.stderr
    assert sessions.is_alive(session)


SECRET = "sk-very-secret-4711"


def test_a_key_of_another_shell_is_used_and_nowhere_seen(hub: Hub, state: Path) -> None:
    launched = advisor("launch", "demo", "--backend", "native", "--detach", ADVISOR_API_KEY=SECRET)
    assert launched.returncode == 0, launched.stderr
    [session] = sessions.running()
    asked = advisor("run", "demo", "hello", "--max-tokens", "4", "--json")
    assert asked.returncode == 0, asked.stderr + asked.stdout
    talked = subprocess.run([*ADVISOR, "chat"], input="hello\n/stats\n", capture_output=True, text=True, check=False)
    assert talked.returncode == 0 and "tokens" in talked.stdout
    listed = advisor("ps", "--json")
    assert json.loads(listed.stdout)["sessions"][0]["stats"]["predicted_tokens"] > 0
    everything = [launched.stdout, launched.stderr, asked.stdout, asked.stderr, talked.stderr, listed.stdout]
    everything += [Path(session.log).read_text() if session.log else "", advisor("logs", "demo").stdout]
    everything += [" ".join(psutil.Process(session.pid).cmdline())]
    assert not any(SECRET in text for text in everything)
    for path in state.rglob("*"):
        if path.is_file() and SECRET in path.read_text(errors="replace"):
            assert path.stat().st_mode & 0o077 == 0, "for this user only"


def test_a_wrong_key_is_said_without_it(hub: Hub, state: Path) -> None:
    assert advisor("launch", "demo", "--backend", "native", "--detach", ADVISOR_API_KEY=SECRET).returncode == 0
    [path] = state.glob("demo.json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"api_key": ""}))
    done = advisor("run", "demo", "hello", ADVISOR_API_KEY="sk-wrong-0815")
    assert done.returncode == 2 and "ADVISOR_API_KEY" in done.stderr
    assert "sk-wrong" not in done.stderr and SECRET not in done.stderr
    assert advisor("run", "demo", "hello", "--max-tokens", "2", ADVISOR_API_KEY=SECRET).returncode == 0


def test_a_folder_of_that_name_is_no_model(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "e2b").mkdir()
    monkeypatch.chdir(tmp_path)
    done = advisor("run", *E2B, "hello", "--max-tokens", "2")
    assert done.returncode == 0, done.stderr
