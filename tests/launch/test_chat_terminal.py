"""`advisor chat` in a terminal of 80x24: what is typed, ctrl-c in every place, and the row at the bottom."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from advisor.running import sessions
from tests.engine import random_pair
from tests.engine.random_pair import Pair
from tests.fakes.terminal import CTRL_C, CTRL_D, Terminal

pytestmark = [pytest.mark.engine, pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal")]

ROWS, COLUMNS = 24, 80
FOOTER = re.compile(rf"\x1b7\x1b\[{ROWS};1H\x1b\[0;2m([^\x1b]*)\x1b\[0m\x1b\[K\x1b8")
TAKEN, GIVEN_BACK = f"\x1b[1;{ROWS - 1}r", "\x1b[r"
PROMPT = r"\n> "


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A pair that never ends an answer by itself."""
    return random_pair.write(tmp_path_factory.mktemp("talker"), endless=True)


@pytest.fixture
def terminal(talker: Pair, state: Path) -> Iterator[Terminal]:
    """A conversation with it, at its first prompt."""
    argv = [sys.executable, "-m", "advisor", "chat", str(talker.target), "--context", "100000", "--backend", "native"]
    with Terminal(argv, columns=COLUMNS, rows=ROWS) as made:
        made.wait_for(PROMPT)
        made.rest()
        yield made


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal: Terminal) -> None:
    at = len(terminal.text)
    terminal.type("hello\n")
    answering = terminal.wait_for(r"answering, \d+ tokens, [\d.,]+ tokens/s", since=at)
    terminal.type(CTRL_C)
    stopped = terminal.wait_for(r"\(stopped, \d+ tokens, .*\).*" + PROMPT, since=answering)
    terminal.rest()
    terminal.type(CTRL_C)
    empty = terminal.wait_for(r"\(ctrl-d ends\).*" + PROMPT, since=stopped)
    terminal.type("/stats\n")
    counted = terminal.wait_for(r"\d+ tokens, .* of memory.*" + PROMPT, since=empty)
    terminal.type("and again\n")
    again = terminal.wait_for(r"answering, ", since=counted)
    terminal.type(CTRL_C)
    terminal.wait_for(PROMPT, since=again)
    terminal.type(CTRL_D)
    assert terminal.end() == 0
    assert "Traceback" not in terminal.text
    assert sessions.everything() == []


def test_the_last_row_is_taken_while_it_answers_and_given_back(terminal: Terminal) -> None:
    at = len(terminal.text)
    terminal.type("hello\n")
    terminal.wait_for(r"answering, .*answering, .*answering, ", since=at)
    terminal.type(CTRL_C)
    terminal.wait_for(r"\(stopped", since=at)
    shown = terminal.text[at:]
    assert shown.count(TAKEN) == 1 and shown.count(GIVEN_BACK) == 1
    rows = FOOTER.findall(shown)
    assert rows[0] == "reading ... (ctrl-c stops)" and all(len(row) < COLUMNS for row in rows)
    counts = [int(found[1]) for row in rows if (found := re.search(r"(\d+) tokens,", row))]
    assert counts == sorted(counts) and len(set(counts)) > 1, "it is live"
    after = shown[shown.index(GIVEN_BACK) :]
    assert after.startswith(f"{GIVEN_BACK}\x1b[{ROWS};1H\x1b[K\x1b8"), "the row is left empty"
    assert not FOOTER.search(after)


def test_ctrl_c_while_it_starts_leaves_nothing(talker: Pair, state: Path) -> None:
    argv = [sys.executable, "-m", "advisor", "chat", str(talker.target), "--context", "100000", "--backend", "native"]
    with Terminal(argv) as terminal:
        terminal.wait_for("target ")
        terminal.type(CTRL_C)
        assert terminal.end() == 130
        assert "Traceback" not in terminal.text and "interrupted" in terminal.plain
    assert sessions.everything() == []


def test_a_closed_terminal_ends_it_all(talker: Pair, terminal: Terminal) -> None:
    import os
    import signal

    [session] = sessions.living()
    os.kill(terminal.process.pid, signal.SIGHUP)
    terminal.end()
    assert not sessions.is_alive(session) and sessions.everything() == []
