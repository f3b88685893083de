"""The licence of a model is shown before its first download, and not again."""

from __future__ import annotations

from pathlib import Path

import pytest

from advisor.commands import launch
from advisor.files import store
from advisor.files.store import Wanted
from advisor.running import licences, sessions
from advisor.running.order import Setup
from backends.base import Model, Options
from tests.fakes.hub import Fault, Hub
from tests.store.conftest import REPO


def setup(files: tuple[store.File, ...], model: str = "12b") -> Setup:
    return Setup(backend="native", model=Model(name=model, target=Path("x")), options=Options(), drafter_reason="",
                 files=files, licence="Apache-2.0")  # fmt: skip


def licence_lines(made: Setup) -> list[str]:
    return [line for line in launch.file_lines(made) if "Apache-2.0" in line]


def test_shown_once_for_each_model(
    hub: Hub,
    wanted: tuple[Wanted, Wanted],
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(sessions.STATE, str(home / "state"))
    made = setup(store.locate(wanted))
    assert all(len(line) <= 80 for line in launch.file_lines(made) if "to fetch" not in line)
    assert licence_lines(made) and licence_lines(made), "a dry run remembers nothing"
    hub.faults = [Fault(status=403)]
    with pytest.raises(Exception, match="may not be read"):
        launch.fetch(made)
    assert "licence   Apache-2.0" in capsys.readouterr().err
    assert store.missing_bytes(made.files), "the download goes on"
    launch.fetch(made)
    assert "licence" not in capsys.readouterr().err
    other = setup(store.locate([Wanted(role="target", repo=REPO, file="x.gguf", size=1, width=1)], strict=False), "31b")
    assert licence_lines(other), "another model has not been shown"


def test_where_nothing_can_be_written_it_is_shown_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sessions.STATE, str(home / "state"))
    (home / "state").mkdir()
    (home / "state" / "licences").mkdir()
    licences.shown("12b", "Apache-2.0")
    assert licences.is_new("12b", "Apache-2.0")
    (home / "state" / "licences").rmdir()
    (home / "state" / "licences").write_bytes(b"\xff\xfe")
    assert licences.is_new("12b", "Apache-2.0")
