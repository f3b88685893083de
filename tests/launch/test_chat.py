"""`advisor chat`: what is remembered, what stops, its commands; once with the engine, through a pipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from advisor.commands.chat import SAMPLING, Chat, live_words
from advisor.console.footer import Footer
from advisor.errors import Interrupted, RuntimeFailed, UsageError
from advisor.running import demo, sessions
from advisor.running.client import Done, Text, Timings, running
from advisor.running.sessions import Session
from backends.base import Endpoint, Options, Stats, load
from backends.native import Native

Events = Iterator[Text | Done]
DONE = Done(reason="stop", timings=Timings(predicted_n=64, predicted_per_second=41.2, draft_n=50, draft_n_accepted=35))


class Counted(Native):
    def stats(self, endpoint: Endpoint) -> Stats:
        return Stats(predicted_tokens=64, drafted=50, accepted=35)


class Replies:
    """A client that answers as told, and remembers what it was asked."""

    counts_live = True

    def __init__(self, *answers: Callable[[], Events]) -> None:
        self.answers = list(answers)
        self.asked: list[list[dict[str, str]]] = []
        self.options: list[Mapping[str, Any]] = []

    def chat(self, messages: Sequence[dict[str, str]], **options: Any) -> Events:
        self.asked.append(list(messages))
        self.options.append(options)
        yield from self.answers.pop(0)()

    def close(self) -> None:
        pass


def says(*pieces: str) -> Callable[[], Events]:
    def answer() -> Events:
        yield Text(text="hm", thought=True)
        for piece in pieces:
            yield Text(text=piece)
        yield DONE

    return answer


def raises(error: BaseException, *pieces: str) -> Callable[[], Events]:
    def answer() -> Events:
        for piece in pieces:
            yield Text(text=piece)
        raise error

    return answer


def chat(*answers: Callable[[], Events], model: str = "12b", **options: Any) -> tuple[Chat, Replies]:
    session = Session(name="12b", status="running", backend="native", model=model, pid=1, birth="", port=1, since="",
                      drafter=True)  # fmt: skip
    made = Chat(session, Counted(), **options)
    replies = Replies(*answers)
    made._client = replies  # type: ignore[assignment]
    return made, replies


def test_the_conversation_goes_on_without_its_thoughts(capsys: pytest.CaptureFixture[str]) -> None:
    made, replies = chat(says("4", "2"), says("43"), system="Be brief.")
    made.run(iter(["6 x 7?", "", "and one more?"]))
    assert replies.asked[1] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "6 x 7?"},
        {"role": "assistant", "content": "42"},
        {"role": "user", "content": "and one more?"},
    ]
    shown = capsys.readouterr()
    assert shown.out == "42\n43\n"
    assert "hm" in shown.err and "(64 tokens, 41.2 tokens/s, 70% accepted)" in shown.err


def test_sampling_is_gemmas_own_unless_told() -> None:
    for options, expected in (
        ({}, SAMPLING),
        ({"temperature": 0.0}, {"temperature": 0}),
        ({"temperature": 0.5}, {**SAMPLING, "temperature": 0.5}),
        ({"model": "demo"}, {"temperature": 0}),
    ):
        made, replies = chat(says("x"), **options)  # type: ignore[arg-type]
        made.ask("?")
        assert replies.options == [expected]


def test_ctrl_c_stops_the_answer_and_not_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    made, replies = chat(raises(KeyboardInterrupt(), "half an "), says("whole"))
    made.run(iter(["tell me all", "again"]))
    assert replies.asked[1][1] == {"role": "assistant", "content": "half an "}
    assert "(stopped)" in capsys.readouterr().err
    made, _ = chat(raises(Interrupted("interrupted"), "half an "))
    with pytest.raises(Interrupted):
        made.run(iter(["tell me all"]))


def test_what_the_server_refuses_is_said_and_not_remembered(capsys: pytest.CaptureFixture[str]) -> None:
    made, replies = chat(raises(UsageError("the context is full")), says("yes"))
    made.run(iter(["long", "short"]))
    assert "the context is full" in capsys.readouterr().err
    assert replies.asked[1] == [{"role": "user", "content": "short"}]
    made, _ = chat(raises(RuntimeFailed("killed")))
    with pytest.raises(RuntimeFailed):
        made.run(iter(["?"]))


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, replies = chat(says("yes"), says("no"))
    file = tmp_path / "talk.json"
    made.run(iter(["?", f"/save {file}", f"/save {file}", "/stats", "/nonsense", "/model nothing", "/save", "/reset",
                   "/etc/hosts is what?", "/quit", "never asked"]))  # fmt: skip
    assert json.loads(file.read_text())["messages"][1] == {"role": "assistant", "content": "yes"}
    assert replies.asked[1] == [{"role": "user", "content": "/etc/hosts is what?"}], "a path is no command"
    shown = capsys.readouterr()
    assert "64 tokens, 70% of the drafts accepted" in shown.out
    for message in ("exists already", "unknown command /nonsense", "nothing is running", "needs the name of a file"):
        assert message in shown.err


@pytest.mark.engine
def test_through_a_pipe_with_a_model_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "advisor", "chat", "demo"],
        input="What is a drafter?\n/model\n/quit\n",
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "drafter" in done.stdout and "* demo  demo on native" in done.stdout
    assert "tokens/s" in done.stderr
    assert sessions.everything() == []


def test_nothing_runs_and_nothing_is_named() -> None:
    from advisor import cli

    assert cli.run(["chat"]) == 2


@pytest.mark.parametrize(
    "backend",
    [pytest.param("native", marks=pytest.mark.engine), pytest.param("llama.cpp", marks=pytest.mark.llama_server)],
)
def test_what_is_shown_live_comes_with_every_piece(backend: str, request: pytest.FixtureRequest) -> None:
    if backend == "llama.cpp":
        request.getfixturevalue("llama_server")
    question = [{"role": "user", "content": "Which model fits 16 GB?"}]
    runner = load(backend)
    with running(runner, runner.plan(demo.pair(), Options(port=sessions.free_port()))) as client:
        silent = list(client.chat(question, temperature=0))
        events = list(client.chat(question, temperature=0, timings_per_token=True))
    assert all(isinstance(event, Done) or event.timings is None for event in silent), "only where it is asked for"
    timings = [event.timings for event in events if isinstance(event, Text)]
    counts = [each.predicted_n for each in timings if each and each.predicted_n]
    assert len(counts) == len(timings) > 3 and counts == sorted(counts)
    drafted = [each.draft_n_accepted or 0 for each in timings if each]
    assert drafted[-1] > 0 and drafted == sorted(drafted)
    assert timings[-1] is not None and timings[-1].predicted_per_second


def test_the_row_at_the_bottom_counts_where_the_server_does_not() -> None:
    piece = Text(text="x")
    assert live_words(piece, 0.0) == "answering (ctrl-c stops)"
    assert live_words(Text(text="x", thought=True), 41.3) == "thinking, about 41 tokens/s (ctrl-c stops)"
    assert live_words(msgspec.structs.replace(piece, timings=DONE.timings), 1.0) == (
        "answering, 64 tokens, 41.2 tokens/s, 70% accepted (ctrl-c stops)"
    )


def test_a_server_is_only_asked_for_what_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Footer, "possible", property(lambda _: True))
    monkeypatch.setattr(Footer, "show", lambda *_, **__: None)
    for counts in (True, False):
        made, replies = chat(says("yes"))
        replies.counts_live = counts
        made.run(iter(["?"]))
        assert ("timings_per_token" in replies.options[0]) is counts
