"""Progress: rates and the time left as they are now, one line on a terminal, few in a pipe, numbers for others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from advisor.console import progress
from advisor.console.progress import Pace, Transfer, clock
from advisor.files import store
from tests.fakes.hub import Hub
from tests.fakes.terminal import Terminal
from tests.store.conftest import REPO
from tests.store.test_store import Pair

MB = 1_000_000


def steps(*marks: tuple[float, int], size: int | None = 100 * MB, what: str = "x.gguf") -> list[Transfer]:
    """What is shown for (seconds, bytes done)."""
    shown: list[Transfer] = []
    times = iter([seconds for seconds, _ in marks])
    pace = Pace(shown.append, lambda: next(times))
    for _, done in marks:
        pace(what, done, size)
    return shown


def test_rate_and_time_left() -> None:
    last = steps((0, 0), (1, 10 * MB), (2, 20 * MB))[-1]
    assert last.bytes_per_s == pytest.approx(10 * MB) and last.seconds_left == pytest.approx(8)
    assert last.words == "x.gguf  20 MB of 100 MB  20%  10 MB/s  0:08 left"
    assert steps((0, 5 * MB), size=None)[0].words == "x.gguf  5 MB"


def test_what_was_there_before_is_no_speed() -> None:
    """A download that goes on at 90 MB has not fetched them now."""
    assert steps((0, 90 * MB), (1, 91 * MB))[-1].bytes_per_s == pytest.approx(MB)


def test_only_the_last_seconds_count() -> None:
    slow = [(float(second), second * MB) for second in range(40)]
    fast = [(40.0 + second, (40 + 10 * second) * MB) for second in range(12)]
    assert steps(*slow, *fast, size=10_000 * MB)[-1].bytes_per_s > 8 * MB


def test_another_file_or_another_beginning_starts_anew() -> None:
    shown: list[Transfer] = []
    times = iter(range(10))
    pace = Pace(shown.append, lambda: next(times))
    for what, done in (("a", 0), ("a", 50 * MB), ("b", 0), ("b", 1 * MB), ("b", 0)):
        pace(what, done, 100 * MB)
    assert [transfer.bytes_per_s for transfer in shown] == [0, 50 * MB, 0, 1 * MB, 0]


@pytest.mark.parametrize(("seconds", "words"), [(7.9, "0:07"), (725, "12:05"), (9000, "2:30 h"), (360_000, "100:00 h")])
def test_clock(seconds: float, words: str) -> None:
    assert clock(seconds) == words


def test_a_callback_gets_every_byte(hub: Hub, wanted: Pair) -> None:
    """As a window would use it: numbers, no text, nothing printed."""
    shown: list[Transfer] = []
    store.fetch(store.locate(wanted), Pace(shown.append))
    assert [each.done for each in shown if each.done == each.size] == [each.size for each in wanted]
    assert all(0 < each.done <= (each.size or 0) and each.bytes_per_s >= 0 for each in shown)


FETCH = """
import sys
from advisor.console import progress; from advisor.files import store
from advisor.commands.launch import fetch
from advisor.running.order import Setup
from advisor.files.store import Wanted
from backends.base import Model, Options
from pathlib import Path
progress.PATIENCE_S, progress.REPEAT_S = 0.1, float(sys.argv[5])
wanted = Wanted(role="target", repo=sys.argv[1], file=sys.argv[2], size=int(sys.argv[3]), width=int(sys.argv[4]))
files = store.locate([wanted])
fetch(Setup(backend="x", model=Model(name="12b", target=Path("x")), options=Options(), drafter_reason="", files=files,
            licence="Apache-2.0"))
"""


def argv(wanted: Pair, repeat_s: float) -> list[str]:
    meant = wanted[0]
    return [sys.executable, "-c", FETCH, REPO, meant.file, str(meant.size), str(meant.width), str(repeat_s)]


def test_plain_lines_in_a_pipe(hub: Hub, wanted: Pair, home: Path) -> None:
    hub.bytes_per_s = 10 << 20
    environment = {**os.environ, "HOME": str(home / "home"), "GEMMA_ADVISOR_STATE": str(home / "state")}
    done = subprocess.run(argv(wanted, 0.5), capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "" and "\x1b" not in done.stderr and "\r" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if " left" in line]
    assert 1 <= len(lines) <= 4
    assert all(
        re.fullmatch(r"\S+\.gguf  [\d.]+ MB of 13.9 MB  \d+%  [\d.]+ MB/s  \d+:\d\d left", line) for line in lines
    )


def test_one_line_on_a_terminal(hub: Hub, wanted: Pair, home: Path) -> None:
    hub.bytes_per_s = 10 << 20
    environment = {"HOME": str(home / "home"), "GEMMA_ADVISOR_STATE": str(home / "state")}
    with Terminal(argv(wanted, 0.5), columns=60, environment=environment) as terminal:
        assert terminal.end() == 0
    assert terminal.text.count("\r\x1b[K") >= 3, "rewritten in place"
    drawn = re.findall(r"\x1b\[K([^\r\n]*)", terminal.text)
    assert all(len(line) < 60 for line in drawn) and drawn[-1] == "", "never wraps, and leaves an empty line"
    assert progress.REDRAW_S <= 0.25
