"""The server over real HTTP: OpenAI's shapes, its errors, and what it does when nobody listens any more."""

from __future__ import annotations

import json
import re
import threading
import time
from typing import Any

import httpx
import openai
import pytest

from advisor.errors import UsageError
from advisor.running.client import Client, Done
from advisor.running.demo import collect
from backends.base import Endpoint
from backends.native import Native

pytestmark = pytest.mark.engine

HTTP = httpx.Client(timeout=60, trust_env=False)
HELLO = [{"role": "user", "content": "hello"}]


def post(endpoint: Endpoint, path: str = "chat/completions", **body: Any) -> httpx.Response:
    return HTTP.post(f"{endpoint.base_url}/{path}", json=body, timeout=60)


def message(reply: httpx.Response) -> str:
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"])


def test_chat_whole(endpoint: Endpoint) -> None:
    reply = post(endpoint, messages=HELLO, max_tokens=20).json()
    assert reply["object"] == "chat.completion"
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["choices"][0]["message"]["role"] == "assistant"
    timings = reply["timings"]
    assert timings["predicted_n"] == reply["usage"]["completion_tokens"] == 20
    assert timings["cache_n"] + timings["prompt_n"] == reply["usage"]["prompt_tokens"] > 5
    assert reply["usage"]["prompt_tokens_details"]["cached_tokens"] == timings["cache_n"]
    assert timings["draft_n"] > 0
    assert timings["predicted_per_second"] > 0
    assert timings["prompt_per_second"] > 0
    assert len(timings["accepted_per_position"]) == 3


def test_chat_streamed_is_the_same_text(endpoint: Endpoint) -> None:
    whole = post(endpoint, messages=HELLO, max_tokens=40).json()["choices"][0]["message"]["content"]
    texts, last = [], {}
    body = {"messages": HELLO, "max_tokens": 40, "stream": True}
    with HTTP.stream("POST", f"{endpoint.base_url}/chat/completions", json=body) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in reply.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    for line in lines[:-1]:
        last = json.loads(line.removeprefix("data: "))
        assert last["object"] == "chat.completion.chunk"
        texts.append(last["choices"][0]["delta"].get("content", ""))
    assert "".join(texts) == whole
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["timings"]["predicted_n"] == last["usage"]["completion_tokens"] == 40


def test_plain_text(endpoint: Endpoint) -> None:
    reply = post(endpoint, "completions", prompt="The sea", max_tokens=8).json()
    assert reply["object"] == "text_completion"
    assert reply["choices"][0]["text"]
    assert post(endpoint, "completions", prompt=["The sea"], max_tokens=8).json()["choices"] == reply["choices"]


def test_drafting_can_be_chosen_by_request(endpoint: Endpoint) -> None:
    replies = [post(endpoint, messages=HELLO, max_tokens=30, draft_tokens=n).json() for n in (0, 1, 6)]
    assert [reply["timings"]["draft_n"] > 0 for reply in replies] == [False, True, True]
    assert [len(reply["timings"]["accepted_per_position"]) for reply in replies] == [0, 1, 6]
    assert len({reply["choices"][0]["message"]["content"] for reply in replies}) == 1


def test_stop_strings(endpoint: Endpoint) -> None:
    text = post(endpoint, messages=HELLO, max_tokens=40).json()["choices"][0]["message"]["content"]
    for stop in (text[5:7], [text[9:11], "never"]):
        first = stop if isinstance(stop, str) else stop[0]
        choice = post(endpoint, messages=HELLO, max_tokens=40, stop=stop).json()["choices"][0]
        assert choice["message"]["content"] == text[: text.find(first)]
        assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[]", "array"),
        (b'{"messages": 3}', r"\$\.messages"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": "ten"}', r"\$\.max_tokens"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}', "at least 1"),
        (b'{"messages": [{"role": "user", "content": "x"}], "draft_tokens": 99}', "between 0 and"),
        (b'{"messages": [{"role": "user", "content": "x"}], "temperature": -1}', "temperature"),
        (b'{"messages": [{"role": "user", "content": "x"}], "n": 2}', "one answer"),
        (b'{"messages": []}', "no messages"),
        (b"{}", "messages is missing"),
        (b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "must be text"),
        (b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1000000}', "1,000,000 are asked for"),
    ],
)
def test_bad_requests(endpoint: Endpoint, body: bytes, said: str) -> None:
    for stream in (b"", b', "stream": true}'):
        content = body[:-1] + stream if stream and body.endswith(b'"}]}') else body
        reply = HTTP.post(f"{endpoint.base_url}/chat/completions", content=content)
        assert reply.status_code == 400
        assert re.search(said, message(reply))


def test_context_exceeded(endpoint: Endpoint) -> None:
    reply = post(endpoint, "completions", prompt="x " * 70000, max_tokens=1, stream=True)
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "context_length_exceeded"
    assert "65,536" in message(reply)


def test_unknown_fields_and_paths(endpoint: Endpoint) -> None:
    assert post(endpoint, messages=HELLO, max_tokens=2, top_k=64, tools=[], logit_bias={}).status_code == 200
    assert message(HTTP.get(f"{endpoint.base_url}/nothing")) == "Not Found"
    assert HTTP.get(f"{endpoint.base_url}/chat/completions").status_code == 405


def test_models_health_metrics(endpoint: Endpoint, backend: Native) -> None:
    (model,) = HTTP.get(f"{endpoint.base_url}/models").json()["data"]
    assert model["id"] == "endless"
    assert model["drafter"] is True
    root = endpoint.base_url.removesuffix("/v1")
    assert HTTP.get(f"{root}/health").json()["status"] == "ok"
    before = backend.stats(endpoint)
    post(endpoint, messages=HELLO, max_tokens=10)
    after = backend.stats(endpoint)
    assert after.predicted_tokens == before.predicted_tokens + 10
    assert after.drafted > before.drafted
    assert after.drafter_active
    assert after.memory_bytes is not None
    assert after.memory_bytes > 1 << 20


def running(endpoint: Endpoint) -> int:
    return int(HTTP.get(endpoint.base_url.removesuffix("/v1") + "/health").json()["requests"])


@pytest.mark.parametrize("stream", [True, False])
def test_generation_ends_when_the_client_goes(endpoint: Endpoint, backend: Native, stream: bool) -> None:
    body = {"messages": HELLO, "max_tokens": 60000, "stream": stream}
    with httpx.Client(timeout=0.3) as http:
        try:
            with http.stream("POST", f"{endpoint.base_url}/chat/completions", json=body) as reply:
                next(reply.iter_lines())
        except httpx.ReadTimeout:
            assert not stream
    until = time.monotonic() + 15
    while running(endpoint) and time.monotonic() < until:
        time.sleep(0.02)
    assert running(endpoint) == 0
    # The engine itself has stopped too: the next answer comes at once.
    began = time.monotonic()
    assert post(endpoint, messages=HELLO, max_tokens=2).status_code == 200
    assert time.monotonic() - began < 15, "60,000 tokens take longer"


def test_requests_wait_for_each_other(endpoint: Endpoint) -> None:
    alone = post(endpoint, messages=HELLO, max_tokens=100).json()["choices"][0]["message"]["content"]
    texts: list[str] = []

    def ask() -> None:
        texts.append(post(endpoint, messages=HELLO, max_tokens=100).json()["choices"][0]["message"]["content"])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == [alone] * 4


def test_openai_s_own_client(endpoint: Endpoint) -> None:
    with openai.OpenAI(base_url=endpoint.base_url, api_key="none", max_retries=0) as ai:
        assert [model.id for model in ai.models.list()] == ["endless"]
        assert ai.models.retrieve("endless").owned_by == "advisor"
        given: dict[str, Any] = {"model": "endless", "messages": HELLO, "max_completion_tokens": 20, "temperature": 0}
        whole = ai.chat.completions.create(**given)
        assert whole.usage is not None
        assert (whole.usage.completion_tokens, whole.choices[0].finish_reason) == (20, "length")
        pieces = [chunk.choices[0].delta.content or "" for chunk in ai.chat.completions.create(**given, stream=True)]
        assert "".join(pieces) == whole.choices[0].message.content
        assert ai.completions.create(model="endless", prompt="The sea", max_tokens=5).choices[0].text
        with pytest.raises(openai.NotFoundError):
            ai.chat.completions.create(**{**given, "model": "gpt-4"})
        with pytest.raises(openai.BadRequestError, match="context") as full:
            ai.chat.completions.create(**{**given, "max_completion_tokens": 10**6})
        assert full.value.code == "context_length_exceeded"


def test_the_client(endpoint: Endpoint) -> None:
    with Client(endpoint.base_url, endpoint.model) as client:
        events = list(client.chat(HELLO, max_tokens=20, temperature=0, seed=None))
        assert isinstance(events[-1], Done)
        assert events[-1].timings.predicted_n == 20
        assert collect(client.complete("The sea", max_tokens=5)).reason == "length"
        with pytest.raises(UsageError, match="temperature"):
            list(client.chat(HELLO, temperature=-1))
