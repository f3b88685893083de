"""Started, counted and ended: the servers as their adapters see them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from advisor.cli import cli
from advisor.running.client import Timings
from backends import group
from backends.base import Model
from backends.counting import _completed
from tests.runtimes.conftest import SERVERS, Install, asked, faults, one_file, question, refused


@pytest.mark.parametrize("name", SERVERS)
def test_drafts_are_counted_and_all_of_it_ends(name: str, install: Install, pair: Model) -> None:
    install(name)
    backend, plan = asked(name, pair)
    endpoint = backend.start(plan)
    try:
        timings = question(backend, endpoint)
        assert timings.predicted_n == 40
        assert timings.draft_n == 60
        assert timings.draft_n_accepted == 20
        assert timings.predicted_per_second > 50
    finally:
        backend.stop(endpoint)
    assert not group.members(endpoint.pid)
    backend.stop(endpoint)


def test_vllm_counts_by_its_metrics_where_replies_do_not(install: Install, pair: Model) -> None:
    install("vllm", "0.31.0")
    backend, plan = asked("vllm", pair)
    assert "--per-request-spec-decode-metrics" not in plan.argv
    endpoint = backend.start(plan)
    try:
        before, timings, after = backend.stats(endpoint), question(backend, endpoint), backend.stats(endpoint)
        assert (timings.draft_n, timings.draft_n_accepted) == (60, 20)
        assert after.drafted - before.drafted == 60
        assert after.drafter_active
        assert after.accepted_per_position[1:] == (0.0, 0.0)
        assert after.memory_bytes
    finally:
        backend.stop(endpoint)


def test_sglang_counts_rounds_and_their_length(install: Install, pair: Model) -> None:
    install("sglang")
    backend, plan = asked("sglang", pair)
    endpoint = backend.start(plan)
    try:
        before, _, after = backend.stats(endpoint), question(backend, endpoint), backend.stats(endpoint)
        assert (after.drafted - before.drafted, after.accepted - before.accepted) == (60, 20)
    finally:
        backend.stop(endpoint)


@pytest.mark.parametrize(("name", "fault"), [("vllm", "no-metrics"), ("vllm", "old-metrics"), ("sglang", "no-metrics")])
def test_what_is_not_counted_is_unknown(
    name: str, fault: str, install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(name, "0.31.0" if name == "vllm" else "")
    faults(monkeypatch, fault)
    backend, plan = asked(name, pair)
    endpoint = backend.start(plan)
    try:
        found = backend.stats(endpoint)
        assert "count" in found.unknown
        assert not found.drafter_active
        if name == "vllm":
            assert question(backend, endpoint).draft_n is None, "nothing is guessed"
    finally:
        backend.stop(endpoint)


def test_mlx_says_why_it_decodes_without(install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    install("mlx")
    faults(monkeypatch, "plain")
    backend, plan = asked("mlx", pair)
    endpoint = backend.start(plan)
    try:
        assert question(backend, endpoint).draft_n is None
        assert "incompatible" in backend.why_plain(endpoint)
    finally:
        backend.stop(endpoint)


@pytest.mark.parametrize(
    ("fault", "said"),
    [("", "56% of the drafts were accepted, 50.0 tokens/s against 30.0"), ("slow-drafter", "20.0 tokens/s against")],
)
def test_litert_is_benchmarked_before_it_serves(
    fault: str, said: str, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("litert")
    faults(monkeypatch, fault)
    backend, plan = asked("litert", one_file(tmp_path))
    endpoint = backend.start(plan)
    try:
        verdict = backend.drafting(endpoint)
        assert verdict.active
        assert said in verdict.reason
        assert verdict.slower is (fault == "slow-drafter")
        assert backend.stats(endpoint).unknown
    finally:
        backend.stop(endpoint)


def test_litert_is_told_how_much_it_may_say(install: Install, tmp_path: Path) -> None:
    """In the one word for it that it knows."""
    install("litert")
    backend, plan = asked("litert", one_file(tmp_path))
    endpoint = backend.start(plan)
    try:
        assert question(backend, endpoint).predicted_n == 40
    finally:
        backend.stop(endpoint)


def test_litert_without_a_drafter_inside(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("litert")
    faults(monkeypatch, "no-drafter")
    error = refused("litert", one_file(tmp_path))
    assert "the model has no drafter" in error.message
    assert "--no-drafter" in error.hint


def test_an_answer_that_comes_in_one_piece_has_no_speed() -> None:
    counted = Timings(predicted_n=41)
    assert _completed(counted, None, 0.5).predicted_per_second == 80
    assert _completed(counted, None, 0.0001).predicted_per_second is None


def launched(name: str, pair: Model, *words: str) -> dict:
    given = [
        "launch",
        str(pair.target),
        "--drafter",
        str(pair.drafter),
        "--backend",
        name,
        "--detach",
        "--json",
        *words,
    ]
    done = CliRunner().invoke(cli, given, catch_exceptions=False)
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", SERVERS)
def test_the_first_answer_shows_drafted_tokens(name: str, install: Install, pair: Model) -> None:
    install(name)
    drafter = launched(name, pair)["drafter"]
    assert (drafter["enabled"], drafter["active"]) == (True, True)
    assert drafter["acceptance"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("name", "version"), [("vllm", "0.31.0"), ("sglang", "")])
def test_where_nothing_is_counted_nobody_knows(
    name: str, version: str, install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(name, version)
    faults(monkeypatch, "no-metrics", "no-counts")
    drafter = launched(name, pair)["drafter"]
    assert (drafter["enabled"], drafter["active"], drafter["acceptance"]) == (True, None, None)
    assert "unknown" in drafter["reason"]


def test_a_drafter_that_is_not_used_is_off_for_a_reason(
    install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("mlx")
    faults(monkeypatch, "plain")
    drafter = launched("mlx", pair)["drafter"]
    assert drafter["active"] is False
    assert "incompatible with this target" in drafter["reason"]
