"""A server to try things on: the tests' own, and where OLLAMA_HOST answers, a real one too."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from advisor import cli
from advisor.running import demo, sessions
from backends.base import LaunchPlan, Model, Options
from backends.ollama import Ollama, address, log
from tests.fakes import ollama as fake
from tests.fakes import ollama_files as files

TAG = "gemma4:26b-a4b-it-qat"
REAL = os.environ.get(address.VARIABLE, "")


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """State and home of its own."""
    monkeypatch.setenv(sessions.STATE, str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(address.VARIABLE, raising=False)
    monkeypatch.delenv(log.VARIABLE, raising=False)
    yield tmp_path
    for session in sessions.everything():
        sessions.end(session)


@pytest.fixture
def ollama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake.Ollama]:
    """A server with one tag to pull, and a log that can be read."""
    made = fake.Ollama(log=tmp_path / "server.log")
    made.library.registry[TAG] = [("model", files.content(files.TARGET))]
    (tmp_path / "server.log").touch()
    monkeypatch.setenv(log.VARIABLE, str(tmp_path / "server.log"))
    with fake.serve(made) as served:
        monkeypatch.setenv(address.VARIABLE, served.url)
        yield served


def written(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.gguf"
    if not path.exists():
        path.write_bytes(files.content(kind))
    return path


def tagged(folder: Path, **changes: object) -> Model:
    """A model of the library with its drafter."""
    made = Model(
        name="26b",
        target=Path("gemma-4-26B_q4_0-it.gguf"),
        drafter=written(folder, files.DRAFTER),
        draft_tokens=3,
        context_tokens=4096,
        tag=TAG,
        sampling={"temperature": 1.0, "top_p": 0.95, "top_k": 64.0},
    )
    return Model(**({name: getattr(made, name) for name in made.__struct_fields__} | changes))  # type: ignore[arg-type]


def pair(folder: Path) -> Model:
    """A target and a drafter in files."""
    return Model(
        name="toy", target=written(folder, files.TARGET), drafter=written(folder, files.DRAFTER), draft_tokens=3,
        context_tokens=2048,
    )  # fmt: skip


def planned(backend: Ollama, model: Model) -> LaunchPlan:
    return backend.plan(model, Options())


class Done(NamedTuple):
    """What a command came to."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr

    @property
    def document(self) -> Any:
        return json.loads(self.stdout)


Run = Callable[..., Done]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """The command line, in this process: what was patched holds for it, and it need not be loaded again."""

    def called(*words: str) -> Done:
        capfd.readouterr()
        return Done(cli.run(list(words)), *capfd.readouterr())

    return called


@pytest.fixture(params=["own", pytest.param("real", marks=pytest.mark.ollama_server)])
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """A pair to run, on the tests' own server and on a real one."""
    if request.param == "own":
        request.getfixturevalue("ollama")
        yield pair(tmp_path)
        return
    if not REAL or address.version(address.parse(REAL)) is None:
        pytest.skip("no Ollama answers: set OLLAMA_HOST to one")
    monkeypatch.setenv(address.VARIABLE, REAL)
    yield demo.pair()
