"""What holds for every command: help, exit codes, one JSON document, pipes, no tracebacks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from advisor import cli
from advisor.console import streams
from advisor.errors import AdvisorError, Interrupted

FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
PROFILES = Path(__file__).parents[2] / "profiles"


def advisor(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "advisor", *argv],
        capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_has_a_sentence_and_fits_the_terminal(name: str) -> None:
    shown = advisor(name, "--help", COLUMNS="80")
    assert shown.returncode == 0
    assert shown.stdout.startswith(f"Usage: advisor {name}")
    assert all(len(line) <= 80 for line in shown.stdout.splitlines())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_unknown_option_is_usage(name: str) -> None:
    shown = advisor(name, "--no-such-option")
    assert shown.returncode == 2
    assert "--no-such-option" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize(
    ("argv", "near"),
    [
        (["recomend"], "recommend"),
        (["recommend", "--use-case", "codng"], "coding"),
        (["recommend", "--model", "27b"], "26b"),
        (["recommend", "--simulate", "RTX 409O"], "RTX 4090"),
        (["recommend", "--backend", "olama"], "ollama"),
        (["models", "e2"], "e2b"),
    ],
)
def test_a_wrong_name_gets_the_nearest(argv: list[str], near: str) -> None:
    shown = advisor(*argv)
    assert shown.returncode == 2
    assert near in shown.stderr


@pytest.mark.parametrize(
    ("argv", "code", "status"),
    [
        (["recommend", "--json", "--simulate", "cpu, 1GB"], "nothing_fits", 3),
        (["recommend", "--json", "--nonsense"], "usage", 2),
        (["run", "--json", "missing.gguf", "hi"], "runtime", 6),
        (["run", "--json", "demo"], "usage", 2),
    ],
)
def test_errors_are_one_json_document(argv: list[str], code: str, status: int) -> None:
    shown = advisor(*argv)
    assert shown.returncode == status
    error = json.loads(shown.stdout)["error"]
    assert error["code"] == code
    assert set(error) == {"code", "message", "hint", "command"}


def test_a_reader_that_leaves_is_no_failure() -> None:
    shown = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m advisor models | head -1"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("recommend --simulate M1 >&-", 0, ""),
        ("recommend --simulate M1 --json >&-", 0, ""),
        ("recommend --nonsense 2>&-", 2, ""),
        ("run --json demo - <&-", 2, "the prompt is empty"),
        pytest.param("schema >/dev/full", 6, "No space left on device", marks=FULL),
        pytest.param("recommend --simulate M1 --json >/dev/full", 6, "No space left on device", marks=FULL),
        pytest.param("recommend --json --nonsense >/dev/full", 2, "--nonsense", marks=FULL),
        pytest.param("recommend --nonsense 2>/dev/full", 2, "", marks=FULL),
        pytest.param("recommend --json --nonsense >/dev/full 2>&1", 2, "", marks=FULL),
    ],
)
def test_streams_that_are_closed_or_full(line: str, status: int, said: str) -> None:
    shown = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m advisor {line}"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert shown.returncode == status
    assert said in shown.stdout + shown.stderr
    assert "defect" not in shown.stdout + shown.stderr
    assert "Traceback" not in shown.stderr
    assert "Exception ignored" not in shown.stderr


@pytest.mark.parametrize(
    "argv",
    [["ps"], ["stop", "--all"], ["recommend", "--simulate", "M1"], ["run", "demo", "hello", "--max-tokens", "2"]],
)
def test_a_home_that_cannot_be_written(argv: list[str]) -> None:
    away = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "GEMMA_ADVISOR_STATE"), os.devnull)
    shown = advisor(*argv, "--json", **away)
    assert shown.returncode == 0, shown.stdout
    assert json.loads(shown.stdout)["schema"].startswith(f"advisor.{argv[0]}")


def test_what_fails_after_the_document_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    @click.option("--json", is_flag=True)
    @click.pass_context
    def served(ctx: click.Context, **_: bool) -> None:
        click.echo('{"base_url": ""}')
        ctx.meta[streams.ANSWERED] = True
        raise Interrupted("interrupted")

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: served)
    assert cli.run(["launch", "--json"]) == Interrupted.exit_code
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"base_url": ""}
    assert "interrupted" in shown.err


def test_no_color() -> None:
    assert "\x1b" not in advisor("recommend", "--simulate", "cpu, 1GB", NO_COLOR="1", FORCE_COLOR="1").stderr


def test_a_defect_is_said_and_not_thrown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.delenv("ADVISOR_DEBUG", raising=False)
    monkeypatch.setattr(cli.cli, "main", broken)
    assert cli.run(["detect"]) == AdvisorError.exit_code
    assert "ZeroDivisionError: division by zero" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("id: e2b", "id: e2b\nunknown_key: 1", "unknown_key"),
        ("licence: ", "licences: ", "licence"),
        ("bytes: 2620370976", "bytes: 24 GB/s", "quants"),
    ],
)
def test_a_broken_profile_names_file_and_key(old: str, new: str, said: str, tmp_path: Path) -> None:
    shutil.copytree(PROFILES, tmp_path / "profiles", ignore=shutil.ignore_patterns("demo", "__pycache__"))
    shutil.copytree(PROFILES.parent / "advisor", tmp_path / "advisor", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PROFILES.parent / "backends", tmp_path / "backends", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "profiles" / "models" / "e2b.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    shown = subprocess.run(
        [sys.executable, "-m", "advisor", "recommend", "--simulate", "cpu, 16GB"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=False,
    )  # fmt: skip
    assert shown.returncode == 2
    assert "e2b.yaml" in shown.stderr
    assert said in shown.stderr
