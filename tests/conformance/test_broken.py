"""The suite itself: each broken backend fails the one rule that it breaks, a sound one none."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from advisor.running import demo
from backends.base import Backend, Options
from backends.conformance import RULES, Bench, name_of, paper, serving, verdict
from backends.native import Native
from tests.conformance.broken import BROKEN, Preparing
from tests.conformance.relay import Relay
from tests.engine.conftest import FULL

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module", autouse=True)
def engines() -> Iterator[None]:
    """One engine with its drafter and one without, in front of which all relays stand."""
    native = Native()
    try:
        for drafter in (True, False):
            plan = native.plan(demo.pair(drafter=drafter), Options(threads=1))
            Relay.upstreams[drafter] = native.start(plan)
        yield
    finally:
        for endpoint in Relay.upstreams.values():
            native.stop(endpoint)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Less patience with what does not go away; and nothing is left of it afterwards."""
    monkeypatch.setattr(serving, "GONE_S", 0.5)
    monkeypatch.setattr(serving, "LONG_S", 0.5)
    yield
    for server, _ in Relay.servers.values():
        server.shutdown()
        server.server_close()
    Relay.servers.clear()


def failures(backend: Backend, wanted: str | None = None) -> dict[str, str]:
    """The rules that it fails, of all or of one, with the reasons."""
    with Bench(backend, limit_s=30) as bench:
        tried = [rule for rule in RULES if wanted in (None, name_of(rule))]
        results = [bench.result(rule) for rule in tried]
    return {result.name: result.reason for result in results if result.status == "fail"}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_backend_fails_its_rule(kind: type[Backend], monkeypatch: pytest.MonkeyPatch) -> None:
    rule = BROKEN[kind]
    for module in (paper, serving):
        monkeypatch.setattr(module, "TRIES", 1)
    found = failures(kind(), None if FULL else rule)
    assert list(found) == [rule], found


def test_a_sound_one_fails_none() -> None:
    with Bench(Relay(), limit_s=30) as bench:
        results = [bench.result(rule) for rule in RULES]
    assert {result.name: result.reason for result in results if result.status != "pass"} == {
        "stop-gone": "it has no process of its own"
    }
    assert verdict(results) == "conforms"


def test_what_prepares_well_is_seen_to_go_on() -> None:
    with Bench(Preparing()) as bench:
        result = bench.result(paper.prepare_resumes)
    assert (result.status, result.reason) == ("pass", "")


def test_answers_too_quick_to_tell_are_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "LONG_S", 1000.0)
    with Bench(Relay(), msgspec.structs.replace(demo.pair(), context_tokens=256)) as bench:
        result = bench.result(serving.cancelling)
    assert result.status == "skip" and "nobody would notice" in result.reason


def test_every_rule_has_somebody_who_breaks_it() -> None:
    assert set(BROKEN.values()) == {name_of(rule) for rule in RULES}
