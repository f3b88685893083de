"""Servers that run already: found by their address, counted by what they say, and left running."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from advisor.cli import cli
from advisor.errors import AdvisorError, RuntimeFailed, UsageError
from advisor.knowledge import catalog
from advisor.running import sessions
from backends import others
from backends.base import Endpoint, Model, load
from tests.fakes import runtimes
from tests.runtimes.conftest import alive, faults

RUNTIMES = catalog.load().runtimes
FLAGS = {
    "vllm": ("serve", "{target}", "--served-model-name", "tiny", "--max-model-len", "2048"),
    "sglang": ("serve", "--model-path", "{target}", "--served-model-name", "tiny", "--context-length", "2048"),
}
DRAFTING = {
    "vllm": ("--speculative-config", '{"model":"x","num_speculative_tokens":3}'),
    "sglang": ("--speculative-algorithm", "NEXTN", "--speculative-num-steps", "3"),
}


class Other:
    """Somebody else's server."""

    def __init__(self, name: str, target: Path, *, drafter: bool = True) -> None:
        self.port = sessions.any_port()
        self.url = f"http://127.0.0.1:{self.port}"
        words = [word.format(target=target) for word in FLAGS[name]] + [*(DRAFTING[name] if drafter else ())]
        where = ("--host", "127.0.0.1", "--port", str(self.port))
        self.child = subprocess.Popen([sys.executable, runtimes.__file__, name, *words, *where])
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                if httpx.get(self.url + "/health").is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise AssertionError

    def end(self) -> None:
        self.child.kill()
        self.child.wait()


@pytest.fixture
def other(request: pytest.FixtureRequest, pair: Model) -> Iterator[Other]:
    name = getattr(request, "param", "vllm")
    found = Other(name, pair.target)
    yield found
    found.end()


def advisor(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def failed(*words: str) -> AdvisorError:
    found = advisor(*words).exception
    assert isinstance(found, AdvisorError)
    return found


@pytest.mark.parametrize(("name", "other"), [("vllm", "vllm"), ("sglang", "sglang")], indirect=["other"])
def test_used_counted_and_left_running(name: str, other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(load(name).runtime.address, "")
    made = advisor("launch", "--backend", name, "--server", f"{other.url}/v1/", "--detach", "--json")
    told = json.loads(made.stdout)
    assert (told["base_url"], told["model"], told["pid"]) == (f"{other.url}/v1", "tiny", 0)
    assert told["context_tokens"] == 2048
    assert told["drafter"]["active"] is True
    assert told["drafter"]["acceptance"] == pytest.approx(1 / 3)
    listed = json.loads(advisor("ps", "--json").stdout)["sessions"][0]
    assert listed["status"] == "running"
    assert listed["stats"]["drafter_active"] is True
    assert "stopped" in advisor("stop").stdout
    assert alive(other.child.pid)
    assert httpx.get(other.url + "/health").is_success
    assert not sessions.everything()


def test_what_others_ask_meanwhile_is_not_counted_as_ours(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = load("vllm")
    endpoint = Endpoint(base_url=f"{other.url}/v1", model="tiny", backend="vllm", pid=0, name="tiny", drafter=True)
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "x"}], "max_tokens": 9}
    with backend.client(endpoint) as client:
        events = client.chat([{"role": "user", "content": "why"}], max_tokens=40)
        next(events)
        httpx.post(f"{other.url}/v1/chat/completions", json=asked, timeout=60)
        *_, done = events
    assert done.timings.draft_n is None
    verdict = backend.drafting(endpoint)
    assert verdict.active
    assert "drafts were right since the server started" in verdict.reason


def test_a_server_without_a_drafter(pair: Model) -> None:
    found = Other("vllm", pair.target, drafter=False)
    try:
        told = json.loads(advisor("launch", "--backend", "vllm", "--server", found.url, "--detach", "--json").stdout)
        assert told["drafter"]["enabled"] is False
        assert told["drafter"]["active"] is False
        assert "started without one" in told["drafter"]["reason"]
    finally:
        found.end()


def test_its_model_by_name_or_checkpoint(other: Other, pair: Model) -> None:
    for names in ((), ("tiny",), (str(pair.target),), ("31b", str(pair.target))):
        assert others.look(RUNTIMES["vllm"], other.url, *names).name == "tiny"
    with pytest.raises(UsageError) as caught:
        others.look(RUNTIMES["vllm"], other.url, "31b")
    assert "it has tiny" in caught.value.hint


def test_what_is_something_else(other: Other) -> None:
    with pytest.raises(RuntimeFailed, match="not SGLang: its models belong to vllm"):
        others.look(RUNTIMES["sglang"], other.url)


def test_one_that_is_too_old(pair: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_VERSION", "0.20.2")
    found = Other("vllm", pair.target)
    try:
        with pytest.raises(RuntimeFailed, match=r"0\.20\.2 .* too old"):
            others.look(RUNTIMES["vllm"], found.url)
    finally:
        found.end()


def test_metrics_that_are_absent_are_unknown(pair: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    faults(monkeypatch, "no-metrics")
    found = Other("sglang", pair.target)
    try:
        endpoint = Endpoint(base_url=f"{found.url}/v1", model="tiny", backend="sglang", pid=0, name="x", drafter=True)
        verdict = load("sglang").drafting(endpoint)
        assert verdict.active is None
        assert "unknown" in verdict.reason
    finally:
        found.end()


def test_nobody_answers() -> None:
    url = f"127.0.0.1:{sessions.any_port()}"
    error = failed("launch", "--backend", "vllm", "--server", url)
    assert "no server answers" in error.message
    gone = Endpoint(base_url=f"http://{url}/v1", model="x", backend="vllm", pid=0, name="x")
    assert load("vllm").gone(gone)


@pytest.mark.parametrize("text", ["", "somewhere", "ftp://a:1", "http://a:b", "http://a b:8000"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="no address"):
        others.address(text)


@pytest.mark.parametrize(
    "words", [("--context", "4096"), ("--no-drafter",), ("--quant", "BF16"), ("--port", "8000"), ("--hosts", "a,b")]
)
def test_what_was_decided_when_it_was_started(words: tuple[str, ...]) -> None:
    error = failed("launch", "--backend", "vllm", "--server", "127.0.0.1:1", "--dry-run", *words)
    assert isinstance(error, UsageError)
    assert words[0] in error.message
    assert "was started" in error.message


def test_only_where_it_makes_sense() -> None:
    assert "add --backend vllm" in failed("launch", "demo", "--server", "127.0.0.1:1").hint
    assert "does not go with" in failed("launch", "demo", "--backend", "native", "--server", "127.0.0.1:1").message


def test_a_dry_run_asks_nobody() -> None:
    done = advisor("launch", "--backend", "vllm", "--server", "127.0.0.1:1", "--dry-run", "--json")
    plan = json.loads(done.stdout)
    assert plan["base_url"] == "http://127.0.0.1:1/v1"
    assert plan["plan"]["requests"][0] == {"method": "GET", "url": "http://127.0.0.1:1/v1/models"}
    assert plan["plan"]["argv"] == []


def test_a_trial_needs_servers_of_its_own(monkeypatch: pytest.MonkeyPatch, other: Other) -> None:
    monkeypatch.setenv("VLLM_URL", other.url)
    assert "trial starts servers of its own" in failed("trial", "tiny", "--backend", "vllm").hint
