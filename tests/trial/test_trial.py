"""Trials of real models: a drafter that is never right is dropped, one that is always right is kept, and long."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import msgspec
import psutil
import pytest
from click.testing import CliRunner

from advisor.commands.trial import _running, command
from advisor.errors import NoBackend, RuntimeFailed
from advisor.machine import Availability
from advisor.pages import trial_page
from advisor.pages.trial_document import BUSY, KindPart, LengthPart
from advisor.prediction import measurements
from advisor.running import launching, sessions
from advisor.running.order import Order
from advisor.trials import trial_sessions
from advisor.trials.answers import ADAPTS
from advisor.trials.schedule import Plan, plan_for
from advisor.trials.trial import FEWEST_TOKENS, Sample, Stage, Trial
from advisor.trials.trial_sessions import Own
from backends.base import UNWATCHED, Endpoint, LaunchPlan, Watch, load
from backends.native import Native
from tests.engine.random_pair import Pair
from tests.launch.conftest import advisor, ask
from tests.trial import pairs

FULL = bool(os.environ.get("ADVISOR_FULL"))
"""Whether several lengths compete; otherwise the one that tells meets plain decoding."""
KINDS = ("code", "story")


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pairs.never_right(tmp_path_factory.mktemp("never"))


@pytest.fixture(scope="module")
def always(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pairs.always_right(tmp_path_factory.mktemp("always"))


def tried(pair: Pair, backend: str, lengths: tuple[int, ...], *, seconds: float = 120.0) -> Trial:
    """A trial on sessions of its own; all of them have ended. It ends when all is clear, which takes longer beside
    other work; with one thread, which waits for no other that something else keeps from working, much less so."""
    order = Order(model=str(pair.target), drafter=pair.drafter, backend=backend, context=2048, threads=1)
    opener = Own(load(backend), launching.configure(order, measured=False))
    plan = Plan(lengths=lengths, kinds=KINDS, depth_tokens=0, passes=12, seconds=seconds, answer_s=0.25, quick=True)
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
    trial = tried(never, "native", (0, 1, 3, 6) if FULL else (0, 6))
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
    trial = tried(never, "llama.cpp", (0, 3, 1) if FULL else (0, 6))
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
    shares = trial.positions[7]
    assert len(shares) == 7
    assert shares[0] > 0.9
    assert min(shares) > 0.5  # where an answer ends, it ends in the middle of a draft
    assert trial.memory.keys() >= {0, 7}


@pytest.mark.engine
def test_the_command_measures_remembers_and_draws(tmp_path: Path, always: Pair) -> None:
    """What runs already is used, and goes on."""
    chart = tmp_path / "gain.svg"
    drafter = ["--drafter", str(always.drafter)]
    words = [str(always.target), *drafter, "--backend", "native", "--context", "2048"]
    name = ask("launch", *words, "--detach")["name"]
    found = ask("trial", name, *drafter, "--quick", "--minutes", "2", "--plot", str(chart), "--json")
    assert [each.name for each in sessions.living()] == [name]
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
    rates = [each.tokens_per_s for each in kept if each.draft_tokens == 0]  # at several depths, which other work parts
    assert min(rates) / 2 < estimate["speed"]["plain_tokens_per_s"] < 2 * max(rates)
    assert "measured here" in estimate["drafter"]["reason"]
    order = Order(model=str(always.target), drafter=always.drafter, backend="native")
    setup = launching.configure(order)
    assert setup.model.draft_tokens == found["overall"]["draft_tokens"]
    assert setup.drafter_reason.startswith("measured here")
    assert ask("trial", "always", "--forget")["forgotten"] == len(kept)
    assert launching.configure(order).model.draft_tokens == ADAPTS


WARMED_UP = 10 * FEWEST_TOKENS
"""Tokens that are generated before anything counts, and more."""


def waited(happened: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.engine
def test_ctrl_c_keeps_what_was_measured_and_leaves_nothing_running(store: Path) -> None:
    """Also where the server has stopped to answer."""
    child = subprocess.Popen(
        [sys.executable, "-m", "advisor", "trial", "demo", "--backend", "native", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    waited(lambda: bool(sessions.living()) and sessions.living()[0].status == "running")
    endpoint, server = sessions.living()[0].endpoint, sessions.living()[0].pid
    native = load("native")
    waited(lambda: native.stats(endpoint).predicted_tokens > WARMED_UP)
    psutil.Process(server).suspend()
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=120)
    assert child.returncode == 130
    found = json.loads(said)
    assert not found["finished"]
    assert found["answers"] > 0
    assert any("broken off" in line for line in found["warnings"])
    assert not psutil.pid_exists(server)
    assert sessions.everything() == []


@pytest.mark.parametrize("named", ["mine", None])
def test_a_session_is_tried_as_it_was_started(named: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one of somebody's own file, whose name alone nobody knows; what is asked for otherwise holds."""
    session = sessions.Session(
        name="mine", status="running", backend="native", model="mine", pid=1, birth="", port=1, since="",
        command="advisor launch /m/mine.gguf --drafter /m/d.gguf --backend native --draft-tokens 0 --port 1",
    )  # fmt: skip
    monkeypatch.setattr(sessions, "serving", lambda _: session)
    monkeypatch.setattr(sessions, "living", lambda: [session])
    order, found = _running(Order(model=named, context=512))
    assert found is session
    assert order == Order(model="/m/mine.gguf", drafter=Path("/m/d.gguf"), backend="native", context=512)
    assert _running(Order(model=named, backend="llama.cpp"))[0].backend == "llama.cpp"


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


@pytest.mark.engine
def test_a_session_that_says_nothing_any_more_has_failed(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_sessions, "SILENCE_S", 5.0)
    opener = Own(load("native"), launching.configure(Order(model="demo", backend="native"), measured=False))
    trial = Trial(plan_for(opener, quick=True))
    events = trial.run(opener)
    while not trial.samples:
        next(events)
    psutil.Process(sessions.living()[0].pid).suspend()
    with pytest.raises(RuntimeFailed, match="said nothing for"):
        list(events)
    assert sessions.everything() == []


class Hanging(Native):
    """Loads for ever: as far as `reach`, and no further."""

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach, self.told, self.ended = reach, 0, False

    def start(self, plan: LaunchPlan, watch: Watch = UNWATCHED) -> Endpoint:
        try:
            while True:
                self.told += 1
                watch.progress("loading demo.gguf", min(self.told, self.reach), 100)
                time.sleep(0.01)
        finally:
            self.ended = True


@pytest.mark.parametrize(("bound", "reach"), [("SILENCE_S", 20), ("START_S", 10**9)])
def test_a_start_that_hangs_ends_the_trial(
    bound: str, reach: int, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it gets no further, or only counts the seconds."""
    monkeypatch.setattr(trial_sessions, bound, 0.5)
    backend = Hanging(reach)
    opener = Own(backend, launching.configure(Order(model="demo", backend="native")))
    trial = Trial(plan_for(opener, quick=True))
    with pytest.raises(RuntimeFailed, match="came to a stand: loading demo"):
        list(trial.run(opener))
    assert backend.ended
    assert backend.told > min(backend.reach, 20), "while it gets on, it is waited for"
    assert sessions.everything() == []


@pytest.mark.parametrize("model", ["demo", "e2b", "26b", "/some/folder"])
def test_a_backend_that_is_not_here_is_told_before_anything_else(
    model: str, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No network is asked first, no file is looked for."""
    monkeypatch.setattr("socket.getaddrinfo", mock.Mock(side_effect=AssertionError))
    absent = Availability(name="vllm", available=False, why_not="not installed", hint="pip install vllm")
    monkeypatch.setattr("backends.vllm.Vllm.detect", lambda _: absent)
    done = CliRunner().invoke(command, [model, "--backend", "vllm"])
    assert isinstance(done.exception, NoBackend)
    assert done.exception.hint == "pip install vllm"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["demo", "--plot", "x.gif"], 2, "svg or .png"),
        (["demo", "--plot", "/nowhere/x.svg"], 2, "there is no folder"),
        (["--history", "--forget"], 2, "stand alone"),
        (["nothing", "--history"], 2, "nothing was measured yet"),
        (["demo", "--minutes", "0"], 2, "--minutes"),
        (["--import", "/nowhere/x.json"], 6, "cannot be read"),
        (["--export", "x.json"], 6, "nothing to share"),
    ],
)
def test_wrong_usage_is_told(words: list[str], code: int, message: str, state: Path) -> None:
    done = advisor("trial", *words, "--json")
    assert done.returncode == code
    assert message in json.loads(done.stdout)["error"]["message"]


def test_the_schema_holds(state: Path) -> None:
    schema = ask("schema", "trial")
    assert schema["$id"] == "urn:advisor.trial:1"


@pytest.mark.parametrize(("shares", "told"), [((0.9, 0.5), "90%, 50%"), ((), "unknown, 70% of all")])
def test_acceptance_by_position_is_unknown_where_a_server_does_not_count_it(
    shares: tuple[float, ...], told: str
) -> None:
    length = msgspec.convert(
        dict.fromkeys(LengthPart.__struct_fields__, 1.0)
        | {"draft_tokens": 2, "n": 3, "acceptance": shares, "accepted": 0.7, "memory_bytes": None},
        LengthPart,
    )
    part = KindPart(
        kind=None,
        depth_tokens=9,
        verdict="keep",
        draft_tokens=2,
        gain=1.0,
        low=1.0,
        high=1.0,
        alike=(),
        settled=True,
        lengths=(length,),
    )
    assert told in trial_page.detail_lines(part)[0]
