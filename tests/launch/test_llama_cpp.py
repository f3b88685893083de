"""llama.cpp without llama-server: where it is looked for, what it says, its flags, and its log in words."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from advisor.errors import AdvisorError, NoBackend
from backends.base import LaunchPlan, Model, Options
from backends.llama_cpp import LlamaCpp, binary, failures, flags

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
    assert not found.too_old(1536)
    assert "--cors-origins" in found.options


@pytest.mark.parametrize(("build", "small", "large"), [(9548, True, True), (9549, True, False), (9568, False, False)])
def test_each_size_has_its_floor(tmp_path: Path, build: int, small: bool, large: bool) -> None:
    found = binary.probe(program(tmp_path / "bin", f"version: {build} (abc)"))
    assert bool(found.too_old(1536)) is small
    assert bool(found.too_old(5376)) is large


def test_a_program_is_asked_once_until_it_changes(tmp_path: Path) -> None:
    path = program(tmp_path / "bin", "version: 9600 (a)")
    binary.probe(path)
    assert binary.probe(path).build == 9600
    assert (tmp_path / "bin" / "asked").read_text().count("asked") == 2
    path = program(tmp_path / "bin", "version: 9700 (b)")
    assert binary.probe(path).build == 9700


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


def words(model: Model, options: Options, known: frozenset[str] = frozenset()) -> str:
    return " ".join(flags.command_line("llama-server", model, options, known))


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
    assert "-c 16384 --parallel 4" in line, "each conversation has the whole context"
    assert "--cache-type-k q8_0 --cache-type-v q8_0 --flash-attn on" in line
    assert line.endswith("--cors-origins localhost --no-repack")


def test_a_key_is_not_shown() -> None:
    options = Options(port=1, extra=("--api-key", "secret"))
    argv = flags.command_line("llama-server", MODEL, options, ())
    assert "secret" in argv and "secret" not in flags.quoted(argv, options.extra)


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
