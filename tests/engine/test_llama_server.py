"""The tool that gets a llama-server: found where there is one, built once where there is none, whole or not at all."""

from __future__ import annotations

import concurrent.futures
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from advisor.errors import AdvisorError
from backends.llama_cpp import binary
from backends.native import compile as wheel
from tests.tools import llama_server


class Builder:
    """Stands in for pip, CMake and Ninja. `fails`: the word of the step that does not work."""

    def __init__(self, fails: str = "") -> None:
        self.steps: list[str] = []
        self.fails = fails

    def __call__(self, argv: Sequence[str], log: Path) -> None:
        step = next(word for word in ("download", "-S", "--build", "--version") if word in argv)
        self.steps.append(step)
        if step == self.fails:
            raise SystemExit("no compiler")
        if step == "download":
            self.package(Path(argv[argv.index("-d") + 1]))
        if step == "--build":
            time.sleep(0.1)
            program = Path(argv[argv.index("--build") + 1]) / "bin" / binary.PROGRAM
            program.parent.mkdir(parents=True)
            program.touch(mode=0o755)

    @staticmethod
    def package(folder: Path) -> None:
        inside = folder / "package"
        (inside / "vendor" / "llama.cpp").mkdir(parents=True)
        with tarfile.open(folder / "package.tar.gz", "w:gz") as archive:
            archive.add(inside, "package")
        (inside / "vendor" / "llama.cpp").rmdir()
        (inside / "vendor").rmdir()
        inside.rmdir()


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with nothing in it, and nothing installed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(binary, "find", lambda: None)
    monkeypatch.setattr(llama_server, "tool", lambda name, *_: name)
    return tmp_path


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*") if file.is_file())


def test_two_builders_build_once(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_server, "run", builder := Builder())
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = {future.result() for future in [pool.submit(llama_server.get) for _ in range(4)]}
    assert builder.steps == ["download", "-S", "--build", "--version"]
    assert found == {llama_server.find()}
    assert files(empty) == ["build.log", binary.PROGRAM, "lock"]


@pytest.mark.parametrize("fails", ["download", "-S", "--build", "--version"])
def test_a_build_that_fails_leaves_nothing(empty: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    monkeypatch.setattr(llama_server, "run", Builder(fails))
    with pytest.raises(SystemExit):
        llama_server.get()
    assert llama_server.find() is None
    assert files(empty) == ["build.log", "lock"]


def test_other_flags_are_another_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=ON")
    with_cuda = llama_server.shelf()
    monkeypatch.delenv("CMAKE_ARGS")
    assert with_cuda != llama_server.shelf() != wheel.shelf(wheel.VERSION)


def test_the_installed_one_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "mine"
    program.touch(mode=0o755)
    monkeypatch.setenv(binary.VARIABLE, str(program))
    assert llama_server.get() == program
    monkeypatch.setenv(binary.VARIABLE, str(tmp_path))
    with pytest.raises(AdvisorError, match="no program"):
        llama_server.get()


def test_a_step_that_fails_shows_its_end(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    with pytest.raises(SystemExit, match="compiler"):
        llama_server.run(["sh", "-c", "echo '[1/2] compiling'; echo missing.h >&2; exit 3"], log)
    assert log.read_text() == "[1/2] compiling\nmissing.h\n"
    assert "50%" in (said := capfd.readouterr().err)
    assert "missing.h" in said
