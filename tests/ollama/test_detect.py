"""Where the server is, whether it runs, what its version can do, and what it has."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from advisor.commands.detect import backend_text
from advisor.doctor import checks
from advisor.errors import NoBackend, UsageError
from backends.base import Endpoint
from backends.ollama import Ollama, address, versions
from tests.fakes import ollama as fake
from tests.fakes import ollama_files as files
from tests.ollama.conftest import TAG, planned, tagged
from tests.ollama.test_faults import attach, silent


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        (":8000", "http://127.0.0.1:8000"),
        ("box.lan", "http://box.lan:11434"),
        ('"192.168.1.20:11435"', "http://192.168.1.20:11435"),
        ("http://box.lan", "http://box.lan:80"),
        ("https://box.lan/ollama/", "https://box.lan:443/ollama"),
        ("::1", "http://[::1]:11434"),
        ("[fe80::2]:8000", "http://[fe80::2]:8000"),
        ("http://[fe80::2]", "http://[fe80::2]:80"),
    ],
)
def test_addresses_as_ollamas_own_programs_read_them(given: str, url: str) -> None:
    from ollama._client import _parse_host

    found = address.parse(given)
    assert found.url == url
    if given.startswith("::"):
        return  # theirs asks for brackets
    theirs = _parse_host(given.strip('"'))
    assert found.url == theirs.replace("0.0.0.0", "127.0.0.1").replace("//:", "//127.0.0.1:")


@pytest.mark.parametrize("given", ["box:port", "ftp://box", "http://box:99999999"])
def test_what_is_no_address(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no address"):
        address.parse(given)
    monkeypatch.setenv(address.VARIABLE, given)
    assert "no address" in str(Ollama().detect().why_not)


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("localhost", True), ("[::1]", True), ("192.168.1.20", False)]
)
def test_what_is_on_this_machine(host: str, local: bool) -> None:
    assert address.parse(host).local is local


@pytest.mark.parametrize(
    ("version", "available", "drafter", "words", "features"),
    [
        ("0.19.0", False, False, "does not know Gemma 4", ()),
        ("0.23.1", True, False, "0.30.9 or newer", ("gemma4",)),
        ("0.30.5", True, False, "0.30.9 or newer", ("gemma4", "12b")),
        ("0.30.9", True, True, "0.32.7 is advised", ("gemma4", "12b", "drafter")),
        ("0.32.7", True, True, "", ("gemma4", "12b", "drafter", "drafter-advised")),
        ("0.35.0-rc2", True, True, "", ("gemma4", "12b", "drafter", "drafter-advised")),
        ("0.0.0", True, True, "", ("gemma4", "12b", "drafter", "drafter-advised")),
    ],
)
def test_what_a_version_can_do(  # noqa: PLR0917
    ollama: fake.Ollama, version: str, available: bool, drafter: bool, words: str, features: tuple[str, ...]
) -> None:
    ollama.version = version
    found = Ollama().detect()
    assert (found.available, found.version, found.drafter) == (available, version, drafter)
    assert words in str(found.why_not) if words else found.why_not is None
    assert bool(words) == bool(found.hint)
    assert set(features) == set(found.features) - {"mlx-mtp"}


def test_every_place_says_what_a_version_lacks(ollama: fake.Ollama) -> None:
    """What an update would bring is never a hint without its reason."""
    ollama.version = "0.30.9"
    found = Ollama().detect()
    assert "with Gemma's drafter; this Ollama (0.30.9) may skip drafting" in backend_text(found)
    check = checks._backend(found)
    assert check.status == "warn" and "may skip drafting" in check.message and "ollama.com" in check.mend


def test_mlx_tags_draft_on_macs_only() -> None:
    assert "mlx-mtp" in versions.features("0.31.0", "darwin")
    assert "mlx-mtp" not in versions.features("0.30.9", "darwin")
    assert "mlx-mtp" not in versions.features("0.35.0", "linux")


def test_installed_but_not_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(address.VARIABLE, "127.0.0.1:9")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = Ollama().detect()
    assert not found.available and "not installed" in str(found.why_not) and "ollama.com" in str(found.hint)
    with pytest.raises(NoBackend, match="not installed"):
        Ollama().serve()
    program(tmp_path / "bin", "exit 3")
    found = Ollama().detect()
    assert "it is installed, but no server answers" in str(found.why_not) and found.hint == "start it: ollama serve"
    with pytest.raises(NoBackend, match="does not come up") as caught:
        Ollama().serve()
    assert "log is" in caught.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for the program")
def test_the_server_is_started_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with fake.serve() as once:
        port = once.url.rpartition(":")[2]
    monkeypatch.setenv(address.VARIABLE, f"127.0.0.1:{port}")
    script = (
        "import os, time; from tests.fakes.ollama import serve; host, port = os.environ['OLLAMA_HOST'].split(':')\n"
        "print('listening', os.getpid(), flush=True)\nwith serve(port=int(port)): time.sleep(30)"
    )
    program(tmp_path / "bin", f'[ "$1" = serve ] && exec {sys.executable} -c "{script}"')
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    backend = Ollama()
    backend.serve()
    try:
        assert backend.detect().available
    finally:
        said = next((tmp_path / "state" / "logs").glob("ollama-serve.log")).read_text()
        os.kill(int(said.split()[1]), 9)


def test_detection_is_quick_and_imports_no_library(ollama: fake.Ollama) -> None:
    script = (
        "import sys, time; from backends.ollama import Ollama; begin = time.process_time(); found = Ollama().detect()\n"
        "heavy = [name for name in ('ollama', 'httpx', 'pydantic') if name in sys.modules]\n"
        "print(found.available, time.process_time() - begin, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                          env={**os.environ, address.VARIABLE: ollama.url})  # fmt: skip
    available, seconds, imported = done.stdout.split(maxsplit=2)
    assert available == "True" and imported.strip() == "[]" and float(seconds) < 0.2


def test_a_host_that_swallows_everything_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent_one:
        monkeypatch.setenv(address.VARIABLE, f"127.0.0.1:{silent_one.getsockname()[1]}")
        since = time.monotonic()
        assert not Ollama().detect().available
        assert time.monotonic() - since < 20, "not for as long as it keeps silent"
        url = f"http://127.0.0.1:{silent_one.getsockname()[1]}/v1"
        slow = Endpoint(base_url=url, model="x", backend="ollama", pid=0, name="x")
        assert not Ollama().gone(slow), "it may be computing"


def test_what_it_has(ollama: fake.Ollama, tmp_path: Path) -> None:
    backend = Ollama()
    attach(ollama, "theirs", files.DRAFTER)
    endpoint = backend.start(planned(backend, tagged(tmp_path)))
    held = {each.name: each for each in backend.held()}
    assert held[TAG].drafter is False and held[TAG].quant == "Q8_0"
    assert held["theirs:latest"].drafter is True and not held["theirs:latest"].loaded
    ours = held[f"{endpoint.model}:latest"]
    assert ours.drafter and ours.loaded and ours.size > held[TAG].size


def test_twelve_needs_a_newer_one(ollama: fake.Ollama, tmp_path: Path) -> None:
    ollama.version = "0.30.3"
    backend = Ollama()
    model = tagged(tmp_path, name="12b", drafter=None, draft_tokens=0)
    with pytest.raises(NoBackend, match=r"cannot run 12b; 0\.30\.5"):
        backend.prepare(planned(backend, model), silent)


def program(folder: Path, script: str) -> None:
    """Something called `ollama`."""
    folder.mkdir(exist_ok=True)
    path = folder / "ollama"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
