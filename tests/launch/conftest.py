"""A state folder for each test, the command line as a process, and a real llama-server where there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from advisor.errors import AdvisorError
from advisor.running import sessions
from backends.llama_cpp import binary
from tests.tools import llama_server as llama

DEMO = Path(__file__).parents[2] / "profiles" / "demo"
TIMEOUT_S = 180.0


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty state folder; whatever a test leaves running is stopped."""
    folder = tmp_path / "state"
    monkeypatch.setenv(sessions.STATE, str(folder))
    monkeypatch.setattr(sessions, "FIRST_PORT", 0)  # any free port: tests run beside one another
    monkeypatch.setattr(sessions, "LAST_PORT", -1)
    yield folder
    for session in sessions.everything():
        sessions.end(session)


@pytest.fixture
def llama_server(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A real llama-server that drafts."""
    try:
        found = llama.find()
        usable = found is not None and not binary.probe(found).unfit()
    except AdvisorError:
        found, usable = None, False
    if found is None or not usable:
        pytest.skip(f"no llama-server that drafts: `{llama.COMMAND}` builds one")
    monkeypatch.setenv(binary.VARIABLE, str(found))
    return found


def advisor(
    *words: str, timeout_s: float = TIMEOUT_S, stdin: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(
        [sys.executable, "-m", "advisor", *words],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        input=stdin,
        env={**os.environ, **environment},
        check=False,
    )


def ask(*words: str) -> dict[str, Any]:
    """Run it with --json, and read the document."""
    done = advisor(*words) if "--json" in words else advisor(*words, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)
