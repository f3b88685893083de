"""`advisor doctor`: every check with its remedy, and reports that replay and say nothing of who made them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click.testing
import msgspec
import pytest

from advisor import cli
from advisor.commands import doctor
from advisor.doctor import builds, checks, privacy
from advisor.files import store
from advisor.hardware import detection, simulate
from advisor.hardware.probes.host import Findings, Replay
from advisor.knowledge import catalog
from advisor.machine import Availability, Cpu, Gpu, Problem, Vendor
from advisor.running import sessions
from backends.llama_cpp import LlamaCpp
from backends.native import build

NAME, HOST = "wilhelmina", "wilhelminas-thinkpad"
SERIAL = "0123456789abcdef"
UUID = "12345678-9abc-def0-1234-56789abcdef0"
SERVER = f"""#!/bin/sh
case "$1" in
--version) echo "version: 11400 (0c1e570)"; echo "built for {HOST} by {NAME}" ;;
--list-devices) echo "Available devices:"; echo "  CUDA0: NVIDIA RTX 4090 (24080 MiB, 23500 MiB free)" ;;
--help) echo "--model-draft --spec-type draft-mtp  --cache DIR (default: $HOME/.cache/llama.cpp)" ;;
esac
"""
SMI = f"""#!/bin/sh
case "$*" in
*-L*) echo "GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-{UUID})" ;;
*) echo "0, NVIDIA GeForce RTX 4090, 24564, 23000, 580.1"; echo "Serial Number : {SERIAL}" ;;
esac
"""


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def planted(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who is called something, on a machine that is called something."""
    home = tmp_path / "home" / NAME
    server = script(home / "my builds" / "llama-server", SERVER)
    script(home / "bin" / "nvidia-smi", SMI)
    return {
        "HOME": str(home),
        "USER": NAME,
        "LOGNAME": NAME,
        "HOSTNAME": HOST,
        "LLAMA_SERVER": str(server),
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": str(home / ".cache"),
        "HF_HOME": str(home / "models"),
        "OLLAMA_HOST": f"http://{NAME}@192.168.178.20:11434",
        sessions.STATE: str(home / "state"),
    }


def report(planted: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "advisor", "doctor", *words],
        capture_output=True, text=True, timeout=120, env={**os.environ, **planted}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.engine
@pytest.mark.parametrize("words", [(), ("--json",), ("--raw",)])
def test_nothing_tells_who_made_it(planted: dict[str, str], tmp_path: Path, words: tuple[str, ...]) -> None:
    text = report(planted, *words).lower()
    for secret in (NAME, HOST, str(tmp_path), SERIAL, UUID, "192.168.178.20"):
        assert secret.lower() not in text, secret
    assert "~/my builds/llama-server" in text, "what is not secret is still there"


@pytest.mark.engine
def test_raw_is_what_was_read_and_printed(planted: dict[str, str]) -> None:
    found: dict[str, Any] = json.loads(report(planted, "--raw"))
    assert found["schema"] == "advisor.raw/1"
    assert set(found["printed"]) >= {"llama.cpp", "native", "ollama"}
    llama = found["printed"]["llama.cpp"]
    assert list(llama) == [f"'~/my builds/llama-server' {word}" for word in ("--version", "--list-devices", "--help")]
    assert "version: 11400" in " ".join(llama.values()) and "24080 MiB" in " ".join(llama.values())
    assert "~/.cache/llama.cpp" in " ".join(llama.values())
    [native] = found["printed"]["native"].values()
    assert "system info CPU" in native and "libggml" in native.lower()
    assert found["findings"]["files"]["/proc/cpuinfo"], "every probe, word for word"
    replayed = detection.detect(host=Replay(msgspec.convert(found["findings"], Findings)), backends=False)
    here = detection.detect(backends=False)
    assert (replayed.cpu, replayed.memory.total_bytes) == (here.cpu, here.memory.total_bytes)


@pytest.mark.engine
def test_each_check_has_a_status_and_what_mends_it(planted: dict[str, str]) -> None:
    document: dict[str, Any] = json.loads(report(planted, "--json"))
    tried = {check["name"]: check for check in document["checks"]}
    machine = ("python", "cpu probe", "memory probe", "disk", "memory", "hub")
    runtimes = ("llama.cpp", "llama.cpp decodes", "native", "native build", "native decodes")
    for name in (*machine, *runtimes, "state folder", "cache folder", "models folder"):
        assert name in tried
    assert tried["native decodes"]["status"] == tried["native build"]["status"] == "pass"
    assert tried["llama.cpp decodes"]["status"] == "fail", "the planted one is no server"
    for check in document["checks"]:
        assert check["status"] == "pass" or check["mend"] or check["command"] or "probe" in check["name"], check


# ---- Builds


def printed(*names: str) -> builds.Printed:
    said = " | ".join(f"{name} = 1" for name in names)
    return builds.Printed(text=f"llama-cpp-python 1\nsystem info CPU : {said} | LLAMAFILE = 1 | ", code=0)


def processor(*features: str) -> Cpu:
    return Cpu(name="x", cores=2, threads=2, features=features)


def test_instruction_sets_that_are_missing_are_found_without_dying() -> None:
    good = builds.instructions(printed("AVX", "AVX2"), processor("avx", "avx2", "avx512f"))
    assert good.status == "pass" and "avx512f would be there too" in good.message
    bad = builds.instructions(printed("AVX2", "AVX512", "AMX_INT8"), processor("avx2"))
    assert bad.status == "fail" and "avx512f, amx_int8, which this processor does not have" in bad.message
    assert "-DGGML_NATIVE=OFF" in bad.command
    assert builds.instructions(printed("AVX512"), processor()).status == "pass", "nothing is known of it"


def test_a_build_that_dies_while_loading_is_a_finding() -> None:
    died = builds.ran((sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGILL)"))
    found = builds.instructions(died, processor("avx2"))
    assert found.status == "fail" and "SIGILL" in found.message and found.command
    failed = builds.ran((sys.executable, "-c", "import no_such_module_anywhere"))
    assert "No module named" in builds.instructions(failed, processor("avx2")).message
    assert builds.ran(("/no/such/program",)).code is None


def test_what_is_installed_says_what_it_uses() -> None:
    said = builds.ran((sys.executable, "-P", "-m", "backends.native.build"))
    assert said.code == 0 and set(build.used(said.text)) <= set(build.USES.values())
    assert build.used("CPU : AVX = 1 | AVX2 = 0 | NEON = 1 | WHATEVER = 1 | ") == ("avx", "neon")


@pytest.mark.parametrize(
    ("vendor", "flag", "needs"),
    [("nvidia", "CUDA", "nvcc"), ("apple", "METAL", "Xcode"), ("amd", "VULKAN", "glslc"), ("intel", "VULKAN", "glslc")],
)
def test_a_gpu_that_the_build_leaves_idle(vendor: Vendor, flag: str, needs: str) -> None:
    card = Gpu(name="Card", vendor=vendor, index=0, memory_total_bytes=8 << 30, memory_free_bytes=8 << 30)
    machine = msgspec.structs.replace(simulate.parse("cpu, 16GB", catalog.load()), gpus=(card,))
    native = Availability(name="native", available=True, version="0.3.36", drafter=True, build="CPU")
    found = builds.idle_gpu(native, card)
    assert (found.status, found.mend.count(needs)) == ("warn", 1) and "Card is idle" in found.message
    assert f"-DGGML_NATIVE=OFF -DGGML_{flag}=ON" in found.command
    server = Availability(name="llama.cpp", available=True, drafter=True, build="CPU")
    assert builds.RELEASES in builds.idle_gpu(server, card).mend

    assert [check.status for check in builds.checks(LlamaCpp(), server, machine)] == ["warn"]
    vulkan = msgspec.structs.replace(server, build="Vulkan")
    small = msgspec.structs.replace(machine, gpus=(msgspec.structs.replace(card, memory_total_bytes=1 << 28),))
    assert list(builds.checks(LlamaCpp(), vulkan, machine)) == list(builds.checks(LlamaCpp(), server, small)) == []


@pytest.mark.parametrize("pip", [True, False])
def test_the_line_that_compiles_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pip: bool) -> None:
    monkeypatch.setattr(builds.sys, "prefix", "/opt/tool")
    monkeypatch.setattr(builds.sys, "executable", "/opt/a tool/python")
    monkeypatch.setattr(builds.importlib.util, "find_spec", lambda _name: pip or None)
    line = builds.rebuild("-DGGML_CUDA=ON")
    installer = '"/opt/a tool/python" -m pip install' if pip else 'uv pip install --python "/opt/a tool/python"'
    assert line.startswith(f"CMAKE_ARGS='-DGGML_CUDA=ON' {installer} --force-reinstall")
    assert line.endswith("llama-cpp-python")


# ---- Machine, folders, limits


def statuses(found: list[checks.Check], name: str) -> list[str]:
    return [check.status for check in found if check.name == name]


def test_what_a_probe_reports_is_a_warning_with_its_remedy() -> None:
    machine = simulate.parse("RTX 4090, 64GB", catalog.load())
    told = (Problem(probe="nvidia", message="the driver is old", hint="update it"),
            Problem(probe="amd", message="the amd probe failed: ZeroDivisionError"),
            Problem(probe="backends", message="x is missing"))  # fmt: skip
    found = list(checks.probes(machine, told))
    assert statuses(found, "nvidia probe") == ["pass", "warn"] and statuses(found, "amd probe") == ["fail"]
    assert any(check.mend == "update it" for check in found) and not any("missing" in check.message for check in found)
    assert "RTX 4090" in next(check.message for check in found if check.name == "nvidia probe")
    alone = list(checks.probes(simulate.parse("cpu, 16GB", catalog.load()), ()))
    assert statuses(alone, "gpu probes") == ["pass"], "having no GPU is no fault"


def test_folders(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    blocked = checks._folder("models", "HF_HOME", lambda: tmp_path / "file" / "hub")
    assert blocked.status == "fail" and "is no folder" in blocked.message and "HF_HOME" in blocked.mend
    assert checks._folder("models", "HF_HOME", lambda: tmp_path / "new" / "hub").status == "pass"
    assert not (tmp_path / "new").exists(), "a look changes nothing"


def test_a_folder_that_belongs_to_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = checks._folder("models", "HF_HOME", lambda: tmp_path)
    assert found.status == "fail" and found.command.startswith("sudo chown -R")


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_keys_that_others_could_read(state: Path) -> None:
    sessions.folder()
    assert list(checks._open_to_others()) == []
    state.chmod(0o755)
    [found] = checks._open_to_others()
    assert found.status == "warn" and found.command == f"chmod 700 {state}"


@pytest.mark.parametrize(("free", "status"), [(100 * 10**9, "pass"), (10**10, "warn"), (10**9, "fail")])
def test_disk(monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    monkeypatch.setattr(store, "free_disk", lambda: free)
    found = checks._disk()
    assert found.status == status and (status == "pass" or "HF_HOME" in found.mend)


@pytest.mark.skipif(os.name != "posix", reason="limits of processes")
def test_a_limit_on_addresses_is_found() -> None:
    code = "from advisor.doctor import checks; print([check.command for check in checks._address_space()])"
    for limit, said in (("unlimited", "[]"), ("30000000", "['ulimit -v unlimited']")):
        line = f'ulimit -v {limit} && exec "$0" -c "$1"'
        done = subprocess.run(["sh", "-c", line, sys.executable, code], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == said, done.stderr


def test_offline_and_memory_limits_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert checks._hub().command == "unset HF_HUB_OFFLINE"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "https://someone:secret@mirror.example/x")
    assert checks._hub().status == "pass" and "secret" not in checks._hub().message
    machine = simulate.parse("cpu, 16GB", catalog.load())
    memory = msgspec.structs.replace(machine.memory, limit_bytes=4 << 30, limit_source="the container's limit")
    found = checks._memory(msgspec.structs.replace(machine, memory=memory))
    assert found.status == "warn" and "the container's limit" in found.message and found.mend


def test_commands_are_printed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "CMAKE_ARGS='-DGGML_CUDA=ON' " + "x" * 120
    found = (
        checks.Check(name="a", status="warn", message="m", mend="do", command=line),
        checks.Check(name="b", status="fail", message="m"),
        checks.Check(name="c", status="pass", message="m"),
    )
    monkeypatch.setattr(doctor, "_checks", lambda *_: found)
    shown = click.testing.CliRunner().invoke(doctor.command, []).output
    assert f"\n# a\n{line}\n" in shown and "1 FAIL and 1 WARN of 3 checks" in shown


# ---- Privacy


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("/home/wilhelmina/x", "~/x"),
        ("default: /home/wilhelmina", "default: ~"),
        ("/home/wilhelmina2/x", "/home/USER/x"),
        ("/mnt/home/other/y", "/mnt/home/USER/y"),
        (r"C:\Users\Otto\llama.cpp", r"C:\Users\USER\llama.cpp"),
        ("/home/linuxbrew/.linuxbrew/bin", "/home/linuxbrew/.linuxbrew/bin"),
        ("Wilhelmina's build, wilhelmina_x", "USER's build, USER_x"),
        ("host wilhelminas-thinkpad.example.org up", "host HOST.example.org up"),
        ("http://192.168.0.7:11434 http://127.0.0.1:11434", "http://HOST:11434 http://127.0.0.1:11434"),
        ("driver 31.0.101.2115, Windows 10.0.19045.3693", "driver 31.0.101.2115, Windows 10.0.19045.3693"),
        ("https://me:secret@mirror.example/x", "https://mirror.example/x"),
        ("http://my-nas.local:11434", "http://HOST:11434"),
        ("link 00:1a:2B:3c:4d:5e", "link removed"),
        ("0000:01:00.0", "0000:01:00.0"),
        ("Serial Number : 123", "Serial Number : removed"),
    ],
)
def test_what_is_taken_out(text: str, private: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, NAME)
    monkeypatch.setenv("HOME", f"/home/{NAME}")
    monkeypatch.setenv("OLLAMA_HOST", "my-nas.local:11434")
    monkeypatch.setattr(privacy.platform, "node", lambda: HOST)
    assert privacy.mask()(text) == private


def test_roots_home_is_no_part_of_other_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.setenv("USER", "root")
    monkeypatch.setenv("LOGNAME", "root")
    private = privacy.mask()
    assert private("/root/.cache /rootfs /mnt/root root:root") == "~/.cache /rootfs /mnt/root root:root"
    document = {"model": "/root/x", "files": {"/root/key": ["/root"]}, "number": 1, "none": None}
    assert privacy.masked(document, private) == {"model": "~/x", "files": {"~/key": ["~"]}, "number": 1, "none": None}


def test_no_command_of_doctor_ends_in_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["doctor", "--nonsense"]) == 2
    assert "advisor doctor --help" in capsys.readouterr().err
