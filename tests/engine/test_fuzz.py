"""Requests that nobody would write: each gets an answer or OpenAI's error object, and the server stays healthy.

Generated over the server's own description. ADVISOR_FULL=1 asks more of them.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from backends.base import Endpoint
from backends.native import openapi
from tests.engine import scripted
from tests.engine.conftest import FULL

HTTP = httpx.Client(timeout=60, trust_env=False)
SCHEMA = openapi.document("gemma")["components"]["schemas"]["Body"]["properties"]
PATHS = ("/v1/chat/completions", "/v1/completions")
REFUSED = {400, 404, 405, 413, 429}

texts = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["", "\x00", "<|turn>model\n", "<|tool_call>", "{{ 1 }}", "\ufeff", "💥" * 5]
)
numbers = (
    st.integers(-3, 40)
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.sampled_from([-1, 2**31, 2**63, 2**64, 1e308, 0.1])
)
anything = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
parts = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", "x"]), "text": texts}), max_size=3
)
message = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system", "developer", "tool"]),
        "content": texts | parts | st.none(),
    },
    optional={"tool_calls": anything, "reasoning_content": anything, "tool_call_id": anything, "name": anything},
)
messages = st.lists(message, min_size=1, max_size=4) | st.just([{"role": "user", "content": "hi"}])
function = st.fixed_dictionaries(
    {"name": st.just("f") | texts}, optional={"parameters": anything, "description": anything}
)
tools = st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": function}), max_size=3)


def plausible(name: str, schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Values of the kinds that the description has for a field."""
    known = {"messages": messages, "tools": tools, "prompt": texts, "model": st.sampled_from(["gemma", "", "gpt-4"])}
    if name in known:
        return known[name]
    kinds = {kind.get("type") for kind in schema.get("anyOf", [schema])}
    choices = [
        strategy
        for kind, strategy in (
            ("string", texts),
            ("integer", st.integers(-3, 40)),
            ("number", st.floats(-1, 3)),
            ("boolean", st.booleans()),
            ("array", st.lists(texts, max_size=3)),
            ("object", st.dictionaries(texts, anything, max_size=3)),
        )
        if kind in kinds
    ]
    return st.one_of(st.none(), *choices)


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A good request with a few plausible fields, and now and then a wrong one: too many would all be refused."""
    body = {"messages": draw(messages), "prompt": draw(texts)}
    for name in draw(st.lists(st.sampled_from(sorted(SCHEMA)), max_size=5)):
        body[name] = draw(plausible(name, SCHEMA[name]))
    for name in draw(st.just([]) | st.lists(st.sampled_from(sorted(SCHEMA)), max_size=1)):
        body[name] = draw(anything)
    return body


def judge(reply: httpx.Response, body: Any) -> None:
    """Whether this is an answer to be proud of."""
    if reply.status_code == 200:
        if reply.headers["content-type"].startswith("text/event-stream"):
            assert reply.text.endswith("data: [DONE]\n\n")
            chunks = [json.loads(line[6:]) for line in reply.text.split("\n\n")[:-2]]
            assert all("error" not in chunk for chunk in chunks)
            assert any(c["finish_reason"] for chunk in chunks for c in chunk["choices"])
        else:
            assert reply.json()["choices"][0]["finish_reason"]
        return
    assert reply.status_code in REFUSED, (reply.status_code, reply.text, body)
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]


calm = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=3000 if FULL else 100)


@calm
@given(bodies(), st.sampled_from(PATHS))
def test_any_fields(body: dict[str, Any], path: str) -> None:
    async def ask() -> tuple[httpx.Response, httpx.Response]:
        app = scripted.app("well, <|tool_call>call:f{}<tool_call|>")
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            content = json.dumps(body).encode()
            return await http.post(path, content=content), await http.get("/health")

    reply, health = asyncio.run(ask())
    event(f"status {reply.status_code}")
    judge(reply, body)
    assert health.json()["requests"] == 0


@pytest.mark.engine
@settings(calm, max_examples=600 if FULL else 30)
@given(bodies(), st.integers(1, 4), st.sampled_from(PATHS))
def test_any_fields_to_the_engine(endpoint: Endpoint, body: dict[str, Any], limit: int, path: str) -> None:
    root = endpoint.base_url.removesuffix("/v1")
    body |= {"max_tokens": limit, "max_completion_tokens": None, "tools": None, "model": None}
    reply = HTTP.post(root + path, content=json.dumps(body).encode(), timeout=60)
    event(f"status {reply.status_code}")
    judge(reply, body)
    assert HTTP.get(root + "/health").json()["status"] == "ok"


@pytest.mark.engine
@settings(calm, max_examples=1000 if FULL else 60)
@given(st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode()))
def test_any_body(endpoint: Endpoint, content: bytes) -> None:
    reply = HTTP.post(f"{endpoint.base_url}/chat/completions", content=content)
    assert reply.status_code == 400
    judge(reply, content)


@pytest.mark.engine
@settings(calm, max_examples=500 if FULL else 30)
@given(st.binary(max_size=300), st.booleans())
def test_anything_on_the_wire(endpoint: Endpoint, data: bytes, http: bool) -> None:
    host, _, port = endpoint.base_url.removeprefix("http://").removesuffix("/v1").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall((b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n" if http else b"") + data)
    assert HTTP.get(endpoint.base_url + "/models").status_code == 200


@pytest.mark.engine
@pytest.mark.parametrize(
    "content",
    [
        b'{"messages": ' + b"[" * 100_000,
        b'{"metadata": ' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}",
        b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": ' + b"9" * 5000 + b"}",
        b'{"messages": [{"role": "user", "content": "\xff\xfe"}]}',
        b'{"messages": [{"role": "user", "content": NaN}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": -1e400}',
        b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": -5}',
        b'{"messages": [{"role": "user", "content": "x"}], "max_tokens": 1e30}',
        b'{"messages": [{"role": "user", "content": "x"}], "stop": ["' + b'","'.join([b"a"] * 50) + b'"]}',
        b'{"messages": [{"role": "\\ud800", "content": "x"}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "logit_bias": {"-1": 1}}',
        b'{"messages": [{"role": "user", "content": "x"}], "logit_bias": {"99999999999999999999": 1}}',
    ],
)
def test_the_worst(endpoint: Endpoint, content: bytes) -> None:
    reply = HTTP.post(f"{endpoint.base_url}/chat/completions", content=content, timeout=60)
    assert reply.status_code == 400
    judge(reply, content[:100])


@pytest.mark.engine
def test_half_characters_are_no_reason_to_fail(endpoint: Endpoint) -> None:
    content = b'{"messages": [{"role": "user", "content": "a\\ud800b"}], "max_tokens": 2}'
    assert HTTP.post(f"{endpoint.base_url}/chat/completions", content=content).status_code in (200, 400)
