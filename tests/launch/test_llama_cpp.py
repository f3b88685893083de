"""llama.cpp without llama-server: where it is looked for, what it says, its flags, and its log in words."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from advisor.errors import AdvisorError, NoBackend
from advisor.machine import Gpu, RuntimeDevice
from backends.base import LaunchPlan, Model, Options
from backends.llama_cpp import LlamaCpp, binary, devices, failures, flags

MODEL = Model(
    name="26b", target=Path("/m/target.gguf"), drafter=Path("/m/mtp.gguf"), draft_tokens=2, context_tokens=8192
)
HELP = "--spec-type none,draft-mtp\\n--cors-origins ORIGINS\\n--metrics"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(binary.VARIABLE, raising=False)
    return tmp_path / "cache"


def program(folder: Path, version: str, usage: str = HELP, *, stream: int = 1) -> Path:
    """Something that answers as llama-server does, and counts how often it is asked."""
    folder.mkdir(exist_ok=True)
    path = folder / "llama-server"
    path.write_text(
        f'#!/bin/sh\necho asked >> {folder}/asked\nif [ "$1" = --version ]; then printf "{version}\\n" >&{stream};'
        f' else printf -- "{usage}\\n"; fi\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    ("said", "version", "build"),
    [
        ("version: 9600 (04eb4c446)", "b9600", 9600),
        ("version: 0.6.0 (build 11434, commit 0c1e57098)", "b11434", 11434),
        ("version: 0.6.0-dev (build 0, commit unknown)", "0.6.0-dev", None),
    ],
)
def test_versions(tmp_path: Path, said: str, version: str, build: int | None) -> None:
    found = binary.probe(program(tmp_path / "bin", said, stream=2))
    assert (found.version, found.build) == (version, build)
    assert not found.unfit(1536)
    assert "--cors-origins" in found.options


E2B, MIDDLE, LARGE = 1536, 3840, 5376


@pytest.mark.parametrize(
    ("build", "sizes"),
    [
        (9548, []),
        (9549, [LARGE]),
        (9568, [LARGE, E2B]),
        (9600, [LARGE, E2B, MIDDLE]),
        (10740, [LARGE, E2B, MIDDLE]),
        (10741, []),
        (10748, []),
        (10749, [LARGE, E2B, MIDDLE]),
    ],
)
def test_the_builds_that_run_each_sizes_drafter(tmp_path: Path, build: int, sizes: list[int]) -> None:
    found = binary.probe(program(tmp_path / "bin", f"version: {build} (abc)"))
    assert [width for width in (LARGE, E2B, MIDDLE) if not found.unfit(width)] == sizes
    assert bool(found.unfit()) is not bool(sizes)


@pytest.mark.parametrize(
    ("build", "why", "hint"),
    [(9400, "need build 9549 or newer", "update"), (10745, "10741 to 10748", "update"), (9560, "", "update")],
)
def test_what_detection_says_of_such_builds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: int, why: str, hint: str
) -> None:
    monkeypatch.setenv(binary.VARIABLE, str(program(tmp_path / "bin", f"version: {build} (a)")))
    found = LlamaCpp().detect()
    assert found.available and found.drafter is not bool(why)
    assert why in (found.why_not or "") and hint in str(found.hint)


def test_a_program_is_asked_once_until_it_changes(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "version: 9600 (a)")
    binary.probe(path)
    assert binary.probe(path).build == 9600
    assert (tmp_path / "bin" / "asked").read_text().count("asked") == 2
    path = program(tmp_path / "bin", "version: 9700 (b)")
    assert binary.probe(path).build == 9700


def test_devices_are_asked_for_again_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = "--spec-type none,draft-mtp --list-devices\\nAvailable devices:\\n  CUDA0: A card (24576 MiB, 9 MiB free)"
    path = program(tmp_path / "bin", "version: 9600 (a)", usage)
    assert [each.name for each in binary.probe(path).devices or ()] == ["CUDA0"]
    asked = tmp_path / "bin" / "asked"
    before = asked.read_text().count("asked")
    binary.probe(path)
    assert asked.read_text().count("asked") == before
    monkeypatch.setattr(binary, "DEVICES_KEPT_S", 0.0)
    binary.probe(path)
    assert asked.read_text().count("asked") == before + 1


@pytest.mark.parametrize(("build", "why"), [(9540, "build 9549 or newer"), (10745, "10741 to 10748 do")])
def test_a_drafter_is_not_started_with_a_build_that_breaks_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: int, why: str
) -> None:
    path = program(tmp_path / "bin", f"version: {build} (a)")
    monkeypatch.setenv(binary.VARIABLE, str(path))
    folder = Path(__file__).parents[2] / "profiles" / "demo"
    model = Model(name="demo", target=folder / "demo.gguf", drafter=folder / "demo-drafter.gguf", draft_tokens=2)
    with pytest.raises(NoBackend, match=why) as error:
        LlamaCpp().start(LlamaCpp().plan(model, Options()))
    assert "--no-drafter" in error.value.hint and "update" in error.value.hint


def test_one_that_does_not_draft_is_available_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(binary.VARIABLE, str(program(tmp_path / "bin", "version: 9400 (a)", "--metrics")))
    found = LlamaCpp().detect()
    assert found.available and not found.drafter
    assert "b9400" in str(found.why_not) and "update" in str(found.hint)


def test_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(binary, "_folders", lambda: [tmp_path / "usual"])
    assert binary.find() is None and not LlamaCpp().detect().available
    usual = program(tmp_path / "usual", "version: 9600 (a)")
    assert binary.find() == usual
    on_path = program(tmp_path / "bin", "version: 9600 (a)")
    assert binary.find() == on_path
    monkeypatch.setenv(binary.VARIABLE, str(usual))
    assert binary.find() == usual
    monkeypatch.setenv(binary.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(NoBackend, match="which is no program"):
        binary.find()
    assert "no program" in str(LlamaCpp().detect().why_not)


def test_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoBackend, match="no llama-server"):
        binary.probe(program(tmp_path / "bin", "hello"))
    if sys.platform != "win32":
        path = tmp_path / "dies"
        path.write_text("#!/bin/sh\nkill -ILL $$\n")
        path.chmod(0o700)
        with pytest.raises(NoBackend, match="another processor"):
            binary.probe(path)


OLD = frozenset({"--metrics"})
CUDA = tuple(
    RuntimeDevice(name=f"CUDA{n}", description=name, memory_total_bytes=24 << 30, memory_free_bytes=23 << 30)
    for n, name in enumerate(["NVIDIA GeForce RTX 3090", "NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3090"])
)


def card(index: int) -> Gpu:
    name = CUDA[index].description
    return Gpu(name=name, vendor="nvidia", index=index, memory_total_bytes=24 << 30, memory_free_bytes=23 << 30)


def words(
    model: Model,
    options: Options,
    known: frozenset[str] = OLD,
    devices: tuple[RuntimeDevice, ...] | None = None,
) -> str:
    return " ".join(flags.command_line("llama-server", model, options, known, devices))


def test_the_flags_of_a_drafter_on_a_gpu() -> None:
    line = words(MODEL, Options(port=8080, gpu_layers=31, cpu_expert_layers=4))
    assert "--model-draft /m/mtp.gguf --spec-type draft-mtp --spec-draft-n-max 2 --spec-draft-ngl 99" in line
    assert "-c 8192 --parallel 1" in line and "-ngl 31 --n-cpu-moe 4" in line
    assert line.endswith("--host 127.0.0.1 --port 8080 --jinja --metrics")
    assert "--draft-max" not in line and "cors" not in line


def test_the_flags_of_the_rest() -> None:
    plain = Model(name="x", target=Path("t.gguf"), context_tokens=4096, projector=Path("mmproj.gguf"))
    options = Options(port=1, kv_type="q8_0", sequences=4, threads=6, extra=("--no-repack",))
    line = words(plain, options, frozenset({"--cors-origins"}))
    assert "draft" not in line and "--mmproj mmproj.gguf" in line and "--threads 6" in line
    assert "-c 16384 --parallel 4 --kv-unified" in line, "each conversation has the whole context"
    assert "--cache-type-k q8_0 --cache-type-v q8_0 --flash-attn on" in line
    assert line.endswith("--cors-origins localhost --no-repack")


def test_what_is_remembered_in_main_memory_is_limited_where_the_build_knows_how() -> None:
    options = Options(port=1, cache_bytes=3 << 30, checkpoints=7)
    known = frozenset({"--cache-ram", "--ctx-checkpoints"})
    assert "--cache-ram 3072 --ctx-checkpoints 7" in words(MODEL, options, known)
    assert "cache-ram" not in words(MODEL, options)


def test_kernels_on_nvidia_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    """They computed wrongly on an H100. Who says otherwise is heard, and the printed line does what advisor does."""
    monkeypatch.delenv("GGML_CUDA_PDL", raising=False)
    there = flags.environment(CUDA)
    assert there == {"GGML_CUDA_PDL": "0"}
    assert flags.environment(()) == {}
    if os.name == "posix":
        line = flags.quoted(["llama-server", "a b"], there, keyed=True)
        assert line == """LLAMA_API_KEY="$ADVISOR_API_KEY" GGML_CUDA_PDL=0 llama-server 'a b'"""
    monkeypatch.setenv("GGML_CUDA_PDL", "1")
    assert flags.environment(CUDA) == {}


@pytest.mark.parametrize(
    ("options", "devices", "device", "drafter"),
    [
        (Options(port=1, gpu_layers=31, gpus=(card(1),)), CUDA, "--device CUDA1 ", ""),
        (Options(port=1, gpu_layers=31, gpus=(card(2),)), CUDA, "--device CUDA2 ", ""),
        (
            Options(port=1, gpu_layers=31, gpus=(card(0), card(2)), drafter_gpu=card(2)),
            CUDA,
            "--device CUDA0,CUDA2 --tensor-split 23552,23552 ",
            "CUDA2",
        ),
        (Options(port=1, gpu_layers=31, gpus=(card(1),)), CUDA[:1], "", ""),
        (Options(port=1, gpu_layers=31, gpus=(card(1),)), None, "--split-mode none --main-gpu 1 ", ""),
        (Options(port=1, gpu_layers=0), CUDA, "--device none ", ""),
        (Options(port=1, gpu_layers=0), (), "", ""),
        (Options(port=1), CUDA, "", ""),
    ],
)
def test_the_cards_that_were_reckoned_with(
    options: Options, devices: tuple[RuntimeDevice, ...] | None, device: str, drafter: str
) -> None:
    line = words(MODEL, options, devices=devices)
    assert (device in line) if device else ("--device" not in line and "--main-gpu" not in line)
    assert (f"--spec-draft-device {drafter}" in line) if drafter else ("--spec-draft-device" not in line)


LISTED = """ggml_cuda_init: found 2 CUDA devices (Total VRAM: 35936 MiB):
  Device 0: NVIDIA GeForce RTX 3080 Ti, compute capability 8.6, VMM: yes, VRAM: 11909 MiB
Available devices:
  CUDA0: NVIDIA GeForce RTX 3080 Ti (11909 MiB, 11650 MiB free)
  Vulkan0: AMD Radeon 780M (RADV PHOENIX) (15872 MiB, 15008 MiB free)
  BLAS: OpenBLAS (0 MiB, 0 MiB free)
  RPC0: RPC[10.0.0.2:50052] (8192 MiB, 8000 MiB free)
  Vulkan1: llvmpipe (LLVM 15.0.7, 256 bits) (8192 MiB, 8192 MiB free)
"""


def test_the_list_of_devices() -> None:
    found = devices.parse(LISTED)
    assert found is not None
    assert [(each.name, each.description) for each in found] == [
        ("CUDA0", "NVIDIA GeForce RTX 3080 Ti"),
        ("Vulkan0", "AMD Radeon 780M (RADV PHOENIX)"),
    ]
    assert (found[0].memory_total_bytes, found[0].memory_free_bytes) == (11909 << 20, 11650 << 20)
    assert devices.kind(found) == "CUDA and Vulkan"
    assert devices.parse("Available devices:\n  (none)\n") == () and devices.kind(()) == "CPU"
    assert devices.parse("error: invalid argument") is None and devices.kind(None) is None


def test_a_key_is_in_no_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADVISOR_API_KEY", raising=False)
    for options in (
        Options(port=1, extra=("--no-repack", "--api-key", "secret", "--mlock")),
        Options(port=1, api_key="secret"),
    ):
        plan = LlamaCpp().plan(MODEL, options)
        assert "secret" not in repr((plan.argv, plan.command, plan.environment))
        assert plan.options.api_key == "secret"
        assert plan.command.startswith('LLAMA_API_KEY="$ADVISOR_API_KEY" ')
    assert "API_KEY" not in LlamaCpp().plan(MODEL, Options(port=1)).command


LOGS = [
    ("E srv start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 80", 1, "port 8080 is used", "--port"),
    ("error: invalid argument: --nonsense", 1, "refuses an option: invalid argument: --nonsense", "after `--`"),
    (
        'error while handling argument "--draft-max": the argument has been removed. use --spec-draft-n-max',
        1,
        "refuses an option",
        "update",
    ),
    ("llama_model_load: error loading model: unknown model architecture: 'gemma4'", 1, "'gemma4'", "update llama.cpp"),
    (
        "0.1 E gallocr: failed to allocate CPU buffer of size 2110748704\n0.2 E srv load_model: failed to create",
        1,
        "out of memory: a CPU buffer of 1.97 GiB",
        "--context 4096 or --no-drafter",
    ),
    ("ggml_backend_cuda: cudaMalloc failed: out of memory", 1, "out of memory", "smaller quant"),
    ("invalid vector subscript", 1, "out of memory", "--no-drafter"),
    (
        "0.1 E llama_model_load: error loading model: tensor 'x' is not within\n0.2 E failed to load draft model",
        1,
        "the drafter mtp.gguf does not load: llama_model_load: error loading model: tensor 'x'",
        "--no-drafter",
    ),
    (
        "0.1 E srv alloc: unable to allocate CUDA0 buffer\n0.2 E srv: failed to load draft model, 'x'",
        1,
        "out of memory while loading the drafter",
        "--no-drafter",
    ),
    ("0.1 E llama_model_load: error loading model: bad magic", 1, "/m/target.gguf does not load: bad magic", "again"),
    (
        "ggml-backend.cpp:1081: pre-allocated tensor (cache_k_l3) in a buffer (CUDA0) that cannot run the operation",
        -6,
        "another device than the cache that it reads, which is on CUDA0",
        "--no-drafter",
    ),
    ("GGML_ASSERT(n > 0) failed", -6, "ended by SIGABRT: GGML_ASSERT(n > 0) failed", "log"),
    ("", -9, "killed", "smaller model"),
    ("", -4, "SIGILL", "build for this machine"),
    ("0.1 E x: requires ctx_other to be set\n0.1 E cmn init: a reason\n0.2 E exiting due to", 1, "a reason", "log"),
    ("", 3, "ended with code 3", "log"),
]


@pytest.mark.parametrize(("text", "code", "message", "hint"), LOGS)
def test_failures_in_words(tmp_path: Path, text: str, code: int, message: str, hint: str) -> None:
    log = tmp_path / "log"
    log.write_text(text)
    plan = LaunchPlan(backend="llama.cpp", model=MODEL, options=Options(port=8080))
    error: AdvisorError = failures.explain(plan, log, code)
    assert message in error.message
    assert hint in error.hint
    assert error.exit_code == 6
