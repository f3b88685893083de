"""Nothing grows with the tokens that were generated: in the engine, and in the server that gives them away."""

from __future__ import annotations

import httpx
import psutil
import pytest

from backends.base import Endpoint
from backends.native.depth import AUTO
from backends.native.engine import Engine
from backends.native.sampling import Sampling
from tests.engine.conftest import FULL

pytestmark = pytest.mark.engine

GROWTH = 2 << 20
"""Bytes that a process may differ by without having grown."""
TOKENS = 20_000 if FULL else 4000


def generate(engine: Engine, count: int) -> None:
    """So many tokens, in answers of all kinds."""
    kinds = [(0, Sampling()), (3, Sampling()), (AUTO, Sampling()), (AUTO, Sampling(1.0, 40, 0.95, 0.02, 1.1))]
    given = index = 0
    while given < count:
        drafts, sampling = kinds[index % len(kinds)]
        prompt = [2, *((index + 31 * i) % 360 + 6 for i in range(20))]
        rounds = engine.generate(prompt, draft_tokens=drafts, max_tokens=500, sampling=sampling)
        given += sum(len(found.tokens) for found in rounds)
        index += 1


def test_memory_stays_where_it_was(worst: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    process = psutil.Process()
    generate(worst, 3000)
    before = process.memory_info().rss
    generate(worst, TOKENS)
    grown = process.memory_info().rss - before
    with capsys.disabled():
        print(f"\nengine: {TOKENS:,} tokens, {grown / 1024:+,.0f} KiB of {before >> 20} MiB")
    assert grown < GROWTH


def ask(url: str, count: int) -> None:
    """So many tokens over HTTP: streamed and whole, greedy and drawn, some answers left in the middle."""
    given = index = 0
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        while given < count:
            body = {
                "messages": [{"role": "user", "content": f"number {index}"}],
                "max_tokens": 500,
                "stream": index % 2 == 0,
                "temperature": float(index % 3 == 0),
                "draft_tokens": ("auto", 0, 3)[index % 3],
            }
            with http.stream("POST", "chat/completions", json=body) as reply:
                for line in reply.iter_lines():
                    if index % 10 == 0 and "content" in line:
                        break
            given += 500 if index % 10 else 0
            index += 1


def test_memory_of_the_server_stays_where_it_was(endpoint: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
    process = psutil.Process(endpoint.pid)
    ask(endpoint.base_url, 3000)
    before = process.memory_info().rss
    ask(endpoint.base_url, TOKENS)
    grown = process.memory_info().rss - before
    with capsys.disabled():
        print(f"\nserver: {TOKENS:,} tokens, {grown / 1024:+,.0f} KiB of {before >> 20} MiB")
    assert grown < GROWTH
