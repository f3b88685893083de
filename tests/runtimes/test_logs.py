"""What is read of a log: its end, whatever it holds, and nothing of one that is not there."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from backends import logs


def test_the_end_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first\n" + b"x" * logs.TAIL + b"\nlast\n")
    found = logs.tail(log)
    assert "first" not in found
    assert logs.lines(found)[-1] == "last"


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\xff\xfe said\n\n  \n")
    assert logs.lines(logs.tail(log)) == ["\ufffd\ufffd said"]


def test_none_there(tmp_path: Path) -> None:
    assert logs.tail(tmp_path / "none") == ""
    assert logs.tail(tmp_path) == ""
    assert logs.lines("") == []


def test_the_last_assertion_counts() -> None:
    text = "GGML_ASSERT(a) failed\nnoise\n x.cpp:7: GGML_ASSERT(b) failed\n#1 0x7f in main"
    assert logs.asserted(text) == "x.cpp:7: GGML_ASSERT(b) failed"
    assert logs.asserted("all was well") == ""


@pytest.mark.parametrize(("code", "name"), [(-9, "SIGKILL"), (-int(signal.SIGTERM), "SIGTERM"), (-99, "signal 99")])
def test_signals_have_names(code: int, name: str) -> None:
    assert logs.ended_by(code) == name
