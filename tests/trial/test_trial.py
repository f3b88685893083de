"""Trials of real models: a drafter that is never right is dropped, one that is always right is kept, and long."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from advisor import launching, measurements, sessions
from advisor.errors import RuntimeFailed
from advisor.order import Order
from advisor.trial import ADAPTS, Plan, Sample, Stage, Trial, plan_for
from advisor.trial_document import BUSY
from advisor.trial_sessions import Own
from backends.base import load
from tests.engine.random_pair import Pair
from tests.launch.conftest import advisor, ask
from tests.trial import pairs

FULL = bool(os.environ.get("ADVISOR_FULL"))
"""Whether several lengths compete; otherwise the one that tells meets plain decoding."""
KINDS = ("code", "story", "chat")


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pairs.never_right(tmp_path_factory.mktemp("never"))


@pytest.fixture(scope="module")
def always(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pairs.always_right(tmp_path_factory.mktemp("always"))


def tried(pair: Pair, backend: str, lengths: tuple[int, ...], *, seconds: float = 40.0) -> Trial:
    """A trial on sessions of its own; all of them have ended."""
    order = Order(model=str(pair.target), drafter=pair.drafter, backend=backend, context=2048)
    opener = Own(load(backend), launching.configure(order, measured=False))
    plan = Plan(lengths=lengths, kinds=KINDS, depth_tokens=0, passes=12, seconds=seconds, answer_s=0.5, quick=True)
    trial = Trial(plan)
    for _ in trial.run(opener):
        pass
    assert sessions.living() == []
    found = trial.decision()
    if found is None or (found.verdict == "unclear" and trial.race.noise > BUSY):
        pytest.skip(f"this machine is too busy to measure anything: times differ by {trial.race.noise:.0%}")
    return trial


@pytest.mark.engine
def test_native_drops_a_drafter_that_is_never_right(never: Pair) -> None:
    trial = tried(never, "native", (0, 1, 3, 6) if FULL else (0, 3))
    found = trial.decision()
    assert found is not None
    assert (found.verdict, found.length) == ("drop", 0)
    assert all(each.gain < 1 for each in found.standings if each.length)
    assert trial.memory


@pytest.mark.engine
def test_native_keeps_one_that_is_always_right_and_long(always: Pair) -> None:
    trial = tried(always, "native", (0, 1, 3, 8, ADAPTS) if FULL else (0, 8))
    found = trial.decision()
    assert found is not None
    assert found.verdict == "keep"
    assert found.length in (8, ADAPTS)
    longest = trial.of("code", 8)[0].answered
    assert longest.positions == (1.0,) * 8
    assert longest.accepted == longest.drafted > 0


@pytest.mark.llama_server
def test_llama_server_drops_a_drafter_that_is_never_right(never: Pair, llama_server: Path) -> None:
    trial = tried(never, "llama.cpp", (0, 3, 1) if FULL else (0, 3))
    found = trial.decision()
    assert found is not None
    assert found.length == 0
    assert found.verdict == "drop"


@pytest.mark.llama_server
def test_llama_server_keeps_one_that_is_always_right(always: Pair, llama_server: Path) -> None:
    trial = tried(always, "llama.cpp", (0, 3, 7) if FULL else (0, 7))
    found = trial.decision()
    assert found is not None
    assert found.verdict == "keep"
    assert found.length == 7
    assert all(share > 0.9 for share in trial.positions[7])  # the last answer of each ends in the middle of a draft
    assert trial.memory.keys() >= {0, 7}


@pytest.mark.engine
def test_the_command_measures_remembers_and_draws(tmp_path: Path, always: Pair) -> None:
    chart = tmp_path / "gain.svg"
    words = [str(always.target), "--drafter", str(always.drafter), "--backend", "native", "--context", "2048"]
    found = ask("trial", *words, "--quick", "--minutes", "2", "--plot", str(chart), "--json")
    assert found["schema"] == "advisor.trial/1"
    if found["noise"] > BUSY and (found["overall"] is None or found["overall"]["verdict"] == "unclear"):
        pytest.skip("this machine is too busy to measure anything")
    assert found["overall"]["verdict"] == "keep"
    assert found["overall"]["low"] > 1
    assert {each["draft_tokens"] for each in found["overall"]["lengths"]} >= {0, 1, 3}
    assert found["subject"]["target"]["name"] == "always.gguf"
    assert chart.read_text().startswith("<svg")
    kept = measurements.recall()
    assert any(each.chosen and not each.kind for each in kept)
    plain = next(each for each in kept if not each.kind and each.draft_tokens == 0)
    assert plain.expected_tokens_per_s is not None

    # It is remembered, shown as measured, and launched with.
    shown = ask("trial", "--history")
    assert len(shown["measurements"]) == len(kept)
    estimate = ask("estimate", str(always.target), "--drafter", str(always.drafter), "--backend", "native")
    assert estimate["basis"]["plain_tokens_per_s"] == "measured"
    assert estimate["speed"]["plain_tokens_per_s"] == pytest.approx(plain.tokens_per_s, rel=0.5)
    assert "measured here" in estimate["drafter"]["reason"]
    order = Order(model=str(always.target), drafter=always.drafter, backend="native")
    setup = launching.configure(order)
    assert setup.model.draft_tokens == found["overall"]["draft_tokens"]
    assert setup.drafter_reason.startswith("measured here")
    assert ask("trial", "always", "--forget")["forgotten"] == len(kept)
    assert launching.configure(order).model.draft_tokens == ADAPTS


@pytest.mark.engine
def test_ctrl_c_keeps_what_was_measured_and_leaves_nothing_running(store: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "advisor", "trial", "demo", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 60
    while not sessions.living() or sessions.living()[0].status != "running":
        assert time.monotonic() < until
        time.sleep(0.1)
    server = sessions.living()[0].pid
    time.sleep(4)
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=20)
    assert child.returncode == 130
    found = json.loads(said)
    assert not found["finished"]
    assert found["answers"] > 0
    assert any("broken off" in line for line in found["warnings"])
    assert not psutil.pid_exists(server)
    assert sessions.everything() == []


@pytest.mark.engine
def test_a_session_that_runs_is_used_and_goes_on(state: Path) -> None:
    launched = ask("launch", "demo", "--detach", "--backend", "native")
    trial = ask("trial", launched["name"], "--quick", "--minutes", "0.1")
    assert trial["answers"] > 0
    assert [each.name for each in sessions.living()] == [launched["name"]]


@pytest.mark.engine
def test_events_say_what_happens(always: Pair) -> None:
    order = Order(model=str(always.target), drafter=always.drafter, backend="native", context=2048)
    opener = Own(load("native"), launching.configure(order, measured=False))
    plan = plan_for(opener, quick=True, seconds=30)
    trial = Trial(plan)
    events = trial.run(opener)
    kinds = []
    for event in events:
        kinds.append(type(event))
        if isinstance(event, Sample) and event.number == 5:
            break
    events.close()
    assert kinds[0] is Stage
    assert kinds.count(Sample) == 5
    assert len(trial.samples) == 5
    assert sessions.living() == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["demo", "--plot", "x.gif"], 2, "svg or .png"),
        (["demo", "--plot", "/nowhere/x.svg"], 2, "there is no folder"),
        (["--history", "--forget"], 2, "stand alone"),
        (["nothing", "--history"], 2, "unknown model"),
        (["demo", "--minutes", "0"], 2, "--minutes"),
        (["--import", "/nowhere/x.json"], 6, "cannot be read"),
        (["--export", "x.json"], 6, "nothing to share"),
    ],
)
def test_wrong_usage_is_told(words: list[str], code: int, message: str, state: Path) -> None:
    done = advisor("trial", *words, "--json")
    assert done.returncode == code
    assert message in json.loads(done.stdout)["error"]["message"]


def test_png_without_its_package_names_it(tmp_path: Path) -> None:
    from advisor import chart

    try:
        import cairosvg  # noqa: F401
    except (ImportError, OSError):
        with pytest.raises(RuntimeFailed) as told:
            chart.check(tmp_path / "x.png")
        assert told.value.command == "pip install cairosvg"


def test_the_schema_holds(state: Path) -> None:
    schema = ask("schema", "trial")
    assert schema["$id"] == "urn:advisor.trial:1"
