"""The server's manners: who may ask, how much, how many at once, and how it leaves."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from advisor.errors import AdvisorError, RuntimeFailed, UsageError
from advisor.running.client import Client
from backends.base import Endpoint, Model, Options
from backends.native import Native, built_for
from backends.native.guard import Guard, loopback
from backends.native.routes import Limits, application
from backends.native.server import listening
from backends.native.service import Service
from tests.engine import scripted
from tests.engine.random_pair import Pair
from tests.launch.conftest import wait_for

HTTP = httpx.Client(timeout=60, trust_env=False, limits=httpx.Limits(max_connections=200))
"""One for all: making one costs more than an answer."""
HELLO = [{"role": "user", "content": "hello"}]
LONG = {"messages": HELLO, "max_tokens": 60000}


def message(reply: httpx.Response) -> str:
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"])


def ask(
    app: Any, method: str = "GET", path: str = "/health", base: str = "http://localhost", **more: Any
) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=base) as http:
            return await http.request(method, path, **more)

    return asyncio.run(once())


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("chat.localhost", True),
        ("0.0.0.0", False),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
        ("10.0.0.1", False),
    ],
)
def test_names_of_this_machine(host: str, local: bool) -> None:
    assert loopback(host) is local
    reply = ask(scripted.app("x"), headers={"Host": f"{host}:8080"})
    assert reply.status_code == (200 if local else 403)


def test_pages_of_other_sites() -> None:
    app = scripted.app("x")
    assert (
        message(ask(app, headers={"Origin": "https://evil.example"})) == "pages of other sites may not use this server"
    )
    for origin in ("null", "http://[", "file://"):
        assert ask(app, headers={"Origin": origin}).status_code == 403
    assert ask(app, headers={"Origin": "http://localhost:3000"}).status_code == 200


def test_other_machines_may_call_it_anything_where_that_was_asked_for() -> None:
    app = application(scripted.service("x"), host="0.0.0.0")
    assert ask(app, base="http://workstation.lan").status_code == 200


def test_the_key() -> None:
    app = application(scripted.service("x"), key="séc ret")
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic abc"}, {"Authorization": "Bearer"}):
        reply = ask(app, path="/v1/models", headers=header)
        assert reply.status_code == 401
        assert reply.json()["error"]["code"] == "invalid_api_key"
        assert "ret" not in reply.text
    assert ask(app, path="/health").status_code == 200
    app = application(scripted.service("x"), key="secret")
    assert ask(app, path="/v1/models", headers={"Authorization": "bearer secret"}).status_code == 200


def test_too_much_and_too_slow() -> None:
    app = application(scripted.service("x"), limits=Limits(1000, 0.1))
    reply = ask(app, "POST", "/v1/chat/completions", content=b" " * 1001)
    assert reply.status_code == 413
    assert "larger than" in message(reply)

    async def drip() -> Any:
        yield b"{"
        await asyncio.sleep(5)

    reply = ask(app, "POST", "/v1/chat/completions", content=drip())
    assert reply.status_code == 408
    assert "did not come" in message(reply)


def test_the_model_and_its_other_names() -> None:
    app = scripted.app("hi", aliases=("gpt-4", "org/model"))
    for name in ("gemma", "gpt-4", "org/model", None, ""):
        reply = ask(app, "POST", "/v1/chat/completions", json={"messages": HELLO, "model": name})
        assert reply.status_code == 200
        assert reply.json()["model"] == "gemma"
    assert ask(app, path="/v1/models/org/model").json()["id"] == "gemma"
    for reply in (
        ask(app, "POST", "/v1/chat/completions", json={"messages": HELLO, "model": "other"}),
        ask(app, path="/v1/models/other"),
    ):
        assert reply.status_code == 404
        assert reply.json()["error"]["code"] == "model_not_found"


def test_a_defect_is_an_error_object() -> None:
    service = scripted.service("x")
    del service.prompt
    reply = ask(application(service), path="/props")
    assert reply.status_code == 500
    assert "the server failed" in message(reply)


def test_an_engine_that_fails_is_an_error_object() -> None:
    service = scripted.service("x")
    service.engine.generate = lambda *_, **__: 1 / 0  # type: ignore[assignment, method-assign, return-value]
    reply = ask(application(service), "POST", "/v1/chat/completions", json={"messages": HELLO})
    assert reply.status_code == 500
    assert "division" in message(reply)


def gather(service: Service, count: int, leave: tuple[int, ...] = ()) -> list[Any]:
    """`count` requests at once, in order; those in `leave` go after a moment."""

    async def run() -> list[Any]:
        transport = httpx.ASGITransport(application(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:

            async def one(index: int) -> Any:
                await asyncio.sleep(0.01 * index)
                body = {"messages": [{"role": "user", "content": f"#{index}"}]}
                post = http.post("/v1/chat/completions", json=body)
                return await asyncio.wait_for(post, 0.15 if index in leave else 60)

            return await asyncio.gather(*(one(i) for i in range(count)), return_exceptions=True)

    return asyncio.run(run())


def test_the_queue_is_fair_and_has_an_end() -> None:
    service = scripted.service("four", size=1, pause=0.03, queue=3)
    replies = gather(service, 8)
    assert [reply.status_code for reply in replies] == [200] * 4 + [429] * 4
    assert all(int(reply.headers["retry-after"]) >= 1 for reply in replies[4:])
    assert {reply.json()["error"]["code"] for reply in replies[4:]} == {"rate_limit_exceeded"}
    order = [prompt[prompt.index("#") + 1] for prompt in service.engine.prompts]  # type: ignore[attr-defined]
    assert order == ["0", "1", "2", "3"]
    assert service.counters.refused == 4
    assert not service.tickets


def test_who_leaves_the_queue_is_not_answered() -> None:
    service = scripted.service("four", size=1, pause=0.1)
    replies = gather(service, 3, leave=(1,))
    assert isinstance(replies[1], TimeoutError)
    assert [replies[0].status_code, replies[2].status_code] == [200, 200]
    asked = [prompt[prompt.index("#") + 1] for prompt in service.engine.prompts]  # type: ignore[attr-defined]
    assert asked == ["0", "2"]
    assert not service.tickets


def test_who_reads_slowly_holds_up_nobody() -> None:
    """Ten streams whose clients take nothing after the head: who asks next is answered; when they go, all is free."""
    service = scripted.service("four " * 50, size=1)
    app = application(service)
    body = json.dumps({"messages": HELLO, "stream": True}).encode()

    def client() -> Callable[[], Awaitable[dict[str, Any]]]:
        said = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> dict[str, Any]:
            for message in said:
                return message
            await asyncio.Event().wait()
            return {}

        return receive

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [(b"host", b"localhost")],
        "query_string": b"",
        "http_version": "1.1",
    }

    async def run() -> tuple[httpx.Response, int]:
        streams = [asyncio.create_task(app(scope, client(), send)) for _ in range(10)]
        async with asyncio.timeout(60):
            while len(service.tickets) < len(streams):
                await asyncio.sleep(0.01)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
            reply = await asyncio.wait_for(http.post("/v1/chat/completions", json={"messages": HELLO}), 60)
        waiting = len(service.tickets)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        return reply, waiting

    reply, waiting = asyncio.run(run())
    assert (reply.status_code, waiting) == (200, 10)
    assert not service.tickets


def test_metrics_are_prometheus_text() -> None:
    app = scripted.app("x")
    ask(app, "POST", "/v1/chat/completions", json={"messages": HELLO})
    reply = ask(app, path="/metrics")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    described, kinds = set(), {}
    for line in reply.text.splitlines():
        if line.startswith("# HELP "):
            described.add(line.split()[2])
        elif line.startswith("# TYPE "):
            kinds[line.split()[2]] = line.split()[3]
        else:
            name, value = line.split()
            assert name.partition("{")[0] in described
            assert kinds[name.partition("{")[0]] == ("counter" if "_total" in name else "gauge")
            float(value)
    assert "advisor_requests_total 1\n" in reply.text


def test_the_description() -> None:
    app = scripted.app("x")
    document = ask(app, path="/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) <= {route.path for route in app.routes}  # type: ignore[attr-defined]
    properties = document["components"]["schemas"]["Body"]["properties"]
    assert {"messages", "tools", "temperature", "stream", "draft_tokens"} <= set(properties)
    assert ask(app, path="/props").json()["modalities"] == {"vision": False, "audio": False}


def test_guard_leaves_other_protocols_alone() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    asyncio.run(Guard(app)({"type": "lifespan"}, None, None))  # type: ignore[arg-type]
    assert seen == ["lifespan"]


def test_what_a_build_computes_on(tmp_path: Path) -> None:
    assert built_for(tmp_path / "none") == "CPU"
    (tmp_path / "libggml-cpu.so").touch()
    assert built_for(tmp_path) == "CPU"
    (tmp_path / "libggml-vulkan.so.0").touch()
    assert built_for(tmp_path) == "Vulkan"


# ---- with the real engine in a process of its own


def test_a_port_is_taken_before_anything_is_loaded() -> None:
    """Else two servers that start at once both have it, and one of them dies of that when it has loaded its model."""
    first = listening("127.0.0.1", 0)
    with first, pytest.raises(RuntimeFailed, match="cannot be used"):
        listening("127.0.0.1", first.getsockname()[1])


@contextmanager
def serving(pair: Pair, **options: Any) -> Iterator[tuple[Native, Endpoint]]:
    backend = Native()
    model = Model(name="own", target=pair.target, context_tokens=65536)
    endpoint = backend.start(backend.plan(model, Options(**options)))
    try:
        yield backend, endpoint
    finally:
        backend.stop(endpoint)


@pytest.mark.engine
def test_stopped_politely(endless_pair: Pair) -> None:
    """Who waits is told, who is being answered gets what there is, then it ends by itself."""
    with serving(endless_pair, extra=("--grace", "2", "--queue", "2")) as (_, endpoint):
        assert endpoint.pid is not None
        process = psutil.Process(endpoint.pid)
        health = endpoint.base_url.removesuffix("/v1") + "/health"

        def busy(requests: int, waiting: int) -> bool:
            said = HTTP.get(health, timeout=60).json()
            return bool((said["requests"], said["waiting"]) == (requests, waiting))

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            running = pool.submit(HTTP.post, f"{endpoint.base_url}/chat/completions", json=LONG, timeout=60)
            wait_for(lambda: busy(1, 0))
            waiting = pool.submit(HTTP.post, f"{endpoint.base_url}/chat/completions", json=LONG, timeout=60)
            wait_for(lambda: busy(2, 1))
            process.send_signal(signal.SIGTERM)
            assert waiting.result().status_code == 503
            assert message(waiting.result()) == "the server is being stopped"
            assert not running.done(), "who waits is told at once"
            assert running.result().json()["choices"][0]["finish_reason"] == "cancelled"
        assert process.wait(60) in (0, None)


@pytest.mark.engine
def test_stopped_when_idle(endless_pair: Pair) -> None:
    with serving(endless_pair) as (_, endpoint):
        process = psutil.Process(endpoint.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, None)


@pytest.mark.engine
def test_a_key_for_the_whole_way(endless_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key"
    file.write_text("open-sesame\n")
    with serving(endless_pair, extra=("--api-key-file", str(file))) as (backend, endpoint):
        with Client(endpoint.base_url, endpoint.model) as client, pytest.raises(UsageError, match="API key"):
            list(client.chat(HELLO, max_tokens=2))
        with pytest.raises(AdvisorError) as refused:
            backend.stats(endpoint)
        assert "ADVISOR_API_KEY" in refused.value.hint
        with Client(endpoint.base_url, endpoint.model, key="open-sesame") as client:
            assert list(client.chat(HELLO, max_tokens=2))
        monkeypatch.setenv("ADVISOR_API_KEY", "open-sesame")
        assert backend.stats(endpoint).predicted_tokens == 2
        assert endpoint.log is not None
        assert "sesame" not in endpoint.log.read_text()


@pytest.mark.engine
@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("--api-key-file", "/missing/key"), "cannot be read"),
        (("--host", "203.0.113.7"), "203.0.113.7 cannot be used"),
        (("--gpu-layers", "5"), "computes on the processor only"),
    ],
)
def test_servers_that_cannot_start(endless_pair: Pair, extra: tuple[str, ...], said: str) -> None:
    if "--gpu-layers" in extra and Native().detect().build != "CPU":
        pytest.skip("this build has a GPU backend")
    with pytest.raises(AdvisorError, match=said), serving(endless_pair, extra=extra):
        pass


@pytest.fixture(scope="module")
def address(endpoint: Endpoint) -> tuple[str, int]:
    host, _, port = endpoint.base_url.removeprefix("http://").removesuffix("/v1").partition(":")
    return host, int(port)


@pytest.mark.engine
def test_a_hundred_at_once(endpoint: Endpoint) -> None:
    body = {"messages": HELLO, "max_tokens": 3}

    def once(_: int) -> httpx.Response:
        return HTTP.post(f"{endpoint.base_url}/chat/completions", json=body, timeout=60)

    with concurrent.futures.ThreadPoolExecutor(100) as pool:
        replies = list(pool.map(once, range(100)))
    answered = [reply for reply in replies if reply.status_code == 200]
    assert {reply.status_code for reply in replies} <= {200, 429}
    assert len(answered) >= 33
    assert len({reply.json()["choices"][0]["message"]["content"] for reply in answered}) == 1
    for reply in replies:
        if reply.status_code == 429:
            message(reply)


@pytest.mark.engine
def test_connections_that_say_nothing_or_nonsense(address: tuple[str, int], endpoint: Endpoint) -> None:
    silent = [socket.create_connection(address) for _ in range(100)]
    for index, connection in enumerate(silent):
        connection.sendall(
            (b"", b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Le", b"\x00\xff\r\n\r\n")[
                index % 3
            ]
        )
    half = socket.create_connection(address)
    half.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    reply = HTTP.post(f"{endpoint.base_url}/chat/completions", json={"messages": HELLO, "max_tokens": 2}, timeout=60)
    assert reply.status_code == 200
    for connection in (*silent, half):
        connection.close()


@pytest.mark.engine
def test_ten_megabytes(endpoint: Endpoint) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "x" * (10 << 20)}]})
    reply = HTTP.post(f"{endpoint.base_url}/chat/completions", content=body, timeout=60)
    assert reply.status_code == 413
    assert "larger than 8 MiB" in message(reply)
    large = json.dumps({"messages": [{"role": "user", "content": "x " * (3 << 20)}]})
    reply = HTTP.post(f"{endpoint.base_url}/chat/completions", content=large, timeout=60)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.engine
def test_going_in_the_middle_again_and_again(endpoint: Endpoint, backend: Native) -> None:
    url = f"{endpoint.base_url}/chat/completions"

    def leave(index: int) -> None:
        with HTTP.stream("POST", url, json={**LONG, "stream": True}) as reply:
            for count, _ in enumerate(reply.iter_lines()):
                if count > index:
                    return

    threads = [threading.Thread(target=leave, args=(index,)) for index in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    began = time.monotonic()
    assert HTTP.post(url, json={"messages": HELLO, "max_tokens": 2}, timeout=60).status_code == 200
    assert time.monotonic() - began < 15, "one answer of that length takes longer"
    health = HTTP.get(endpoint.base_url.removesuffix("/v1") + "/health").json()
    assert (health["requests"], health["waiting"]) == (0, 0)


@pytest.mark.engine
def test_a_conversation_is_not_read_twice(endpoint: Endpoint) -> None:
    def talk(messages: list[dict[str, str]], **more: Any) -> Any:
        body = {"messages": messages, "max_tokens": 12, **more}
        return HTTP.post(f"{endpoint.base_url}/chat/completions", json=body, timeout=60).json()

    messages = [{"role": "user", "content": "Once upon a time " * 30}]
    first = talk(messages)
    messages += [first["choices"][0]["message"], {"role": "user", "content": "go on"}]
    second = talk(messages)
    assert second["timings"]["cache_n"] > first["usage"]["prompt_tokens"] - 20
    assert second["timings"]["prompt_n"] < 80
    fresh = talk(messages, cache_prompt=False)
    assert fresh["timings"]["cache_n"] == 0
    assert fresh["usage"]["prompt_tokens"] == second["usage"]["prompt_tokens"]
