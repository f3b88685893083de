"""A drafter that only costs time: said to be, and left out where somebody wants that, on every backend alike."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from advisor.cli import cli
from advisor.commands import launch
from advisor.hardware.detection import detect
from advisor.prediction import measurements
from advisor.running import sessions, starting, tried
from backends.base import Model, Verdict
from tests.runtimes.conftest import Install, faults, one_file


def advisor(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words), catch_exceptions=False)


def launched(name: str, pair: Model, *words: str) -> Result:
    given = ("--drafter", str(pair.drafter)) if pair.drafter else ()
    return advisor("launch", str(pair.target), *given, "--backend", name, "--detach", *words)


@pytest.mark.parametrize("name", ["vllm", "sglang", "mlx"])
def test_nothing_accepted_is_said_and_kept_unless_told(
    name: str, install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(name)
    faults(monkeypatch, "zero")
    done = launched(name, pair, "--context", "1024", "--json")
    told = json.loads(done.stdout)["drafter"]
    assert (told["enabled"], told["acceptance"]) == (True, 0)
    assert "nothing that the drafter proposes is right" in told["drawback"]
    assert "warning: nothing that the drafter proposes is right" in done.stderr
    without = f"try: advisor launch {pair.target} --backend {name} --context 1024 --no-drafter --detach"
    assert without in done.stderr, "all else as it was asked for"


@pytest.mark.parametrize("name", ["vllm", "sglang", "mlx"])
def test_scripts_have_it_dropped(name: str, install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    install(name)
    faults(monkeypatch, "zero")
    done = launched(name, pair, "--useless-drafter", "drop", "--json")
    told = json.loads(done.stdout)  # one document, of what runs now
    assert told["drafter"]["enabled"] is False
    assert told["drafter"]["drawback"] is None
    assert "starting again without the drafter" in done.stderr
    (left,) = sessions.everything()
    assert left.pid == told["pid"], "the first one has ended"


def test_a_drafter_that_is_right_is_not_dropped(install: Install, pair: Model) -> None:
    install("vllm")
    done = launched("vllm", pair, "--useless-drafter", "drop", "--json")
    told = json.loads(done.stdout)["drafter"]
    assert (told["active"], told["drawback"]) == (True, None)
    assert "warning" not in done.stderr


def test_slower_in_litert_s_benchmark(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("litert")
    faults(monkeypatch, "slow-drafter")
    done = launched("litert", one_file(tmp_path), "--useless-drafter", "drop", "--json")
    assert "it is slower with the drafter than without" in done.stderr
    assert json.loads(done.stdout)["drafter"]["enabled"] is False


def test_slower_than_the_last_trial_had_it_without(
    install: Install, pair: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("vllm")
    monkeypatch.setattr(tried, "plain_speed", lambda _setup: 1e6)
    told = json.loads(launched("vllm", pair, "--json").stdout)["drafter"]
    assert "slower with the drafter" in told["drawback"]
    assert "1,000,000.0 without, as tried here" in told["drawback"]


def test_what_a_trial_measured_without_is_found_again(pair: Model) -> None:
    from advisor.running import launching
    from advisor.running.order import Order

    order = Order(model=str(pair.target), drafter=pair.drafter, backend="vllm")
    setup = launching.configure(order, strict=False, measured=False)
    assert tried.plain_speed(setup) is None
    machine = detect(backends=False)
    one = measurements.Measurement(
        source="trial", date=measurements.now(), model="tiny", quant="", backend="vllm",
        target=measurements.identify(pair.target), drafter=None,
        build=measurements.build_of(machine, "vllm"), machine=measurements.fingerprint(machine),
        drivers=measurements.drivers(machine), placement="cpu", kv_type="f16", context_tokens=2048, depth_tokens=100,
        draft_tokens=0, tokens_per_s=61.0,
    )  # fmt: skip
    measurements.keep(one)
    assert tried.plain_speed(setup) == 61.0


def test_at_a_terminal_it_is_asked(monkeypatch: pytest.MonkeyPatch, pair: Model) -> None:
    from advisor.running.order import Setup
    from backends.base import Options

    setup = Setup(backend="vllm", model=pair, options=Options(), drafter_reason="")
    asked: list[str] = []
    monkeypatch.setattr(launch.sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(click, "confirm", lambda text, **_: asked.append(text) or True)
    assert launch._dropped(setup, "ask")
    assert asked == ["Start again without it?"]
    assert not launch._dropped(setup, "keep")
    assert launch._dropped(setup, "drop")
    monkeypatch.setattr(launch.sys.stdin, "isatty", lambda: False)
    assert not launch._dropped(setup, "ask"), "a script is not asked, and nothing is done that it did not say"


@pytest.mark.parametrize(
    ("counted", "verdict", "speeds", "said"),
    [
        ((60, 0), None, (50.0, None), "nothing that the drafter proposes"),
        ((60, 20), None, (50.0, 40.0), ""),
        ((60, 20), None, (39.0, 40.0), ""),
        ((60, 20), None, (30.0, 40.0), "30.0 tokens/s, and 40.0 without"),
        ((0, 0), None, (30.0, 40.0), ""),
        ((0, 0), Verdict(active=True, reason="said", slower=True), (30.0, None), "slower with the drafter"),
    ],
)
def test_what_counts_against_a_drafter(
    counted: tuple[int, int], verdict: Verdict | None, speeds: tuple[float, float | None], said: str
) -> None:
    found = starting._drawback(*counted, verdict, speeds)
    assert said in found
    assert bool(found) is bool(said)
