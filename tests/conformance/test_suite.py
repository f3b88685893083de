"""The command, the plugin in somebody else's tests, and what is no pass: waived, refused, absent, too slow."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from advisor.machine import Availability
from backends.base import UNWATCHED, Backend, Endpoint, LaunchPlan, Model, Watch
from backends.conformance import RULES, Bench, Result, verdict
from tests.conformance.relay import Relay

ROOT = Path(__file__).parents[2]


class Foreign(Relay):
    """Reads another format than that of the embedded pair."""

    def refusal(self, model: Model) -> str:
        return f"{model.target.name} is a GGUF; it reads safetensors"


class Absent(Relay):
    def detect(self) -> Availability:
        return Availability(name=self.name, available=False, why_not="it is not installed")


class Excused(Absent):
    waived: Mapping[str, str] = {"plan-json": "its plans are songs"}


class Hanging(Relay):
    def plan(self, *_: object) -> None:  # type: ignore[override]
        time.sleep(30)


class Loading(Relay):
    """Starts a process, and never gets any further."""

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
        Path(os.environ["LOADING"]).write_text(str(process.pid))
        time.sleep(60)
        raise AssertionError


def tried(backend: Backend, limit_s: float = 30) -> dict[str, Result]:
    with Bench(backend, limit_s=limit_s) as bench:
        return {result.name: result for result in map(bench.result, RULES)}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, timeout=120, cwd=ROOT, check=False
    )


@pytest.mark.parametrize(("kind", "why"), [(Foreign, "it reads safetensors"), (Absent, "it is not installed")])
def test_what_cannot_be_started_is_no_pass(kind: type[Backend], why: str) -> None:
    results = tried(kind())
    assert results["start"].status == results["stop-frees"].status == "skip"
    assert why in results["start"].reason and why in results["stop-frees"].reason
    assert verdict(results.values()) == "untried"


def test_a_waived_rule_is_skipped_with_its_reason() -> None:
    result = tried(Excused())["plan-json"]
    assert result.status == "skip" and result.reason.endswith("its plans are songs")


def test_what_hangs_fails_and_the_rest_is_tried() -> None:
    results = tried(Hanging(), limit_s=0.2)
    assert results["plan-pure"].status == "fail" and results["plan-pure"].reason == "not done within 0.2 s"
    assert results["start"].status == "fail"
    assert results["stop-gone"].status == "skip" and "it took too long" in results["stop-gone"].reason


def test_the_command_says_each_rule_and_ends_with_4_where_nothing_ran() -> None:
    done = run("advisor", "backends", "check", "tests.conformance.test_suite:Excused")
    assert done.returncode == 4, done.stderr
    assert "SKIP  plan-json" in done.stdout and "> waived by the backend: its plans are songs" in done.stdout
    assert "PASS  detect-safe" in done.stdout and "relay could not be tried:" in done.stdout


def test_its_json_is_one_document_and_a_broken_rule_ends_with_6() -> None:
    done = run("advisor", "backends", "check", "tests.conformance.broken:Raising", "--json")
    assert done.returncode == 6, done.stderr
    document = json.loads(done.stdout)
    assert document["schema"] == "advisor.backends.check/1"
    assert document["verdict"] == "fails" and document["model"] == "demo"
    rules = {rule["name"]: rule for rule in document["rules"]}
    assert list(rules) == [rule.__name__.replace("_", "-") for rule in RULES]
    assert rules["detect-safe"]["status"] == "fail" and "nonexistent" in rules["detect-safe"]["reason"]
    assert all(rule["demand"].endswith(".") for rule in rules.values())


def test_ctrl_c_leaves_nothing_running(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    command = [sys.executable, "-m", "advisor", "backends", "check", "tests.conformance.test_suite:Loading"]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "LOADING": str(note)}) as checking:
        until = time.monotonic() + 60
        while not (note.exists() and note.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        checking.send_signal(signal.SIGINT)
        assert checking.wait(60) == 130
    with contextlib.suppress(psutil.NoSuchProcess):  # or ended, and nobody has collected it yet
        assert psutil.Process(int(note.read_text())).status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["natve"], 2, "native"),
        (["no.such.module:Backend"], 4, "cannot be loaded"),
        (["native", "--drafter", "pyproject.toml"], 2, "--model"),
        (["native", "--model", "pyproject.toml"], 6, "pyproject.toml"),
    ],
)
def test_wrong_words_say_what_is_wrong(words: list[str], code: int, said: str) -> None:
    done = run("advisor", "backends", "check", *words)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


def test_in_somebody_elses_tests(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import pytest\n"
        "from tests.conformance.broken import Wordless\n"
        "pytest_plugins = ['backends.conformance.plugin']\n"
        "@pytest.fixture(scope='module')\n"
        "def backend():\n    return Wordless()\n"
        "def test_conforms(rule):\n    rule()\n"
    )
    done = run("pytest", "-rA", "-k", "detect or plan", "-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path))
    assert done.returncode == 1, done.stdout
    assert "1 failed, 4 passed, 15 deselected" in done.stdout
    # What else is in such a line depends on pytest's version.
    failed = next(line for line in done.stdout.splitlines() if line.startswith("FAILED"))
    assert "test_mine.py::test_conforms[plan-json]" in failed
    assert "it has no command for a human" in done.stdout


def test_the_example_is_as_short_as_it_says() -> None:
    assert len((ROOT / "tests" / "conformance" / "example.py").read_text().splitlines()) <= 60


def test_nobody_else_imports_it() -> None:
    code = "import sys; from advisor.cli import run; run(['backends']); print(*sys.modules, sep=chr(10))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = set(done.stdout.split())
    assert "advisor.commands.backends" in loaded
    assert not {name for name in loaded if name == "pytest" or name.startswith("backends.conformance")}
