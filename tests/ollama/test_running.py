"""Loading and looking: the very model with the very drafter; acceptance, memory, and what cannot be known."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from advisor.errors import RuntimeFailed, UsageError
from advisor.running.client import Done, joined
from advisor.running.demo import collect
from backends.base import Watch
from backends.ollama import Ollama, log
from backends.ollama.address import given, parse
from backends.ollama.api import Api
from tests.fakes import ollama as fake
from tests.fakes import ollama_files as files
from tests.launch.conftest import wait_for
from tests.ollama.conftest import TAG, planned, tagged
from tests.ollama.test_faults import NAME, QUESTION, attach, started

MIB = 1 << 20
LINES = files.recording("300-server-log-lines")


@pytest.fixture
def backend() -> Ollama:
    return Ollama()


def test_it_stays_loaded_with_the_context_that_was_planned(
    backend: Ollama, ollama: fake.Ollama, tmp_path: Path
) -> None:
    with started(backend, tagged(tmp_path, context_tokens=1024)) as (endpoint, client):
        collect(client.chat(QUESTION))
        (child,) = ollama.children.listed()
        assert child.name == f"{endpoint.model}:latest" and child.context == 1024
        assert child.expires > 9e9, "until it is stopped"
        assert ollama.children.started == 1
    backend.stop(endpoint)
    assert ollama.children.listed() == [] and f"{NAME}:latest" in ollama.library.models


@pytest.mark.parametrize("drafter", [files.RANDOM, files.DRAFTER])
def test_another_model_of_the_same_target_is_unloaded_first(
    backend: Ollama, ollama: fake.Ollama, tmp_path: Path, drafter: str
) -> None:
    """Its child would answer for ours, with its own drafter: the options are the same."""
    attach(ollama, "theirs", drafter)
    with Api(given()) as api:
        list(api.generate("theirs", prompt="x", options={"draft_num_predict": 3, "num_ctx": 4096}))
    backend.prepare(planned(backend, tagged(tmp_path)), lambda *_: None)
    with started(backend, tagged(tmp_path)) as (endpoint, client):
        (child,) = ollama.children.listed()
        assert child.name == f"{endpoint.model}:latest" and child.drafter == files.digest(files.DRAFTER)
        timings = collect(client.chat(QUESTION)).timings
        assert timings.draft_n and timings.draft_n_accepted


def test_a_rebuilt_model_is_loaded_anew(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    """The child of its old form runs on, under the same name and with the same options."""
    backend.start(planned(backend, tagged(tmp_path)))
    changed = tagged(tmp_path, sampling={"temperature": 0.3})
    endpoint = backend.start(planned(backend, changed))
    (child,) = ollama.children.listed()
    assert child.digest == ollama.library.models[f"{endpoint.model}:latest"].digest
    assert ollama.children.started == 2


def test_stopping_leaves_what_others_run(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    """Ours has gone, and another model of the same target has come."""
    endpoint = backend.start(planned(backend, tagged(tmp_path)))
    attach(ollama, "theirs", files.RANDOM)
    with Api(given()) as api:
        api.unload(endpoint.model)
        list(api.generate("theirs", prompt="x"))
    backend.stop(endpoint)
    assert [child.name for child in ollama.children.listed()] == ["theirs:latest"]


def test_a_start_that_is_ended_late_unloads(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    """Told to end after it was loaded: it would stay for ever."""

    def told(what: str, _done: int, _size: int | None) -> None:
        if what.startswith("loading") and ollama.children.listed():
            raise RuntimeFailed("stopped")

    with pytest.raises(RuntimeFailed, match="stopped"):
        backend.start(planned(backend, tagged(tmp_path)), Watch(progress=told))
    assert ollama.children.started == 1 and ollama.children.listed() == []
    assert f"{NAME}:latest" not in ollama.library.models


def test_what_runs_already_is_left_running(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    backend.start(planned(backend, tagged(tmp_path)))
    backend.start(planned(backend, tagged(tmp_path)))
    assert ollama.children.started == 1


def test_a_deleted_model_that_still_runs_is_unloaded(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    attach(ollama, "theirs", files.RANDOM)
    with Api(given()) as api:
        list(api.generate("theirs", prompt="x", options={"draft_num_predict": 3}))
        api.delete("theirs")
    with started(backend, tagged(tmp_path)):
        assert [child.name for child in ollama.children.listed()] == [f"{NAME}:latest"]


def test_another_that_keeps_its_place_is_said(
    backend: Ollama, ollama: fake.Ollama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attach(ollama, "theirs", files.RANDOM)
    real = Api.load

    def pushed(self: Api, name: str, tell: Callable[[], None]) -> None:
        list(self.generate("theirs", prompt="x", options={"draft_num_predict": 3, "num_ctx": 4096}))
        real(self, name, tell)

    monkeypatch.setattr(Api, "load", pushed)
    with pytest.raises(RuntimeFailed, match="with another model of the same target") as caught:
        backend.start(planned(backend, tagged(tmp_path)))
    assert caught.value.command == "ollama ps" and f"{NAME}:latest" not in ollama.library.models


# ---- Acceptance and memory


def test_acceptance_of_one_answer_is_from_the_log(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    with started(backend, tagged(tmp_path)) as (endpoint, client):
        timings = collect(client.complete("The quick brown fox", temperature=0, max_tokens=40)).timings
        assert (timings.draft_n, timings.draft_n_accepted) == (42, 24)
        assert timings.accepted_per_position == (0.643, 0.571, 0.5)
        assert timings.predicted_n == 40 and timings.predicted_per_second == pytest.approx(40 / 0.015)
        counted = backend.stats(endpoint)
        assert counted.drafter_active and counted.drafted > 42 and counted.unknown == ""
        assert backend.drafting(endpoint).active is True


def test_two_answers_at_once_are_not_told_apart(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    """What the log says of another request in the meantime is not taken for ours."""
    with started(backend, tagged(tmp_path)) as (endpoint, client):
        before = len((tmp_path / "server.log").read_text())
        events = client.chat(QUESTION, max_tokens=20)
        first = next(events)
        wait_for(lambda: "eval time" in (tmp_path / "server.log").read_text()[before:])  # it is answered by now
        with joined(backend, endpoint) as second:
            alone = collect(second.chat(QUESTION, max_tokens=30)).timings
        *_, last = events
        assert isinstance(last, Done) and not isinstance(first, Done)
        assert last.timings.draft_n is None and last.timings.predicted_n == 20
        assert alone.draft_n, "one that was alone is counted"


def test_drafts_per_request(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    with started(backend, tagged(tmp_path)) as (_, client):
        assert collect(client.chat(QUESTION, draft_tokens=0)).timings.draft_n is None
        assert collect(client.chat(QUESTION, draft_tokens="auto")).timings.draft_n


def test_memory_is_never_what_ps_says(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    with started(backend, tagged(tmp_path)) as (endpoint, _):
        (child,) = ollama.children.listed()
        memory = backend.stats(endpoint).memory_bytes
        assert child.size == 9_279_895, "which is less than without a drafter"
        assert memory == int((4.95 + 0.01 + 2.0 + 0.38 + 12.33 + 1.08 + 0.01 + 7.38) * MIB)


def test_recorded_log_lines() -> None:
    """What a real server wrote is read as what it was."""
    load = "\n".join(LINES["load_with_drafter"])
    target = "sha256:7e0e25e2d38de01f6799ed11550b0f6230586ed64becf96749f1a7e72b4d8edd"
    run = log.last_run(load, target)
    assert run is not None and log.memory_bytes(run) == int(28.14 * MIB)
    assert log.last_run(load, target.replace("7e0e", "0000")) is None
    said = log.counted("\n".join(LINES["one_generate_call_with_drafter"]))
    assert (said.answers, said.tokens, said.drafted, said.accepted) == (1, 40, 42, 24)
    assert said.positions == (0.643, 0.571, 0.5) and said.ms == pytest.approx(26.84)


def test_where_logs_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert log.find(parse("box.lan")) is None, "another machine's is not here"
    monkeypatch.setattr(log, "_journal", lambda which: "")
    assert log.find(given()) is None
    usual = tmp_path / "home" / ".ollama" / "logs" / "server.log"
    usual.parent.mkdir(parents=True)
    usual.write_text("x")
    found = log.find(given())
    assert found is not None and found.path == usual
    usual.unlink()
    monkeypatch.setattr(log, "_journal", lambda which: f"said after {which}")
    journal = log.find(given())
    assert journal is not None and journal.path is None
    assert journal.since(log.Mark(when=5.0)) == "said after --since=@5.000000"
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "AppData"))
    monkeypatch.setattr(log.sys, "platform", "win32")
    assert log.places()[0] == tmp_path / "AppData" / "Ollama" / "server.log"


def test_a_log_that_was_begun_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text("a" * 100)
    found = log.Log(path)
    mark = found.mark()
    path.write_text("fresh")
    assert found.since(mark) == "fresh"


def test_without_a_log_speeds_are_compared(
    backend: Ollama, ollama: fake.Ollama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(monkeypatch)
    with started(backend, tagged(tmp_path)) as (endpoint, client):
        assert collect(client.chat(QUESTION)).timings.draft_n is None
        verdict = backend.drafting(endpoint)
        assert verdict.active is True and "1.60 times the speed without it" in verdict.reason
        assert "acceptance is not known" in verdict.reason
        (child,) = ollama.children.listed()
        assert child.drafter and child.name == f"{endpoint.model}:latest", "as it was before"
        counted = backend.stats(endpoint)
        assert not counted.drafter_active and "log cannot be read" in counted.unknown


def test_what_cannot_be_known_is_said(
    backend: Ollama, ollama: fake.Ollama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreadable(monkeypatch)
    ollama.children.silent = True
    with started(backend, tagged(tmp_path)) as (endpoint, _):
        verdict = backend.drafting(endpoint)
        assert verdict.active is None and "cannot be known" in verdict.reason


def test_a_drafter_that_is_loaded_and_never_used(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    ollama.children.silent = True
    ollama.version = "0.31.0"
    with started(backend, tagged(tmp_path)) as (endpoint, _):
        verdict = backend.drafting(endpoint)
        assert verdict.active is False and "0.32.7 or newer is advised" in verdict.reason
        assert not backend.stats(endpoint).drafter_active


def test_a_log_of_another_server_tells_nothing(
    backend: Ollama, ollama: fake.Ollama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = tmp_path / "stale.log"
    stale.write_text("\n".join(LINES["load_with_drafter"]))
    monkeypatch.setenv(log.VARIABLE, str(stale))
    monkeypatch.setattr(log, "SETTLE_S", 0.05)
    with started(backend, tagged(tmp_path)) as (endpoint, client):
        assert collect(client.chat(QUESTION)).timings.draft_n is None
        assert backend.stats(endpoint).unknown and backend.drafting(endpoint).active is True


# ---- What is asked


def test_options_pictures_and_thinking(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    ollama.library.registry[TAG].append(("projector", b"a projector"))
    picture = base64.b64encode(b"\x89PNG").decode()
    parts = [{"type": "text", "text": "What is this?"},
             {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}}]  # fmt: skip
    with started(backend, tagged(tmp_path)) as (_, client):
        collect(client.chat([{"role": "user", "content": parts}], max_tokens=5, seed=7, stop=["x"],
                            reasoning_effort="none", response_format={"type": "json_object"}))  # fmt: skip
        sent = [body for path, body in ollama.bodies if path == "/api/chat"][-1]
        assert sent["messages"] == [{"role": "user", "content": "What is this?", "images": [picture]}]
        assert sent["options"] == {"num_predict": 5, "seed": 7, "stop": ["x"]}
        assert sent["think"] is False and sent["format"] == "json" and sent["keep_alive"] == -1
        with pytest.raises(UsageError, match="takes no audio"):
            client.chat([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": picture}}]}])
        with pytest.raises(UsageError, match="given inline"):
            client.chat([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}])
        with pytest.raises(UsageError, match="not in base64"):
            url = {"url": "data:image/png;base64,%%%"}
            client.chat([{"role": "user", "content": [{"type": "image_url", "image_url": url}]}])


def test_a_model_without_eyes_takes_no_pictures(backend: Ollama, ollama: fake.Ollama, tmp_path: Path) -> None:
    url = {"url": f"data:image/png;base64,{base64.b64encode(b'x').decode()}"}
    with started(backend, tagged(tmp_path)) as (_, client), pytest.raises(UsageError, match="takes no images"):
        client.chat([{"role": "user", "content": [{"type": "image_url", "image_url": url}]}])


def test_thoughts_are_told_apart(
    backend: Ollama, ollama: fake.Ollama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def line(self: fake.Handler, document: dict[str, object]) -> None:
        message = document.get("message")
        if isinstance(message, dict) and message["content"]:
            document = {**document, "message": {"role": "assistant", "content": "", "thinking": message["content"]}}
        self._chunk(json.dumps(document) + "\n")

    with started(backend, tagged(tmp_path)) as (_, client):
        monkeypatch.setattr(fake.Handler, "_line", line)
        answer = collect(client.chat(QUESTION, max_tokens=4))
        assert answer.thought and not answer.text


def unreadable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a user who may not read the service's log."""
    monkeypatch.setenv(log.VARIABLE, "/nowhere/server.log")
