"""`advisor run` as a user meets it: answers, errors, ctrl-c, and an engine that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from advisor import cli
from advisor.running import demo
from backends.base import Model
from tests.engine import random_pair
from tests.engine.random_pair import Pair

pytestmark = pytest.mark.engine

ADVISOR = [sys.executable, "-m", "advisor"]
WITHIN = 15.0
"""Seconds in which something ends that would go on for much longer: generous, other programs use this machine too."""


def advisor(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    argv = [*ADVISOR, *map(str, arguments)]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def test_an_answer_and_its_numbers(endless_pair: Pair) -> None:
    done = advisor(
        "run", endless_pair.target, "hello", "--drafter", endless_pair.drafter, "--max-tokens", "20", "--stats"
    )
    assert done.returncode == 0
    assert done.stdout.endswith("\n")
    assert "answer   20 tokens" in done.stderr
    assert "drafter" in done.stderr


def test_json(endless_pair: Pair) -> None:
    common = ("run", endless_pair.target, "-", "--max-tokens", "20", "--json")
    drafted = json.loads(advisor(*common, "--drafter", endless_pair.drafter, "--draft-tokens", "2", stdin="hi").stdout)
    plain = json.loads(advisor(*common, "--no-drafter", stdin="hi").stdout)
    assert drafted["schema"] == "advisor.run/1"
    assert drafted["text"] == plain["text"]
    assert drafted["finish_reason"] == "length"
    assert drafted["backend"] == "native"
    assert drafted["drafter"]["active"] is True
    assert drafted["drafter"]["draft_tokens"] == 2
    assert len(drafted["drafter"]["accepted_per_position"]) == 2
    assert plain["drafter"] == {"active": False, "draft_tokens": 0, "accepted_per_position": []}
    assert plain["timings"]["predicted_n"] == 20


def test_raw_has_no_template(endless_pair: Pair) -> None:
    common = ("run", endless_pair.target, "hello", "--max-tokens", "5", "--json")
    raw, chat = (json.loads(advisor(*common, *more).stdout)["timings"]["prompt_n"] for more in (["--raw"], []))
    assert raw < chat


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["e2b", "hi"], 5, "E2B-it-qat-GGUF cannot be looked up: HF_HUB_OFFLINE"),
        (["e2b"], 2, "no prompt"),
        (["e2b", "hi", "--drafter", "lookup"], 2, "for the demo and for files"),
        (["e2x", "hi"], 2, "did you mean"),
        (["{target}"], 2, "no prompt"),
        (["{target}", ""], 2, "empty"),
        (["{target}", "a", "b"], 2, "quotes"),
        (["{target}", "hi", "--temperature", "-1"], 2, "temperature"),
        (["{target}", "hi", "--temperature", "nan"], 2, "temperature"),
        (["{target}", "hi", "--temperature", "inf"], 2, "temperature"),
        (["{target}", "hi", "--draft-tokens", "many"], 2, "auto"),
        (["{target}", "hi", "--backend", "nope"], 2, "native"),
        (["{target}", "hi", "--drafter", "{drafter}", "--no-drafter"], 2, "exclude"),
        (["{target}", "hi", "--drafter", "{target}"], 2, "file of its own"),
        (["{target}", "hi", "--max-tokens", "1000000"], 2, "asked for"),
        (["{drafter}", "hi"], 6, "is a drafter"),
        (["/missing.gguf", "hi"], 6, "no file"),
        (["{folder}", "hi"], 6, "not a file"),
    ],
)
def test_errors(
    endless_pair: Pair, arguments: list[str], code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    places = {"target": endless_pair.target, "drafter": endless_pair.drafter, "folder": endless_pair.target.parent}
    words = [word.format(**places) for word in arguments]
    done = advisor("run", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    document = json.loads(advisor("run", *words, "--json").stdout)
    assert set(document["error"]) == {"code", "message", "hint", "command"}


def test_a_drafter_of_another_model(endless_pair: Pair, tmp_path: Path) -> None:
    wrong = tmp_path / "other.gguf"
    random_pair.write_drafter(wrong, backbone=1536)
    done = advisor("run", endless_pair.target, "hi", "--drafter", wrong)
    assert done.returncode == 6
    assert "1536 (E2B)" in done.stderr
    assert "128" in done.stderr


def test_a_file_that_only_llama_cpp_finds_wrong(tmp_path: Path) -> None:
    path = tmp_path / "lacking.gguf"
    random_pair.write_target(path, without="output_norm")
    done = advisor("run", path, "hi")
    assert done.returncode == 6
    assert "output_norm" in done.stderr
    assert "Traceback" not in done.stderr


@contextmanager
def answering(pair: Pair) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """A run in the middle of its answer, and its engine."""
    argv = [*ADVISOR, "run", str(pair.target), "hello", "--drafter", str(pair.drafter), "--max-tokens", "100000"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True, errors="replace", start_new_session=True)
    assert process.stdout is not None
    try:
        process.stdout.read(1)
        (child,) = psutil.Process(process.pid).children()
        yield process, child
    finally:
        process.kill()
        process.communicate()


def ended(child: psutil.Process) -> bool:
    until = time.monotonic() + WITHIN
    while time.monotonic() < until:
        if not child.is_running() or child.status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("sign", "said"),
    [
        (signal.SIGKILL, "SIGKILL"),
        (signal.SIGABRT, "SIGABRT"),
        (signal.SIGILL, "processor"),
        (signal.SIGSEGV, "SIGSEGV"),
    ],
)
def test_a_killed_engine_is_explained(endless_pair: Pair, sign: signal.Signals, said: str) -> None:
    with answering(endless_pair) as (process, child):
        child.send_signal(sign)
        _, errors = process.communicate(timeout=WITHIN)
        assert process.returncode == 6
        assert said in errors
        assert "Traceback" not in errors


def test_ctrl_c(endless_pair: Pair) -> None:
    with answering(endless_pair) as (process, child):
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=WITHIN)
        assert process.returncode == 130
        assert "Traceback" not in errors
        assert ended(child)


def test_ctrl_c_while_loading(endless_pair: Pair) -> None:
    argv = [*ADVISOR, "run", str(endless_pair.target), "hello", "--max-tokens", "100000"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    parent = psutil.Process(process.pid)
    while not (children := parent.children()):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert ended(children[0])


def test_the_engine_does_not_outlive_a_killed_parent(
    endless_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with answering(endless_pair) as (process, child):
        os.kill(process.pid, signal.SIGKILL)
        assert ended(child)
    assert not list(tmp_path.iterdir())


def test_a_reader_that_leaves(endless_pair: Pair) -> None:
    with answering(endless_pair) as (process, child):
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(WITHIN) in (0, 1)
        told = [line for line in process.stderr.read().splitlines() if not line.startswith("starting ")]
        assert told == []
        assert ended(child)


def test_demo(demo_pair: Pair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model = Model(name="demo", target=demo_pair.target, drafter=demo_pair.drafter, draft_tokens=3, context_tokens=1024)
    monkeypatch.setattr("advisor.commands.demo.pair", lambda: model)
    monkeypatch.setattr(demo, "ANSWER_TOKENS", 60)
    assert cli.run(["demo"]) == 0
    shown = capsys.readouterr().out
    for word in ("Machine", "Advice", "Plain", "Drafter", "accepted", "by position", "Result"):
        assert word in shown
    assert "times" in shown
