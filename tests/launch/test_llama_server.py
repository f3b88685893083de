"""With a real llama-server on the demo pair: proof, text, failures, two at once, ends of all kinds."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import msgspec
import pytest

from advisor.errors import AdvisorError, RuntimeFailed
from advisor.running import demo, launching, sessions, starting
from advisor.running.client import Client
from advisor.running.demo import collect
from advisor.running.order import Order, Setup
from advisor.running.sessions import Session
from backends.base import Model, Options
from backends.llama_cpp import LlamaCpp
from backends.native import Native
from tests.engine.random_pair import write_drafter
from tests.launch.conftest import DEMO, advisor, ask, wait_for

pytestmark = [pytest.mark.llama_server, pytest.mark.usefixtures("llama_server")]


ONE_THREAD = ("--threads", "1")
"""llama.cpp's threads wait for one another by turning: with two on busy cores, a token takes a second."""


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starting, "PROOF_TOKENS", 24)


def setup(*, extra: tuple[str, ...] = (), **changes: object) -> Setup:
    order = Order(model="demo", backend="llama.cpp", extra=(*ONE_THREAD, *extra), **changes)  # type: ignore[arg-type]
    return launching.configure(order)


def greedy(session: Session) -> str:
    with Client(session.base_url, session.model) as client:
        question = [{"role": "user", "content": demo.QUESTION}]
        return collect(client.chat(question, temperature=0, max_tokens=64)).text


def test_the_drafter_is_proved_and_the_text_is_the_native_engines() -> None:
    texts = []
    native = msgspec.structs.replace(setup(), options=Options())
    for backend, asked in ((LlamaCpp(), setup()), (Native(), native)):
        session = starting.open_session(backend, asked)
        try:
            proof = starting.prove(backend, session)
            if backend.name == "llama.cpp":
                assert proof.active and proof.drafted > 0 and proof.reason == ""
                assert proof.acceptance is not None and proof.acceptance > 0.5
                assert proof.tokens_per_step is not None and proof.tokens_per_step > 1.5
                stats = backend.stats(session.endpoint)
                assert stats.drafter_active and stats.predicted_tokens > 0 and len(stats.accepted_per_position) == 3
                assert stats.memory_bytes is not None and stats.memory_bytes > 10 << 20
            texts.append(greedy(session))
        finally:
            sessions.end(session, backend)
    assert texts[0] == texts[1] != ""


def test_plain_decoding_is_said_to_be_plain() -> None:
    backend, asked = LlamaCpp(), setup(use_drafter=False)
    session = starting.open_session(backend, asked)
    try:
        proof = starting.prove(backend, session, drafter_reason=asked.drafter_reason)
        assert not proof.active and proof.reason == "it was switched off"
        assert httpx.get(session.base_url.removesuffix("/v1") + "/health", trust_env=False).status_code == 200
    finally:
        sessions.end(session, backend)


def test_the_command_line_from_launch_to_stop_and_the_openai_client() -> None:
    openai = pytest.importorskip("openai")
    made = ask("launch", "demo", "--backend", "llama.cpp", "--detach", "--json", "--", *ONE_THREAD)
    assert made["drafter"]["active"] and made["backend"] == "llama.cpp"
    client = openai.OpenAI(base_url=made["base_url"], api_key="any")
    said = client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hello"}], max_tokens=8)
    assert said.choices[0].message.content
    question = [{"role": "user", "content": demo.QUESTION}]
    whole = client.chat.completions.create(model="demo", messages=question, max_tokens=24, temperature=0)
    asked = {"model": "demo", "messages": question, "max_tokens": 24, "temperature": 0}
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed == whole.choices[0].message.content and chunks[-1].usage.completion_tokens == 24
    assert [each.id for each in client.models.list()] == ["demo"]
    talked = advisor("chat", "demo", "--temperature", "0", stdin=f"{demo.QUESTION}\n/stats\n")
    assert talked.returncode == 0 and streamed in talked.stdout
    assert "of the drafts accepted" in talked.stdout + talked.stderr
    assert ask("ps")["sessions"][0]["stats"]["drafted"] > 0
    assert "listening" in advisor("logs", "demo").stdout
    answered = ask("run", "demo", demo.QUESTION, "--max-tokens", "8")
    assert answered["backend"] == "llama.cpp" and answered["timings"]["predicted_n"] == 8
    assert ask("stop", "demo")["stopped"] == ["demo"]
    wait_for(lambda: not sessions.birth(made["pid"]))


def test_killed_in_the_middle_of_an_answer() -> None:
    backend = LlamaCpp()
    session = starting.open_session(backend, setup())
    children = httpx.get(session.base_url + "/models", trust_env=False)
    assert children.status_code == 200
    with Client(session.base_url, session.model, cause=lambda: backend.cause(session.endpoint)) as client:
        events = client.chat(
            [{"role": "user", "content": "Tell me all"}], temperature=1, max_tokens=1500, ignore_eos=True
        )
        next(iter(events))
        os.killpg(session.pid, signal.SIGKILL)
        with pytest.raises(AdvisorError, match="killed"):
            list(events)
    wait_for(lambda: not sessions.is_alive(session))


def test_a_port_taken_in_the_meantime_is_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        free = sessions.free_port()
        offered = iter([busy, free])
        monkeypatch.setattr(sessions, "free_port", lambda _taken=(): next(offered))
        session = starting.open_session(backend := LlamaCpp(), setup())
        assert session.port == free
        sessions.end(session, backend)


def test_two_at_once() -> None:
    backend = LlamaCpp()
    found: list[Session] = []
    threads = [threading.Thread(target=lambda: found.append(starting.open_session(backend, setup()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert sorted(session.name for session in found) == ["demo", "demo-2"]
        assert len({session.port for session in found}) == 2
        assert greedy(found[0]) == greedy(found[1])
    finally:
        for session in found:
            sessions.end(session, backend)


@pytest.mark.parametrize(
    ("width", "architecture", "why"),
    [(96, "gemma4-assistant", "width"), (320, "gemma4_assistant", "gemma4_assistant")],
)
def test_a_wrong_drafter_is_refused_before_anything_starts(
    tmp_path: Path, width: int, architecture: str, why: str
) -> None:
    wrong = tmp_path / "mtp-wrong.gguf"
    write_drafter(wrong, width, architecture)
    model = Model(name="demo", target=DEMO / "demo.gguf", drafter=wrong, draft_tokens=3, context_tokens=1024)
    asked = Setup(backend="llama.cpp", model=model, options=Options(), drafter_reason="")
    with pytest.raises(RuntimeFailed, match=why):
        starting.open_session(LlamaCpp(), asked)
    assert sessions.everything() == []


def test_a_broken_drafter_is_named(tmp_path: Path) -> None:
    whole = (DEMO / "demo-drafter.gguf").read_bytes()
    broken = tmp_path / "mtp-broken.gguf"
    broken.write_bytes(whole[: len(whole) // 2])
    model = Model(name="demo", target=DEMO / "demo.gguf", drafter=broken, draft_tokens=3, context_tokens=1024)
    asked = Setup(backend="llama.cpp", model=model, options=Options(), drafter_reason="")
    with pytest.raises(RuntimeFailed, match=r"mtp-broken\.gguf.* is cut off"):
        starting.open_session(LlamaCpp(), asked)
    assert sessions.everything() == []


def test_extra_flags_are_passed_on_and_wrong_ones_explained() -> None:
    with pytest.raises(RuntimeFailed, match="refuses an option: invalid argument: --nonsense"):
        starting.open_session(LlamaCpp(), setup(extra=("--nonsense",)))


def test_a_killed_launch_takes_the_server_with_it() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "advisor", "launch", "demo", "--backend", "llama.cpp", "--", *ONE_THREAD],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and "Ready" in process.stdout.readline()
    session = sessions.find()
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: sessions.can_bind(session.port) and not sessions.birth(session.pid))


def test_run_starts_its_own_where_asked() -> None:
    answered = ask("run", "Hello", "--backend", "llama.cpp", "--max-tokens", "8", "--threads", "1")
    assert answered["backend"] == "llama.cpp" and answered["timings"]["predicted_n"] == 8
    assert sessions.everything() == []


def test_a_key_is_asked_for_and_kept_to_the_user(state: Path) -> None:
    backend, asked = LlamaCpp(), setup(extra=("--api-key", "secret"))
    session = starting.open_session(backend, asked)
    try:
        assert starting.prove(backend, session).active
        assert backend.stats(session.endpoint).predicted_tokens > 0
        bare = httpx.post(session.base_url + "/completions", json={"prompt": "x", "max_tokens": 1}, trust_env=False)
        assert bare.status_code == 401
        assert (state / "demo.json").stat().st_mode & 0o077 == 0
        assert "secret" not in advisor("ps", "--json").stdout
    finally:
        sessions.end(session, backend)
