"""`launch`, `run`, `ps`, `stop` and the rest with Ollama, as processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from advisor.running import sessions
from tests.fakes import ollama as fake
from tests.fakes import ollama_files as files
from tests.launch.conftest import advisor, ask, wait_for
from tests.ollama.conftest import Run, pair
from tests.ollama.test_running import unreadable

ENDS = ("-bare", "-mtp")


@pytest.fixture
def words(ollama: fake.Ollama, tmp_path: Path) -> list[str]:
    """What to launch: a pair of files."""
    model = pair(tmp_path)
    return [str(model.target), "--drafter", str(model.drafter), "--context", "1024", "--backend", "ollama"]


def models(ollama: fake.Ollama) -> set[str]:
    return {name.removesuffix(":latest") for name in ollama.library.models}


def test_from_launch_to_stop(ollama: fake.Ollama, words: list[str]) -> None:
    made = ask("launch", *words, "--detach")
    assert made["backend"] == "ollama" and made["base_url"] == f"{ollama.url}/v1" and made["pid"] == 0
    assert made["model"] == "advisor-target-mtp" and made["context_tokens"] == 1024
    assert made["drafter"]["active"] is True and made["drafter"]["accepted"] > 0
    assert made["measured"]["decode_tokens_per_s"] and made["measured"]["process_bytes"] == 29_506_928

    (listed,) = ask("ps")["sessions"]
    assert listed["status"] == "running" and listed["stats"]["drafter_active"]
    assert listed["port"] == int(ollama.url.rpartition(":")[2])
    said = advisor("run", "target", "What is a drafter?", "--max-tokens", "12", "--stats")
    assert "accepted" in said.stderr and said.stdout.strip()

    stopped = ask("stop", "--remove")
    assert stopped["stopped"] == ["target"] and set(stopped["removed"]) == {f"advisor-target{end}" for end in ENDS}
    assert models(ollama) == set() and ollama.children.listed() == []
    assert sessions.everything() == []


def test_stop_leaves_what_was_made(run: Run, ollama: fake.Ollama, words: list[str]) -> None:
    done = run("launch", *words, "--detach")
    assert done.exit_code == 0, done.stderr
    assert "active, " in done.stdout and "% accepted" in done.stdout
    assert run("stop").stdout.strip() == "stopped target"
    assert models(ollama) == {f"advisor-target{end}" for end in ENDS}
    again = run("launch", *words, "--detach", "--json").document
    assert again["drafter"]["active"] and ollama.asked("POST /api/create") == 2


def test_a_session_whose_server_is_gone_is_dead(run: Run, ollama: fake.Ollama, words: list[str]) -> None:
    assert run("launch", *words, "--detach").exit_code == 0
    ollama.stop()
    assert [each["status"] for each in run("ps", "--json").document["sessions"]] == ["dead"]
    assert sessions.everything() == []


def test_a_launch_in_the_foreground_unloads_at_its_end(ollama: fake.Ollama, words: list[str]) -> None:
    with launched(words) as process:
        assert ollama.children.listed()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert ollama.children.listed() == [] and sessions.everything() == []


def test_stop_ends_the_launch_with_0_and_a_server_that_goes_with_6(ollama: fake.Ollama, words: list[str]) -> None:
    with launched(words) as process:
        assert advisor("stop").returncode == 0
        assert process.wait(60) == 0
    with launched(words) as process:
        ollama.stop()
        assert process.wait(60) == 6
        assert "does not answer" in (process.stderr.read() if process.stderr else "")


@pytest.mark.parametrize("end", ["stop", "interrupt"])
def test_what_is_still_loading_ends_too(ollama: fake.Ollama, words: list[str], end: str) -> None:
    """The server gives up what it loads, and what was made for it is gone."""
    ollama.children.load_s = 60
    with subprocess.Popen([sys.executable, "-m", "advisor", "launch", *words, "--detach"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:  # fmt: skip
        wait_for(lambda: ollama.children.started == 1)
        assert [each["status"] for each in ask("ps")["sessions"]] == ["starting"]
        if end == "stop":
            assert ask("stop", "--remove")["stopped"] == ["target"]
        else:
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == (6 if end == "stop" else 130)
    assert "Traceback" not in said and ("target was stopped while it was loading" in said) == (end == "stop")
    with ollama.turn:
        assert ollama.children.listed() == [] and models(ollama) == set() and sessions.everything() == []
    assert ollama.children.started == 1, "nothing loads it again"


def test_a_dry_run_prints_both_forms(run: Run, ollama: fake.Ollama, words: list[str]) -> None:
    done = run("launch", *words, "--dry-run")
    assert done.exit_code == 0 and models(ollama) == set()
    assert "FROM " in done.stdout and "DRAFT " in done.stdout and "ollama create advisor-target-mtp" in done.stdout
    assert f"# POST {ollama.url}/api/create" in done.stdout and '"draft_files"' in done.stdout
    shell = subprocess.run(["sh", "-n"], input=done.stdout, text=True, capture_output=True, check=False)
    assert shell.returncode == 0, shell.stderr
    plan = run("launch", *words, "--dry-run", "--json").document
    assert plan["base_url"] == f"{ollama.url}/v1" and plan["plan"]["requests"] and not plan["plan"]["argv"]


def test_no_drafter(run: Run, ollama: fake.Ollama, words: list[str]) -> None:
    made = run("launch", words[0], *words[3:], "--no-drafter", "--detach", "--json").document
    assert made["drafter"]["active"] is False and made["drafter"]["reason"] == "it was switched off"
    assert models(ollama) == {"advisor-target", "advisor-target-bare"}


def test_without_a_log_the_drafter_is_known_by_its_speed_and_nothing_is_counted(
    run: Run, ollama: fake.Ollama, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(monkeypatch)
    done = run("launch", *words, "--detach")
    assert done.exit_code == 0, done.stderr
    assert "active: 1.60 times the speed without it, as measured" in done.stdout
    assert "not counted: Ollama's log cannot be read" in " ".join(run("ps").stdout.split())


def test_a_wrong_drafter_fails_with_words(run: Run, ollama: fake.Ollama, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(files.content(files.WRONG))
    done = run("launch", str(pair(tmp_path).target), "--drafter", str(wrong), "--backend", "ollama", "--json")
    assert done.exit_code == 6 and "width of 96" in done.document["error"]["message"]
    assert models(ollama) == set() and sessions.everything() == []


def test_backends_lists_what_it_has(run: Run, ollama: fake.Ollama, words: list[str]) -> None:
    run("launch", *words, "--detach")
    found = {each["name"]: each for each in run("backends", "--json").document["backends"]}["ollama"]
    assert found["available"] and found["version"] == ollama.version and "drafter" in found["features"]
    held = {each["name"]: each for each in found["held"]}
    assert held["advisor-target-mtp:latest"]["drafter"] is True and held["advisor-target-mtp:latest"]["loaded"]
    assert held["advisor-target-bare:latest"]["drafter"] is False
    text = run("backends").stdout
    assert "advisor-target-mtp:latest, Q8_0" in text and "with a drafter, loaded" in " ".join(text.split())


def test_one_answer_and_gone(run: Run, ollama: fake.Ollama) -> None:
    answer = run("run", "demo", "What is a drafter?", "--backend", "ollama", "--max-tokens", "8", "--json").document
    assert answer["text"] and answer["backend"] == "ollama" and answer["drafter"]["active"]
    assert ollama.children.listed() == [] and sessions.everything() == []


def test_where_it_does_not_run(run: Run, ollama: fake.Ollama, words: list[str]) -> None:
    ollama.stop()
    done = run("launch", *words, "--json")
    assert done.exit_code == 4
    error = done.document["error"]
    assert error["code"] == "no_backend" and "ollama" in error["message"] and error["hint"]


class Launched:
    """A launch in the foreground."""

    def __init__(self, words: list[str]) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "advisor", "launch", *words], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)  # fmt: skip

    def __enter__(self) -> subprocess.Popen[str]:
        wait_for(lambda: any(each.status == "running" for each in sessions.everything()))
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("Session"):
                break
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def launched(words: list[str]) -> Launched:
    return Launched(words)
