"""Ctrl-c at any moment: one line, 130, and nothing is left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from advisor.cli import shown_error
from advisor.console import interrupts
from advisor.errors import Interrupted, RuntimeFailed

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

MOMENTS = 40 if os.environ.get("ADVISOR_FULL") else 2
"""Of each command."""
COMMANDS = {
    ("recommend",): 0.6,
    ("run", "demo", "hello", "--max-tokens", "2000"): 2.5,
    ("launch", "demo", "--backend", "native"): 2.5,
    ("demo",): 2.5,
}
"""And seconds in which there is most to interrupt."""
MARK = "ADVISOR_TEST_INTERRUPTS"
ANSWER_S = 120.0


def ended(code: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`python -m` of a module with that code: run as a script, Python ends in another way."""
    (folder / "moment.py").write_text(code)
    return subprocess.run(
        [sys.executable, "-m", "moment", *words],
        capture_output=True, text=True, timeout=ANSWER_S, check=False, cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip


INTERRUPTING = """
import os, signal, sys
from advisor import __main__; from advisor import cli

class Moment:
    def main(self, **_):
        {body}
        return 0

cli.cli = Moment()
__main__.main()
"""
KILL = "os.kill(os.getpid(), signal.SIGINT)"


@pytest.mark.parametrize(
    "body",
    [
        KILL,
        # Where a dataclass or a named tuple is being made, CPython remembers it beyond any `except`.
        f'exec("import os, signal; {KILL}")',
        # Here it becomes a RuntimeError, up to Python 3.11.
        f'type("Made", (), dict(a=type("Part", (), dict(__set_name__=lambda *_: {KILL}))()))',
    ],
    ids=["plain", "exec", "set-name"],
)
def test_it_is_one_line_and_130(body: str, tmp_path: Path) -> None:
    done = ended(INTERRUPTING.format(body=body), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: interrupted\n")


def test_so_it_is_while_the_command_line_is_imported(tmp_path: Path) -> None:
    # The second time it is the real one that is found.
    (tmp_path / "click.py").write_text(f"import os, signal, sys\nsys.path.remove({str(tmp_path)!r})\n{KILL}\n")
    done = ended("from advisor import __main__\n__main__.main()", tmp_path, "recommend", "--json")
    assert done.returncode == 130 and done.stderr == ""
    assert json.loads(done.stdout)["error"]["code"] == "interrupted"


def test_when_all_is_done_it_comes_too_late(tmp_path: Path) -> None:
    late = "__import__('atexit').register(os.kill, os.getpid(), signal.SIGINT)"
    done = ended(INTERRUPTING.format(body=late), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_second_one_does_not_disturb_the_cleaning_up(tmp_path: Path) -> None:
    body = f"""
        try:
            {KILL}
        finally:
            try:
                {KILL}
                raise KeyError
            except KeyError:
                {KILL}
                print("clean")"""
    done = ended(INTERRUPTING.format(body=body), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "clean\n", "error: interrupted\n")


def test_who_caught_one_is_interrupted_by_the_next(tmp_path: Path) -> None:
    body = f"""
        for _ in range(3):
            try:
                {KILL}
            except KeyboardInterrupt:
                print("caught")"""
    done = ended(INTERRUPTING.format(body=body), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "caught\n" * 3, "")


def test_where_it_is_ignored_it_stays_so(tmp_path: Path) -> None:
    code = f"import os, signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{INTERRUPTING.format(body=KILL)}"
    assert ended(code, tmp_path).returncode == 0


def test_an_error_of_the_cleaning_up_is_told_as_such() -> None:
    failed = RuntimeFailed("it does not end")
    failed.__context__ = interrupts.CtrlC()
    assert shown_error(failed) is failed
    other = RuntimeError("__set_name__")
    other.__cause__ = interrupts.CtrlC()
    assert isinstance(shown_error(other), Interrupted)
    assert not isinstance(shown_error(RuntimeError("another")), Interrupted)


def marked(value: str) -> list[int]:
    """The processes that were begun with it in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


@pytest.mark.engine
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_at_any_moment(words: tuple[str, ...], tmp_path: Path) -> None:
    state = tmp_path / "state"
    for turn in range(MOMENTS):
        moment, mark = random.uniform(0, COMMANDS[words]), f"{os.getpid()}-{turn}"
        with subprocess.Popen(
            [sys.executable, "-m", "tests.cli.armed", *words],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            env={**os.environ, MARK: mark, "GEMMA_ADVISOR_STATE": str(state), "TMPDIR": str(tmp_path)},
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline() == "armed\n"
            time.sleep(moment)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=ANSWER_S)
        told = f"after {moment:.3f} s: {process.returncode}\n{said}"
        assert "Traceback" not in said, told
        if process.returncode or "error" in said:  # otherwise it was done by then
            assert process.returncode == 130, told
            assert said.splitlines()[-1] == "error: interrupted" and said.count("interrupted") == 1, told
        until = time.monotonic() + ANSWER_S
        while left := marked(mark):
            assert time.monotonic() < until, f"{told}left: {left}"
            time.sleep(0.1)
        assert not list(state.glob("*.json")), told
        assert not list(tmp_path.glob("advisor-*")), told
