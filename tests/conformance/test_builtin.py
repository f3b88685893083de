"""Every backend that comes with advisor keeps every rule, and so does the example. A new one is a line here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from advisor.running import sessions
from backends.base import Backend, Model, load
from backends.conformance import serving
from backends.ollama import address, log
from tests.conformance.example import Example
from tests.engine.conftest import FULL
from tests.fakes import ollama as fake
from tests.fakes import ollama_files as files
from tests.ollama.conftest import TAG, tagged

pytest_plugins = ["backends.conformance.plugin"]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that nobody waits for are as long as has to be."""
    if not FULL:
        monkeypatch.setattr(serving, "LONG_S", 0.5)


def needed(name: str) -> Backend:
    """A registered backend whose runtime must be there."""
    backend = load(name)
    found = backend.detect()
    if not found.available or not found.drafter:
        pytest.skip(f"{name}: {found.why_not}")
    return backend


@contextlib.contextmanager
def ollama(folder: Path) -> Iterator[Backend]:
    """Ollama on the tests' own server, with one tag to pull and a log that can be read."""
    made = fake.Ollama(log=folder / "server.log", pace_s=0.005)
    made.library.registry[TAG] = [("model", files.content(files.TARGET))]
    (folder / "server.log").touch()
    with fake.serve(made) as served, pytest.MonkeyPatch.context() as patch:
        patch.setenv(sessions.STATE, str(folder))
        patch.setenv(log.VARIABLE, str(folder / "server.log"))
        patch.setenv(address.VARIABLE, served.url)
        yield load("ollama")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("native", marks=pytest.mark.engine),
        pytest.param("example", marks=pytest.mark.engine),
        pytest.param("llama.cpp", marks=pytest.mark.llama_server),
        "ollama",
    ],
)
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    match request.param:
        case "example":
            yield Example()
        case "ollama":
            with ollama(tmp_path_factory.mktemp("ollama")) as made:
                yield made
        case name:
            yield needed(name)


@pytest.fixture(scope="module")
def conformance_model(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Model | None:
    """The embedded pair, or what the backend's own library has."""
    return tagged(tmp_path_factory.mktemp("files")) if backend.name == "ollama" else None


def test_conforms(rule: Callable[[], None]) -> None:
    rule()
