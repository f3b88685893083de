"""The whole way, on the tests' own server and on a real one where OLLAMA_HOST answers."""

from __future__ import annotations

import pytest

from advisor.errors import UsageError
from advisor.running.client import Done, Text, joined
from advisor.running.demo import collect
from backends.base import Model, Options
from backends.ollama import Ollama
from backends.ollama.address import given
from backends.ollama.api import Api

QUESTION = [{"role": "user", "content": "Which model fits 16 GB?"}]


@pytest.fixture
def backend(server: Model) -> Ollama:
    return Ollama()


def test_from_a_pair_of_files_to_nothing_left(backend: Ollama, server: Model) -> None:
    found = backend.detect()
    assert found.available and found.version
    before = {each.name for each in backend.held()}
    plan = backend.plan(server, Options())
    seen: list[str] = []
    backend.prepare(plan, lambda what, _done, _size: seen.append(what))
    assert any("making" in what for what in seen)
    endpoint = backend.start(plan)
    try:
        held = {each.name: each for each in backend.held()}
        ours = held[f"{endpoint.model}:latest"]
        assert ours.drafter and ours.loaded and endpoint.drafter
        with joined(backend, endpoint) as client:
            answer = collect(client.chat(QUESTION, temperature=0, max_tokens=24))
        assert answer.text and answer.reason in ("stop", "length")
        assert answer.timings.predicted_n and answer.timings.predicted_per_second
        verdict = backend.drafting(endpoint)
        assert verdict.active is not False
    finally:
        backend.stop(endpoint)
        removed = backend.remove(endpoint)
    assert endpoint.model in removed
    assert {each.name for each in backend.held()} == before
    backend.stop(endpoint)
    assert backend.remove(endpoint) == ()


def test_greedy_text_is_the_same_with_and_without_the_drafter(backend: Ollama, server: Model) -> None:
    endpoint = backend.start(backend.plan(server, Options()))
    try:
        with joined(backend, endpoint) as client:
            texts = {
                collect(client.chat(QUESTION, temperature=0, max_tokens=32, draft_tokens=drafts)).text
                for drafts in (3, 0, 1)
            }
        assert len(texts) == 1
    finally:
        backend.stop(endpoint)
        backend.remove(endpoint)


def test_raw_text_and_stop_strings(backend: Ollama, server: Model) -> None:
    endpoint = backend.start(backend.plan(server, Options()))
    try:
        with joined(backend, endpoint) as client:
            *pieces, last = client.complete("The quick brown fox", temperature=0, max_tokens=8)
            assert isinstance(last, Done) and all(isinstance(piece, Text) for piece in pieces)
            with pytest.raises(UsageError, match="knows no option 'grammar'"):
                client.chat(QUESTION, grammar="root ::= x")
    finally:
        backend.stop(endpoint)
        backend.remove(endpoint)


def test_what_nobody_made_is_not_known(server: Model) -> None:
    with Api(given()) as api, pytest.raises(UsageError, match="has no model"):
        list(api.chat("advisor-no-such-model", messages=QUESTION))
