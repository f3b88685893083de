"""With a real llama-server: the flags it knows, commands that run as printed, loading that is watched, stopped or cut
short, and what to start instead where memory does not suffice."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from advisor.errors import OutOfMemory, RuntimeFailed
from advisor.files import store
from advisor.files.store import Wanted
from advisor.machine import Gpu, RuntimeDevice
from advisor.prediction import measurements
from advisor.running import arrangement, launching, sessions, shell, starting
from advisor.running.client import Client
from advisor.running.demo import collect
from advisor.running.order import Order
from backends.base import LaunchPlan, Model, Options, Watch
from backends.llama_cpp import LlamaCpp, binary, flags
from tests.fakes.hub import serve
from tests.launch.conftest import DEMO, advisor, ask, wait_for

pytestmark = [pytest.mark.llama_server, pytest.mark.usefixtures("llama_server")]

OWN = str(DEMO / "demo.gguf")
CARD = Gpu(name="A card", vendor="nvidia", index=1, memory_total_bytes=1 << 34, memory_free_bytes=1 << 34)
DEVICES = tuple(
    RuntimeDevice(name=f"CUDA{number}", description=name, memory_total_bytes=1 << 34, memory_free_bytes=1 << 34)
    for number, name in enumerate(["Another", "A card", "A third"])
)


def wrapped(server: Path, folder: Path, before: str) -> Path:
    """A llama-server that does something else first, unless it is only asked what it is."""
    path = folder / "llama-server"
    path.write_text(f'#!/bin/sh\ncase "$1" in -m) {before};; esac\nexec "{server}" "$@"\n')
    path.chmod(0o700)
    return path


# ---- The command


@pytest.mark.parametrize(
    ("options", "devices"),
    [
        (Options(port=1, gpu_layers=9, cpu_expert_layers=3, gpus=(CARD,)), DEVICES),
        (Options(port=1, gpu_layers=9, gpus=(CARD, msgspec.structs.replace(CARD, name="A third"))), DEVICES),
        (Options(port=1, gpu_layers=9, gpus=(CARD,), kv_type="q8_0", sequences=4, threads=2), None),
        (Options(port=1, gpu_layers=0, cache_bytes=1 << 30, checkpoints=3), DEVICES),
    ],
)
def test_every_flag_is_one_that_the_server_knows(
    llama_server: Path, options: Options, devices: tuple[RuntimeDevice, ...] | None
) -> None:
    usage = subprocess.run([llama_server, "--help"], capture_output=True, text=True, check=True).stdout
    listed = [line for line in usage.splitlines() if line.startswith("-") and "has been removed" not in line]
    known = {word.rstrip(",") for line in listed for word in line.split() if word.startswith("-")}
    model = Model(name="x", target=Path("t"), drafter=Path("d"), projector=Path("p"), draft_tokens=2)
    line = flags.command_line("llama-server", model, options, (), devices)
    used = [word for word in line if word.startswith("-")]
    assert len(used) > 12 and set(used) <= known, set(used) - known
    assert flags.SECRET in known and f"env: {flags.SECRET_VARIABLE}" in usage


def until_it_listens(command: str, **environment: str) -> str:
    """Run a command line as a user would, in a shell of its own; what it printed until it listens."""
    process = subprocess.Popen(
        ["sh", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    try:
        said = []
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if "listening on" in line:
                return "".join(said)
        raise AssertionError("".join(said))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_the_dry_runs_command_runs_as_printed(tmp_path: Path) -> None:
    odd = tmp_path / 'a folder, with "quotes" and $HOME\'s signs'
    odd.mkdir()
    for name in ("demo.gguf", "demo-drafter.gguf"):
        (odd / name).symlink_to(DEMO / name)
    done = advisor("launch", str(odd / "demo.gguf"), "--drafter", str(odd / "demo-drafter.gguf"), "--backend",
                   "llama.cpp", "--dry-run", "--threads", "1", "--kv-type", "q8_0", "--parallel", "2")  # fmt: skip
    assert done.returncode == 0, done.stderr
    until_it_listens(done.stdout)


def test_it_runs_as_printed_where_the_files_are_still_to_be_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from advisor.files import gguf

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    width = gguf.read(DEMO / "demo.gguf").embedding_length
    names = {"target": "demo.gguf", "drafter": "demo-drafter.gguf"}
    with serve() as hub:
        hub.add("a/pair", **{name: (DEMO / name).read_bytes() for name in names.values()})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        files = store.locate(
            Wanted(role=role, repo="a/pair", file=name, size=(DEMO / name).stat().st_size, width=width)  # type: ignore[arg-type]
            for role, name in names.items()
        )
        assert not any(file.here for file in files)
        model = Model(name="demo", target=files[0].path, drafter=files[1].path, draft_tokens=2, context_tokens=512)
        plan = LlamaCpp().plan(model, Options(port=sessions.free_port(), threads=1))
        command = shell.fetching(plan.command, files)
        assert "download --quiet a/pair demo.gguf" in command
        until_it_listens(command)


@pytest.fixture
def remote_devices(llama_server: Path) -> Iterator[tuple[RuntimeDevice, ...]]:
    """Two devices besides the processor, as llama.cpp's RPC server imitates them."""
    program = shutil.which(llama_server.with_name("ggml-rpc-server"))
    if program is None:
        pytest.skip("no ggml-rpc-server beside this llama-server")
    ports = []
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                ports.append(probe.getsockname()[1])
            words = [program, "-H", "127.0.0.1", "-p", str(ports[-1]), "-t", "1"]
            process = stack.enter_context(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            stack.callback(process.kill)
        for port in ports:
            wait_for(lambda port=port: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        yield tuple(
            RuntimeDevice(
                name=f"RPC{number}",
                description=f"127.0.0.1:{port}",
                memory_total_bytes=1 << 34,
                memory_free_bytes=1 << 34,
            )
            for number, port in enumerate(ports)
        )


@pytest.mark.parametrize(("cards", "layers"), [((1,), 16), ((0, 1), 16), ((0, 1), 4), ((), 0)])
def test_the_cards_that_are_named_are_used_and_the_drafter_works_there(
    remote_devices: tuple[RuntimeDevice, ...], cards: tuple[int, ...], layers: int, tmp_path: Path
) -> None:
    gpus = tuple(
        Gpu(
            name=remote_devices[number].description,
            vendor="other",
            index=number,
            memory_total_bytes=1 << 34,
            memory_free_bytes=1 << 34,
        )
        for number in cards
    )
    setup = launching.configure(Order(model=OWN, backend="llama.cpp", threads=1, context=1024))
    assert setup.estimate is not None
    shape = setup.estimate.subject.architecture
    servers = ",".join(device.description for device in remote_devices)
    options = Options(
        port=sessions.free_port(),
        threads=1,
        gpus=gpus,
        gpu_layers=layers,
        drafter_gpu=arrangement.drafter_card(shape, layers, gpus),
        extra=("-lv", "4"),
        log=tmp_path / "log",
    )
    backend = LlamaCpp()
    argv = flags.command_line(str(binary.find()), setup.model, options, (), remote_devices)
    argv = (argv[0], "--rpc", servers, *argv[1:])
    endpoint = backend.start(LaunchPlan(backend="llama.cpp", model=setup.model, options=options, argv=argv))
    try:
        log = (tmp_path / "log").read_text()
        assert f"offloaded {layers}/16 layers" in log
        assert set(re.findall(r"RPC\d\[(\S+)\] model buffer size", log)) == {gpu.name for gpu in gpus}
        with Client(endpoint.base_url, endpoint.model) as client:
            done = collect(client.complete("Once upon a time", temperature=0, max_tokens=12))
        assert done.timings.draft_n and done.timings.draft_n > 0
    finally:
        backend.stop(endpoint)


# ---- Loading


def test_loading_is_shown_in_bytes(tmp_path: Path) -> None:
    backend = LlamaCpp()
    seen: list[tuple[str, int, int | None]] = []
    pids: list[int | None] = []
    watch = Watch(
        progress=lambda what, done, size: seen.append((what, done, size)),
        spawned=lambda endpoint: pids.append(endpoint.pid),
    )
    setup = launching.configure(Order(model="demo", backend="llama.cpp", threads=1))
    plan = backend.plan(setup.model, msgspec.structs.replace(setup.options, port=sessions.free_port()))
    endpoint = backend.start(plan, watch)
    try:
        size = sum((DEMO / name).stat().st_size for name in ("demo.gguf", "demo-drafter.gguf"))
        assert {(what, of) for what, _, of in seen} == {("loading demo.gguf", size)}
        done = [each for _, each, _ in seen]
        assert done == sorted(done) and 0 < done[-1] <= size
        assert pids == [endpoint.pid]
    finally:
        backend.stop(endpoint)


def test_loading_is_shown_on_standard_error(
    llama_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMA_SERVER", str(wrapped(llama_server, tmp_path, "sleep 1.5")))
    done = advisor("launch", "demo", "--backend", "llama.cpp", "--detach", "--threads", "1")
    assert done.returncode == 0 and "Ready" in done.stdout
    shown = r"^loading demo\.gguf  .+ of [\d.]+ MB  \d+%.* \.\.\. \d+ s$"
    assert re.search(shown, done.stderr, re.MULTILINE), done.stderr
    ask("stop")


def loading(llama_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[subprocess.Popen[str], Path]:
    """A detached launch, whose server loads until a file is there."""
    go = tmp_path / "go"
    slow = wrapped(llama_server, tmp_path, f'while [ ! -e "{go}" ]; do sleep 0.05; done')
    monkeypatch.setenv("LLAMA_SERVER", str(slow))
    words = ["launch", "demo", "--backend", "llama.cpp", "--detach", "--json", "--threads", "1"]
    process = subprocess.Popen([sys.executable, "-m", "advisor", *words], stdout=subprocess.PIPE, text=True)
    wait_for(lambda: any(session.spawned for session in sessions.living()))
    return process, go


def test_a_launch_killed_while_it_loads_leaves_a_server_that_is_known(
    llama_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, go = loading(llama_server, tmp_path, monkeypatch)
    process.kill()
    process.communicate()
    (session,) = sessions.living()
    assert session.status == "starting" and sessions.birth(session.pid) == session.birth
    assert [each["status"] for each in ask("ps")["sessions"]] == ["starting"]
    go.touch()
    wait_for(lambda: [each["status"] for each in ask("ps")["sessions"]] == ["running"])
    answer = ask("run", "demo", "Hello", "--max-tokens", "4")
    assert answer["timings"]["predicted_n"] == 4 and answer["backend"] == "llama.cpp"
    assert ask("stop", "demo")["stopped"] == ["demo"]
    wait_for(lambda: not sessions.birth(session.pid) and sessions.can_bind(session.port))


def test_what_loads_can_be_stopped(llama_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process, _ = loading(llama_server, tmp_path, monkeypatch)
    (session,) = sessions.living()
    assert ask("stop")["stopped"] == ["demo"]
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 6
    assert json.loads(said)["error"]["message"] == "demo was stopped while it was loading"
    assert not sessions.birth(session.pid) and sessions.everything() == []


def test_a_server_killed_while_it_loads_is_said_to_be(
    llama_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, _ = loading(llama_server, tmp_path, monkeypatch)
    (session,) = sessions.living()
    os.kill(session.pid, signal.SIGKILL)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 6 and "was killed (SIGKILL)" in json.loads(said)["error"]["message"]
    assert sessions.everything() == []


# ---- Too little memory


def test_too_little_memory_names_a_choice_that_fits(
    llama_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing here sees this limit beforehand; with half of the cells the server stays below it.
    monkeypatch.setenv("LLAMA_SERVER", str(wrapped(llama_server, tmp_path, "ulimit -v 1090000")))
    order = Order(model=OWN, backend="llama.cpp", parallel=64, context=2048, threads=1)
    with pytest.raises(
        OutOfMemory, match=r"out of memory( while loading the drafter \S+)?: a CPU buffer of .* [MG]iB"
    ) as error:
        starting.open_session(LlamaCpp(), launching.configure(order))
    assert sessions.everything() == []
    assert "in all instead of" in error.value.hint
    program, *words = shlex.split(error.value.command)
    assert program == "advisor" and words[:2] == ["launch", OWN] and "--parallel" in words
    made = ask(*words, "--detach", "--json")
    assert made["drafter"]["active"]
    ask("stop")


# ---- Prediction and reality


def test_what_was_predicted_and_what_was_seen_is_printed_and_kept() -> None:
    made = ask("launch", OWN, "--backend", "llama.cpp", "--detach", "--json", "--threads", "1", "--context", "1024")
    assert made["expected"]["decode_tokens_per_s"] and made["expected"]["total_bytes"]
    (kept,) = measurements.recall()
    assert kept.source == "launch" and kept.backend == "llama.cpp" and kept.context_tokens == 1024
    assert kept.tokens_per_s == made["measured"]["decode_tokens_per_s"]
    assert kept.expected_tokens_per_s == made["expected"]["decode_tokens_per_s"]
    assert (kept.memory_bytes, kept.expected_bytes) == (
        made["measured"]["process_bytes"],
        made["expected"]["total_bytes"],
    )
    assert kept.drafter is not None and kept.draft_tokens == made["drafter"]["draft_tokens"]
    assert kept.target.size == (DEMO / "demo.gguf").stat().st_size and len(kept.acceptance) == kept.draft_tokens
    ask("stop")


def test_two_launches_do_not_share_what_they_keep() -> None:
    """A second llama-server beside the first, from two processes at once: names, ports and logs of their own."""
    words = ["launch", "demo", "--backend", "llama.cpp", "--detach", "--json", "--threads", "1"]
    started = [
        subprocess.Popen([sys.executable, "-m", "advisor", *words], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    made = [json.loads(process.communicate(timeout=60)[0]) for process in started]
    assert sorted(each["name"] for each in made) == ["demo", "demo-2"]
    assert len({each["base_url"] for each in made}) == len({each["log"] for each in made}) == 2
    for each in made:
        assert httpx.get(each["base_url"] + "/models", trust_env=False).json()["data"][0]["id"] == "demo"
    assert sorted(ask("stop", "--all")["stopped"]) == ["demo", "demo-2"]


def test_a_key_is_asked_for_and_seen_by_nobody() -> None:
    key = "k3y-that-nobody-sees"
    words = ["launch", "demo", "--backend", "llama.cpp", "--detach", "--json", "--threads", "1"]
    made = ask(*words, "--api-key", key)
    assert key not in json.dumps(made)
    (session,) = sessions.living()
    seen = Path(f"/proc/{session.pid}/cmdline").read_bytes() if sys.platform == "linux" else b""
    assert key.encode() not in seen + Path(session.log).read_bytes()
    body = {"prompt": "x", "max_tokens": 1}
    for headers, status in (({}, 401), ({"Authorization": f"Bearer {key}"}, 200)):
        reply = httpx.post(session.base_url + "/completions", json=body, headers=headers, trust_env=False)
        assert reply.status_code == status
    assert ask("run", "demo", "Hello", "--max-tokens", "2")["timings"]["predicted_n"] == 2
    assert key not in advisor("ps", "--json").stdout + advisor("ps").stdout + advisor("logs").stdout
    ask("stop")
    shown = advisor(*words[:4], "--dry-run", ADVISOR_API_KEY=key)
    assert key not in shown.stdout and shown.stdout.startswith('LLAMA_API_KEY="$ADVISOR_API_KEY" ')
    assert key not in until_it_listens(shown.stdout, ADVISOR_API_KEY=key)


def test_conversations_at_once_take_the_memory_that_was_predicted() -> None:
    order = Order(model=OWN, backend="llama.cpp", parallel=16, context=1024, threads=1, extra=("-lv", "4"))
    setup = launching.configure(order)
    session = starting.open_session(backend := LlamaCpp(), setup)
    try:
        log = Path(session.log).read_text()
        sizes = [float(size) for size in re.findall(r"llama_kv_cache: +CPU KV buffer size = +([\d.]+) MiB", log)]
        assert setup.estimate is not None
        assert sum(sizes) == setup.estimate.load.kv_cache / (1 << 20)
        assert "n_slots = 16, n_ctx_slot = 2048, kv_unified = 'true'" in log, "any may use what the others leave"
    finally:
        sessions.end(session, backend)


def test_an_unknown_architecture_is_refused_before_it_is_started(tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes((DEMO / "demo.gguf").read_bytes().replace(b"gemma4", b"gemma9"))
    done = advisor("launch", str(other), "--backend", "llama.cpp", "--json")
    assert done.returncode == 6 and "gemma9" in json.loads(done.stdout)["error"]["message"]


def test_a_port_that_is_taken_is_named(llama_server: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        backend = LlamaCpp()
        setup = launching.configure(Order(model="demo", backend="llama.cpp", threads=1))
        plan = backend.plan(setup.model, msgspec.structs.replace(setup.options, port=port))
        begun = time.monotonic()
        with pytest.raises(RuntimeFailed, match=f"port {port} is used by another program"):
            backend.start(plan)
        assert time.monotonic() - begun < 60
