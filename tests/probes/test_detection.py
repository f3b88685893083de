"""Detection as a whole: it never raises, tools that hang are left, what was seen can be replayed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click.testing
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.commands import backends, detect, doctor
from advisor.hardware import detection
from advisor.hardware.probes.diagnosis import diagnose
from advisor.hardware.probes.host import Findings, Local, Recorder, Replay, ToolError, decoded
from advisor.machine import Machine
from tests.probes.machines import DEVICES, NAMES, findings, machine, paths, said, with_files

FILES = sorted(set(paths()))


@pytest.mark.parametrize("name", NAMES)
def test_every_machine_is_a_record_that_can_be_read_back(name: str) -> None:
    found = machine(name, devices=DEVICES)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Machine) == found
    assert found.cpu.cores >= 1
    assert 0 < found.memory.available_bytes <= found.memory.total_bytes
    for gpu in found.gpus:
        assert 0 <= gpu.memory_free_bytes <= gpu.memory_total_bytes
    assert not any("probe failed" in problem.message for problem in found.problems)


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_a_basis(name: str) -> None:
    found = machine(name, devices=DEVICES)
    assert {"memory.total_bytes", "memory.bandwidth_bytes_per_s"} <= set(found.basis)
    for place, gpu in enumerate(found.gpus):
        assert f"gpus.{place}.memory_total_bytes" in found.basis
        assert (f"gpus.{place}.bandwidth_bytes_per_s" in found.basis) == (gpu.bandwidth_bytes_per_s is not None)


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_replays_to_the_same_machine(name: str) -> None:
    recorder = Recorder(Replay(findings(name)))
    first = detection.detect(DEVICES, host=recorder, backends=False)
    written = msgspec.json.decode(msgspec.json.encode(recorder.findings()), type=Findings)
    assert detection.detect(DEVICES, host=Replay(written), backends=False) == first


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(FILES), st.binary(max_size=200) | st.text(max_size=60).map(lambda text: text.encode()))
def test_any_bytes_in_any_file(where: tuple[str, str], content: bytes) -> None:
    name, path = where
    text = content.decode("utf-8", "replace")
    found = machine(with_files(name, files={path: text}), devices=DEVICES)
    assert not any("probe failed" in problem.message for problem in found.problems)
    assert found.memory.available_bytes <= found.memory.total_bytes


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(("m3-max", "m1", "windows", "wsl", "gb10")), st.text(max_size=80), st.data())
def test_any_text_from_any_tool(name: str, text: str, data: st.DataObject) -> None:
    tool = data.draw(st.sampled_from(sorted(findings(name).tools)))
    found = machine(with_files(name, tools={tool: text}), devices=DEVICES)
    assert not any("probe failed" in problem.message for problem in found.problems)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("SPDisplaysDataType", "_name", "video", "registry", "Name", "card0")), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(("m3-max", "windows")), JSON)
def test_any_json_from_any_tool(name: str, document: object) -> None:
    tools = dict.fromkeys(findings(name).tools, json.dumps(document))
    found = machine(with_files(name, tools=tools), devices=DEVICES)
    assert not any("probe failed" in problem.message for problem in found.problems)


def test_a_probe_that_breaks_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(host: object, memory: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setitem(detection.GPU_PROBES, "amd", broken)  # type: ignore[arg-type]
    found = machine("arc-b580")
    assert found.gpus
    assert "the amd probe failed: ZeroDivisionError: oh" in said(found.problems)


GERMAN = "Grafikkarte für größere Auflösungen"
CHINESE = '{"Name":"俓誠乗","Bytes":1}'


@pytest.mark.parametrize(
    ("text", "encoding", "code_page"),
    [
        (GERMAN, "utf-8", "cp850"),
        (GERMAN, "utf-8-sig", "cp850"),
        (GERMAN, "utf-16", ""),
        (GERMAN, "utf-16-le", ""),
        (GERMAN, "cp850", "cp850"),
        (GERMAN, "cp1252", "cp1252"),
        (CHINESE, "cp936", "cp936"),
        (CHINESE, "utf-8", "cp936"),
    ],
)
def test_encodings_of_tools(text: str, encoding: str, code_page: str) -> None:
    assert decoded(text.encode(encoding), code_page) == text


def test_the_second_byte_of_a_character_is_no_backslash() -> None:
    raw = CHINESE.encode("cp936")
    with pytest.raises(json.JSONDecodeError):
        json.loads(raw.decode("utf-8", "replace"))
    assert json.loads(decoded(raw, "cp936"))["Bytes"] == 1


@given(st.binary(max_size=60), st.sampled_from(("", "cp936", "cp850", "no such page")))
def test_any_bytes_are_text(data: bytes, code_page: str) -> None:
    assert isinstance(decoded(data, code_page), str)


def test_a_tool_that_hangs_is_left() -> None:
    started = time.monotonic()
    with pytest.raises(ToolError, match="did not answer within"):
        Local().run((sys.executable, "-c", "import time; time.sleep(600)"), 0.2)
    assert time.monotonic() - started < 60


def test_a_tool_that_is_missing_or_fails() -> None:
    with pytest.raises(ToolError, match="cannot be run"):
        Local().run(("no-such-tool-anywhere",))
    with pytest.raises(ToolError, match="status 3: why"):
        Local().run((sys.executable, "-c", "import sys; print('why', file=sys.stderr); sys.exit(3)"))
    assert Local().run((sys.executable, "-c", "print('half'); raise SystemExit(1)")) == "half"


@pytest.mark.skipif(os.name != "posix", reason="a tree of files")
def test_bytes_on_disk_under_a_root(tmp_path: Path) -> None:
    for path, text in findings("docker-v2").files.items():
        file = tmp_path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\xff\xfe\x00" + text.encode())
    (tmp_path / "proc/version").mkdir()
    host = Local(tmp_path)
    host.system, host.environ = "Linux", {}
    assert detection.detect(host=host, backends=False).cpu.cores >= 1


def test_this_machine() -> None:
    found = detection.detect(DEVICES, backends=False)
    assert found.memory.total_bytes > 0
    assert not any("probe failed" in problem.message for problem in found.problems)


def test_doctor_sees_the_same_speed_of_memory() -> None:
    plain = detection.detect(DEVICES, backends=False)
    recorded = detection.detect(DEVICES, host=Recorder(Local()), backends=False)
    field = "memory.bandwidth_bytes_per_s"
    assert recorded.basis[field] == plain.basis[field]


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys; from advisor.hardware.detection import detect; detect(backends=False);"
        "print([name for name in ('textual', 'llama_cpp', 'ollama', 'huggingface_hub', 'numpy', 'torch', 'rich')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_diagnosis() -> None:
    text = said(diagnose(machine("docker-v2")))
    for part in ("limits memory", "announces AMX", "no GPU was found"):
        assert part in text
    assert "illegal instruction" in said(
        diagnose(
            machine(
                with_files(
                    "docker-v1",
                    files={
                        "/proc/cpuinfo": "processor : 0\nflags : sse4_2",
                    },
                    arch="x86_64",
                )
            )
        )
    )
    assert "Rosetta" in said(diagnose(machine(with_files("m1", arch="x86_64"))))


@pytest.mark.parametrize("command", [detect.command, doctor.command, backends.command])
def test_commands(command: click.Command) -> None:
    runner = click.testing.CliRunner()
    plain, document, usage = (runner.invoke(command, args) for args in ([], ["--json"], ["--help"]))
    assert [result.exit_code for result in (plain, document, usage)] == [0, 0, 0]
    assert max(map(len, plain.stdout.splitlines())) <= 80
    json.loads(document.stdout)
    assert "Examples:" in usage.stdout


@pytest.mark.parametrize(
    ("name", "serial"),
    [("raspberry-pi-5", "10000000abcdef01"), ("m3-max", "4254554c"), ("mig-a100", "2222-3333-555555555555")],
)
def test_a_recording_holds_no_serial_numbers(name: str, serial: str) -> None:
    recorder = Recorder(Replay(findings(name)))
    detection.detect(host=recorder, backends=False)
    assert serial in repr(findings(name))
    assert serial not in repr(recorder.findings())


def test_a_report_says_nothing_of_the_user() -> None:
    result = click.testing.CliRunner().invoke(doctor.command, ["--json"])
    recorded = json.loads(result.stdout)["findings"]
    assert set(recorded["environ"]) <= {
        "CUDA_VISIBLE_DEVICES",
        "KUBERNETES_SERVICE_HOST",
        "WSL_DISTRO_NAME",
        "container",
    }
    for name in ("Uid:", "overlay", "/home/"):
        assert name not in json.dumps(recorded["files"])
